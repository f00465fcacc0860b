import type { IommuHardware, MmioHandler } from "@iommukit/core";
import type { Capabilities, StreamView, UnitObserver } from "@iommukit/hw-smmu/spec";

/** What a virtual SMMUv3 needs of the unit in front of the guest; hw-smmu's `SmmuUnit` has it. */
export interface GuestUnit extends IommuHardware, MmioHandler {
  readonly capabilities: Capabilities;
  observer: UnitObserver | undefined;
  look(stream: number): StreamView;
  report(words: ArrayLike<number> | undefined): void;
}
