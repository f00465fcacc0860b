/**
 * Intervals that do not overlap, each with a value, in order: a B+ tree whose nodes are columns of 64-bit numbers, so
 * that an interval costs 24 bytes. A branch knows the largest hole inside each child, which finds room in O(log n).
 */
import { type Interval, U64_MAX } from "./interval.js";

/** Rows of a node; fewer than a quarter of it, and a node joins its neighbour if both fit into one. */
const FANOUT = 128;

export interface Entry<V> extends Interval {
  readonly value: V;
}

/** Row i is the interval [keys[2i], keys[2i + 1]], or for a branch the subtree between them: one cache line shows both. */
class Node<V> {
  readonly branch: boolean;
  count = 0;
  readonly keys: BigUint64Array = new BigUint64Array(2 * FANOUT);
  /** Of a branch: the largest hole inside each child. */
  readonly gaps: BigUint64Array;
  /** Values of a leaf, children of a branch. */
  readonly items: (V | Node<V>)[] = [];

  constructor(branch: boolean) {
    this.branch = branch;
    this.gaps = branch ? new BigUint64Array(FANOUT) : NO_GAPS;
  }

  start(i: number): bigint {
    return this.keys[2 * i];
  }

  last(i: number): bigint {
    return this.keys[2 * i + 1];
  }

  child(i: number): Node<V> {
    return this.items[i] as Node<V>;
  }

  /** First row that ends at or after `address`. */
  seek(address: bigint): number {
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.keys[2 * middle + 1] < address) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Size of the hole between row `i` and the next one. */
  after(i: number): bigint {
    return this.keys[2 * i + 2] - this.keys[2 * i + 1] - 1n;
  }

  /** Largest hole between the first and the last interval of the subtree. */
  largestGap(): bigint {
    let largest = 0n;
    for (let i = 0; i < this.count; i++) {
      if (this.branch && this.gaps[i] > largest) largest = this.gaps[i];
      if (i + 1 < this.count && this.after(i) > largest) largest = this.after(i);
    }
    return largest;
  }

  /** Copies child `i`'s ends and largest hole into this branch. */
  refresh(i: number): void {
    const child = this.child(i);
    this.keys[2 * i] = child.start(0);
    this.keys[2 * i + 1] = child.last(child.count - 1);
    this.gaps[i] = child.largestGap();
  }

  insert(i: number, start: bigint, last: bigint, item: V | Node<V>): void {
    this.#shift(i, i + 1);
    this.keys[2 * i] = start;
    this.keys[2 * i + 1] = last;
    this.items.splice(i, 0, item);
    this.count++;
    if (this.branch) this.refresh(i);
  }

  remove(i: number): void {
    this.#shift(i + 1, i);
    this.items.splice(i, 1);
    this.count--;
  }

  #shift(from: number, to: number): void {
    this.keys.copyWithin(2 * to, 2 * from, 2 * this.count);
    if (this.branch) this.gaps.copyWithin(to, from, this.count);
  }

  /** Moves the rows from `from` on to the end of `target`. */
  moveTo(target: Node<V>, from: number): void {
    target.keys.set(this.keys.subarray(2 * from, 2 * this.count), 2 * target.count);
    if (this.branch) target.gaps.set(this.gaps.subarray(from, this.count), target.count);
    target.items.push(...this.items.splice(from));
    target.count += this.count - from;
    this.count = from;
  }
}

const NO_GAPS = new BigUint64Array(0);

