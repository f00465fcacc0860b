/** What tests of translation add to a `UnitBench`: single entries of both stages, nested tables, translation requests, and the reason of the last fault. */
import { Access, CompletionStatus, NO_PASID, TranslationCompletion } from "@iommukit/core";
import { PASID_TABLE_ENTRY } from "../spec/entries.js";
import { AT, type BenchOptions, RID, UnitBench } from "./unit.test-support.js";

/** Present, writable, user, accessed; the same dirty. */
export const FS = { TABLE: 0x27, PAGE: 0x67 } as const;
export const { READ, WRITE } = Access;
export const ATOMIC: number = READ | WRITE;
export const { SUCCESS, UNSUPPORTED_REQUEST: UR, COMPLETER_ABORT: CA } = CompletionStatus;
/** First frames of what tests map. */
export const PAGE: number = AT.PAGES / 4096;

export class TranslationBench extends UnitBench {
  constructor(options: BenchOptions = {}) {
    super(options);
  }

  /** Scalable mode with `entry` for PASID 0, whose tables map page 5; PASID 7 has a first stage. */
  scalable(entry: Readonly<Record<string, number>> = {}, context: Readonly<Record<string, number>> = {}): this {
    this.scalableTables(context);
    this.pasid(0, { PGTT: 2, AW: 2, SSPTPTR: AT.SECOND >> 12, ...entry });
    this.start(1);
    return this;
  }

  /** The same with a first stage for PASID 0. */
  first(entry: Readonly<Record<string, number>> = {}, context: Readonly<Record<string, number>> = {}): this {
    return this.scalable({ PGTT: 1, FSPTPTR: AT.FIRST >> 12, ...entry }, context);
  }

  /** One stage through the other; the second maps the first stage's tables one to one, and page 5 to `PAGE`, which the first maps page 5 to. */
  nested(entry: Readonly<Record<string, number>> = {}, context: Readonly<Record<string, number>> = {}): this {
    this.scalable({ PGTT: 3, FSPTPTR: AT.FIRST >> 12, ...entry }, context);
    for (let level = 0; level < 4; level++) this.second((AT.FIRST >> 12) + level, (AT.FIRST >> 12) + level, 3);
    this.firstEntry(0, (5 << 12) | FS.PAGE);
    return this;
  }

  legacy(context: Readonly<Record<string, number>> = {}): this {
    this.legacyTables(context);
    this.start(0);
    return this;
  }

  pasid(pasid: number, fields: Readonly<Record<string, number>>): void {
    this.put(PASID_TABLE_ENTRY, AT.PASIDS + pasid * 64, { P: 1, DID: 1, PWSNP: 1, ...fields });
  }

  /** The second-stage leaf of a page below 512. */
  second(page: number, out: number, bits: number | bigint): void {
    this.secondEntry(0, (BigInt(out) << 12n) | BigInt(bits), page);
  }

  /** The second-stage entry at `level` on the way to `page`. */
  secondEntry(level: number, value: number | bigint, page = 5): void {
    this.memory.writeU64(AT.SECOND + (3 - level) * 0x1000 + (level === 0 ? page : 0) * 8, BigInt(value));
  }

  readSecond(level: number, page = 5): bigint {
    return this.memory.readU64(AT.SECOND + (3 - level) * 0x1000 + (level === 0 ? page : 0) * 8) ?? 0n;
  }

  /** The first-stage entry at `level` on the way to page 5. */
  firstEntry(level: number, value: number | bigint): void {
    this.memory.writeU64(AT.FIRST + (3 - level) * 0x1000 + (level === 0 ? 5 : 0) * 8, BigInt(value));
  }

  readFirst(level: number): bigint {
    return this.memory.readU64(AT.FIRST + (3 - level) * 0x1000 + (level === 0 ? 5 : 0) * 8) ?? 0n;
  }

  /** Empties the caches. */
  fresh(): this {
    this.unit.caches.removeAll();
    return this;
  }

  /** Reason of the fault recorded since the last look; 0 for none. */
  reason(): number {
    let reason = 0;
    for (let i = 0; i < 8; i++) {
      const record = this.record(i);
      if (record === undefined) continue;
      reason = record.reason;
      this.clearRecord(i);
    }
    return reason;
  }

  /** Output page, or why there is none. */
  outcome(page = 5, access: number = READ, pasid: number = NO_PASID, rid = RID): number | string {
    const out = this.dma(page, access, pasid, rid);
    if (out !== -1) return out;
    const reason = this.reason();
    return reason === 0 ? "blocked" : `fault ${reason.toString(16)}h`;
  }

  /** A translation request; its No Write flag is set unless `access` has WRITE. */
  ask(page = 5, access: number = ATOMIC, pasid: number = NO_PASID): TranslationCompletion {
    const completion = new TranslationCompletion();
    this.unit.ats?.requestTranslation(RID, pasid, page, access, completion);
    return completion;
  }

  translated(page: number, access: number = READ, pasid: number = NO_PASID): number | string {
    const out = this.unit.ats?.translated(RID, pasid, page, access) ?? -1;
    if (out !== -1) return out;
    const reason = this.reason();
    return reason === 0 ? "blocked" : `fault ${reason.toString(16)}h`;
  }
}
