/** The context descriptors of one device (SMMU 5.3, 5.4): one for each PASID, the first for requests without. */
import type { FieldTable, FieldValues, FrameAllocator, StructureWriter } from "@iommukit/core";
import { CD, L1_CONTEXT_DESCRIPTOR } from "../spec/context.js";
import type { Capabilities } from "../spec/identification.js";

const CD_BYTES = 64;
/** Descriptors in a leaf of 64 KiB. */
const LEAF_BITS = 10;
const LEAF_FRAMES = 16;
/** S1Fmt (5.2). */
const LINEAR = 0n;
const LEAVES_OF_64K = 2n;

export class ContextTable {
  /** Width of PASIDs that have a place. */
  readonly bits: number;
  readonly #frames: FrameAllocator;
  readonly #structures: StructureWriter;
  readonly #split: boolean;
  readonly #base: number;

  constructor(frames: FrameAllocator, structures: StructureWriter, caps: Capabilities, pasidBits: number) {
    this.#frames = frames;
    this.#structures = structures;
    // One leaf is as much as a linear table takes here.
    this.bits = caps.twoLevelCd ? pasidBits : Math.min(pasidBits, LEAF_BITS);
    this.#split = this.bits > LEAF_BITS;
    this.#base = frames.alloc(this.#topFrames);
  }

  get #topFrames(): number {
    return this.#split ? Math.ceil((2 ** (this.bits - LEAF_BITS) * 8) / 4096) : Math.ceil((2 ** this.bits * CD_BYTES) / 4096);
  }

  /** What a stream table entry says of it. */
  get steFields(): FieldValues {
    return { S1Fmt: this.#split ? LEAVES_OF_64K : LINEAR, S1CDMax: BigInt(this.bits), S1ContextPtr: BigInt(this.#base) >> 6n };
  }

  get table(): FieldTable {
    return CD;
  }

  /** Physical address of a PASID's descriptor; makes the leaf. @throws IommuError ENOMEM */
  entry(pasid: number): number {
    if (!this.#split) return this.#base + pasid * CD_BYTES;
    const descriptor = this.#base + (pasid >> LEAF_BITS) * 8;
    const word = this.#structures.word(descriptor);
    const leaf = word === 0n ? this.#newLeaf(descriptor) : Number(word & 0xff_ffff_ffff_f000n);
    return leaf + (pasid % 2 ** LEAF_BITS) * CD_BYTES;
  }

  #newLeaf(descriptor: number): number {
    const leaf = this.#frames.alloc(LEAF_FRAMES);
    this.#structures.write(L1_CONTEXT_DESCRIPTOR, descriptor, { V: 1n, L2Ptr: BigInt(leaf) >> 12n });
    return leaf;
  }

  /** Gives the memory back; nothing refers to it any more. */
  free(): void {
    if (this.#split) {
      for (let i = 0; i < 2 ** (this.bits - LEAF_BITS); i++) {
        const word = this.#structures.word(this.#base + i * 8);
        if (word !== 0n) this.#frames.free(Number(word & 0xff_ffff_ffff_f000n), LEAF_FRAMES);
      }
    }
    this.#frames.free(this.#base, this.#topFrames);
  }
}
