/** Units by name. What a preset's capability words announce is implemented. */
import { encodeFields } from "@iommukit/core";
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
};
