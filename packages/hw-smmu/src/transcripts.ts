/** Machines that transcripts of the platform "smmuv3" were recorded on: QEMU's unit and its devices, from a file's header. */
import type { IommuFactory } from "@iommukit/core";
import { recordedMachine, type TranscriptPlatform } from "@iommukit/core/testing";

export function transcriptPlatform(factory: IommuFactory): TranscriptPlatform {
  return {
    platform: "smmuv3",
    // What QEMU's unit records of a walk that its stage 2 stops is passed on to guests: it looks like their own fault. It caches no tables.
    build: (header) => recordedMachine(factory, header, { ...(header.capabilities as object), qemuNesting: true, tableSets: 0, ipaTableSets: 0 }, "virt"),
  };
}
