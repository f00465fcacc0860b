/** Pages that a guest's second-stage tables map (VT-d 9.8), read out of its memory for a shadow. */
import type { PhysicalMemory } from "@iommukit/core";
import { SecondStage, type SecondStageView } from "@iommukit/hw-vtd/spec";
import { type GuestLeaf, ShadowRight } from "../shadow/index.js";

const ENTRIES = 512;
const PAGE_BITS = 12n;
const INDEX_BITS = 9n;
const ADDRESS_MASK = 0xf_ffff_ffff_f000n;
const READ_WRITE = BigInt(SecondStage.R | SecondStage.W);

/** Memory of the guest. */
export type GuestTables = Pick<PhysicalMemory, "readU64">;

/**
 * Leaves that overlap [start, last], with the rights that every level grants; an entry with a reserved bit, or whose table is not in memory,
 * maps nothing. Tables may point at each other in circles: after `budget` entries it ends, and what is left counts as not mapped.
 */
export function* secondStageLeaves(memory: GuestTables, { root, levels, pages }: SecondStageView, start: bigint, last: bigint, budget: number): Generator<GuestLeaf> {
  const end = BigInt(pages) << PAGE_BITS;
  const walk = { memory, left: budget, start, last: last < end ? last : end - 1n };
  if (walk.start <= walk.last) yield* table(walk, BigInt(root), levels - 1, 0n, READ_WRITE);
}

interface Walk {
  readonly memory: GuestTables;
  readonly start: bigint;
  readonly last: bigint;
  left: number;
}

function* table(walk: Walk, address: bigint, level: number, base: bigint, rights: bigint): Generator<GuestLeaf> {
  const shift = PAGE_BITS + INDEX_BITS * BigInt(level);
  const size = 1n << shift;
  const first = walk.start > base ? (walk.start - base) >> shift : 0n;
  for (let i = Number(first); i < ENTRIES; i++) {
    const iova = base + BigInt(i) * size;
    if (iova > walk.last || walk.left-- <= 0) return;
    const entry = walk.memory.readU64(Number(address) + i * 8) ?? 0n;
    const granted = rights & entry;
    if (granted === 0n) continue;
    const large = level > 0 && (entry & BigInt(SecondStage.PS)) !== 0n;
    if (level > 0 && !large) {
      yield* table(walk, entry & ADDRESS_MASK, level - 1, iova, granted);
      continue;
    }
    const target = entry & ADDRESS_MASK;
    // A large page whose address has bits below its size breaks a rule (9.8).
    if (target % size !== 0n || level > 2) continue;
    yield { iova, address: target, length: size, rights: ((granted & BigInt(SecondStage.R)) !== 0n ? ShadowRight.READ : 0) | ((granted & BigInt(SecondStage.W)) !== 0n ? ShadowRight.WRITE : 0) };
  }
}
