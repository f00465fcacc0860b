/**
 * A small world for histories: two devices, two PASIDs, two first-stage and two second-stage trees, in cells that are written
 * as a whole. It keeps the rules for software of VT-d 6.2.3.1: what a domain id stands for never changes.
 */
import type { Random } from "./random.js";

export type CellClass = "root" | "context" | "directory" | "pasid" | "first" | "second";

/** Words that software writes at once. */
export interface Cell {
  readonly name: string;
  readonly kind: CellClass;
  readonly address: number;
  /** Values that software may give it. The first is the one it begins with. */
  readonly variants: readonly (readonly bigint[])[];
  /** Level of a paging entry. */
  readonly level: number;
  /** Input bits that an entry stands for, if it is one of the probed ones. */
  readonly leaf: boolean;
}

export interface Probe {
  readonly rid: number;
  /** -1: without. */
  readonly pasid: number;
  readonly address: bigint;
  readonly write: boolean;
}

export interface World {
  readonly legacy: boolean;
  readonly cells: readonly Cell[];
  readonly probes: readonly Probe[];
  readonly rtaddr: bigint;
}

export const RIDS: readonly number[] = [0x18, 0x90];
const ROOT = 0x1000;
const CONTEXTS = [0x2000, 0x3000];
const DIRECTORIES = [0x4000, 0x5000];
const PASID_TABLES = [0x6000, 0x7000];
/** Pages of the trees from here on. */
const TREES = 0x10_0000;
const TREE_BYTES = 0x1_0000;
/** Index 0, 0, 1 or 2, then 0 or 1. */
export const ADDRESSES: readonly bigint[] = [0x20_0000n, 0x20_1000n, 0x40_0000n];

const FLAGS_FIRST = 0x67n; // P, R/W, U/S, A, D
const FLAGS_SECOND = 3n;

interface Tree {
  readonly root: number;
  readonly cells: Cell[];
}

/** A four-level tree over ADDRESSES. Every entry has variants: absent, read-only, elsewhere, a large page. */
function tree(name: string, kind: "first" | "second", number: number, target: (address: bigint, variant: number) => bigint): Tree {
  const page = (i: number): number => TREES + number * TREE_BYTES + i * 4096;
  const flags = kind === "first" ? FLAGS_FIRST : FLAGS_SECOND;
  const cells: Cell[] = [];
  const add = (label: string, level: number, address: number, variants: readonly bigint[], leaf = level === 0): void => {
    cells.push({ name: `${name} ${label}`, kind, address, level, leaf, variants: variants.map((value) => [value]) });
  };
  const pointer = (to: number): bigint => BigInt(to) | flags;
  add("level 3", 3, page(0), [pointer(page(1)), 0n]);
  // The other tables hold the same with other targets: a changed pointer leads elsewhere.
  add("level 2", 2, page(1), [pointer(page(2)), pointer(page(3)), 0n]);
  for (const [i, table] of [page(2), page(3)].entries()) {
    for (const index of [1, 2]) {
      const leaves = page(4 + i * 2 + index - 1);
      const large = target(BigInt(index) << 21n, 2 + i) & ~0x1f_ffffn;
      add(`level 1 table ${i} index ${index}`, 1, table + index * 8, [pointer(leaves), pointer(leaves) & ~2n, large | flags | 0x80n, 0n]);
      for (const last of index === 1 ? [0, 1] : [0]) {
        const address = (BigInt(index) << 21n) | (BigInt(last) << 12n);
        const at = (variant: number): bigint => target(address, variant + 4 * i);
        add(`level 0 table ${i} index ${index}, ${last}`, 0, leaves + last * 8, [at(0) | flags, at(1) | flags, at(0) | (flags & ~2n), 0n]);
      }
    }
  }
  return { root: page(0), cells };
}

/** Maps the guest pages that hold first-stage tables, with the same address in host memory, besides what first-stage leaves point to. */
function guestTables(name: string, number: number): Cell[] {
  // The second-stage trees' own tables: level 1 index 8 of both tables covers TREES, as one 2 MiB page.
  return [2, 3].map((table) => ({
    name: `${name} guest tables ${table}`, kind: "second" as const, address: TREES + number * TREE_BYTES + table * 4096 + 0x8 * 8, level: 1, leaf: true,
    variants: [[BigInt(TREES) & ~0x1f_ffffn | FLAGS_SECOND | 0x80n]],
  }));
}

const host = (base: bigint) => (address: bigint, variant: number): bigint => base + address + (BigInt(variant) << 24n);

/** Domain ids: one for each pair of trees, so that none ever changes its meaning. */
const domainOf = (pgtt: bigint, first: number, second: number): bigint => {
  if (pgtt === 1n) return 1n + BigInt(first);
  if (pgtt === 2n) return 3n + BigInt(second);
  return pgtt === 3n ? 5n + BigInt(first * 2 + second) : 9n;
};

