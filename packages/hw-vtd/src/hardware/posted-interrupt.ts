/** Posting an interrupt into a descriptor in memory (VT-d 5.2.3, 9.12). */
import type { PhysicalMemory } from "@iommukit/core";
import { POSTED_INTERRUPT_DESCRIPTOR } from "../spec/interrupts.js";

export const PostedResult = { POSTED: 0, NOTIFY: 1, UNREACHABLE: 2, RESERVED: 3 } as const;

export interface Posting {
  readonly result: number;
  /** NDST and NV of a notification that is to be sent. */
  readonly destination: bigint;
  readonly vector: number;
}

/** Byte offset of the word with ON, SN, NV and NDST. */
const CONTROL = 32;
const ON = 1n;
const SN = 2n;
/** NDST bits that xAPIC mode does not have. */
const WIDE_DESTINATION = 0xffff_00ff_0000_0000n;

/**
 * Sets the vector's bit, and ON when a notification is due: none is outstanding, and it is urgent or not suppressed. A descriptor with a
 * reserved bit set is left as it is.
 */
export function postInterrupt(memory: PhysicalMemory, at: number, vector: number, urgent: boolean, extended: boolean): Posting {
  const ended = (result: number): Posting => ({ result, destination: 0n, vector: 0 });
  let control = 0n;
  for (const [i, mask] of POSTED_INTERRUPT_DESCRIPTOR.reserved.entries()) {
    const word = memory.readU64(at + i * 8);
    if (word === undefined) return ended(PostedResult.UNREACHABLE);
    if ((word & mask) !== 0n) return ended(PostedResult.RESERVED);
    if (i * 8 === CONTROL) control = word;
  }
  if (!extended && (control & WIDE_DESTINATION) !== 0n) return ended(PostedResult.RESERVED);
  const bit = 1 << (vector & 31);
  const upper = (vector & 32) !== 0;
  if (!memory.or64(at + (vector >> 6) * 8, upper ? 0 : bit, upper ? bit : 0)) return ended(PostedResult.UNREACHABLE);
  if ((control & ON) !== 0n || (!urgent && (control & SN) !== 0n)) return ended(PostedResult.POSTED);
  memory.or64(at + CONTROL, Number(ON), 0);
  return { result: PostedResult.NOTIFY, destination: control >> 32n, vector: Number((control >> 16n) & 0xffn) };
}
