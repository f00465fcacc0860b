/** Page requests of devices (VT-d 7.4 to 7.10): out of the unit's queue to whoever waits for them, and the answers back. */
import { decodeFields, type FrameAllocator, type IommuDevice, type PageFault, type PageFaultResponse, type PageFaultSink, PageResponseCode, type PhysicalMemory } from "@iommukit/core";
import type { Capabilities } from "../spec/capabilities.js";
import { PAGE_REQUEST } from "../spec/records.js";
import { Prs, Reg } from "../spec/registers.js";
import type { CommandQueue } from "./queue.js";
import type { RegisterAccess } from "./registers.js";

/** PQS: the queue takes 2^4 pages. */
const ORDER = 4;
const PAGES = 2 ** ORDER;
const BYTES = PAGES * 4096;
const ENTRY_BYTES = 32;
/** iommu_hwpt_pgfault.perm */
const PERMISSION = { READ: 1, WRITE: 2, EXECUTE: 4, PRIVILEGED: 8 } as const;
/** The widest first stage has 57 bits, of which the highest is copied upwards. */
const CANONICAL_BITS = 57n;

export class PageRequests {
  readonly #memory: PhysicalMemory;
  readonly #registers: RegisterAccess;
  readonly #queue: CommandQueue;
  readonly #drains: boolean;
  readonly #base: number;
  readonly #sinks = new Map<number, PageFaultSink>();
  #servicing = false;
  /** Times that the queue overflowed. */
  #overflows = 0;

  constructor(memory: PhysicalMemory, frames: FrameAllocator, registers: RegisterAccess, queue: CommandQueue, caps: Capabilities) {
    this.#memory = memory;
    this.#registers = registers;
    this.#queue = queue;
    this.#drains = caps.pageRequestDrain;
    this.#base = frames.alloc(PAGES);
    registers.write(Reg.PQH, 8, 0n);
    registers.write(Reg.PQT, 8, 0n);
    registers.write(Reg.PQA, 8, BigInt(this.#base + ORDER));
  }

  connect(rid: number, sink: PageFaultSink | undefined): void {
    if (sink) this.#sinks.set(rid, sink);
    else this.#sinks.delete(rid);
  }

  respond(device: IommuDevice, { pasid, group, code }: PageFaultResponse): void {
    this.#respond(device.rid, pasid, group, code === "success" ? PageResponseCode.SUCCESS : PageResponseCode.INVALID);
  }

  #respond(rid: number, pasid: number | undefined, group: number, code: number): void {
    this.#queue.pageGroupResponse(rid, pasid, group, code);
    this.#queue.sync();
  }

  /**
   * Runs commands until every request that came before them is handled (7.10): again after an overflow, for the unit may have answered
   * requests by itself meanwhile.
   * @param commands gathers them; a fence goes before, and the wait behind them drains
   */
  drain(commands: () => void): void {
    let before: number;
    do {
      before = this.#overflows;
      this.#queue.fence();
      commands();
      this.#queue.sync(this.#drains);
      this.service();
    } while (this.#overflows !== before);
  }

  /** The page request event's handler. */
  service(): void {
    // An answer given below can bring the next request: the loop that runs already will find it.
    if (this.#servicing) return;
    this.#servicing = true;
    try {
      for (;;) {
        this.#registers.write(Reg.PRS, 4, BigInt(Prs.PPR));
        if (this.#takeAll()) continue;
        if ((Number(this.#registers.read(Reg.PRS, 4)) & Prs.PRO) === 0) return;
        // The last request of a group may be among what was lost, and its answer is given: what came of the group is void.
        this.#overflows++;
        for (const sink of this.#sinks.values()) sink.discardPartial();
        this.#registers.write(Reg.PRS, 4, BigInt(Prs.PRO));
      }
    } finally {
      this.#servicing = false;
    }
  }

  /** Hands on what lies between head and tail, and frees the room. False when there was nothing. */
  #takeAll(): boolean {
    const head = Number(this.#registers.read(Reg.PQH, 8));
    const tail = Number(this.#registers.read(Reg.PQT, 8));
    const requests: Request[] = [];
    for (let at = head; at !== tail; at = (at + ENTRY_BYTES) % BYTES) requests.push(this.#decode(this.#base + at));
    this.#registers.write(Reg.PQH, 8, BigInt(tail));
    for (const request of requests) this.#handle(request);
    return requests.length > 0;
  }

  #decode(pa: number): Request {
    const words = [0, 8, 16, 24].map((offset) => this.#memory.readU64(pa + offset) ?? 0n);
    const fields = new Map(decodeFields(PAGE_REQUEST, words).map((field) => [field.name, field.value]));
    const value = (name: string): number => Number(fields.get(name) ?? 0n);
    return {
      rid: value("RID"),
      pasid: value("PP") === 1 ? value("PASID") : undefined,
      group: value("PRGI"),
      permissions: value("RDR") * PERMISSION.READ + value("WRR") * PERMISSION.WRITE + value("EXR") * PERMISSION.EXECUTE + value("PMR") * PERMISSION.PRIVILEGED,
      address: (fields.get("ADDR") ?? 0n) << 12n,
      last: value("LPIG") === 1,
    };
  }

  #handle({ rid, ...fault }: Request): void {
    const { permissions } = fault;
    const none = (permissions & (PERMISSION.READ | PERMISSION.WRITE)) === 0;
    // A stop marker: the device has done with the PASID, and wants no answer.
    if (none && fault.last) return;
    const sink = this.#sinks.get(rid);
    if (sink !== undefined && isGood(fault)) sink.report(fault);
    else if (fault.last) this.#respond(rid, fault.pasid, fault.group, PageResponseCode.INVALID);
  }
}

interface Request extends PageFault {
  readonly rid: number;
}

/** Privileged requests and requests to execute are taken from no device: nothing here could answer them. */
function isGood({ permissions, address }: PageFault): boolean {
  const canonical = BigInt.asUintN(64, BigInt.asIntN(Number(CANONICAL_BITS), address)) === address;
  return canonical && (permissions & (PERMISSION.EXECUTE | PERMISSION.PRIVILEGED)) === 0;
}
