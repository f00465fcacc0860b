import { IommuError } from "@iommukit/core";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Right } from "../host/ioas.js";
import { type GuestLeaf, ShadowSpace, type ShadowTarget } from "./shadow-space.js";

const { READ, WRITE } = Right;

/** A host that keeps what it is told to, by page, and refuses as IOAS_MAP and UNMAP do. */
class Host implements ShadowTarget {
  readonly leaves = new Map<bigint, GuestLeaf>();
  readonly log: string[] = [];
  refuses: (leaf: GuestLeaf) => boolean = () => false;

  map(leaf: GuestLeaf): void {
    for (const other of this.leaves.values()) {
      if (leaf.iova < other.iova + other.length && other.iova < leaf.iova + leaf.length) throw new Error("EEXIST");
    }
    if (this.refuses(leaf)) throw new IommuError("ENOMEM", { message: "no", rule: "none" });
    this.leaves.set(leaf.iova, leaf);
    this.log.push(`map ${leaf.iova}`);
  }

  unmap(iova: bigint, length: bigint): void {
    if (this.leaves.get(iova)?.length !== length) throw new Error("ENOENT");
    this.leaves.delete(iova);
    this.log.push(`unmap ${iova}`);
  }
}

class Tables {
  leaves: GuestLeaf[] = [];

  put(iova: bigint, length: bigint, address: bigint, rights: number = READ | WRITE): void {
    this.leaves = this.leaves.filter((leaf) => leaf.iova + leaf.length <= iova || leaf.iova >= iova + length);
    this.leaves.push({ iova, length, address, rights });
    this.leaves.sort((a, b) => Number(a.iova - b.iova));
  }

  drop(iova: bigint): void {
    this.leaves = this.leaves.filter((leaf) => iova < leaf.iova || iova >= leaf.iova + leaf.length);
  }

  readonly overlapping = (start: bigint, last: bigint): GuestLeaf[] => this.leaves.filter((leaf) => leaf.iova <= last && leaf.iova + leaf.length > start);
}

function rig(limit?: number): { host: Host; tables: Tables; space: ShadowSpace; refused: string[] } {
  const host = new Host();
  const tables = new Tables();
  const refused: string[] = [];
  return { host, tables, refused, space: new ShadowSpace(host, tables.overlapping, (leaf, error) => refused.push(`${leaf.iova} ${error.errno}`), limit) };
}

describe("a shadow", () => {
  it("makes the difference in the range, and nothing else", () => {
    const { host, tables, space } = rig();
    tables.put(0n, 4n, 100n);
    tables.put(4n, 4n, 200n);
    tables.put(8n, 4n, 300n);
    space.sync(0n, 7n);
    expect(host.log.splice(0)).toEqual(["map 0", "map 4"]);
    tables.put(4n, 4n, 201n);
    space.sync(0n, 11n);
    expect(host.log.splice(0)).toEqual(["unmap 4", "map 4", "map 8"]);
    space.sync(0n, 11n);
    expect(host.log).toEqual([]);
  });

  it("takes away what the guest took away: a leaf, a right, all rights", () => {
    const { host, tables, space } = rig();
    tables.put(0n, 4n, 100n);
    tables.put(4n, 4n, 200n);
    tables.put(8n, 4n, 300n);
    space.sync(0n, 15n);
    tables.drop(0n);
    tables.put(4n, 4n, 200n, READ);
    tables.put(8n, 4n, 300n, 0);
    space.sync(0n, 15n);
    expect([...host.leaves.values()]).toEqual([{ iova: 4n, length: 4n, address: 200n, rights: READ }]);
  });

  it("a large leaf whose part was invalidated goes whole, and smaller ones take its place", () => {
    const { host, tables, space } = rig();
    tables.put(0n, 16n, 100n);
    space.sync(0n, 15n);
    tables.put(0n, 8n, 100n);
    tables.put(8n, 8n, 900n);
    space.sync(10n, 10n);
    expect([...host.leaves.keys()]).toEqual([0n, 8n]);
  });

  it("small leaves make room for a large one that was invalidated at one place only", () => {
    const { host, tables, space } = rig();
    for (const at of [0n, 4n, 8n, 12n]) tables.put(at, 4n, at);
    space.sync(0n, 15n);
    tables.put(0n, 16n, 500n);
    space.sync(5n, 5n);
    expect([...host.leaves.values()]).toEqual([{ iova: 0n, length: 16n, address: 500n, rights: 3 }]);
  });

  it("what the host refuses is told, and tried again when the guest speaks of it again", () => {
    const { host, tables, space, refused } = rig();
    host.refuses = ({ address }) => address === 200n;
    tables.put(0n, 4n, 100n);
    tables.put(4n, 4n, 200n);
    space.sync(0n, 7n);
    expect([refused.splice(0), [...host.leaves.keys()]]).toEqual([["4 ENOMEM"], [0n]]);
    host.refuses = () => false;
    space.sync(4n, 4n);
    expect([refused, [...host.leaves.keys()]]).toEqual([[], [0n, 4n]]);
  });

  it("is limited", () => {
    const { host, tables, space, refused } = rig(2);
    for (const at of [0n, 4n, 8n]) tables.put(at, 4n, at);
    space.sync(0n, 11n);
    expect([refused, host.leaves.size]).toEqual([["8 ENOSPC"], 2]);
    tables.drop(0n);
    space.sync(0n, 11n);
    expect([...host.leaves.keys()]).toEqual([4n, 8n]);
  });

  it("ends with nothing mapped", () => {
    const { host, tables, space } = rig();
    tables.put(0n, 4n, 100n);
    tables.put(2n ** 64n - 4n, 4n, 200n);
    space.sync(0n, 2n ** 64n - 1n);
    expect(host.leaves.size).toBe(2);
    space.clear();
    expect([host.leaves.size, space.size]).toEqual([0, 0]);
  });
});

it("is what the tables were when each address was last invalidated", () => {
  const change = fc.record({ log2: fc.constantFrom(0, 0, 0, 2, 4), at: fc.nat(63), address: fc.nat(7), rights: fc.constantFrom(0, READ, WRITE, 3, 3, 3), kind: fc.constantFrom("put", "put", "drop"), sync: fc.option(fc.tuple(fc.nat(63), fc.nat(16))) });
  fc.assert(
    fc.property(fc.array(change, { maxLength: 60 }), (changes) => {
      const { host, tables, space } = rig();
      for (const { log2, at, address, rights, kind, sync } of changes) {
        const length = 1n << BigInt(log2);
        const iova = (BigInt(at) / length) * length;
        if (kind === "put") tables.put(iova, length, BigInt(address) * 64n, rights);
        else tables.drop(BigInt(at));
        if (sync === null) continue;
        const [start, last] = [BigInt(sync[0]), BigInt(sync[0] + sync[1])];
        space.sync(start, last);
        // There it is as the tables are now.
        for (let page = start; page <= last; page++) {
          const [leaf] = tables.overlapping(page, page);
          const [there] = [...host.leaves.values()].filter((piece) => piece.iova <= page && page < piece.iova + piece.length);
          const wanted = leaf === undefined || leaf.rights === 0 ? undefined : `${leaf.address + page - leaf.iova} ${leaf.rights}`;
          expect(there && `${there.address + page - there.iova} ${there.rights}`).toBe(wanted);
        }
      }
      space.sync(0n, 127n);
      expect([...host.leaves.values()].sort((a, b) => Number(a.iova - b.iova))).toEqual(tables.leaves.filter(({ rights }) => rights !== 0));
    }),
    { numRuns: 500 },
  );
});
