/** Everything that a unit's tables map, requester by requester. */
import { type AddressSpaceDump, extractBits, type MappedLeaf } from "@iommukit/core";
import { blockedSpace, BudgetedSpace, dumpBudget, type DumpBudget, readWords, rightLetters } from "@iommukit/core/decode";
import { breaksRules } from "../spec/conditions.js";
import { TranslationTableMode } from "../spec/entries.js";
import { FIRST_STAGE_LEVELS, SECOND_STAGE_LEVELS } from "../spec/paging-entries.js";
import { locate, type Stage, type Translation } from "./locate.js";
import { addressOf, entryKind, levelSize, type Mapped, secondStageLimit, secondStageRights, walkSecondStage } from "./stages.js";
import { Blocked, describeCondition, Trail } from "./trail.js";
import type { Unit } from "./unit.js";

const ADDRESS = 0x000f_ffff_ffff_f000n;

/** @throws RangeError when the root table is not in the dump */
export function* dumpUnit(unit: Unit): Generator<AddressSpaceDump> {
  if (unit.mode > TranslationTableMode.SCALABLE) return;
  const budget = dumpBudget();
  for (let bus = 0; bus < 256; bus++) {
    const root = readWords(unit.source, unit.rootTable + bus * 16, 128);
    if (root === undefined) throw new RangeError(`the root table at 0x${unit.rootTable.toString(16)} is not in the dump`);
    for (let devfn = 0; devfn < 256; devfn++) {
      const half = unit.mode === TranslationTableMode.LEGACY ? 0 : devfn >> 7;
      if ((root[half] & 1n) === 1n) yield* dumpDevice(unit, (bus << 8) | devfn, budget);
    }
  }
}

/** Requests without PASID, and each PASID that has a present entry. */
function* dumpDevice(unit: Unit, rid: number, budget: DumpBudget): Generator<AddressSpaceDump> {
  const trail = new Trail(unit);
  let ridPasid: number | undefined;
  try {
    const translation = locate(trail, rid, undefined, false);
    ridPasid = translation.pasid;
    yield new AddressSpace(unit, rid, undefined, translation, budget);
  } catch (error) {
    if (!(error instanceof Blocked)) throw error;
    // An absent context entry is no device, and a bad mode is the unit's affair; anything else is worth showing.
    if (error.condition === "LCT.2" || error.condition === "SCT.2" || error.condition.startsWith("RTA")) return;
    yield faultingSpace(rid, undefined, error.condition, trail);
    // A bad context entry blocks requests with PASID as well.
    if (error.condition.startsWith("SCT")) return;
  }
  const [, context] = trail.steps;
  if (unit.mode !== TranslationTableMode.SCALABLE || context === undefined || (context.words[0] & 8n) === 0n) return;
  for (const pasid of presentPasids(unit, context.words)) {
    if (pasid === ridPasid) continue;
    const own = new Trail(unit);
    try {
      yield new AddressSpace(unit, rid, pasid, locate(own, rid, pasid, false), budget);
    } catch (error) {
      if (!(error instanceof Blocked)) throw error;
      // The PASID is RID_PASID, whose own entry was bad.
      if (error.condition === "SCT.9") continue;
      yield faultingSpace(rid, pasid, error.condition, own);
    }
  }
}

/** PASIDs whose table entry is present. */
function* presentPasids(unit: Unit, context: readonly bigint[]): Generator<number> {
  const directory = Number(context[0] & ADDRESS);
  const entries = 2 ** (Number(extractBits(context, 9, 3)) + 7);
  for (let i = 0; i < entries; i++) {
    const word = readWords(unit.source, directory + i * 8, 64)?.[0] ?? 0n;
    if ((word & 1n) === 0n) continue;
    for (let j = 0; j < 64; j++) {
      const entry = readWords(unit.source, Number(word & ADDRESS) + j * 64, 64)?.[0] ?? 0n;
      if ((entry & 1n) === 1n) yield i * 64 + j;
    }
  }
}

function faultingSpace(rid: number, pasid: number | undefined, condition: string, { faultDisable }: Trail): AddressSpaceDump {
  const { code, reason, qualified } = describeCondition(condition);
  const silent = faultDisable && qualified ? ", and is not recorded (FPD)" : "";
  return blockedSpace(rid, pasid, `every request faults with reason ${code}${silent}: ${reason}`);
}

/** Where the entries of one stage lie and what they say. */
interface Reader {
  readonly levels: typeof FIRST_STAGE_LEVELS;
  /** Host address of a table or page; undefined with a problem noted. */
  host(address: number): number | undefined;
  rights(word: bigint): number;
  present(word: bigint): boolean;
}

class AddressSpace extends BudgetedSpace {
  readonly #unit: Unit;
  readonly #trail: Trail;
  readonly #translation: Translation;

  constructor(unit: Unit, rid: number, pasid: number | undefined, translation: Translation, budget: DumpBudget) {
    super(rid, pasid, translation.kind, { domain: translation.domain, ...(pasid === undefined && translation.pasid ? { RID_PASID: translation.pasid } : {}) }, budget);
    this.#unit = unit;
    this.#trail = new Trail(unit);
    this.#translation = translation;
  }

