/** Explains tables that somebody else wrote: what `iommu walk` and `iommu dump` print. */
import {
  type AddressSpaceDump, classifyEntry, decodeFields, EntryKind, type FieldTable, levelShift, type MappedLeaf, type TableDecoder, type TableSource, type WalkReport, type WalkRequest, type WalkStep,
} from "@iommukit/core";
import { ADDRESS_BITS, DEVICE_ENTRY, DIRECTORY_ENTRY, Entry, FAULT_TEXT, FaultCode, FORMAT, LEAF_ENTRY, TABLE_ENTRY, TOP_LEVEL } from "./spec.js";

const ADDRESS = 0x0000_ffff_ffff_f000n;

class Blocked extends Error {
  readonly code: number;
  constructor(code: number) {
    super(FAULT_TEXT[code] ?? "");
    this.code = code;
  }
}

function word(source: TableSource, pa: number): bigint {
  const bytes = new Uint8Array(8);
  if (!source.read(pa, bytes)) throw new Blocked(FaultCode.BUS_ERROR);
  return new DataView(bytes.buffer).getBigUint64(0, true);
}

function step(table: FieldTable, pa: number, value: bigint, index: number, from: string): WalkStep {
  return { structure: table.structure, section: table.section, pa, index: { value: index, from }, words: [value], fields: decodeFields(table, [value]) };
}

const kindOf = (level: number, value: bigint): number => classifyEntry(FORMAT, level, Number(BigInt.asIntN(32, value)), Number(BigInt.asIntN(32, value >> 32n)));

/** Root of a requester's tables. */
function locate(source: TableSource, rid: number, steps: WalkStep[]): number {
  const { TABLE: register = 0n } = source.registers;
  if ((register & 1n) === 0n) throw new Blocked(FaultCode.OFF);
  let table = Number(register & ADDRESS);
  for (const [fields, index, from] of [[DIRECTORY_ENTRY, rid >> 8, "bus"], [DEVICE_ENTRY, rid & 0xff, "device and function"]] as const) {
    const value = word(source, table + index * 8);
    steps.push(step(fields, table + index * 8, value, index, from));
    if ((value & 1n) === 0n) throw new Blocked(FaultCode.NO_DEVICE);
    table = Number(value & ADDRESS);
  }
  return table;
}

function translate(source: TableSource, { iova, access }: WalkRequest, root: number, steps: WalkStep[]): WalkReport["verdict"] {
  if (iova >> BigInt(ADDRESS_BITS) !== 0n) throw new Blocked(FaultCode.RANGE);
  let table = root;
  for (let level = TOP_LEVEL; ; level--) {
    const shift = BigInt(levelShift(FORMAT, level));
    const index = Number((iova >> shift) & 511n);
    const value = word(source, table + index * 8);
    const leaf = (value & BigInt(Entry.LEAF)) !== 0n;
    steps.push(step(leaf ? LEAF_ENTRY : TABLE_ENTRY, table + index * 8, value, index, `IOVA bits ${shift + 8n}:${shift}`));
    const kind = kindOf(level, value);
    if (kind === EntryKind.NOT_PRESENT) throw new Blocked(FaultCode.NOT_PRESENT);
    if (kind === EntryKind.RESERVED) throw new Blocked(FaultCode.RESERVED);
    if (kind === EntryKind.TABLE) {
      table = Number(value & ADDRESS);
      continue;
    }
    const writable = (value & BigInt(Entry.W)) !== 0n;
    if (access !== "read" && !writable) throw new Blocked(FaultCode.READ_ONLY);
    const inside = (1n << shift) - 1n;
    return { ok: true, pa: Number((value & ADDRESS & ~inside) | (iova & inside)), pageSize: Number(inside + 1n), permissions: writable ? "rw" : "r" };
  }
}

export const acmeTableDecoder: TableDecoder = {
  iommu: "acme",
  registers: ["TABLE"],

  walk(source, request) {
    const steps: WalkStep[] = [];
    try {
      if (request.pasid !== undefined) throw new Blocked(FaultCode.PASID);
      return { steps, verdict: translate(source, request, locate(source, request.rid, steps), steps) };
    } catch (error) {
      if (!(error instanceof Blocked)) throw error;
      return { steps, verdict: { ok: false, code: String(error.code), reason: error.message, section: "Acme 4" } };
    }
  },

  *dump(source): Generator<AddressSpaceDump> {
    for (let rid = 0; rid < 65_536; rid++) {
      let root: number;
      try {
        root = locate(source, rid, []);
      } catch (error) {
        if (!(error instanceof Blocked)) throw error;
        continue;
      }
      yield { rid, type: "tables", ids: {}, leaves: () => leaves(source, root, TOP_LEVEL, 0n) };
    }
  },
};

function* leaves(source: TableSource, table: number, level: number, base: bigint): Generator<MappedLeaf> {
  const size = 1n << BigInt(levelShift(FORMAT, level));
  for (let index = 0; index < 512; index++) {
    const value = word(source, table + index * 8);
    const kind = kindOf(level, value);
    const iova = base + BigInt(index) * size;
    if (kind === EntryKind.TABLE) yield* leaves(source, Number(value & ADDRESS), level - 1, iova);
    else if (kind === EntryKind.LEAF) yield { iova, pa: Number(value & ADDRESS), size: Number(size), permissions: (value & BigInt(Entry.W)) === 0n ? "r" : "rw", entry: value };
  }
}
