/** A unit as a dump shows it: its registers, and memory to read. */
import { encodeFields, type FieldTable, type TableSource } from "@iommukit/core";
import { type Capabilities, IDR0, IDR1, IDR3, IDR5, readCapabilities } from "../spec/identification.js";
import { GBPA } from "../spec/register-fields.js";
import { Cr0, Cr2, Gbpa } from "../spec/registers.js";
import { type Fields, readFields } from "../spec/words.js";

export interface Unit {
  readonly caps: Capabilities;
  readonly source: TableSource;
  /** CR0.SMMUEN */
  readonly enabled: boolean;
  /** GBPA.ABORT: what happens to everything while SMMUEN is 0. */
  readonly abortAll: boolean;
  readonly gbpa: Fields;
  readonly streamTable: bigint;
  readonly streamTableConfig: number;
  readonly e2h: boolean;
  /** CR2.RECINVSID: C_BAD_STREAMID is recorded. */
  readonly recordsStreams: boolean;
  /** CR0.ATSCHK: split-stage ATS counts. */
  readonly checksAts: boolean;
}

const word = (table: FieldTable, values: Readonly<Record<string, bigint>>): bigint => encodeFields(table, values)[0];

/** A register that is not given takes nothing away: the unit can do it, and software has switched it on. */
const UNKNOWN: Readonly<Record<string, bigint>> = {
  IDR0: word(IDR0, { S2P: 1n, S1P: 1n, TTF: 2n, HTTU: 3n, Hyp: 1n, ATS: 1n, ASID16: 1n, MSI: 1n, PRI: 1n, VMW: 1n, VMID16: 1n, CD2L: 1n, ST_LEVEL: 1n }),
  IDR1: word(IDR1, { SIDSIZE: 32n, SSIDSIZE: 20n, PRIQS: 19n, EVENTQS: 19n, CMDQS: 19n, ATTR_PERMS_OVR: 1n, ATTR_TYPES_OVR: 1n }),
  IDR3: word(IDR3, { HAD: 1n, XNX: 1n, PPS: 1n, FWB: 1n, STT: 1n, RIL: 1n, BBML: 2n, E0PD: 1n, PTWNNC: 1n, EPAN: 1n, MTEPERM: 1n }),
  IDR5: word(IDR5, { OAS: 6n, GRAN4K: 1n, GRAN16K: 1n, GRAN64K: 1n, DS: 1n, VAX: 1n }),
  AIDR: 4n,
  CR0: BigInt(Cr0.SMMUEN | Cr0.ATSCHK),
  CR2: BigInt(Cr2.E2H | Cr2.RECINVSID),
  GBPA: 0n,
};

/** @throws RangeError when a register is missing */
export function readUnit(source: TableSource): Unit {
  const given = (name: string): bigint => {
    const value = source.registers[name];
    if (value === undefined) throw new RangeError(`register ${name} is not given; SMMUv3 tables need STRTAB_BASE and STRTAB_BASE_CFG`);
    return value;
  };
  const number = (name: string): number => Number((source.registers[name] ?? UNKNOWN[name]) & 0xffff_ffffn);
  const cr0 = number("CR0");
  const cr2 = number("CR2");
  return {
    caps: unitCapabilities(source.registers),
    source,
    enabled: (cr0 & Cr0.SMMUEN) !== 0,
    abortAll: (number("GBPA") & Gbpa.ABORT) !== 0,
    gbpa: readFields(GBPA, Uint32Array.of(number("GBPA"), 0)),
    streamTable: given("STRTAB_BASE") & 0xff_ffff_ffff_ffc0n,
    streamTableConfig: Number(given("STRTAB_BASE_CFG") & 0xffff_ffffn),
    e2h: (cr2 & Cr2.E2H) !== 0,
    recordsStreams: (cr2 & Cr2.RECINVSID) !== 0,
    checksAts: (cr0 & Cr0.ATSCHK) !== 0,
  };
}

export function unitCapabilities(registers: Readonly<Record<string, bigint>>): Capabilities {
  const number = (name: string): number => Number((registers[name] ?? UNKNOWN[name]) & 0xffff_ffffn);
  return readCapabilities({ idr0: number("IDR0"), idr1: number("IDR1"), idr3: number("IDR3"), idr5: number("IDR5"), aidr: number("AIDR") });
}


export function swapBytes(value: bigint): bigint {
  const view = new DataView(new ArrayBuffer(8));
  view.setBigUint64(0, value, true);
  return view.getBigUint64(0, false);
}
