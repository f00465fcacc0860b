/** What decoders of units share: reading structures out of a dump, showing them, and a bound on how much is read. */
import type { AddressSpaceDump, TableSource, WalkStep } from "./types.js";

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
export class DumpBudget {
  readonly limit: number = 2 ** 25;
  #left = this.limit;

  /** Takes one entry. False when there is no more to spend. */
  spend(): boolean {
    return this.#left-- > 0;
  }
}

/** Of requests that nothing is mapped for. */
export function blockedSpace(rid: number, pasid: number | undefined, problem: string): AddressSpaceDump {
  return { rid, type: "blocked", ids: {}, problem, leaves: () => [], ...(pasid === undefined ? {} : { pasid }) };
}
