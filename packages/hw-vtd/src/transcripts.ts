/** Machines that transcripts of the platform "vtd" were recorded on: QEMU's unit and its devices, from a file's header. */
import type { IommuFactory } from "@iommukit/core";
import { recordedMachine, type TranscriptPlatform } from "@iommukit/core/testing";

/** QEMU's intel-iommu: version 1.0, 39 bits unless told otherwise; these recordings use 48. */
const UNIT = { version: 0x10, haw: 48 };

export function transcriptPlatform(factory: IommuFactory): TranscriptPlatform {
  return {
    platform: "vtd",
    build(header) {
      const { cap, ecap } = header.capabilities as { cap: string; ecap: string };
      return recordedMachine(factory, header, { ...UNIT, cap, ecap }, "pc");
    },
  };
}
