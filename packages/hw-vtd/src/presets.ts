/** Units by name. What a preset's capability words announce is implemented. */
import { announcements, encodeFields, type UnitPreset } from "@iommukit/core";
import { CAP, ECAP } from "./spec/capabilities.js";

export interface VtdPreset {
  readonly about: string;
  readonly version: number;
  readonly cap: bigint;
  readonly ecap: bigint;
  /** Host address width in bits. */
  readonly haw: number;
}

const COMMON_CAP = { ND: 6n, ZLR: 1n, SSLPS: 3n, PSI: 1n, MAMV: 18n, DWD: 1n, DRD: 1n, ESRTPS: 1n, FRO: 0x22n, NFR: 7n };
const COMMON_ECAP = { C: 1n, QI: 1n, PT: 1n, IRO: 0xfn };

const SCALABLE_CAP = { ...COMMON_CAP, SAGAW: 14n, MGAW: 56n, FS1GP: 1n, FS5LP: 1n };
const SCALABLE_ECAP = { ...COMMON_ECAP, SRS: 1n, EAFS: 1n, PSS: 19n, PASID: 1n, SMTS: 1n, SSADS: 1n, SSTS: 1n, FSTS: 1n, SMPWC: 1n, RPS: 1n, ADMS: 1n, RPRIVS: 1n };

export const PRESETS: Readonly<Record<string, VtdPreset>> = {
  scalable: {
    about: "scalable mode with first and second stage, 4 and 5 levels, 20-bit PASIDs, 48-bit host addresses",
    version: 0x70,
    haw: 48,
    cap: encodeFields(CAP, SCALABLE_CAP)[0],
    ecap: encodeFields(ECAP, SCALABLE_ECAP)[0],
  },
  full: {
    about: "everything that is modelled: as scalable, with nested translation, device-TLBs, page requests, interrupt remapping and posting, and more",
    version: 0x70,
    haw: 48,
    cap: encodeFields(CAP, { ...SCALABLE_CAP, PLMR: 1n, PHMR: 1n, PI: 1n, ESIRTPS: 1n })[0],
    ecap: encodeFields(ECAP, {
      ...SCALABLE_ECAP, DT: 1n, IR: 1n, EIM: 1n, SC: 1n, MHMV: 15n, NEST: 1n, PRS: 1n, NWFS: 1n, DIT: 1n, PDS: 1n, HPTS: 1n, HPT1GPS: 1n, PTRS: 1n, SSIRWS: 1n, SMS: 1n,
    })[0],
  },
  "second-stage": {
    about: "scalable mode with second stage only, 4 levels, 48-bit host addresses",
    version: 0x50,
    haw: 48,
    cap: encodeFields(CAP, { ...COMMON_CAP, SAGAW: 4n, MGAW: 47n })[0],
    ecap: encodeFields(ECAP, { ...COMMON_ECAP, PSS: 19n, PASID: 1n, SMTS: 1n, SSTS: 1n })[0],
  },
  legacy: {
    about: "legacy mode only, 3 and 4 levels, 39-bit host addresses, as client parts have",
    version: 0x10,
    haw: 39,
    cap: encodeFields(CAP, { ...COMMON_CAP, SAGAW: 6n, MGAW: 47n })[0],
    ecap: encodeFields(ECAP, COMMON_ECAP)[0],
  },
  "qemu-11.1-fs": {
    about: "QEMU 11.1's intel-iommu with x-flts=on: scalable mode with first stage only, 48-bit host addresses, one fault record",
    version: 0x10,
    haw: 48,
    cap: 0x81d2_008c_222f_0606n,
    ecap: 0x8800_00f0_0f4an,
  },
  "qemu-11.1-ss": {
    about: "QEMU 11.1's intel-iommu with scalable-mode=on: second stage only, 48-bit host addresses, one fault record",
    version: 0x10,
    haw: 48,
    cap: 0x80d2_008c_222f_0606n,
    ecap: 0x4800_80f0_0f4an,
  },
  "qemu-11.1-legacy": {
    about: "QEMU 11.1's intel-iommu as it comes: legacy mode, 48-bit host addresses, one fault record",
    version: 0x10,
    haw: 48,
    cap: 0x80d2_008c_222f_0606n,
    ecap: 0xf0_0f4an,
  },
  "client-39": {
    about: "a client processor's unit: legacy mode, 39-bit addresses, interrupt remapping, protected memory, snoop control, fault record at 400h",
    version: 0x10,
    haw: 39,
    cap: encodeFields(CAP, { ND: 2n, PLMR: 1n, PHMR: 1n, SAGAW: 4n, MGAW: 38n, ZLR: 1n, FRO: 0x40n, SSLPS: 3n, PSI: 1n, MAMV: 18n, DWD: 1n, DRD: 1n })[0],
    ecap: encodeFields(ECAP, { QI: 1n, IR: 1n, EIM: 1n, PT: 1n, SC: 1n, IRO: 0x50n, MHMV: 15n })[0],
  },
  "server-spr": {
    about: "a server's unit of the Sapphire Rapids class: nested translation, 5 levels, PASIDs, device-TLBs, page requests, posted interrupts, 52-bit host addresses",
    version: 0x60,
    haw: 52,
    cap: encodeFields(CAP, {
      ND: 6n, PLMR: 1n, PHMR: 1n, SAGAW: 12n, MGAW: 56n, ZLR: 1n, FRO: 0x40n, SSLPS: 3n, PSI: 1n, MAMV: 18n, DWD: 1n, DRD: 1n, FS1GP: 1n, PI: 1n, FS5LP: 1n,
      ESIRTPS: 1n, ESRTPS: 1n,
    })[0],
    ecap: encodeFields(ECAP, {
      C: 1n, QI: 1n, DT: 1n, IR: 1n, EIM: 1n, PT: 1n, SC: 1n, IRO: 0x50n, MHMV: 15n, NEST: 1n, PRS: 1n, SRS: 1n, NWFS: 1n, EAFS: 1n, PSS: 19n, PASID: 1n, DIT: 1n, PDS: 1n,
      SMTS: 1n, SSADS: 1n, SSTS: 1n, FSTS: 1n, SMPWC: 1n, RPS: 1n,
    })[0],
  },
};

/** The unit that a machine has when its options name none. */
export const DEFAULT_PRESET = "scalable";

export function describePreset(name: string, { about, version, cap, ecap, haw }: VtdPreset): UnitPreset {
  return {
    name,
    about,
    registers: { VER: BigInt(version), CAP: cap, ECAP: ecap },
    announces: [`host addresses of ${haw} bits`, ...announcements([[CAP, cap], [ECAP, ecap]])],
  };
}
