/** `TableDecoder` for VT-d: one walk explained, or everything that the tables map. */
import {
  type AddressSpaceDump,
  classifyEntry,
  decodeFields,
  EntryKind,
  levelShift,
  type MappedLeaf,
  type PageTableFormat,
  type TableDecoder,
  type TableSource,
  type WalkReport,
  type WalkRequest,
  type WalkStep,
} from "@iommukit/core";
import {
  entryName,
  FIRST_STAGE_LEAF,
  FIRST_STAGE_TABLE,
  FirstStage,
  firstStageFormat,
  SECOND_STAGE_LEAF,
  SECOND_STAGE_TABLE,
  secondStageFormat,
} from "../spec/formats.js";
import { Blocked, describeCondition, locate, readUnit, readWords, type Translation, type Unit } from "./structures.js";

const INTERRUPT_FIRST = 0xfee0_0000;
const INTERRUPT_LAST = 0xfeef_ffff;
const ADDRESS = 0x000f_ffff_ffff_f000n;
/** Entries that one dump reads before it gives up: 128 GiB in 4 KiB pages. Damaged tables can name each other without end. */
const ENTRY_LIMIT = 2 ** 25;

interface Budget {
  left: number;
}

function formatOf(unit: Unit, translation: Translation): PageTableFormat {
  return translation.kind === "first-stage" ? firstStageFormat(unit.caps) : secondStageFormat(unit.caps);
}

/** `EntryKind` of a word. */
function classify(format: PageTableFormat, level: number, word: bigint): number {
  return classifyEntry(format, level, Number(BigInt.asIntN(32, word)), Number(BigInt.asIntN(32, word >> 32n)));
}

/** Rights of an entry as bits: 1 read, 2 write. A first-stage entry that user requests may not use grants none. */
function rights(firstStage: boolean, word: bigint): number {
  if (!firstStage) return Number(word & 3n);
  if ((word & BigInt(FirstStage.US)) === 0n) return 0;
  return (word & BigInt(FirstStage.RW)) === 0n ? 1 : 3;
}

function letters(granted: number): string {
  return `${granted & 1 ? "r" : ""}${granted & 2 ? "w" : ""}`;
}

export const vtdTableDecoder: TableDecoder = {
  iommu: "vtd",
  registers: ["RTADDR", "CAP", "ECAP"],

  walk(source: TableSource, request: WalkRequest): WalkReport {
    const unit = readUnit(source);
    const steps: WalkStep[] = [];
    try {
      const translation = locate(unit, request.rid, request.pasid, steps);
      return { steps, verdict: translate(unit, translation, request, steps) };
    } catch (error) {
      if (!(error instanceof Blocked)) throw error;
      return { steps, verdict: { ok: false, section: "VT-d 7.1", ...describeCondition(error.condition) } };
    }
  },

  *dump(source: TableSource): Generator<AddressSpaceDump> {
    const unit = readUnit(source);
    const budget = { left: ENTRY_LIMIT };
    for (let bus = 0; bus < 256; bus++) {
      const root = readWords(source, unit.rootTable + bus * 16, 128);
      if (root === undefined) throw new RangeError(`the root table at 0x${unit.rootTable.toString(16)} is not in the dump`);
      for (let devfn = 0; devfn < 256; devfn++) {
        const half = unit.mode === 0 ? 0 : devfn >> 7;
        if ((root[half] & 1n) === 1n) yield* dumpDevice(unit, (bus << 8) | devfn, budget);
      }
    }
  },
};

