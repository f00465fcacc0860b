/**
 * What a probe may see: for every cell, the values that it has had since the last invalidation that was sufficient for that
 * probe (VT-d 6.5, tables 21 to 28). Any choice of one value a cell is allowed, and nothing else: a cache may hold any part of
 * a walk, old or new.
 */
import { answer } from "./answer.js";
import type { ReferenceState } from "./request.js";
import type { ReferenceUnit } from "./unit.js";
import type { Cell, Probe, World } from "./world.js";

/** Caches from the outermost in; a cell is clean when those behind it are invalidated in this order (6.5.3). */
export const STAGES = { context: 0, pasid: 1, translation: 2, clean: 3 } as const;

export type Invalidation =
  | { readonly cache: "context"; readonly global: boolean; readonly did: bigint | undefined; readonly rid: number | undefined; readonly mask: number }
  | { readonly cache: "pasid"; readonly did: bigint | undefined; readonly pasid: number | undefined }
  /** Type 2: `page` with DID and range; else DID or global. */
  | { readonly cache: "iotlb"; readonly did: bigint | undefined; readonly page: Range | undefined }
  /** Type 6. */
  | { readonly cache: "pasid-iotlb"; readonly did: bigint; readonly pasid: number; readonly page: Range | undefined }
  /** SRTP with ESRTPS, TE off: everything. */
  | { readonly cache: "all" };

export interface Range {
  readonly start: bigint;
  readonly size: bigint;
  /** IH: only leaves changed. */
  readonly leaves: boolean;
}

interface Standing {
  versions: (readonly bigint[])[];
  stage: number;
  /** Domain ids under which something may still be cached at this stage. */
  waiting: Set<bigint>;
}

/** One probe's view. */
class View {
  readonly #standing = new Map<Cell, Standing>();

  constructor(readonly probe: Probe, readonly world: World) {
    for (const cell of world.cells) this.#standing.set(cell, { versions: [cell.variants[0]], stage: STAGES.clean, waiting: new Set() });
  }

  /** How far a cell is from clean, and under which domain ids it may still be cached. */
  standing(cell: Cell): { readonly stage: number; readonly waiting: ReadonlySet<bigint> } {
    return this.#at(cell);
  }

  versions(cell: Cell): readonly (readonly bigint[])[] {
    return this.#at(cell).versions;
  }

