/** Address spaces of a guest on the host: a first stage that the host's hardware walks itself, or a shadow of a second stage. */
import { type IommuError, type PageTableFormat, refuse, type Tracer } from "@iommukit/core";
import type { FirstStageView, SecondStageView } from "@iommukit/hw-vtd/spec";
import { Right } from "../host/ioas.js";
import { type GuestLeaf, IoasShadow, ShadowSpace, type ShadowTarget } from "../shadow/index.js";
import { type HostDevice, type HostObjects, type Invalidation, MAX_BATCH } from "./host-objects.js";
import { type GuestTables, secondStageLeaves } from "./second-stage.js";

const EVERYTHING: Invalidation = { addr: 0n, npages: 2n ** 64n - 1n, leavesOnly: false };
const LAST = 2n ** 64n - 1n;
/** Table entries that one look at a guest's tables reads at the most. */
const BUDGET = 2 ** 20;

/** A stage, and the domain-id by which the guest's invalidations name it. */
interface FirstStage {
  readonly domain: number;
  readonly first: FirstStageView;
}
interface SecondStage {
  readonly domain: number;
  readonly second: SecondStageView;
}

/** A range whose translations the guest has made void: pages, or all of it. */
export interface VoidRange {
  readonly page: number;
  readonly count: number;
  readonly leavesOnly: boolean;
}

/** Of the host, for what a guest's tables ask for. */
export interface Space {
  /** Page table of the host. */
  readonly hwpt: number;
  /** The guest's domain-id, by which its invalidations name it. */
  readonly domain: number;
  /**
   * @param range undefined: everything
   * @param firstStage only of the first stage, where the range's addresses are (6.5.2.4)
   * @throws IommuError what the host does not let go of
   */
  forget(range: VoidRange | undefined, firstStage: boolean): void;
  /** What was forgotten is forgotten when this returns. @throws IommuError */
  settle(): void;
  /** One use less. */
  free(): void;
}

/** A first stage that the host's hardware walks; invalidations of one doorbell go on together. */
export class NestedSpace implements Space {
  readonly hwpt: number;
  readonly domain: number;
  readonly #objects: HostObjects;
  /** The guest's own second stage; undefined: its memory as it is. */
  readonly #parent: ShadowedSpace | undefined;
  #batch: Invalidation[] = [];

  /** @param faultId who sees to its page requests; undefined: nobody @throws IommuError what the host refuses */
  constructor(objects: HostObjects, device: HostDevice, { domain, first }: FirstStage, faultId?: number, parent?: ShadowedSpace) {
    this.#objects = objects;
    this.domain = domain;
    this.#parent = parent;
    this.hwpt = objects.firstStage(device, first, parent?.hwpt ?? objects.whole, faultId);
  }

  /** What the second stage has lost is gone from the host's caches with it; the rest of the first stage's goes, too, as a unit may have it (6.5.2.3). */
  forget(range: VoidRange | undefined, firstStage: boolean): void {
    const own = this.#parent === undefined || firstStage ? range : undefined;
    if (!firstStage) this.#parent?.forget(range);
    if (own === undefined || this.#batch.length === MAX_BATCH) this.#batch = [EVERYTHING];
    else if (this.#batch[0] !== EVERYTHING) this.#batch.push({ addr: BigInt(own.page) << 12n, npages: BigInt(own.count), leavesOnly: own.leavesOnly });
  }

  settle(): void {
    const batch = this.#batch;
    if (batch.length === 0) return;
    this.#batch = [];
    this.#objects.invalidate(this.hwpt, batch);
  }

  free(): void {
    this.#objects.destroy(this.hwpt);
    this.#parent?.free();
  }
}

/** How second stages of a guest are kept again. */
export interface ShadowParts {
  readonly objects: HostObjects;
  /** Of the guest. */
  readonly memory: GuestTables;
  /** Of the guest's unit. */
  readonly format: PageTableFormat;
  /** Makes a child of the guest memory's IOAS: the kernel keeps it. Absent: the program does. */
  readonly childOf: ((ioas: number) => number) | undefined;
  readonly tracer: Tracer | undefined;
}

export interface ShadowOptions {
  /** First stages of the guest lie on it. */
  readonly parent?: boolean;
  /** Who sees to its page requests; undefined: nobody. */
  readonly faultId?: number | undefined;
  /** Nobody uses it any more. */
  readonly gone: () => void;
}

/** A second stage, kept again in an IOAS; it may have several users. */
export class ShadowedSpace implements Space {
  readonly hwpt: number;
  readonly domain: number;
  readonly #objects: HostObjects;
  readonly #ioas: number;
  readonly #shadow: ShadowSpace;
  readonly #gone: () => void;
  #users = 1;

  /** @throws IommuError what the host refuses */
  constructor({ objects, memory, format, childOf, tracer }: ShadowParts, device: HostDevice, { domain, second }: SecondStage, { parent = false, faultId, gone }: ShadowOptions) {
    this.#objects = objects;
    this.#gone = gone;
    this.domain = domain;
    this.#ioas = childOf?.(objects.ioas) ?? objects.newIoas();
    const target = new IoasShadow(objects.program, objects.iommufd, this.#ioas, childOf ? undefined : objects.ram);
    const leaves = (start: bigint, last: bigint): Iterable<GuestLeaf> => secondStageLeaves(memory, format, second, start, last, BUDGET);
    this.#shadow = new ShadowSpace(parent ? writable(target) : target, leaves, ({ iova }, error) => tell(tracer, iova, error));
    try {
      this.hwpt = parent ? objects.parent(device, this.#ioas) : objects.table(device, this.#ioas, { faultId });
    } catch (error) {
      objects.destroy(this.#ioas);
      throw error;
    }
    this.#shadow.sync(0n, LAST);
  }

  /** For one more user. */
  shared(): this {
    this.#users++;
    return this;
  }

  /** At once: the guest's tables are read now. */
  forget(range: VoidRange | undefined): void {
    if (range === undefined) this.#shadow.sync(0n, LAST);
    else this.#shadow.sync(BigInt(range.page) << 12n, (BigInt(range.page) << 12n) + (BigInt(range.count) << 12n) - 1n);
  }

  settle(): void {
    // Nothing is put off.
  }

  free(): void {
    if (--this.#users > 0) return;
    this.#gone();
    this.#objects.destroy(this.hwpt);
    this.#objects.destroy(this.#ioas);
  }
}

/** Below first stages the host makes every page writable (erratum 772415): one that the guest does not let be written cannot be there. */
function writable(target: ShadowTarget): ShadowTarget {
  return {
    map(leaf) {
      if ((leaf.rights & Right.WRITE) === 0) refuse("EOPNOTSUPP", "a page below a first stage cannot be read-only", { rule: "IOMMU_HWPT_ALLOC_NEST_PARENT" });
      target.map(leaf);
    },
    unmap: (iova, length) => target.unmap(iova, length),
  };
}

function tell(tracer: Tracer | undefined, iova: bigint, error: IommuError): void {
  tracer?.listener?.({ kind: "report", unit: "shadow", text: `the host does not take a guest's page at 0x${iova.toString(16)}: ${error.reason.message}`, count: 1 });
}
