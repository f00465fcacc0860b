/**
 * What the system tells about itself while it works: a stream of small facts
 * that the tour and `iommu run --log` print. A part that has nothing listening
 * pays one test for `undefined`.
 */
import type { ErrnoName, Reason } from "./errors.js";

/** One ioctl (or open, read, write) with its answer. */
export interface CallEvent {
  readonly kind: "call";
  readonly pid: number;
  /** "/dev/iommu", "/dev/vfio/devices/vfio0". */
  readonly file: string;
  /** "IOMMU_IOAS_MAP", "pread". */
  readonly name: string;
  /** Decoded argument, inputs and outputs, in struct order. */
  readonly args: Readonly<Record<string, string | number | bigint>>;
  readonly ret: number;
  readonly errno?: ErrnoName;
  readonly reason?: Reason;
}

/** A driver wrote `count` consecutive table words; `value` is the first. */
export interface TableWriteEvent {
  readonly kind: "table-write";
  readonly unit: string;
  /** The manual's name of the structure: "FS-PTE", "PASID entry". */
  readonly structure: string;
  readonly pa: number;
  readonly value: bigint;
  readonly count: number;
  /** What it now says: "IOVA 0x1000 -> PA 0x2000 rw". */
  readonly meaning: string;
}

/** A driver accessed a register. */
export interface RegisterEvent {
  readonly kind: "register";
  readonly unit: string;
  readonly op: "read" | "write";
  readonly name: string;
  readonly value: bigint;
}

/** The unit executed an invalidation descriptor. */
export interface InvalidationEvent {
  readonly kind: "invalidation";
  readonly unit: string;
  /** "P_IOTLB page-selective DID=2 PASID=0 ADDR=0x1000 AM=0". */
  readonly descriptor: string;
  /** Cache entries that it removed. */
  readonly removed: number;
}

/** The unit answered a request that software put on its queue. */
export interface RequestEvent {
  readonly kind: "request";
  readonly unit: string;
  /** "MAP domain 1 0x40000000-0x403fffff -> 0x1000200000 read write". */
  readonly request: string;
  /** "OK" */
  readonly status: string;
}

/** The unit answered a DMA request. */
export interface TranslationEvent {
  readonly kind: "translation";
  readonly unit: string;
  readonly rid: number;
  readonly pasid?: number;
  readonly iova: bigint;
  readonly access: string;
  readonly privileged?: boolean;
  readonly execute?: boolean;
  readonly source: "iotlb" | "walk" | "bypass";
  /** Output address; absent when the request was blocked. */
  readonly pa?: number;
  /** The tables have the page's accesses snooped, whatever the request says. */
  readonly snooped?: boolean;
}

/** The unit recorded a fault. */
export interface FaultEvent {
  readonly kind: "fault";
  readonly unit: string;
  /** Decoded record in one line. */
  readonly record: string;
  readonly fields: Readonly<Record<string, string | number | boolean>>;
}

/** A device's message-signalled interrupt came to the unit. */
export interface InterruptEvent {
  readonly kind: "interrupt";
  readonly unit: string;
  readonly rid: number;
  readonly address: bigint;
  readonly data: number;
  readonly result: "passed" | "remapped" | "posted" | "blocked";
}

/** A device asked for a page. */
export interface PageRequestEvent {
  readonly kind: "page-request";
  readonly unit: string;
  readonly rid: number;
  readonly pasid?: number;
  readonly address: bigint;
  readonly access: string;
  readonly group: number;
  /** Queued for software, or what the unit did by itself. */
  readonly result: "queued" | "success" | "invalid" | "failure";
}

/** A driver tells of something that nobody asked for: a fault record that it took, a device that does not answer. */
export interface ReportEvent {
  readonly kind: "report";
  readonly unit: string;
  readonly text: string;
  /** How many of the kind there were. */
  readonly count: number;
}

/** What a kernel would tell udev: a device came or went, or something about it changed. */
export interface UeventEvent {
  readonly kind: "uevent";
  readonly action: "add" | "remove" | "change";
  /** Its folder without /sys: DEVPATH. */
  readonly path: string;
  readonly fields: Readonly<Record<string, string>>;
}

export type TraceEvent =
  | CallEvent
  | TableWriteEvent
  | RegisterEvent
  | InvalidationEvent
  | RequestEvent
  | TranslationEvent
  | FaultEvent
  | InterruptEvent
  | PageRequestEvent
  | ReportEvent
  | UeventEvent;

export type TraceListener = (event: TraceEvent) => void;

/** One for a machine, handed to each of its parts. */
export class Tracer {
  /** Takes an event to everybody who listens; undefined while nobody does, so that a part may ask before it makes one. */
  listener: TraceListener | undefined;
  readonly #listeners: TraceListener[] = [];

  /** Calls `listener` for each event from now on, until what is returned is called. */
  listen(listener: TraceListener): () => void {
    this.#listeners.push(listener);
    this.#update();
    return () => {
      const at = this.#listeners.indexOf(listener);
      if (at >= 0) this.#listeners.splice(at, 1);
      this.#update();
    };
  }

  #update(): void {
    const [only, ...others] = this.#listeners;
    this.listener = others.length === 0 ? only : (event) => this.#listeners.forEach((listener) => listener(event));
  }
}
