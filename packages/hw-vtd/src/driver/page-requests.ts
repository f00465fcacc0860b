/** Page requests of devices (VT-d 7.4 to 7.10): out of the unit's queue to whoever waits for them, and the answers back. */
import { decodeFields, type DeviceRequest, FaultPermission, type FrameAllocator, PageRequestService, type PageRequestSource, PageResponseCode, type PhysicalMemory } from "@iommukit/core";
import type { Capabilities } from "../spec/capabilities.js";
import { PAGE_REQUEST } from "../spec/records.js";
import { Prs, Reg } from "../spec/registers.js";
import type { CommandQueue } from "./command-queue.js";
import type { RegisterAccess } from "./registers.js";

/** PQS: the queue takes 2^4 pages. */
const ORDER = 4;
const PAGES = 2 ** ORDER;
const BYTES = PAGES * 4096;
const ENTRY_BYTES = 32;
/** The widest first stage has 57 bits, of which the highest is copied upwards. */
const CANONICAL_BITS = 57;

export class PageRequests extends PageRequestService {
  readonly #queue: CommandQueue;
  readonly #drains: boolean;

  constructor(memory: PhysicalMemory, frames: FrameAllocator, registers: RegisterAccess, queue: CommandQueue, caps: Capabilities) {
    super(new Source(memory, frames, registers, queue));
    this.#queue = queue;
    this.#drains = caps.pageRequestDrain;
  }

  /**
   * Runs commands until every request that came before them is handled (7.10): again after an overflow, for the unit may have answered
   * requests by itself meanwhile.
   * @param commands gathers them; a fence goes before, and the wait behind them drains
   */
  drain(commands: () => void): void {
    let before: number;
    do {
      before = this.losses;
      this.#queue.fence();
      commands();
      this.#queue.sync(this.#drains);
      this.service();
    } while (this.losses !== before);
  }
}

class Source implements PageRequestSource {
  readonly #memory: PhysicalMemory;
  readonly #registers: RegisterAccess;
  readonly #queue: CommandQueue;
  readonly #base: number;

  constructor(memory: PhysicalMemory, frames: FrameAllocator, registers: RegisterAccess, queue: CommandQueue) {
    this.#memory = memory;
    this.#registers = registers;
    this.#queue = queue;
    this.#base = frames.alloc(PAGES);
    registers.write(Reg.PQH, 8, 0n);
    registers.write(Reg.PQT, 8, 0n);
    registers.write(Reg.PQA, 8, BigInt(this.#base + ORDER));
  }

  respond(rid: number, pasid: number | undefined, group: number, success: boolean): void {
    this.#queue.pageGroupResponse(rid, pasid, group, success ? PageResponseCode.SUCCESS : PageResponseCode.INVALID);
    this.#queue.sync();
  }

  accepts(address: bigint): boolean {
    return BigInt.asUintN(64, BigInt.asIntN(CANONICAL_BITS, address)) === address;
  }

  take(): { readonly requests: readonly DeviceRequest[]; readonly lost: boolean } {
    this.#registers.write(Reg.PRS, 4, BigInt(Prs.PPR));
    // Bits that a queue of this size does not use may be set by somebody else: the loop ends all the same.
    const [head, tail] = [Reg.PQH, Reg.PQT].map((register) => Number(this.#registers.read(register, 8)) & (BYTES - ENTRY_BYTES));
    const requests: DeviceRequest[] = [];
    for (let at = head; at !== tail; at = (at + ENTRY_BYTES) % BYTES) requests.push(this.#decode(this.#base + at));
    this.#registers.write(Reg.PQH, 8, BigInt(tail));
    // What overflowed came after what is there: that goes first.
    const lost = requests.length === 0 && (this.#registers.read32(Reg.PRS) & Prs.PRO) !== 0;
    if (lost) this.#registers.write(Reg.PRS, 4, BigInt(Prs.PRO));
    return { requests, lost };
  }

  #decode(pa: number): DeviceRequest {
    const words = [0, 8, 16, 24].map((offset) => this.#memory.readU64(pa + offset) ?? 0n);
    const fields = new Map(decodeFields(PAGE_REQUEST, words).map((field) => [field.name, field.value]));
    const value = (name: string): number => Number(fields.get(name) ?? 0n);
    const { READ, WRITE, EXECUTE, PRIVILEGED } = FaultPermission;
    return {
      rid: value("RID"),
      pasid: value("PP") === 1 ? value("PASID") : undefined,
      group: value("PRGI"),
      permissions: value("RDR") * READ + value("WRR") * WRITE + value("EXR") * EXECUTE + value("PMR") * PRIVILEGED,
      address: (fields.get("ADDR") ?? 0n) << 12n,
      last: value("LPIG") === 1,
    };
  }
}
