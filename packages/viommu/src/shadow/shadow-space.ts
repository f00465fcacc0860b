/**
 * A guest's address space kept again on a host that does not walk the guest's tables: what the tables say, piece by piece, as mappings of
 * the host. The guest says where its tables have changed (for VT-d: caching mode, 6.1); there the difference is made, and nowhere else.
 */
import { IntervalTree, IommuError } from "@iommukit/core";

/** A page of the guest's tables, of any size. */
export interface GuestLeaf {
  readonly iova: bigint;
  /** Guest-physical. */
  readonly address: bigint;
  readonly length: bigint;
  /** Bits of `Right` that every level grants; a leaf without any is not there. */
  readonly rights: number;
}

/** Mappings of the host. Either throws `IommuError` when it refuses. */
export interface ShadowTarget {
  map(leaf: GuestLeaf): void;
  /** Of a leaf that was mapped: whole, as UNMAP may not cut one. */
  unmap(iova: bigint, length: bigint): void;
}

/** Leaves that overlap [start, last], in ascending order, not overlapping each other. */
export type GuestLeaves = (start: bigint, last: bigint) => Iterable<GuestLeaf>;

/** Told of a leaf that the host did not take: an access there faults, until it is looked at again. */
export type OnRefusal = (leaf: GuestLeaf, error: IommuError) => void;

interface Piece {
  readonly address: bigint;
  readonly rights: number;
}

export class ShadowSpace {
  readonly #target: ShadowTarget;
  readonly #leaves: GuestLeaves;
  readonly #refused: OnRefusal;
  readonly #limit: number;
  readonly #pieces = new IntervalTree<Piece>();

  /** @param limit leaves that are mapped at the most: a guest's tables can name one page of memory a million times */
  constructor(target: ShadowTarget, leaves: GuestLeaves, refused: OnRefusal = () => undefined, limit: number = 2 ** 20) {
    this.#target = target;
    this.#leaves = leaves;
    this.#refused = refused;
    this.#limit = limit;
  }

  /** Leaves that are mapped. */
  get size(): number {
    return this.#pieces.size;
  }

  /**
   * Makes [start, last] as the guest's tables are now. What has changed is gone for a moment: a right that the guest takes away may not
   * outlive the invalidation, and the host has no call that changes a mapping.
   */
  sync(start: bigint, last: bigint): void {
    const range = this.#widened(start, last);
    let next = range.start;
    for (const leaf of this.#leaves(range.start, range.last)) {
      const end = leaf.iova + leaf.length - 1n;
      if (leaf.iova > next) this.#remove(next, leaf.iova - 1n);
      this.#place(leaf, end);
      next = end + 1n;
    }
    if (next <= range.last) this.#remove(next, range.last);
  }

  /** The guest's space ends, or is another one now. */
  clear(): void {
    this.#remove(0n, 2n ** 64n - 1n);
  }

  /** With the whole of the leaves at both ends: those that are mapped there, since they cannot be cut. */
  #widened(start: bigint, last: bigint): { start: bigint; last: bigint } {
    const first = this.#pieces.first(start, start);
    const final = this.#pieces.first(last, last);
    return { start: first && first.start < start ? first.start : start, last: final && final.last > last ? final.last : last };
  }

  #place(leaf: GuestLeaf, end: bigint): void {
    const there = this.#pieces.first(leaf.iova, end);
    if (there && there.start === leaf.iova && there.last === end && there.value.address === leaf.address && there.value.rights === leaf.rights) return;
    this.#remove(leaf.iova, end);
    if (leaf.rights === 0) return;
    if (this.#pieces.size >= this.#limit) {
      const message = `a guest's address space has more than ${this.#limit} pages`;
      this.#refused(leaf, new IommuError("ENOSPC", { message, rule: "the limit of a shadow" }));
      return;
    }
    try {
      this.#target.map(leaf);
    } catch (error) {
      if (!(error instanceof IommuError)) throw error;
      this.#refused(leaf, error);
      return;
    }
    this.#pieces.add(leaf.iova, end, { address: leaf.address, rights: leaf.rights });
  }

  /** Whatever touches the range goes, whole. */
  #remove(start: bigint, last: bigint): void {
    for (let piece = this.#pieces.first(start, last); piece !== undefined; piece = this.#pieces.first(start, last)) {
      this.#target.unmap(piece.start, piece.last - piece.start + 1n);
      this.#pieces.delete(piece.start);
    }
  }
}