export class IntervalTree<V> {
  #root: Node<V> = new Node(false);
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** The interval must not meet another of the tree. */
  add(start: bigint, last: bigint, value: V): void {
    const right = this.#add(this.#root, start, last, value);
    this.#size++;
    if (right === undefined) return;
    const root = new Node<V>(true);
    root.insert(0, start, last, this.#root);
    root.insert(1, start, last, right);
    this.#root = root;
  }

  /** Adds below `node`; returns the node to its right when it was split. */
  #add(node: Node<V>, start: bigint, last: bigint, value: V): Node<V> | undefined {
    let at = node.seek(start);
    let item: V | Node<V> = value;
    if (node.branch) {
      at = Math.min(at, node.count - 1);
      const right = this.#add(node.child(at), start, last, value);
      node.refresh(at++);
      if (right === undefined) return undefined;
      item = right;
    }
    if (node.count < FANOUT) {
      node.insert(at, start, last, item);
      return undefined;
    }
    const right = new Node<V>(node.branch);
    // Growth at the end is the usual case: it leaves full nodes behind.
    if (at < FANOUT) node.moveTo(right, FANOUT / 2);
    if (at <= node.count && at < FANOUT) node.insert(at, start, last, item);
    else right.insert(at - node.count, start, last, item);
    return right;
  }

  /** Removes the interval that begins at `start`. False when there is none. */
  delete(start: bigint): boolean {
    if (!this.#delete(this.#root, start)) return false;
    this.#size--;
    while (this.#root.branch && this.#root.count === 1) this.#root = this.#root.child(0);
    if (this.#root.count === 0) this.#root = new Node(false);
    return true;
  }

  #delete(node: Node<V>, start: bigint): boolean {
    const at = node.seek(start);
    if (at === node.count) return false;
    if (!node.branch) {
      if (node.start(at) !== start) return false;
      node.remove(at);
      return true;
    }
    const child = node.child(at);
    if (!this.#delete(child, start)) return false;
    if (child.count === 0) node.remove(at);
    else {
      node.refresh(at);
      if (child.count < FANOUT / 4) joinNeighbours(node, Math.min(at, node.count - 2));
    }
    return true;
  }

  /** First interval that shares an address with [start, last]. */
  first(start: bigint, last: bigint): Entry<V> | undefined {
    let node = this.#root;
    for (;;) {
      const at = node.seek(start);
      if (at === node.count || node.start(at) > last) return undefined;
      if (!node.branch) return { start: node.start(at), last: node.last(at), value: node.items[at] as V };
      node = node.child(at);
    }
  }

  /** Holes of at least `size` addresses that end at or after `from`, ascending, and those at the ends of [0, 2^64). */
  *holes(from: bigint, size: bigint): Generator<Interval> {
    const root = this.#root;
    if (root.count === 0) {
      yield { start: 0n, last: U64_MAX };
      return;
    }
    if (root.start(0) > from) yield { start: 0n, last: root.start(0) - 1n };
    yield* holesOf(root, from, size);
    const end = root.last(root.count - 1);
    if (end < U64_MAX) yield { start: end + 1n, last: U64_MAX };
  }

  *[Symbol.iterator](): Generator<Entry<V>> {
    yield* entriesOf(this.#root);
  }
}

/** Makes one child of children `i` and `i` + 1 when they fit. */
function joinNeighbours<V>(branch: Node<V>, i: number): void {
  if (i < 0) return;
  const [left, right] = [branch.child(i), branch.child(i + 1)];
  if (left.count + right.count > FANOUT) return;
  right.moveTo(left, 0);
  branch.remove(i + 1);
  branch.refresh(i);
}

function* holesOf<V>(node: Node<V>, from: bigint, size: bigint): Generator<Interval> {
  for (let i = Math.max(0, node.seek(from) - 1); i < node.count; i++) {
    if (node.branch && node.gaps[i] >= size) yield* holesOf(node.child(i), from, size);
    if (i + 1 < node.count && node.after(i) >= size) yield { start: node.last(i) + 1n, last: node.start(i + 1) - 1n };
  }
}

function* entriesOf<V>(node: Node<V>): Generator<Entry<V>> {
  for (let i = 0; i < node.count; i++) {
    if (node.branch) yield* entriesOf(node.child(i));
    else yield { start: node.start(i), last: node.last(i), value: node.items[i] as V };
  }
}
