/** Units by name. What a preset's identification registers announce is implemented. */
import { announcements, encodeFields, type FieldTable, type UnitPreset } from "@iommukit/core";
import { ADDRESS_SIZES, IDR0, IDR1, IDR3, IDR5, type Identification } from "./spec/identification.js";

export interface SmmuPreset {
  readonly about: string;
  readonly identification: Identification;
}

type Values = Readonly<Record<string, bigint>>;
const word = (table: FieldTable, values: Values): number => Number(encodeFields(table, values)[0]);

/** @param minor of SMMUv3.minor */
function unit(minor: number, idr0: Values, idr1: Values, idr3: Values, idr5: Values): Identification {
  return { idr0: word(IDR0, idr0), idr1: word(IDR1, idr1), idr3: word(IDR3, idr3), idr5: word(IDR5, idr5), aidr: minor };
}

const SERVER_0 = {
  S2P: 1n, S1P: 1n, TTF: 2n, COHACC: 1n, HTTU: 2n, Hyp: 1n, ATS: 1n, ASID16: 1n, MSI: 1n, SEV: 1n, PRI: 1n, VMW: 1n, VMID16: 1n, CD2L: 1n, TTENDIAN: 2n,
  STALL_MODEL: 1n, TERM_MODEL: 1n, ST_LEVEL: 1n,
};
const SERVER_1 = { SIDSIZE: 16n, SSIDSIZE: 20n, PRIQS: 13n, EVENTQS: 15n, CMDQS: 15n, ATTR_PERMS_OVR: 1n, ATTR_TYPES_OVR: 1n };
const SERVER_3 = { HAD: 1n, XNX: 1n, PPS: 1n, FWB: 1n, STT: 1n, RIL: 1n, BBML: 2n, E0PD: 1n, PTWNNC: 1n };
const GRANULES = { GRAN4K: 1n, GRAN16K: 1n, GRAN64K: 1n };

export const PRESETS: Readonly<Record<string, SmmuPreset>> = {
  "qemu-11.1": {
    about: "QEMU 11.1's unit of the virt machine: both stages, every granule, 44-bit addresses, no SubstreamIDs",
    identification: { idr0: 0x0d44_101b, idr1: 0x0273_0010, idr3: 0x1414, idr5: 0x74, aidr: 1 },
  },
  server: {
    about: "an Arm server's unit: nested translation, access flags and dirty state, ATS and page requests, 20-bit SubstreamIDs, range invalidation, messages, 48-bit addresses",
    identification: unit(3, SERVER_0, SERVER_1, SERVER_3, { OAS: 5n, ...GRANULES }),
  },
  "server-52": {
    about: "as server, with 52-bit addresses of every granule, stalls and split-stage ATS",
    identification: unit(3, { ...SERVER_0, STALL_MODEL: 0n, ATSRECERR: 1n }, SERVER_1, SERVER_3, { OAS: 6n, ...GRANULES, DS: 1n, VAX: 1n, STALL_MAX: 256n }),
  },
  minimal: {
    about: "the least that translates: stage 1 with 4K pages, a linear table of 64 streams, 8-bit ASIDs, 40-bit addresses",
    identification: unit(1, { S1P: 1n, TTF: 2n, COHACC: 1n, TTENDIAN: 2n, STALL_MODEL: 1n, TERM_MODEL: 1n }, { SIDSIZE: 6n, EVENTQS: 7n, CMDQS: 8n }, { HAD: 1n }, { OAS: 2n, GRAN4K: 1n }),
  },
};

/** The unit that a machine has when its options name none. */
export const DEFAULT_PRESET = "qemu-11.1";

export function describePreset(name: string, { about, identification: { idr0, idr1, idr3, idr5, aidr } }: SmmuPreset): UnitPreset {
  const registers = { IDR0: BigInt(idr0), IDR1: BigInt(idr1), IDR3: BigInt(idr3), IDR5: BigInt(idr5), AIDR: BigInt(aidr) };
  const announced = announcements([[IDR0, registers.IDR0], [IDR1, registers.IDR1], [IDR3, registers.IDR3], [IDR5, registers.IDR5]]);
  return { name, about, registers, announces: [`SMMUv3.${aidr & 15}`, `addresses of ${ADDRESS_SIZES[idr5 & 7]} bits`, ...announced] };
}
