/**
 * A DSA function as the parent of mediated devices: what whoever composes a virtual device out of a work queue asks of it (Intel SIOV
 * specification 337679, chapter 5), beside the registers. Numbers of errors are those of device commands, 0 for none.
 */
import type { ErrorSink } from "./errors.js";

export type { DeviceErrorRecord, ErrorSink } from "./errors.js";

/** Configuration of one queue by the host; what is absent stays. */
export interface QueueSettings {
  readonly size?: number;
  readonly threshold?: number;
  readonly dedicated?: boolean;
  readonly blockOnFault?: boolean;
  readonly priority?: number;
  /** Of every descriptor of a dedicated queue; a shared one takes PASIDs from descriptors, and any number here lets it. Null: without PASID. */
  readonly pasid?: number | null;
  readonly privileged?: boolean;
  readonly maxTransferShift?: number;
  readonly maxBatchShift?: number;
}

export interface QueueState {
  readonly enabled: boolean;
  readonly dedicated: boolean;
  readonly size: number;
  readonly threshold: number;
  /** Descriptors that wait in it. */
  readonly occupancy: number;
  /** Descriptors in engines. */
  readonly inFlight: number;
  readonly pasid: number | undefined;
}

export interface DsaParent {
  /** BAR 0 of the device: what its driver on the host programs. */
  readBar(bar: number, offset: number, size: number): bigint;
  writeBar(bar: number, offset: number, size: number, value: bigint): void;
  readonly queueCount: number;
  readonly enabled: boolean;
  /** Which engines serve which queues. @throws RangeError when the device is not disabled, or there is no such group */
  configureGroup(group: number, members: { readonly queues: readonly number[]; readonly engines: readonly number[] }): void;
  /** Takes the sizes of queues, and groups, over. */
  enableDevice(): number;
  queueState(queue: number): QueueState;
  /** The queue must be disabled; for its size the device, too. @throws RangeError when it is not */
  configureQueue(queue: number, settings: QueueSettings): void;
  enableQueue(queue: number): number;
  /** Takes nothing more, and ends when everything in the queue has. Returns an error at once, or calls `done`. */
  disableQueue(queue: number, done: () => void): number;
  /** Drops what is in the queue, and its configuration but for the size. */
  resetQueue(queue: number): number;
  abortQueue(queue: number): number;
  drainQueue(queue: number, done: () => void): number;
  /** One descriptor of 64 bytes, through a portal of message storage. False: the queue has no room for a deferrable one. */
  submit(queue: number, bytes: Uint8Array, deferrable: boolean, limited?: boolean): boolean;
  /** Calls `done` when every descriptor of a PASID that is in the device now has ended. */
  drainPasid(pasid: number, done: () => void): void;
  /** Drops every descriptor of a PASID, and its page requests. */
  abortPasid(pasid: number): void;
  /** Takes an entry of message storage for descriptors with a PASID, undefined for those without; `listener` hears its interrupts. Undefined when none is free. */
  requestInterrupt(pasid: number | undefined, listener: () => void): number | undefined;
  releaseInterrupt(handle: number): void;
  /** Hears of the errors of a queue and a PASID, which then go neither to SWERR nor to the event log. Returns how to stop. */
  onError(queue: number, pasid: number | undefined, sink: ErrorSink): () => void;
}

/** The parent that a PCI device is, if it is one. */
export function dsaParent(device: unknown): DsaParent | undefined {
  return isParent(device) ? device : undefined;
}

function isParent(device: unknown): device is DsaParent {
  return typeof device === "object" && device !== null && "queueState" in device && "configureQueue" in device;
}
