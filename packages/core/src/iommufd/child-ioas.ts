/**
 * Software nesting, as RFC v2 of /dev/iommu wanted it and no kernel has it (1.2, 4.3): a child address space whose mappings are of its parent's
 * addresses. The two are composed here, rights together, and stay so whichever side changes. Memory is pinned and charged once, where it was
 * mapped: on the root.
 */
import type { CallContext, UserMemory } from "../files/types.js";
import { refuse } from "../errors.js";
import { type Interval, overlaps } from "../memory/interval.js";
import { IntervalTree } from "../memory/interval-tree.js";
import { type Area, lengthOf, newArea } from "./area.js";
import type { IommufdContext } from "./context.js";
import { Ioas } from "./ioas.js";
import { Pages } from "./pages.js";
import { Prot } from "../driver/types.js";

const PAGE = 4096n;
/** Levels of nesting below a root: each is one more pass over a change. */
const MAX_DEPTH = 8;

const hex = (value: bigint): string => `0x${value.toString(16)}`;
const show = (range: Interval): string => `${hex(range.start)}-${hex(range.last)}`;

/** A mapping as its caller made it: of the parent's addresses, whatever the parent has there. */
interface Mapping {
  readonly address: bigint;
  readonly prot: number;
}

/** Who can be a parent. */
type Parent = Ioas | DummyRoot;

export class ChildIoas extends Ioas {
  readonly parent: Parent;
  readonly #mappings = new IntervalTree<Mapping>();

  /** @throws IommuError EINVAL below too many others */
  constructor(id: number, parent: Parent) {
    super(id);
    let depth = 1;
    for (let above: Parent = parent; above instanceof ChildIoas; above = above.parent) depth++;
    if (depth > MAX_DEPTH) refuse("EINVAL", `IOAS ${parent.id} lies below ${MAX_DEPTH} others already`, { argument: "parent_ioas_id" });
    this.parent = parent;
    parent.children.add(this);
    parent.users++;
  }

  override takesMemory(what: string): void {
    refuse("EOPNOTSUPP", `IOAS ${this.id} is a child of IOAS ${this.parent.id}: it takes the parent's addresses, no ${what}`, { argument: "ioas_id", rule: "IOMMUKIT_IOAS_NEST" });
  }

  /** A mapping keeps its place, also where the parent has nothing yet. @throws IommuError EADDRINUSE */
  override reserve(range: Interval, owner: object, why: string): void {
    const mapping = this.#mappings.first(range.start, range.last);
    if (mapping) refuse("EADDRINUSE", `${show(range)} is needed for ${why}, but ${show(mapping)} of IOAS ${this.id} is mapped`, { argument: "pt_id" });
    super.reserve(range, owner, why);
  }

  /** @throws IommuError EOPNOTSUPP when a mapping would have to be cut */
  override cut(at: bigint): void {
    const mapping = this.#mappings.first(at, at);
    if (mapping && mapping.start !== at) refuse("EOPNOTSUPP", `${show(mapping)} of IOAS ${this.id}, which is a child, cannot be cut`, { argument: "iova", rule: "IOMMUKIT_IOAS_NEST" });
  }

  /**
   * Maps [address, address + length) of the parent; where the parent has nothing, neither has the child, until it does.
   * @throws IommuError EINVAL, EEXIST, EOVERFLOW and what its users refuse; then nothing is mapped
   */
  mapParent(context: IommufdContext, call: CallContext, iova: bigint, address: bigint, length: bigint, prot: number): void {
    for (const [argument, value] of [["iova", iova], ["user_va", address], ["length", length]] as const) {
      if (value % PAGE !== 0n) refuse("EINVAL", `${argument} ${hex(value)} is not made of whole pages`, { argument, rule: "IOMMUKIT_IOAS_NEST" });
    }
    this.checkLength(length);
    const place = this.checkFixed(iova, length);
    const taken = this.#mappings.first(place.start, place.last);
    if (taken) refuse("EEXIST", `IOVA ${show(place)} meets ${show(taken)}, which is mapped in IOAS ${this.id}`, { argument: "iova" });
    const { parent } = this;
    const needed = { start: address, last: address + length - 1n };
    if (parent instanceof DummyRoot) parent.need(context, call, needed);
    const mapping = { ...place, value: { address, prot } };
    try {
      super.map(this.#composed(mapping, needed));
    } catch (error) {
      if (parent instanceof DummyRoot) parent.release(needed);
      throw error;
    }
    this.#mappings.add(place.start, place.last, mapping.value);
  }

  /** Whole mappings, as their caller made them (4.7), whatever they are composed of. */
  override unmap(range: Interval): bigint {
    let bytes = 0n;
    for (let mapping = this.#mappings.first(range.start, range.last); mapping !== undefined; mapping = this.#mappings.first(range.start, range.last)) {
      if (mapping.start < range.start || mapping.last > range.last) {
        refuse("ENOENT", `${show(range)} cuts the mapping ${show(mapping)} of IOAS ${this.id}`, { argument: "iova", rule: "IOMMU_IOAS_UNMAP" });
      }
      this.#letGoOf(mapping);
      super.unmap(mapping);
      this.#mappings.delete(mapping.start);
      bytes += lengthOf(mapping);
      this.#release(mapping.value.address, lengthOf(mapping));
    }
    return bytes;
  }

  #release(address: bigint, length: bigint): void {
    if (this.parent instanceof DummyRoot) this.parent.release({ start: address, last: address + length - 1n });
  }

