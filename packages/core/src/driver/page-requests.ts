/** Page requests of devices: out of a unit's queue to whoever waits for them, and the answers back. */
import type { IommuDevice, PageFault, PageFaultResponse, PageFaultSink } from "./types.js";

/** iommu_hwpt_pgfault.perm */
export const FaultPermission = { READ: 1, WRITE: 2, EXECUTE: 4, PRIVILEGED: 8 } as const;

export interface DeviceRequest extends PageFault {
  readonly rid: number;
}

/** A unit's queue of page requests. */
export interface PageRequestSource {
  /** Takes out what is there, and frees the room. `lost`: requests were lost before; the unit goes on queueing. */
  take(): { readonly requests: readonly DeviceRequest[]; readonly lost: boolean };
  /** Has the unit send an answer: the page is there, or the request was a bad one. */
  respond(rid: number, pasid: number | undefined, group: number, success: boolean): void;
  /** Whether an address can be asked for; any unless given. */
  accepts?(address: bigint): boolean;
}

export class PageRequestService {
  readonly #source: PageRequestSource;
  /** By requester id. */
  readonly #sinks = new Map<number, PageFaultSink>();
  #servicing = false;
  #losses = 0;

  constructor(source: PageRequestSource) {
    this.#source = source;
  }

  /** Times that requests were lost. */
  get losses(): number {
    return this.#losses;
  }

  connect(rid: number, sink: PageFaultSink | undefined): void {
    if (sink) this.#sinks.set(rid, sink);
    else this.#sinks.delete(rid);
  }

  respond({ rid }: IommuDevice, { pasid, group, code }: PageFaultResponse): void {
    this.#source.respond(rid, pasid, group, code === "success");
  }

  /** The handler of the queue's interrupt. */
  service(): void {
    // An answer given below can bring the next request: the loop that runs already will find it.
    if (this.#servicing) return;
    this.#servicing = true;
    try {
      for (;;) {
        const { requests, lost } = this.#source.take();
        if (lost) this.#discardPartial();
        if (requests.length === 0 && !lost) return;
        for (const request of requests) this.#handle(request);
      }
    } finally {
      this.#servicing = false;
    }
  }

  /** The last request of a group may be among what was lost, and the unit has answered it: what came of the group is void. */
  #discardPartial(): void {
    this.#losses++;
    for (const sink of this.#sinks.values()) sink.discardPartial();
  }

  /** Privileged requests and requests to execute are taken from no device: nothing here could answer them. */
  #handle({ rid, ...fault }: DeviceRequest): void {
    const { permissions, last, address } = fault;
    // A stop marker: the device has done with the PASID, and wants no answer.
    if (last && (permissions & (FaultPermission.READ | FaultPermission.WRITE)) === 0) return;
    const sink = this.#sinks.get(rid);
    const good = (permissions & (FaultPermission.EXECUTE | FaultPermission.PRIVILEGED)) === 0 && this.#source.accepts?.(address) !== false;
    if (sink !== undefined && good) sink.report(fault);
    else if (last) this.#source.respond(rid, fault.pasid, fault.group, false);
  }
}
