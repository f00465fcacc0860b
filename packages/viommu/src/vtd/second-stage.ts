/** Pages that a guest's second-stage tables map (VT-d 9.8), read out of its memory for a shadow. */
import { classifyEntry, EntryKind, entryFrame, levelShift, type PageTableFormat, type PhysicalMemory } from "@iommukit/core";
import type { SecondStageView } from "@iommukit/hw-vtd/spec";
import type { GuestLeaf } from "../shadow/index.js";

const ENTRIES = 512;
const ENTRY_BYTES = 8;
/** R and W of an entry (9.8), which are `Right`'s bits. */
const RIGHTS = 3;

/** Memory of the guest. */
export type GuestTables = Pick<PhysicalMemory, "load64" | "lo" | "hi">;

/** Where leaves are looked for, in pages; what is left of the entries that may be read. */
interface Search {
  readonly memory: GuestTables;
  readonly format: PageTableFormat;
  readonly start: number;
  readonly last: number;
  left: number;
}

/**
 * Leaves that overlap [start, last], with the rights that every level grants; an entry that breaks a rule, or whose table is not in memory,
 * maps nothing, as it does for a device. Tables may point at each other in circles: after `budget` entries it ends, and what is left counts as not
 * mapped.
 * @param format of the guest's unit
 */
export function* secondStageLeaves(memory: GuestTables, format: PageTableFormat, { root, levels, pages }: SecondStageView, start: bigint, last: bigint, budget: number): Generator<GuestLeaf> {
  const search = { memory, format, start: Number(start >> 12n), last: Math.min(Number(last >> 12n), pages - 1), left: budget };
  if (search.start <= search.last) yield* leavesOf(search, root, levels - 1, 0, RIGHTS);
}

function* leavesOf(search: Search, table: number, level: number, base: number, rights: number): Generator<GuestLeaf> {
  const { memory, format } = search;
  const pages = 2 ** (levelShift(format, level) - 12);
  for (let i = Math.max(0, Math.floor((search.start - base) / pages)); i < ENTRIES; i++) {
    const page = base + i * pages;
    if (page > search.last || search.left-- <= 0) return;
    if (!memory.load64(table + i * ENTRY_BYTES)) continue;
    const { lo, hi } = memory;
    const granted = rights & lo;
    const kind = granted === 0 ? EntryKind.NOT_PRESENT : classifyEntry(format, level, lo, hi);
    const frame = entryFrame(format, lo, hi);
    if (kind === EntryKind.TABLE) yield* leavesOf(search, frame * 4096, level - 1, page, granted);
    if (kind === EntryKind.LEAF) yield { iova: BigInt(page) << 12n, address: BigInt(frame) << 12n, length: BigInt(pages) << 12n, rights: granted };
  }
}
