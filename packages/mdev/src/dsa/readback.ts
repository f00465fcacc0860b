/** Readbacks: reads of what was written, so that it has arrived before the record says so (GENCAP bits 8 and 9). */
import type { Address } from "./address.js";
import { DrainFlag, Field, Flag, Opcode } from "./spec/descriptor.js";
import type { Work } from "./work.js";

/** How many a descriptor is to make. */
export function readbacksOf(work: Work): number {
  if (work.opcode === Opcode.DRAIN) return ((work.specific & DrainFlag.READBACK_1) !== 0 ? 1 : 0) + ((work.specific & DrainFlag.READBACK_2) !== 0 ? 1 : 0);
  if (!work.has(Flag.READBACK) || work.written === 0) return 0;
  return work.opcode === Opcode.DUALCAST ? 2 : 1;
}

/** Sets `address`, and returns the offset from it, of a readback: the last byte of a destination, or what a drain names. */
export function readbackAddress(work: Work, index: number, address: Address): number {
  if (work.opcode === Opcode.DRAIN) {
    const second = index === 1 || (work.specific & DrainFlag.READBACK_1) === 0;
    address.read(work.view, second ? Field.DESTINATION : Field.SOURCE);
    return 0;
  }
  if (work.opcode === Opcode.CREATE_DELTA) address.read(work.view, Field.DELTA);
  else address.read(work.view, index === 1 ? Field.DESTINATION2 : Field.DESTINATION);
  return work.written - 1;
}
