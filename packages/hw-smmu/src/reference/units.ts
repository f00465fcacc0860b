/** Identification registers of units that tests are made with. */
import { encodeFields } from "@iommukit/core";
import { IDR0, IDR1, IDR3, IDR5 } from "../spec/identification.js";
import type { Identification } from "./request.js";

type Values = Readonly<Record<string, bigint>>;
const word = (table: Parameters<typeof encodeFields>[0], values: Values): number => Number(encodeFields(table, values)[0]);

export function identify(minor: number, idr0: Values, idr1: Values, idr3: Values, idr5: Values): Identification {
  return { idr0: word(IDR0, idr0), idr1: word(IDR1, idr1), idr3: word(IDR3, idr3), idr5: word(IDR5, idr5), aidr: minor };
}

const base0 = { S2P: 1n, S1P: 1n, TTF: 2n, COHACC: 1n, ASID16: 1n, VMID16: 1n, TTENDIAN: 2n, ST_LEVEL: 1n };
const base1 = { SIDSIZE: 16n, CMDQS: 8n, EVENTQS: 8n, PRIQS: 8n };
const grans = { GRAN4K: 1n, GRAN16K: 1n, GRAN64K: 1n };

export const UNITS: Readonly<Record<string, Identification>> = {
  "as QEMU's": identify(1, { ...base0, STALL_MODEL: 1n, TERM_MODEL: 1n }, base1, { HAD: 1n, XNX: 1n, RIL: 1n }, { OAS: 4n, ...grans }),
  "with everything": identify(
    4,
    { ...base0, HTTU: 2n, Hyp: 1n, ATS: 1n, MSI: 1n, SEV: 1n, PRI: 1n, VMW: 1n, CD2L: 1n, TTENDIAN: 0n, ATSRECERR: 1n },
    { ...base1, SSIDSIZE: 20n, ATTR_PERMS_OVR: 1n, ATTR_TYPES_OVR: 1n },
    { HAD: 1n, XNX: 1n, FWB: 1n, STT: 1n, RIL: 1n, BBML: 2n, E0PD: 1n, PTWNNC: 1n, EPAN: 1n, MTEPERM: 1n },
    { OAS: 6n, ...grans, DS: 1n, VAX: 1n, STALL_MAX: 64n },
  ),
  "with table access flags": identify(
    3,
    { ...base0, HTTU: 3n, Hyp: 1n, CD2L: 1n, STALL_MODEL: 1n },
    { ...base1, SSIDSIZE: 8n, ATTR_PERMS_OVR: 1n },
    { HAD: 1n, XNX: 1n, FWB: 1n, RIL: 1n, BBML: 1n, E0PD: 1n, PTWNNC: 1n },
    { OAS: 5n, ...grans },
  ),
  "stage 1 alone, linear": identify(1, { S1P: 1n, TTF: 2n, TTENDIAN: 2n, HTTU: 1n, STALL_MODEL: 1n }, { SIDSIZE: 6n, SSIDSIZE: 4n, CMDQS: 4n, EVENTQS: 4n }, { HAD: 1n }, { OAS: 0n, GRAN4K: 1n }),
  "stage 2 alone": identify(1, { S2P: 1n, TTF: 2n, TTENDIAN: 3n, STALL_MODEL: 1n, ST_LEVEL: 1n }, base1, { XNX: 1n, STT: 1n }, { OAS: 2n, GRAN64K: 1n, GRAN4K: 1n }),
  "that stalls always": identify(2, { ...base0, STALL_MODEL: 2n, HTTU: 2n, Hyp: 1n }, { ...base1, SSIDSIZE: 6n }, { HAD: 1n, XNX: 1n, RIL: 1n, FWB: 1n, BBML: 1n }, { OAS: 6n, ...grans, VAX: 1n, STALL_MAX: 65535n }),
  "of version 3.0": identify(0, { ...base0, STALL_MODEL: 1n, TERM_MODEL: 1n }, base1, {}, { OAS: 5n, ...grans }),
};
