/** Interrupt remapping (VT-d 5.1): every message of a device has an entry of its own, which no other requester may use. */
import { type FrameAllocator, type InterruptMessage, type PhysicalMemory, refuse, type RoutedInterrupt } from "@iommukit/core";
import type { Capabilities } from "../spec/capabilities.js";
import { IRTE_REMAPPED } from "../spec/interrupts.js";
import { Gcmd, Reg } from "../spec/registers.js";
import type { CommandQueue } from "./command-queue.js";
import type { RegisterAccess } from "./registers.js";
import type { Structures } from "./structures.js";

const ENTRY_BYTES = 16;
/** IRTA.S: the table has 2^(S + 1) entries. */
const FIRST_SIZE = 7;
const LARGEST_SIZE = 15;
/** The requester must be SID, all bits of it (9.10: SVT, SQ). */
const VERIFY_REQUESTER = 1n;

export class InterruptRemapping {
  readonly #frames: FrameAllocator;
  readonly #memory: PhysicalMemory;
  readonly #registers: RegisterAccess;
  readonly #queue: CommandQueue;
  readonly #structures: Structures;
  readonly #caps: Capabilities;
  readonly #taken = new Set<number>();
  #size = FIRST_SIZE;
  #base: number;
  #next = 0;

  /** Table, cache, then on (5.1.4): from then on a message in the format that needs no entry is blocked. */
  constructor(memory: PhysicalMemory, frames: FrameAllocator, registers: RegisterAccess, queue: CommandQueue, structures: Structures, caps: Capabilities) {
    this.#memory = memory;
    this.#frames = frames;
    this.#registers = registers;
    this.#queue = queue;
    this.#structures = structures;
    this.#caps = caps;
    this.#base = frames.alloc(frameCount(this.#size));
    this.#latch();
    registers.command(Gcmd.IRE);
  }

  /** The unit takes the table. One that does not empty its cache by itself is told to. */
  #latch(): void {
    this.#registers.write(Reg.IRTA, 8, BigInt(this.#base) | BigInt(this.#size));
    this.#registers.command(Gcmd.SIRTP);
    if (this.#caps.sirtpFlushes) return;
    this.#queue.interruptEntry();
    this.#queue.sync();
  }

  /** An entry for a message of `rid`. @throws IommuError ENOSPC */
  route(rid: number, { address, data }: InterruptMessage): RoutedInterrupt {
    const index = this.#take();
    const bit = (word: bigint, at: bigint): bigint => (word >> at) & 1n;
    this.#structures.write(IRTE_REMAPPED, this.#base + index * ENTRY_BYTES, {
      P: 1n,
      DM: bit(address, 2n),
      RH: bit(address, 3n),
      TM: bit(BigInt(data), 15n),
      DLM: BigInt((data >> 8) & 7),
      V: BigInt(data & 0xff),
      // xAPIC: the destination lies in bits 15:8 of the field (9.10).
      DST: ((address >> 12n) & 0xffn) << 8n,
      SID: BigInt(rid),
      SVT: VERIFY_REQUESTER,
    });
    if (this.#caps.cachingMode) this.#invalidate(index);
    return { ...remappable(index), free: () => this.#free(index) };
  }

  #take(): number {
    while (this.#taken.has(this.#next)) this.#next++;
    if (this.#next >= 2 ** (this.#size + 1)) this.#grow();
    this.#taken.add(this.#next);
    return this.#next++;
  }

  /** A larger table with the same entries takes the old one's place while interrupts go on (5.1.3). */
  #grow(): void {
    if (this.#size === LARGEST_SIZE) refuse("ENOSPC", `all ${2 ** (LARGEST_SIZE + 1)} entries of the interrupt remapping table are taken`, { rule: "VT-d 5.1.5" });
    const old = { base: this.#base, size: this.#size };
    this.#base = this.#frames.alloc(frameCount(old.size + 1));
    this.#size++;
    for (let at = 0; at < ENTRY_BYTES * 2 ** (old.size + 1); at += 8) this.#memory.writeU64(this.#base + at, this.#structures.word(old.base + at));
    this.#latch();
    this.#frames.free(old.base, frameCount(old.size));
  }

  /** Absent, out of the cache, then free for the next message. */
  #free(index: number): void {
    const entry = this.#base + index * ENTRY_BYTES;
    this.#structures.setAbsent(IRTE_REMAPPED, entry);
    this.#invalidate(index);
    this.#structures.clear(IRTE_REMAPPED, entry);
    this.#taken.delete(index);
    this.#next = Math.min(this.#next, index);
  }

  #invalidate(index: number): void {
    this.#queue.interruptEntry(index);
    this.#queue.sync();
  }
}

function frameCount(size: number): number {
  return Math.max(1, (2 ** (size + 1) * ENTRY_BYTES) / 4096);
}

/** A message in remappable format (5.1.2): the index is the handle, and there is no subhandle. */
function remappable(index: number): InterruptMessage {
  return { address: 0xfee0_0010n | (BigInt(index & 0x7fff) << 5n) | (BigInt(index >> 15) << 2n), data: 0 };
}