  #at(cell: Cell): Standing {
    const standing = this.#standing.get(cell);
    if (standing === undefined) throw new RangeError(`no cell ${cell.name}`);
    return standing;
  }

  wrote(cell: Cell, value: readonly bigint[]): void {
    const standing = this.#at(cell);
    // Nothing absent is cached while CM=0 (6.1), so what becomes present is seen at once.
    if (standing.versions.every((old) => isAbsent(cell, old))) standing.versions = [value];
    else if (standing.versions.every((old) => old !== value)) standing.versions.push(value);
    else standing.versions = [...standing.versions.filter((old) => old !== value), value];
    if (standing.versions.length === 1) return;
    standing.stage = firstStageOf(cell);
    standing.waiting = this.#domains();
    // Something may be cached under the new domain id too.
    for (const other of this.#standing.values()) if (other.stage !== STAGES.clean) for (const domain of this.#domains()) other.waiting.add(domain);
  }

  /** Domain ids that the probe's translations may be tagged with. */
  #domains(): Set<bigint> {
    const found = new Set<bigint>();
    for (const [cell, { versions }] of this.#standing) {
      if (cell.kind !== (this.world.legacy ? "context" : "pasid")) continue;
      for (const words of versions) if (!isAbsent(cell, words)) found.add(this.world.legacy ? (words[1] >> 8n) & 0xffffn : words[1] & 0xffffn);
    }
    return found;
  }

  invalidated(invalidation: Invalidation): void {
    for (const [cell, standing] of this.#standing) {
      if (standing.stage === STAGES.clean) continue;
      const reached = invalidation.cache === "all" ? "everything" : this.#reaches(invalidation, cell, standing.stage);
      if (reached === undefined) continue;
      if (reached === "everything") standing.waiting.clear();
      else standing.waiting.delete(reached);
      if (standing.waiting.size > 0) continue;
      standing.stage = invalidation.cache === "all" ? STAGES.clean : this.#next(standing.stage);
      standing.waiting = this.#domains();
      if (standing.stage === STAGES.clean) standing.versions = standing.versions.slice(-1);
    }
  }

  /** Legacy mode has no PASID cache. */
  #next(stage: number): number {
    return stage === STAGES.context && this.world.legacy ? STAGES.translation : stage + 1;
  }

  /** Which domain id's entries are gone for this probe and cell at this stage: one, or all. */
  #reaches(invalidation: Exclude<Invalidation, { cache: "all" }>, cell: Cell, stage: number): bigint | "everything" | undefined {
    const { probe } = this;
    const pasid = probe.pasid === -1 ? 0 : probe.pasid;
    switch (invalidation.cache) {
      case "context": {
        if (stage !== STAGES.context) return undefined;
        if (invalidation.global) return "everything";
        // 6.5.3: a changed root entry calls for a global invalidation.
        if (cell.kind === "root") return undefined;
        const covers = invalidation.rid === undefined || (invalidation.rid & ~invalidation.mask) === (probe.rid & ~invalidation.mask);
        return covers ? (invalidation.did ?? "everything") : undefined;
      }
      case "pasid":
        if (stage !== STAGES.pasid || (invalidation.pasid !== undefined && invalidation.pasid !== pasid)) return undefined;
        if (invalidation.did !== undefined && cell.kind === "root") return undefined;
        return invalidation.did ?? "everything";
      case "iotlb":
        if (stage !== STAGES.translation) return undefined;
        if (invalidation.page === undefined) return invalidation.did === undefined ? "everything" : cell.kind === "root" ? undefined : invalidation.did;
        return this.#pageReaches(invalidation.page, cell) ? invalidation.did : undefined;
      default:
        if (stage !== STAGES.translation || invalidation.pasid !== pasid) return undefined;
        return this.#pasidReaches(invalidation.page, cell) ? invalidation.did : undefined;
    }
  }

  /**
   * Type 2, page-selective: of second-stage translations the page, of first-stage and nested ones everything of the domain
   * (table 25). Second-stage tables under a nested translation are reached by their guest addresses: only leaves count here.
   */
  #pageReaches(page: Range, cell: Cell): boolean {
    if (cell.kind === "first") return this.#pgtts().every((pgtt) => pgtt === 1n || pgtt === 3n);
    if (cell.kind !== "second") return false;
    if (this.#pgtts().includes(3n)) return cell.leaf && !this.#pgtts().includes(2n);
    return this.#covers(page) && (cell.leaf || !page.leaves);
  }

  /** Type 6: never second-stage paging structures; page-selective reaches first-stage and nested translations only. */
  #pasidReaches(page: Range | undefined, cell: Cell): boolean {
    const first = this.#pgtts().every((pgtt) => pgtt === 1n || pgtt === 3n);
    if (page === undefined) return cell.kind === "first" ? first : cell.kind === "pasid" && this.#pgtts().every((pgtt) => pgtt === 1n || pgtt === 4n);
    return cell.kind === "first" && first && this.#covers(page) && (cell.leaf || !page.leaves);
  }

  /** Translation types that the probe may meet. */
  #pgtts(): bigint[] {
    if (this.world.legacy) return [2n];
    const found = new Set<bigint>();
    for (const [cell, { versions }] of this.#standing) {
      if (cell.kind === "pasid") for (const words of versions) found.add((words[0] >> 6n) & 7n);
    }
    found.delete(0n);
    return [...found];
  }

  /** The range holds the largest page that the probe's address may have been in. */
  #covers({ start, size }: Range): boolean {
    const large = [...this.#standing].some(([cell, { versions }]) => cell.level === 1 && (cell.kind === "first" || cell.kind === "second") && versions.some(([word]) => (word & 0x80n) !== 0n));
    const unit = large ? 0x20_0000n : 0x1000n;
    const page = this.probe.address & ~(unit - 1n);
    return start <= page && page + unit <= start + size;
  }
}

