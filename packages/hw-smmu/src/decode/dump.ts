/** Everything that a unit's tables map, stream by stream. */
import type { AddressSpaceDump, MappedLeaf } from "@iommukit/core";
import { blockedSpace, BudgetedSpace, dumpBudget, type DumpBudget, readWords, Right, rightLetters } from "@iommukit/core/decode";
import { L1_CONTEXT_DESCRIPTOR } from "../spec/context.js";
import { hasStage1, hasStage2, substreamBits, World } from "../spec/illegal.js";
import { L1_STREAM_DESCRIPTOR, S1dss, STE } from "../spec/stream-table.js";
import { GRANULE_SHIFTS } from "../spec/tables.js";
import type { Fields } from "../spec/words.js";
import { descriptorKind, levelShift, outputAddress, stage1Rights, stage2Rights } from "./descriptors.js";
import { contextLeafBits, contextLevel1, contextTable, type Half, locate, secondLevel, secondTables, streamTableShape, type Tables, type Translation } from "./locate.js";
import { controlsOf, isWide, through, translateSecond } from "./stages.js";
import { fieldsOf, Stopped, Trail } from "./trail.js";
import { swapBytes, type Unit } from "./unit.js";

/** StreamIDs that a dump looks at: a linear table can claim 2^32. */
export const STREAM_LIMIT: number = 2 ** 20;
/** Structures read at once. */
const BLOCK = 64;
/** Descriptors of the smallest page. */
const PAGE_ENTRIES = 512;

/** @throws RangeError when the stream table is not in the dump */
export function* dumpUnit(unit: Unit): Generator<AddressSpaceDump> {
  if (!unit.enabled) return;
  const budget = dumpBudget();
  for (const rid of namedStreams(unit)) yield* dumpStream(unit, rid, budget);
}

/** StreamIDs with a valid STE. */
function* namedStreams(unit: Unit): Generator<number> {
  const { entries, split, base } = streamTableShape(unit);
  const streams = Math.min(entries, STREAM_LIMIT);
  if (split === undefined) {
    yield* validEntries(unit, base, streams, 0, true);
    return;
  }
  for (let upper = 0; upper * 2 ** split < streams; upper++) {
    const words = readWords(unit.source, base + BigInt(upper) * 8n, 64);
    if (words === undefined) throw new RangeError(`the stream table at 0x${base.toString(16)} is not in the dump`);
    const table = secondLevel(fieldsOf(L1_STREAM_DESCRIPTOR, words), split);
    if (table === undefined) continue;
    const first = upper * 2 ** split;
    yield* validEntries(unit, table.base, Math.min(table.entries, streams - first), first, false);
  }
}

/** @param needed the memory has to be there */
function* validEntries(unit: Unit, base: bigint, count: number, first: number, needed: boolean): Generator<number> {
  for (let at = 0; at < count; at += BLOCK) {
    const block = Math.min(BLOCK, count - at);
    const words = readWords(unit.source, base + BigInt(at) * 64n, block * STE.bits);
    if (words === undefined && needed && at === 0) throw new RangeError(`the stream table at 0x${base.toString(16)} is not in the dump`);
    if (words === undefined) return;
    for (let i = 0; i < block; i++) if ((words[i * 8] & 1n) === 1n) yield first + at + i;
  }
}

/** Transactions without SubstreamID, and each SubstreamID that has a valid CD. */
function* dumpStream(unit: Unit, rid: number, budget: DumpBudget): Generator<AddressSpaceDump> {
  const trail = new Trail(unit);
  try {
    yield new AddressSpace(unit, rid, undefined, locate(trail, rid, undefined), budget);
  } catch (error) {
    if (!(error instanceof Stopped)) throw error;
    // An STE that aborts without a record is how software says that there is no device.
    if (error.event === undefined) return;
    yield stoppedSpace(rid, undefined, error);
  }
  const { ste } = trail;
  if (ste === undefined || !hasStage1(ste)) return;
  for (const substream of validSubstreams(unit, ste)) {
    // That of transactions without one.
    if (substream === 0 && ste.S1DSS === S1dss.SUBSTREAM0) continue;
    try {
      yield new AddressSpace(unit, rid, substream, locate(new Trail(unit), rid, substream), budget);
    } catch (error) {
      if (!(error instanceof Stopped)) throw error;
      yield stoppedSpace(rid, substream, error);
    }
  }
}