  /** The parent has more. @throws IommuError what a user of this one refuses; then nothing of it is mapped */
  parentMapped(range: Interval): void {
    super.map([...this.#mappings].filter((mapping) => overlaps(ofParent(mapping), range)).flatMap((mapping) => this.#composed(mapping, range)));
  }

  /** The parent is about to have less. @throws IommuError EBUSY, EDEADLK of an access that does not let go */
  parentLettingGo(range: Interval): void {
    for (const part of this.#parts(range)) this.#letGoOf(part);
  }

  /** All have let go: what the parent loses goes here first. */
  parentUnmapping(range: Interval): void {
    for (const part of this.#parts(range)) super.unmap(part);
  }

  #letGoOf(range: Interval): void {
    for (let area = this.areas.first(range.start, range.last); area !== undefined; ) {
      this.letGo(area);
      area = area.last < range.last ? this.areas.first(area.last + 1n, range.last) : undefined;
    }
  }

  /** Where mappings show a range of the parent. */
  #parts(range: Interval): Interval[] {
    const parts: Interval[] = [];
    for (const mapping of this.#mappings) {
      const there = ofParent(mapping);
      if (!overlaps(there, range)) continue;
      const start = there.start > range.start ? there.start : range.start;
      const last = there.last < range.last ? there.last : range.last;
      parts.push({ start: mapping.start + (start - there.start), last: mapping.start + (last - there.start) });
    }
    return parts;
  }

  /** What a mapping shows of the parent's areas in `range`. */
  #composed(mapping: Interval & { readonly value: Mapping }, range: Interval): Area[] {
    const { address, prot } = mapping.value;
    const there = ofParent(mapping);
    const areas: Area[] = [];
    const end = there.last < range.last ? there.last : range.last;
    for (let at = there.start > range.start ? there.start : range.start; at <= end; ) {
      const area = this.parent.areas.first(at, end);
      if (area === undefined) break;
      const start = area.start > at ? area.start : at;
      const last = area.last < end ? area.last : end;
      const rights = prot & area.value.prot;
      const to = mapping.start + (start - address);
      if (rights !== 0) areas.push(newArea({ start: to, last: to + (last - start) }, area.value.pages, area.value.offset + (start - area.start), rights));
      at = last + 1n;
    }
    return areas;
  }

  override destroy(): void {
    super.destroy();
    this.parent.children.delete(this);
    this.parent.users--;
    for (const { start, last, value } of this.#mappings) this.#release(value.address, last - start + 1n);
  }
}

function ofParent({ start, last, value }: Interval & { readonly value: Mapping }): Interval {
  return { start: value.address, last: value.address + (last - start) };
}

/**
 * The whole of one process's memory at its own addresses, as a root of children that no device uses: one place where pages are pinned and charged
 * for several address spaces (RFC v2, 1.2). It has what its children refer to, and nothing else is pinned.
 */
export class DummyRoot extends Ioas {
  readonly #process: UserMemory;
  /** By an area's start: mappings of children that refer to it. While one does, it stays as it is, and so do all that the mapping refers to. */
  readonly #references = new Map<bigint, number>();

  /** @param process whose memory it is, whoever else has the descriptor */
  constructor(id: number, process: UserMemory) {
    super(id);
    this.#process = process;
  }

  override takesMemory(what: string): void {
    refuse("EOPNOTSUPP", `IOAS ${this.id} is a dummy root: it is all of the program's memory, and takes no ${what}`, { argument: "ioas_id", rule: "IOMMUKIT_IOAS_NEST" });
  }

  override addHwpt(): void {
    refuse("EOPNOTSUPP", `IOAS ${this.id} is a dummy root: no device can use it`, { argument: "pt_id", rule: "IOMMUKIT_IOAS_NEST" });
  }

  override addAccess(): void {
    refuse("EOPNOTSUPP", `IOAS ${this.id} is a dummy root: no device can use it`, { argument: "ioas_id", rule: "IOMMUKIT_IOAS_NEST" });
  }

  override unmap(): bigint {
    return refuse("EOPNOTSUPP", `IOAS ${this.id} is a dummy root: it follows its children`, { argument: "ioas_id", rule: "IOMMUKIT_IOAS_NEST" });
  }

  /** A child is about to refer to a range, which is writable memory of the caller. @throws IommuError EPERM in another process */
  need(context: IommufdContext, call: CallContext, range: Interval): void {
    if (call.process !== this.#process) refuse("EPERM", `IOAS ${this.id} is the memory of the process that made it, which is not the caller`, { argument: "user_va", rule: "IOMMUKIT_IOAS_NEST" });
    const missing: Area[] = [];
    for (let at = range.start; at <= range.last; ) {
      const area = this.areas.first(at, range.last);
      const last = area === undefined ? range.last : area.start - 1n;
      if (area === undefined || area.start > at) {
        const prot = Prot.READ | Prot.WRITE;
        const pages = new Pages(context.origin(call, { kind: "user", memory: call.process }, at, prot), at, last - at + 1n);
        missing.push(newArea({ start: at, last }, pages, 0n, prot));
      }
      at = (area?.last ?? last) + 1n;
    }
    // No child refers to what was missing: only this one's own mapping will.
    for (const area of missing) this.areas.add(area.start, area.last, area.value);
    for (const { start } of this.contiguous(range)) this.#references.set(start, (this.#references.get(start) ?? 0) + 1);
  }

  /** A child refers to a range no more, as it said in `need`: what no child does goes. */
  release(range: Interval): void {
    for (const { start } of this.contiguous(range)) {
      const left = (this.#references.get(start) ?? 1) - 1;
      if (left > 0) this.#references.set(start, left);
      else {
        this.#references.delete(start);
        this.areas.delete(start);
      }
    }
  }
}
