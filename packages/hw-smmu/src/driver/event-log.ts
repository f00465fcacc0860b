/** Event records (SMMU 7): to who answers stalled requests, to the virtual machine whose device it is, or counted and told of. */
import { decodeFields, type DeviceFault, FaultPermission, formatRid, type Tracer } from "@iommukit/core";
import { Event, eventType, eventName } from "../spec/events.js";
import type { OutputQueue } from "./output-queue.js";
import { isStall, type StalledRequests } from "./stalls.js";

/** What a guest gets to see of its own first stage (iommufd facts, 9.3). */
const FOR_GUESTS: ReadonlySet<number> = new Set([
  Event.C_BAD_STE, Event.F_STREAM_DISABLED, Event.C_BAD_SUBSTREAMID, Event.C_BAD_CD, Event.F_TRANSLATION, Event.F_ADDR_SIZE, Event.F_ACCESS, Event.F_PERMISSION,
]);
/** In the record's second word (7.3.13). */
const S2 = 1n << 39n;

export interface Guest {
  /** @returns false when the device is none of the guest's */
  report(stream: number, words: readonly bigint[]): boolean;
}

export class EventLog {
  /** By StreamID: who wants to know. */
  readonly #sinks = new Map<number, (fault: DeviceFault) => void>();
  /** Of these, who has yet to learn that records were lost. */
  readonly #missed = new Set<number>();
  /** Records taken since the start, those of guests not counted. */
  count = 0;
  readonly #queue: OutputQueue;
  readonly #unit: string;
  readonly #tracer: Tracer | undefined;
  readonly #guestOf: (stream: number) => Guest | undefined;
  readonly #stalled: StalledRequests;

  constructor(queue: OutputQueue, stalled: StalledRequests, unit: string, tracer: Tracer | undefined, guestOf: (stream: number) => Guest | undefined) {
    this.#stalled = stalled;
    this.#queue = queue;
    this.#unit = unit;
    this.#tracer = tracer;
    this.#guestOf = guestOf;
  }

  connect(stream: number, sink: ((fault: DeviceFault) => void) | undefined): void {
    if (sink) this.#sinks.set(stream, sink);
    else this.#sinks.delete(stream);
    this.#missed.delete(stream);
  }

  /** Records were lost, nobody knows whose: each listener learns it with its next one. */
  #lose(): void {
    for (const stream of this.#sinks.keys()) this.#missed.add(stream);
  }

  #report(stream: number, fault: () => DeviceFault): void {
    const sink = this.#sinks.get(stream);
    if (sink === undefined) return;
    const afterLoss = this.#missed.delete(stream);
    sink(afterLoss ? { ...fault(), afterLoss } : fault());
  }

  /** The event queue's interrupt. */
  handle(): void {
    const { records, lost } = this.#queue.take();
    for (const words of records) this.#take(words);
    if (!lost) return;
    this.#lose();
    this.#tell("event records were lost: the queue was full");
  }

  #take(words: readonly bigint[]): void {
    const code = Number(words[0] & 0xffn);
    const stream = Number(words[0] >> 32n);
    if (isStall(code, words)) {
      this.#stalled.add(code, words);
      return;
    }
    const guest = FOR_GUESTS.has(code) && (words[1] & S2) === 0n ? this.#guestOf(stream) : undefined;
    if (guest?.report(stream, words)) return;
    this.count++;
    this.#report(stream, () => faultOf(code, words));
    this.#tell(describe(code, stream, words));
  }

  #tell(text: string): void {
    if (this.#tracer?.listener) this.#tracer.listener({ kind: "report", unit: this.#unit, text, count: this.count });
  }
}

/** What the record says of the access; a type without an address, or without a direction, leaves 0. */
function faultOf(code: number, words: readonly bigint[]): DeviceFault {
  const type = eventType(code);
  const fields = new Map(type === undefined ? [] : decodeFields(type.table, words).map(({ name, value }) => [name, value]));
  const has = (name: string): boolean => (fields.get(name) ?? 0n) !== 0n;
  const pasid = has("SSV") ? Number(fields.get("SubstreamID") ?? 0n) : undefined;
  const address = fields.get("InputAddr") ?? 0n;
  const { READ, WRITE, EXECUTE, PRIVILEGED } = FaultPermission;
  const rights = (...held: readonly (readonly [string, number])[]): number => held.reduce((all, [name, right]) => all | (has(name) ? right : 0), 0);
  switch (code) {
    case Event.C_BAD_SUBSTREAMID:
      // Of a SubstreamID always: it has no SSV (7.3.9).
      return { pasid: Number(fields.get("SubstreamID") ?? 0n), permissions: 0, address };
    case Event.F_BAD_ATS_TREQ:
      // For whole pages: the record has the page's number (7.3.6).
      return { pasid, permissions: rights(["R", READ], ["W", WRITE], ["X", EXECUTE], ["P", PRIVILEGED]), address: address << 12n, translationRequest: true };
    default: {
      const direction = fields.has("RnW") ? (has("RnW") ? READ : WRITE) : 0;
      return { pasid, permissions: direction | rights(["InD", EXECUTE], ["PnU", PRIVILEGED]), address };
    }
  }
}

function describe(code: number, stream: number, words: readonly bigint[]): string {
  const type = eventType(code);
  const fields = type === undefined ? [] : decodeFields(type.table, words).filter(({ name, value }) => value !== 0n && name !== "type" && name !== "StreamID");
  return `${eventName(code)} by ${formatRid(stream & 0xffff)} ${fields.map(({ name, value, meaning }) => `${name}=${meaning ?? `0x${value.toString(16)}`}`).join(" ")}`.trimEnd();
}
