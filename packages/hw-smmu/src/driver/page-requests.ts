/** Page requests of devices (SMMU 8): out of the unit's queue to whoever waits for them, and the answers back. */
import { decodeFields, type IommuDevice, type PageFault, type PageFaultResponse, type PageFaultSink } from "@iommukit/core";
import { Op, PageResponse } from "../spec/commands.js";
import { PAGE_REQUEST } from "../spec/page-requests.js";
import type { CommandQueue } from "./command-queue.js";
import type { OutputQueue } from "./event-queue.js";

/** iommu_hwpt_pgfault.perm */
const PERMISSION = { READ: 1, WRITE: 2, EXECUTE: 4, PRIVILEGED: 8 } as const;

interface Request extends PageFault {
  readonly stream: number;
}

export class PageRequests {
  readonly #records: OutputQueue;
  readonly #queue: CommandQueue;
  readonly #sinks = new Map<number, PageFaultSink>();
  #servicing = false;

  constructor(records: OutputQueue, queue: CommandQueue) {
    this.#records = records;
    this.#queue = queue;
  }

  connect(rid: number, sink: PageFaultSink | undefined): void {
    if (sink) this.#sinks.set(rid, sink);
    else this.#sinks.delete(rid);
  }

  respond({ rid }: IommuDevice, { pasid, group, code }: PageFaultResponse): void {
    this.#respond(rid, pasid, group, code === "success" ? PageResponse.SUCCESS : PageResponse.INVALID);
  }

  #respond(stream: number, pasid: number | undefined, group: number, code: number): void {
    const who = pasid === undefined ? {} : { SSV: 1n, SubstreamID: BigInt(pasid) };
    this.#queue.add(Op.PRI_RESP, { ...who, StreamID: BigInt(stream), PRGIndex: BigInt(group), Resp: BigInt(code) });
    this.#queue.sync();
  }

  /** The page request queue's interrupt. */
  service(): void {
    // An answer given below can bring the next request: the loop that runs already will find it.
    if (this.#servicing) return;
    this.#servicing = true;
    try {
      for (;;) {
        const { records, lost } = this.#records.take();
        // The last request of a group may be among what was lost, and the unit has answered it: what came of the group is void.
        if (lost) for (const sink of this.#sinks.values()) sink.discardPartial();
        if (records.length === 0) return;
        for (const words of records) this.#handle(decode(words));
      }
    } finally {
      this.#servicing = false;
    }
  }

  #handle({ stream, ...fault }: Request): void {
    const { permissions } = fault;
    const none = (permissions & (PERMISSION.READ | PERMISSION.WRITE)) === 0;
    // A stop marker: the device has done with the PASID, and wants no answer.
    if (none && fault.last) return;
    const sink = this.#sinks.get(stream);
    const good = (permissions & (PERMISSION.EXECUTE | PERMISSION.PRIVILEGED)) === 0;
    if (sink !== undefined && good) sink.report(fault);
    else if (fault.last) this.#respond(stream, fault.pasid, fault.group, PageResponse.INVALID);
  }
}

function decode(words: readonly bigint[]): Request {
  const fields = new Map(decodeFields(PAGE_REQUEST, words).map((field) => [field.name, field.value]));
  const value = (name: string): number => Number(fields.get(name) ?? 0n);
  return {
    stream: value("StreamID"),
    pasid: value("SSV") === 1 ? value("SubstreamID") : undefined,
    group: value("PRGIndex"),
    permissions: value("R") * PERMISSION.READ + value("W") * PERMISSION.WRITE + value("X") * PERMISSION.EXECUTE + value("Priv") * PERMISSION.PRIVILEGED,
    address: (fields.get("Address") ?? 0n) << 12n,
    last: value("Last") === 1,
  };
}