/** SubstreamIDs whose CD is valid. What cannot be reached has none. */
function* validSubstreams(unit: Unit, ste: Fields): Generator<number> {
  const bits = substreamBits(ste, unit.caps);
  if (bits === 0) return;
  const t: Translation = { kind: "nested", ste, world: World.EL1, ...(hasStage2(ste) ? { second: secondTables(unit, ste) } : {}) };
  const leafBits = contextLeafBits(ste, bits);
  const perTable = 2 ** Math.min(leafBits === 0 ? bits : leafBits, bits);
  for (let upper = 0; upper * perTable < 2 ** bits; upper++) {
    const base = leafBits === 0 ? contextTable(ste.S1ContextPtr, bits) : level2(unit, t, contextLevel1(ste, bits, leafBits, upper), leafBits);
    if (base === undefined) continue;
    for (let i = 0; i < perTable; i++) {
      const words = readThrough(unit, t, base + BigInt(i) * 64n);
      if (words !== undefined && ((words[0] >> 31n) & 1n) === 1n) yield upper * perTable + i;
    }
  }
}

function level2(unit: Unit, t: Translation, at: bigint, leafBits: number): bigint | undefined {
  const words = readThrough(unit, t, at);
  if (words === undefined) return undefined;
  const f = fieldsOf(L1_CONTEXT_DESCRIPTOR, words);
  return f.V === 1 ? contextTable(f.L2Ptr, leafBits) : undefined;
}

/** The first word of a structure that stage 2 may stand before. */
function readThrough(unit: Unit, t: Translation, address: bigint): bigint[] | undefined {
  try {
    return readWords(unit.source, through(new Trail(unit), t, address, "CD", "the context descriptor"), 64);
  } catch (error) {
    if (error instanceof Stopped) return undefined;
    throw error;
  }
}

function stoppedSpace(rid: number, pasid: number | undefined, stop: Stopped): AddressSpaceDump {
  return blockedSpace(rid, pasid, `every transaction ends with ${stop.code}: ${stop.message}`);
}

const DATA = Right.READ | Right.WRITE;

interface TableWalk {
  readonly tables: Tables;
  /** Physical address of a table; undefined with a problem noted. */
  readonly reach: (address: bigint) => bigint | undefined;
  /** `Right` bits that unprivileged reads and writes have. @param above OR of the table descriptors on the way */
  readonly rights: (word: bigint, above: bigint) => number;
}

class AddressSpace extends BudgetedSpace {
  readonly #unit: Unit;
  readonly #translation: Translation;

  constructor(unit: Unit, rid: number, pasid: number | undefined, translation: Translation, budget: DumpBudget) {
    const { ste, cd, kind, second } = translation;
    super(rid, pasid, kind, { ...(cd === undefined ? {} : { asid: cd.ASID }), ...(second === undefined ? {} : { vmid: ste.S2VMID }) }, budget);
    this.#unit = unit;
    this.#translation = translation;
  }

  *leaves(): Generator<MappedLeaf> {
    const { second, halves } = this.#translation;
    if (halves === undefined) {
      if (second !== undefined) yield* this.#walk(this.#secondWalk(second), 0n);
      return;
    }
    for (const [upper, half] of halves.entries()) {
      if (!half.enabled) continue;
      const base = upper === 0 ? 0n : 2n ** 64n - 2n ** BigInt(half.tables.inputBits);
      const leaves = this.#walk(this.#firstWalk(half), base);
      if (second === undefined) yield* leaves;
      else yield* this.#nested(leaves);
    }
  }