function isAbsent(cell: Cell, words: readonly bigint[]): boolean {
  if (cell.kind === "root") return (words[0] & 1n) === 0n && (words[1] & 1n) === 0n;
  return (words[0] & (cell.kind === "second" ? 3n : 1n)) === 0n;
}

function firstStageOf(cell: Cell): number {
  if (cell.kind === "root" || cell.kind === "context") return STAGES.context;
  return cell.kind === "directory" || cell.kind === "pasid" ? STAGES.pasid : STAGES.translation;
}

/** What came of a request, as text: an address, or a reason. */
export type Outcome = string;

const MAX_CHOICES = 20_000;

export class Staleness {
  readonly #views: readonly View[];
  readonly #world: World;
  readonly #unit: ReferenceUnit;
  /** Which cell a word belongs to. */
  readonly #cellAt = new Map<number, Cell>();
  /** Most choices that one question had. */
  deepest = 0;

  constructor(world: World, unit: ReferenceUnit) {
    this.#world = world;
    this.#unit = unit;
    this.#views = world.probes.map((probe) => new View(probe, world));
    for (const cell of world.cells) cell.variants[0].forEach((_, i) => this.#cellAt.set(cell.address + i * 8, cell));
  }

  wrote(cell: Cell, value: readonly bigint[]): void {
    for (const view of this.#views) view.wrote(cell, value);
  }

  invalidated(invalidation: Invalidation): void {
    for (const view of this.#views) view.invalidated(invalidation);
  }

  standing(probe: number, cell: Cell): { readonly stage: number; readonly waiting: ReadonlySet<bigint> } {
    return this.#views[probe].standing(cell);
  }

  /** Cells that a walk of the probe reads now. */
  path(probe: number): Cell[] {
    const met = new Map<Cell, readonly bigint[]>();
    this.#evaluate(probe, () => -1, met);
    return [...met.keys()];
  }

  /** What memory says now. */
  fresh(probe: number): Outcome {
    return this.#evaluate(probe, () => -1);
  }

  /** Everything that is allowed: walks through all choices, depth first. Undefined: too many to tell. */
  allowed(probe: number): Set<Outcome> | undefined {
    const found = new Set<Outcome>();
    const path: { choice: number; count: number }[] = [];
    for (let tried = 0; tried < MAX_CHOICES; tried++) {
      let depth = 0;
      found.add(
        this.#evaluate(probe, (count) => {
          if (depth === path.length) path.push({ choice: 0, count });
          return path[depth++].choice;
        }),
      );
      this.deepest = Math.max(this.deepest, tried);
      path.length = depth;
      while (path.length > 0 && path[path.length - 1].choice === path[path.length - 1].count - 1) path.pop();
      if (path.length === 0) return found;
      path[path.length - 1].choice++;
    }
    return undefined;
  }

  /** One answer; `choose` is asked once for each cell with several versions. -1: the newest. */
  #evaluate(probe: number, choose: (count: number) => number, chosen = new Map<Cell, readonly bigint[]>()): Outcome {
    const view = this.#views[probe];
    const memory = {
      read64: (address: bigint): bigint => {
        const cell = this.#cellAt.get(Number(address));
        if (cell === undefined) return 0n;
        let words = chosen.get(cell);
        if (words === undefined) {
          const versions = view.versions(cell);
          const choice = versions.length === 1 ? 0 : choose(versions.length);
          words = versions[choice === -1 ? versions.length - 1 : choice];
          chosen.set(cell, words);
        }
        return words[(Number(address) - cell.address) / 8];
      },
      writable: () => true,
    };
    const state: ReferenceState = { unit: this.#unit, memory, enabled: true, rtaddr: this.#world.rtaddr };
    const { rid, pasid, address, write } = view.probe;
    const result = answer(state, {
      kind: "untranslated", rid: BigInt(rid), pasid: pasid === -1 ? undefined : BigInt(pasid), address, read: !write, write, execute: false, privileged: false, zeroLength: false,
    });
    return outcomeText(result.address, result.record?.reason);
  }
}

export function outcomeText(address: bigint | undefined, reason: number | undefined): Outcome {
  return address === undefined ? `reason ${reason?.toString(16)}` : `0x${address.toString(16)}`;
}
