/** What decoders of units share: reading structures out of a dump, showing them, and a bound on how much is read. */
import type { AddressSpaceDump, MappedLeaf, TableSource, WalkStep } from "./types.js";

/** How a step is shown: where its index comes from, and what it was read for. */
export type StepContext = Pick<WalkStep, "index" | "depth" | "purpose">;

/** Bits of rights in reports. */
export const Right = { READ: 1, WRITE: 2, EXECUTE: 4 } as const;

/** "rw" */
export function rightLetters(rights: number): string {
  return `${rights & Right.READ ? "r" : ""}${rights & Right.WRITE ? "w" : ""}${rights & Right.EXECUTE ? "x" : ""}`;
}

/** Little-endian words; undefined where the memory is not there. */
export function readWords(source: TableSource, pa: number | bigint, bits: number): bigint[] | undefined {
  const bytes = new Uint8Array(bits / 8);
  const at = Number(pa);
  if (at + bytes.length > 2 ** 52 || !source.read(at, bytes)) return undefined;
  const view = new DataView(bytes.buffer);
  return Array.from({ length: bits / 64 }, (_, i) => view.getBigUint64(i * 8, true));
}

/** Entries that one dump reads before it gives up: 128 GiB in 4 KiB pages. Damaged tables can name each other without end. */
const ENTRY_LIMIT = 2 ** 25;

export interface DumpBudget {
  left: number;
}

export const dumpBudget = (): DumpBudget => ({ left: ENTRY_LIMIT });

/** An address space that is read entry by entry, as far as the dump's budget goes. */
export abstract class BudgetedSpace implements AddressSpaceDump {
  readonly rid: number;
  readonly pasid?: number;
  readonly type: string;
  readonly ids: Readonly<Record<string, number>>;
  problem?: string;
  readonly #budget: DumpBudget;

  constructor(rid: number, pasid: number | undefined, type: string, ids: Readonly<Record<string, number>>, budget: DumpBudget) {
    this.rid = rid;
    if (pasid !== undefined) this.pasid = pasid;
    this.type = type;
    this.ids = ids;
    this.#budget = budget;
  }

  abstract leaves(): Iterable<MappedLeaf>;

  /** Takes an entry from the budget. True when there was none left: then that is the problem. */
  protected spent(): boolean {
    if (this.#budget.left-- > 0) return false;
    this.problem ??= `the dump has more than ${ENTRY_LIMIT} entries; the rest is left out`;
    return true;
  }
}

/** Of requests that nothing is mapped for. */
export function blockedSpace(rid: number, pasid: number | undefined, problem: string): AddressSpaceDump {
  return { rid, type: "blocked", ids: {}, problem, leaves: () => [], ...(pasid === undefined ? {} : { pasid }) };
}