  /** Each stage-1 leaf in the pieces that stage 2 makes of it. */
  *#nested(leaves: Iterable<MappedLeaf>): Generator<MappedLeaf> {
    for (const leaf of leaves) {
      for (let done = 0; done < leaf.size; ) {
        if (this.spent()) return;
        const ipa = leaf.pa + done;
        const { pa, rights, extent } = this.#host(BigInt(ipa), "the page");
        const size = Math.min(extent - (ipa % extent), leaf.size - done);
        if (pa !== undefined) yield { ...leaf, iova: leaf.iova + BigInt(done), pa: Number(pa), size, permissions: rightLetters(rights & bitsOf(leaf.permissions)) };
        done += size;
      }
    }
  }

  /** Where stage 2 puts an address; `extent` is how much the last descriptor on the way covers, so that a hole is left at once. */
  #host(address: bigint, what: string): { readonly pa?: bigint; readonly rights: number; readonly extent: number } {
    const trail = new Trail(this.#unit);
    const t = this.#translation;
    const none = { read: false, write: false, fetch: false, privileged: false };
    try {
      const mapped = translateSecond(trail, t, address, none, { cause: "IN", context: {} });
      return { pa: mapped.address, rights: mapped.rights, extent: mapped.pageSize };
    } catch (error) {
      if (!(error instanceof Stopped) || t.second === undefined) throw error;
      this.problem ??= `${what} at IPA 0x${address.toString(16)} is not reached, ${error.code}: ${error.message}`;
      const { level, granule } = t.second;
      // Nothing was read of an address that is too wide: nor will there be of the rest.
      return { rights: 0, extent: trail.steps.length === 0 ? 2 ** 52 : 2 ** levelShift(granule, level + trail.steps.length - 1) };
    }
  }

  #firstWalk({ tables, flat }: Half): TableWalk {
    const t = this.#translation;
    const controls = controlsOf(new Trail(this.#unit), t);
    return {
      tables,
      reach: (address) => (t.second === undefined ? address : this.#host(address, "the table").pa),
      rights: (word, above) => stage1Rights(word, flat ? 0n : above, controls).user & DATA,
    };
  }

  #secondWalk(tables: Tables): TableWalk {
    const { ste } = this.#translation;
    const { executeNever } = this.#unit.caps;
    return { tables, reach: (address) => address, rights: (word) => stage2Rights(word, ste.S2HA === 1 && ste.S2HD === 1, executeNever).user & DATA };
  }

  *#walk(walk: TableWalk, base: bigint): Generator<MappedLeaf> {
    const { root, level, inputBits, granule } = walk.tables;
    yield* this.#table(walk, { root, level, entries: 2 ** (inputBits - levelShift(granule, level)), base, above: 0n, ancestors: [] });
  }

  *#table(walk: TableWalk, at: TableAt): Generator<MappedLeaf> {
    const { tables } = walk;
    const { level } = at;
    if (at.ancestors.includes(at.root)) {
      this.problem ??= `the table at 0x${at.root.toString(16)} points back to itself`;
      return;
    }
    const shift = BigInt(levelShift(tables.granule, level));
    const wide = isWide(new Trail(this.#unit));
    for (const [index, word] of this.#words(walk, at)) {
      const kind = descriptorKind(tables, wide, level, word);
      if (kind === "invalid") continue;
      if (this.spent()) return;
      const iova = at.base + (BigInt(index) << shift);
      const output = outputAddress(tables, wide, word);
      if (output >= 1n << BigInt(tables.outputBits)) {
        this.problem ??= `the stage ${tables.stage} descriptor for 0x${iova.toString(16)} at level ${level} names an address of more than ${tables.outputBits} bits`;
      } else if (kind === "leaf") {
        yield { iova, pa: Number(output & -(1n << shift)), size: Number(1n << shift), permissions: rightLetters(walk.rights(word, at.above)), entry: word };
      } else {
        const entries = 2 ** (GRANULE_SHIFTS[tables.granule] - 3);
        yield* this.#table(walk, { root: output, level: level + 1, entries, base: iova, above: at.above | word, ancestors: [...at.ancestors, at.root] });
      }
    }
  }

  /** The entries of a table, a page of it at a time: stage 2 may put each elsewhere. */
  *#words({ tables, reach }: TableWalk, { root, entries }: TableAt): Generator<readonly [index: number, word: bigint]> {
    for (let first = 0; first < entries; first += PAGE_ENTRIES) {
      const count = Math.min(PAGE_ENTRIES, entries - first);
      const pa = reach(root + BigInt(first) * 8n);
      if (pa === undefined) continue;
      const words = readWords(this.#unit.source, pa, count * 64);
      if (words === undefined) {
        this.problem ??= `the table at 0x${pa.toString(16)} is not in the dump`;
        continue;
      }
      for (const [i, word] of words.entries()) if (word !== 0n) yield [first + i, tables.bigEndian ? swapBytes(word) : word];
    }
  }
}

interface TableAt {
  readonly root: bigint;
  readonly level: number;
  readonly entries: number;
  readonly base: bigint;
  readonly above: bigint;
  readonly ancestors: readonly bigint[];
}

function bitsOf(permissions: string): number {
  return (permissions.includes("r") ? Right.READ : 0) | (permissions.includes("w") ? Right.WRITE : 0);
}