  *leaves(): Generator<MappedLeaf> {
    const t = this.#translation;
    if (t.kind === "pass-through") return;
    if (t.kind === "second-stage") yield* this.#table(this.#secondStageReader(), t.secondStage, 0n, 3);
    else if (t.kind === "first-stage") yield* this.#table(this.#firstStageReader((address) => address), t.firstStage, 0n, 3);
    else yield* this.#nested();
  }

  /** Each first-stage leaf in the pieces that the second stage makes of it. */
  *#nested(): Generator<MappedLeaf> {
    const t = this.#translation;
    const reader = this.#firstStageReader((address) => this.#host(address, "the table").mapped?.pa);
    for (const leaf of this.#table(reader, t.firstStage, 0n, 3)) {
      const granted = (leaf.permissions.includes("r") ? 1 : 0) | (leaf.permissions.includes("w") ? 2 : 0);
      for (let done = 0; done < leaf.size; ) {
        if (this.spent()) return;
        const { mapped, extent } = this.#host(leaf.pa + done, "the page");
        // Up to the end of the second stage's entry, or of the leaf.
        const size = Math.min(extent - ((leaf.pa + done) % extent), leaf.size - done);
        if (mapped !== undefined) yield { ...leaf, iova: leaf.iova + BigInt(done), pa: mapped.pa, size, permissions: rightLetters(granted & mapped.rights) };
        done += size;
      }
    }
  }

  /** Where the second stage puts an address; `extent` is how much the last entry on the way covers, so that a hole is left at once. */
  #host(address: number, what: string): { readonly mapped?: Mapped; readonly extent: number } {
    const t = this.#translation;
    const { steps } = this.#trail;
    steps.length = 0;
    try {
      if (BigInt(address) >= secondStageLimit(this.#trail, t.secondStage)) throw new Blocked("SFS.5");
      const any = { read: false, write: false, privileged: false };
      const mapped = walkSecondStage(this.#trail, t, BigInt(address), any, { read: "SGN.7", write: "SGN.6" }, { depth: 1 });
      return { mapped, extent: mapped.pageSize };
    } catch (error) {
      if (!(error instanceof Blocked)) throw error;
      const { code, reason } = describeCondition(error.condition);
      this.problem ??= `${what} at guest-physical 0x${address.toString(16)} is not reached, reason ${code}: ${reason}`;
      // An entry that could not be read is not among the steps.
      const unread = error.condition === "SSS.1" || error.condition === "SSS.4" ? 0 : 1;
      return { extent: Number(levelSize(error.condition === "SFS.5" ? 4 : t.secondStage.topLevel - steps.length + unread)) };
    }
  }

  #firstStageReader(host: Reader["host"]): Reader {
    return {
      levels: FIRST_STAGE_LEVELS,
      host,
      present: (word) => (word & 1n) !== 0n,
      // An entry that user requests may not use grants them nothing.
      rights: (word) => ((word & 4n) === 0n ? 0 : (word & 2n) === 0n ? 1 : 3),
    };
  }

  #secondStageReader(): Reader {
    const { ssirwe } = this.#unit;
    return {
      levels: SECOND_STAGE_LEVELS,
      host: (address) => address,
      present: (word) => secondStageRights(word, ssirwe) !== 0,
      rights: (word) => secondStageRights(word, ssirwe),
    };
  }

  *#table(reader: Reader, { root, topLevel: level }: Stage, base: bigint, granted: number, above: readonly number[] = []): Generator<MappedLeaf> {
    if (above.includes(root)) {
      this.problem ??= `the table at 0x${root.toString(16)} points back to itself`;
      return;
    }
    const pa = reader.host(root);
    if (pa === undefined) return;
    const words = readWords(this.#unit.source, pa, 4096 * 8);
    if (words === undefined) {
      this.problem ??= `the table at 0x${pa.toString(16)} is not in the dump`;
      return;
    }
    const size = levelSize(level);
    for (const [index, word] of words.entries()) {
      if (!reader.present(word)) continue;
      if (this.spent()) return;
      const entry = entryKind(reader.levels, level, word);
      const iova = this.#canonical(base + BigInt(index) * size);
      if (breaksRules(entry.table, [word], this.#unit)) {
        this.problem ??= `the ${entry.table.structure} for IOVA 0x${iova.toString(16)} has a reserved bit set`;
        continue;
      }
      const below = granted & reader.rights(word);
      const next = addressOf(entry, word);
      if (entry.leaf) yield { iova, pa: next, size: Number(size), permissions: rightLetters(below), entry: word };
      else yield* this.#table(reader, { root: next, topLevel: level - 1 }, base + BigInt(index) * size, below, [...above, root]);
    }
  }

  /** The upper half of a first-stage table holds addresses with all upper bits set. */
  #canonical(iova: bigint): bigint {
    if (this.type === "second-stage") return iova;
    return BigInt.asUintN(64, BigInt.asIntN(12 + 9 * (this.#translation.firstStage.topLevel + 1), iova));
  }
}
