/** Faults of the host's hardware for a guest whose unit meets the same in its own tables, and records it (`IOMMUKIT_DEVICE_FAULTS`). */
import { type IommuHardware, TranslationCompletion } from "@iommukit/core";
import type { Program } from "./calls.js";
import { takeFaults } from "./device-faults.js";

export class HostFaults {
  readonly #program: Program;
  readonly #unit: IommuHardware;
  readonly #requesters: ReadonlyMap<number, number>;
  readonly #lost: () => void;
  /** What the guest's unit would answer: the host has answered. */
  readonly #completion = new TranslationCompletion();

  /**
   * @param unit the guest's
   * @param requesters of the guest, by descriptors of their devices' faults
   * @param lost told when the host has lost some
   */
  constructor(program: Program, unit: IommuHardware, requesters: ReadonlyMap<number, number>, lost: () => void = () => undefined) {
    this.#program = program;
    this.#unit = unit;
    this.#requesters = requesters;
    this.#lost = lost;
  }

  /** Descriptors that become readable when `service` has something to do. */
  get pollable(): readonly number[] {
    return [...this.#requesters.keys()];
  }

  service(): void {
    for (const [fd, rid] of this.#requesters) {
      for (const { pasid, page, access, offset, afterLoss, translationRequest } of takeFaults(this.#program, fd)) {
        if (afterLoss) this.#lost();
        if (translationRequest) this.#unit.ats?.requestTranslation(rid, pasid, page, access, this.#completion);
        else this.#unit.translate(rid, pasid, page, access, offset);
      }
    }
  }
}