function translate(unit: Unit, translation: Translation, request: WalkRequest, steps: WalkStep[]): WalkReport["verdict"] {
  const { iova } = request;
  const { legacy, kind } = translation;
  if (kind === "pass-through") {
    if (iova >> BigInt(unit.caps.haw) !== 0n) throw new Blocked(legacy ? "LGN.1.3" : "SGN.4.2");
    return { ok: true, pa: Number(iova), pageSize: 4096, permissions: "rw", note: "pass-through: the address is the physical address" };
  }
  const firstStage = kind === "first-stage";
  checkAddress(unit, translation, iova);
  const format = formatOf(unit, translation);
  const write = request.access === "write";
  let table = translation.root;
  let granted = 3;
  for (let level = translation.topLevel; ; level--) {
    const shift = levelShift(format, level);
    const index = Number((iova >> BigInt(shift)) & 511n);
    const words = readWords(unit.source, table + index * 8, 64);
    if (words === undefined) throw new Blocked(unreadable(translation, level));
    const word = words[0];
    const kind = classify(format, level, word);
    steps.push(entryStep(firstStage, format, level, table + index * 8, index, word));
    if (kind === EntryKind.NOT_PRESENT) throw new Blocked(firstStage ? "SFS.2" : legacy ? (write ? "LGN.2" : "LGN.3") : "SSS.2");
    if (kind === EntryKind.RESERVED) throw new Blocked(firstStage ? "SFS.3" : legacy ? "LSS.2" : "SSS.3");
    granted &= rights(firstStage, word);
    if (firstStage && (granted & 1) === 0) throw new Blocked("SGN.2");
    if (kind === EntryKind.TABLE) {
      table = Number(word & ADDRESS);
      continue;
    }
    if (granted === 0 && !legacy) throw new Blocked("SSS.2");
    if (write && (granted & 2) === 0) throw new Blocked(legacy ? "LGN.2" : "SGN.6");
    if (!write && (granted & 1) === 0) throw new Blocked(legacy ? "LGN.3" : "SGN.7");
    const size = 1n << BigInt(shift);
    const pa = Number((word & ADDRESS & ~(size - 1n)) | (iova & (size - 1n)));
    if (pa >= INTERRUPT_FIRST && pa <= INTERRUPT_LAST) throw new Blocked(legacy ? "LGN.4" : "SGN.8.1");
    return { ok: true, pa, pageSize: Number(size), permissions: letters(granted) };
  }
}

function checkAddress(unit: Unit, translation: Translation, iova: bigint): void {
  const bits = BigInt(12 + 9 * (translation.topLevel + 1));
  if (translation.kind === "first-stage") {
    const upper = iova >> (bits - 1n);
    if (upper !== 0n && upper !== (1n << (65n - bits)) - 1n) throw new Blocked("SGN.1");
    return;
  }
  const width = BigInt(Math.min(unit.caps.mgaw, Number(bits)));
  if (iova >> width !== 0n) throw new Blocked(translation.legacy ? "LGN.1.1" : "SGN.5");
}

function unreadable(translation: Translation, level: number): string {
  const top = level === translation.topLevel;
  if (translation.kind === "first-stage") return top ? "SFS.4" : "SFS.1";
  if (translation.legacy) return top ? "LCT.4.3" : "LSS.1";
  return top ? "SSS.4" : "SSS.1";
}

function entryStep(firstStage: boolean, format: PageTableFormat, level: number, pa: number, index: number, word: bigint): WalkStep {
  const leaf = level === 0 || (Number(word & 0xffn) & format.leafMask) === format.leafValue;
  const table = firstStage ? (leaf ? FIRST_STAGE_LEAF : FIRST_STAGE_TABLE) : leaf ? SECOND_STAGE_LEAF : SECOND_STAGE_TABLE;
  const low = levelShift(format, level);
  const fields = decodeFields(table, [word]);
  if (classify(format, level, word) === EntryKind.RESERVED) {
    fields.push({ name: "reserved", bits: "63:0", value: word, violation: `${table.section}: a reserved bit is set at this level` });
  }
  return {
    structure: `${entryName(firstStage, level)} (level ${level})`,
    section: table.section,
    pa,
    index: { value: index, from: `IOVA bits ${low + 8}:${low}` },
    words: [word],
    fields,
  };
}

/** The requester itself, and each PASID that has a present entry. */
function* dumpDevice(unit: Unit, rid: number, budget: Budget): Generator<AddressSpaceDump> {
  const steps: WalkStep[] = [];
  let translation: Translation;
  try {
    translation = locate(unit, rid, undefined, steps);
  } catch (error) {
    if (!(error instanceof Blocked)) throw error;
    // An absent context entry is no device; anything else is worth showing.
    if (error.condition !== "LCT.2" && error.condition !== "SCT.2") yield blockedSpace(rid, error.condition);
    return;
  }
  yield new AddressSpace(unit, rid, unit.mode === 0 ? undefined : 0, translation, budget);
  if (unit.mode !== 1) return;
  for (const pasid of presentPasids(unit, steps)) {
    try {
      yield new AddressSpace(unit, rid, pasid, locate(unit, rid, pasid, []), budget);
    } catch (error) {
      if (!(error instanceof Blocked)) throw error;
      yield blockedSpace(rid, error.condition, pasid);
    }
  }
}

