/** The stream table of one unit (SMMU 3.3.2, 5.1): linear, or in two levels of 256 entries. A stream is a PCI requester. */
import { encodeFields, type FrameAllocator, type PhysicalMemory, refuse, type StructureWriter } from "@iommukit/core";
import type { Capabilities } from "../spec/identification.js";
import { Reg } from "../spec/registers.js";
import { L1_STREAM_DESCRIPTOR, STE } from "../spec/stream-table.js";
import type { RegisterAccess } from "./registers.js";

const STE_BYTES = 64;
const REQUESTER_BITS = 16;
/** SPLIT: StreamID bits that index the second level; Span says their number + 1. */
const SPLIT = 8;
const LEVEL2_FRAMES = (2 ** SPLIT * STE_BYTES) / 4096;
const TWO_LEVELS = 1 << 16;
/** V, Config=0: whoever has no domain is stopped, and nothing is recorded. */
export const ABORT: readonly bigint[] = encodeFields(STE, { V: 1n });

export class StreamTable {
  readonly #memory: PhysicalMemory;
  readonly #frames: FrameAllocator;
  readonly #structures: StructureWriter;
  readonly #bits: number;
  readonly #split: boolean;
  readonly #base: number;

  constructor(memory: PhysicalMemory, frames: FrameAllocator, structures: StructureWriter, registers: RegisterAccess, caps: Capabilities) {
    this.#memory = memory;
    this.#frames = frames;
    this.#structures = structures;
    this.#bits = Math.min(caps.sidBits, REQUESTER_BITS);
    this.#split = caps.twoLevelStream && this.#bits > SPLIT;
    const bytes = this.#split ? 2 ** (this.#bits - SPLIT) * 8 : 2 ** this.#bits * STE_BYTES;
    this.#base = frames.alloc(Math.ceil(bytes / 4096));
    if (!this.#split) this.#abortAll(this.#base, 2 ** this.#bits);
    registers.write(Reg.STRTAB_BASE, 8, BigInt(this.#base));
    registers.write32(Reg.STRTAB_BASE_CFG, this.#split ? TWO_LEVELS | (SPLIT << 6) | this.#bits : this.#bits);
  }

  /** Physical address of a stream's entry; makes the table of its neighbours. @throws IommuError ENODEV, ENOMEM */
  entry(stream: number): number {
    if (stream >= 2 ** this.#bits) refuse("ENODEV", `StreamID 0x${stream.toString(16)} has more than ${this.#bits} bits`, { rule: "IDR1.SIDSIZE" });
    if (!this.#split) return this.#base + stream * STE_BYTES;
    const descriptor = this.#base + (stream >> SPLIT) * 8;
    const word = this.#structures.word(descriptor);
    const table = word === 0n ? this.#newTable(descriptor) : Number(word & 0xff_ffff_ffff_ffc0n);
    return table + (stream % 2 ** SPLIT) * STE_BYTES;
  }

  #newTable(descriptor: number): number {
    const table = this.#frames.alloc(LEVEL2_FRAMES);
    this.#abortAll(table, 2 ** SPLIT);
    this.#structures.write(L1_STREAM_DESCRIPTOR, descriptor, { Span: BigInt(SPLIT + 1), L2Ptr: BigInt(table) >> 6n });
    return table;
  }

  #abortAll(table: number, entries: number): void {
    for (let i = 0; i < entries; i++) this.#memory.writeU64(table + i * STE_BYTES, ABORT[0]);
  }
}
