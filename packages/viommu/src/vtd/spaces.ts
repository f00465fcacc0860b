/** Address spaces of a guest on the host: a first stage that the host's hardware walks itself, or a shadow of a second stage. */
import { type IommuError, type PageTableFormat, type Tracer } from "@iommukit/core";
import type { TranslationView } from "@iommukit/hw-vtd/spec";
import { IoasShadow, ShadowSpace } from "../shadow/index.js";
import { type HostDevice, type HostObjects, type Invalidation, MAX_BATCH } from "./host-objects.js";
import { type GuestTables, secondStageLeaves } from "./second-stage.js";

const EVERYTHING: Invalidation = { addr: 0n, npages: 2n ** 64n - 1n, leavesOnly: false };
const LAST = 2n ** 64n - 1n;
/** Table entries that one look at a guest's tables reads at the most. */
const BUDGET = 2 ** 20;

/** A range whose translations the guest has made void: pages, or all of it. */
export interface VoidRange {
  readonly page: number;
  readonly count: number;
  readonly leavesOnly: boolean;
}

export interface Space {
  /** Page table of the host. */
  readonly hwpt: number;
  /** The guest's domain-id, by which its invalidations name it. */
  readonly domain: number;
  /** @param range undefined: everything @throws IommuError what the host does not let go of */
  forget(range: VoidRange | undefined): void;
  /** What was forgotten is forgotten when this returns. @throws IommuError */
  settle(): void;
  free(): void;
}

/** The host's hardware walks it; invalidations of one doorbell go on together. */
export class NestedSpace implements Space {
  readonly hwpt: number;
  readonly domain: number;
  readonly #objects: HostObjects;
  #batch: Invalidation[] = [];

  /** @param faultId who sees to its page requests; undefined: nobody @throws IommuError what the host refuses */
  constructor(objects: HostObjects, device: HostDevice, view: TranslationView & { readonly kind: "first-stage" }, faultId?: number) {
    this.#objects = objects;
    this.domain = view.domain;
    this.hwpt = objects.firstStage(device, view.first, faultId);
  }

  forget(range: VoidRange | undefined): void {
    if (range === undefined || this.#batch.length === MAX_BATCH) this.#batch = [EVERYTHING];
    else if (this.#batch[0] !== EVERYTHING) this.#batch.push({ addr: BigInt(range.page) << 12n, npages: BigInt(range.count), leavesOnly: range.leavesOnly });
  }

  settle(): void {
    const batch = this.#batch;
    if (batch.length === 0) return;
    this.#batch = [];
    this.#objects.invalidate(this.hwpt, batch);
  }

  free(): void {
    this.#objects.destroy(this.hwpt);
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

/** A second stage, kept again in an IOAS. */
export class ShadowedSpace implements Space {
  readonly hwpt: number;
  readonly domain: number;
  readonly #objects: HostObjects;
  readonly #ioas: number;
  readonly #shadow: ShadowSpace;

  /** @param faultId who sees to its page requests; undefined: nobody @throws IommuError what the host refuses */
  constructor({ objects, memory, format, childOf, tracer }: ShadowParts, device: HostDevice, { domain, second: view }: TranslationView & { readonly kind: "second-stage" }, faultId?: number) {
    this.#objects = objects;
    this.domain = domain;
    this.#ioas = childOf?.(objects.ioas) ?? objects.newIoas();
    const target = new IoasShadow(objects.program, objects.iommufd, this.#ioas, childOf ? undefined : objects.ram);
    this.#shadow = new ShadowSpace(target, (start, last) => secondStageLeaves(memory, format, view, start, last, BUDGET), ({ iova }, error) => tell(tracer, iova, error));
    try {
      this.hwpt = objects.table(device, this.#ioas, { faultId });
    } catch (error) {
      objects.destroy(this.#ioas);
      throw error;
    }
    this.#shadow.sync(0n, LAST);
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
    this.#objects.destroy(this.hwpt);
    this.#objects.destroy(this.#ioas);
  }
}

function tell(tracer: Tracer | undefined, iova: bigint, error: IommuError): void {
  tracer?.listener?.({ kind: "report", unit: "shadow", text: `the host does not take a guest's page at 0x${iova.toString(16)}: ${error.reason.message}`, count: 1 });
}