/** Other PASIDs than the requester's own whose table entry is present. */
function* presentPasids(unit: Unit, steps: readonly WalkStep[]): Generator<number> {
  const context = steps[1];
  const directory = Number(context.words[0] & ADDRESS);
  const entries = 2 ** (Number((context.words[0] >> 9n) & 7n) + 7);
  const ridPasid = unit.caps.ridPasid ? Number(context.words[1] & 0xfffffn) : 0;
  for (let i = 0; i < entries; i++) {
    const word = readWords(unit.source, directory + i * 8, 64)?.[0] ?? 0n;
    if ((word & 1n) === 0n) continue;
    for (let j = 0; j < 64; j++) {
      const entry = readWords(unit.source, Number(word & ADDRESS) + j * 64, 64)?.[0] ?? 0n;
      if ((entry & 1n) === 1n && i * 64 + j !== ridPasid) yield i * 64 + j;
    }
  }
}

function blockedSpace(rid: number, condition: string, pasid?: number): AddressSpaceDump {
  const { code, reason } = describeCondition(condition);
  return { rid, type: "blocked", ids: {}, problem: `every request faults with reason ${code}: ${reason}`, leaves: () => [], ...(pasid === undefined ? {} : { pasid }) };
}

class AddressSpace implements AddressSpaceDump {
  readonly rid: number;
  readonly pasid?: number;
  readonly type: string;
  readonly ids: Readonly<Record<string, number>>;
  problem?: string;
  readonly #unit: Unit;
  readonly #translation: Translation;
  readonly #budget: Budget;

  constructor(unit: Unit, rid: number, pasid: number | undefined, translation: Translation, budget: Budget) {
    this.rid = rid;
    if (pasid !== undefined) this.pasid = pasid;
    this.type = translation.kind;
    this.ids = { domain: translation.domain };
    this.#unit = unit;
    this.#translation = translation;
    this.#budget = budget;
  }

  *leaves(): Generator<MappedLeaf> {
    if (this.type === "pass-through") return;
    const format = formatOf(this.#unit, this.#translation);
    yield* this.#table(format, this.#translation.root, this.#translation.topLevel, 0n, 3, []);
  }

  *#table(
    format: PageTableFormat,
    table: number,
    level: number,
    base: bigint,
    granted: number,
    above: readonly number[],
  ): Generator<MappedLeaf> {
    if (above.includes(table)) {
      this.problem ??= `the table at 0x${table.toString(16)} points back to itself`;
      return;
    }
    const words = readWords(this.#unit.source, table, 4096 * 8);
    if (words === undefined) {
      this.problem ??= `the table at 0x${table.toString(16)} is not in the dump`;
      return;
    }
    const size = 1n << BigInt(levelShift(format, level));
    for (const [index, word] of words.entries()) {
      const kind = classify(format, level, word);
      if (kind === EntryKind.NOT_PRESENT) continue;
      if (this.#budget.left-- <= 0) {
        this.problem ??= `the dump has more than ${ENTRY_LIMIT} entries; the rest is left out`;
        return;
      }
      const iova = this.#canonical(base + BigInt(index) * size);
      if (kind === EntryKind.RESERVED) {
        this.problem ??= `the ${entryName(this.type === "first-stage", level)} for IOVA 0x${iova.toString(16)} has a reserved bit set`;
        continue;
      }
      const below = granted & rights(this.type === "first-stage", word);
      if (kind === EntryKind.TABLE) yield* this.#table(format, Number(word & ADDRESS), level - 1, base + BigInt(index) * size, below, [...above, table]);
      else yield { iova, pa: Number(word & ADDRESS & ~(size - 1n)), size: Number(size), permissions: letters(below), entry: word };
    }
  }

  /** The upper half of a first-stage table holds addresses with all upper bits set. */
  #canonical(iova: bigint): bigint {
    if (this.type !== "first-stage") return iova;
    return BigInt.asUintN(64, BigInt.asIntN(12 + 9 * (this.#translation.topLevel + 1), iova));
  }
}