function trees(): { first: Tree[]; second: Tree[]; cells: Cell[] } {
  // First-stage leaves lead to addresses that are probed, so that the second stage maps them too.
  const guest = (address: bigint, variant: number): bigint => (variant % 2 === 0 ? address : ADDRESSES[Number((address >> 12n) % 3n)]);
  const first = [tree("first tree 0", "first", 0, guest), tree("first tree 1", "first", 1, (address, variant) => guest(address, variant + 1))];
  const second = [tree("second tree 0", "second", 2, host(0x1_0000_0000n)), tree("second tree 1", "second", 3, host(0x2_0000_0000n))];
  const cells = [...first, ...second].flatMap((each) => each.cells);
  return { first, second, cells: [...cells, ...guestTables("second tree 0", 2), ...guestTables("second tree 1", 3)] };
}

export function legacyWorld(random: Random): World {
  const { second, cells } = trees();
  const entry = (type: bigint, number: number, domain: bigint): bigint[] => [BigInt(second[number].root) | (type << 2n) | 1n, 2n | (domain << 8n)];
  const contexts = RIDS.map((rid, i): Cell => ({
    name: `context ${rid.toString(16)}`, kind: "context", address: CONTEXTS[0] + rid * 16, level: 0, leaf: false,
    variants: rotate([entry(0n, 0, 3n), entry(0n, 1, 4n), entry(2n, 0, 9n), [0n, 0n]], i),
  }));
  const root: Cell = { name: "root", kind: "root", address: ROOT, level: 0, leaf: false, variants: [[BigInt(CONTEXTS[0]) | 1n, 0n], [0n, 0n]] };
  const used = cells.filter(({ name }) => name.startsWith("second"));
  return { legacy: true, cells: [root, ...contexts, ...used], probes: probes(random, [-1]), rtaddr: BigInt(ROOT) };
}

export function scalableWorld(random: Random): World {
  const { first, second, cells } = trees();
  const entry = (pgtt: bigint, f: number, s: number): bigint[] => {
    const usesSecond = pgtt === 2n || pgtt === 3n;
    const usesFirst = pgtt === 1n || pgtt === 3n;
    const low = (usesSecond ? BigInt(second[s].root) | (2n << 2n) : 0n) | (pgtt << 6n) | 1n;
    return [low, domainOf(pgtt, f, s) | (1n << 23n), usesFirst ? BigInt(first[f].root) : 0n, 0n, 0n, 0n, 0n, 0n];
  };
  const variants = [entry(3n, 0, 0), entry(1n, 0, 0), entry(2n, 0, 0), entry(4n, 0, 0), entry(3n, 1, 0), entry(3n, 0, 1), entry(1n, 1, 0), Array.from({ length: 8 }, () => 0n)];
  const pasids: Cell[] = PASID_TABLES.flatMap((table, i) =>
    [0, 5].map((pasid) => ({
      name: `PASID entry ${pasid} of device ${i}`, kind: "pasid" as const, address: table + pasid * 64, level: 0, leaf: false, variants: rotate(variants, random.below(variants.length - 1)),
    })),
  );
  const directories = DIRECTORIES.map((address, i): Cell => ({
    name: `directory of device ${i}`, kind: "directory", address, level: 0, leaf: false, variants: [[BigInt(PASID_TABLES[i]) | 1n], [BigInt(PASID_TABLES[1 - i]) | 1n], [0n]],
  }));
  const context = (directory: number): bigint[] => [BigInt(directory) | 9n, 0n, 0n, 0n];
  const contexts = RIDS.map((rid, i): Cell => ({
    name: `context ${rid.toString(16)}`, kind: "context", address: CONTEXTS[i] + (rid & 0x7f) * 32, level: 0, leaf: false,
    variants: [context(DIRECTORIES[i]), context(DIRECTORIES[1 - i]), [0n, 0n, 0n, 0n]],
  }));
  const root: Cell = {
    name: "root", kind: "root", address: ROOT, level: 0, leaf: false,
    variants: [[BigInt(CONTEXTS[0]) | 1n, BigInt(CONTEXTS[1]) | 1n], [BigInt(CONTEXTS[0]) | 1n, 0n], [0n, 0n]],
  };
  return { legacy: false, cells: [root, ...contexts, ...directories, ...pasids, ...cells], probes: probes(random, [-1, 5]), rtaddr: BigInt(ROOT) | (1n << 10n) };
}

function probes(random: Random, pasids: readonly number[]): Probe[] {
  return Array.from({ length: 6 }, () => ({ rid: random.pick(RIDS), pasid: random.pick(pasids), address: random.pick(ADDRESSES), write: random.chance(0.4) }));
}

/** The same variants, beginning with another; the last one (absent) stays last. */
function rotate<T>(list: readonly T[], by: number): T[] {
  const some = list.slice(0, -1);
  return [...some.slice(by), ...some.slice(0, by), ...list.slice(-1)];
}
