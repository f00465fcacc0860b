/** CRC-32C of a place, and of what is copied (341204, 8.3; RFC 3720). */
import { CrcFlag, Field } from "../spec/descriptor.js";
import type { PageMover } from "../page-mover.js";
import type { Work } from "../work.js";
import { advance, type Operation, Step } from "./types.js";

const POLYNOMIAL = 0x1edc_6f41;
const SEED_BYTES = 4;
/** `value2`: the seed is in `value`. */
const SEEDED = 1;

/** Bits in the opposite order. */
function reverse(word: number): number {
  let value = word;
  value = ((value & 0x5555_5555) << 1) | ((value >>> 1) & 0x5555_5555);
  value = ((value & 0x3333_3333) << 2) | ((value >>> 2) & 0x3333_3333);
  value = ((value & 0x0f0f_0f0f) << 4) | ((value >>> 4) & 0x0f0f_0f0f);
  value = ((value & 0x00ff_00ff) << 8) | ((value >>> 8) & 0x00ff_00ff);
  return ((value << 16) | (value >>> 16)) >>> 0;
}

/** Tables for data whose bits come lowest first, and highest first. */
const LOWEST_FIRST = table((byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ reverse(POLYNOMIAL) : value >>> 1;
  return value;
});
const HIGHEST_FIRST = table((byte) => {
  let value = byte << 24;
  for (let bit = 0; bit < 8; bit++) value = value < 0 ? (value << 1) ^ POLYNOMIAL : value << 1;
  return value;
});

function table(entry: (byte: number) => number): Int32Array {
  return Int32Array.from({ length: 256 }, (_, byte) => entry(byte));
}

/** `register` holds the CRC with its bits in the order in which the data's come. */
function update(register: number, bytes: Uint8Array, length: number, lowestFirst: boolean): number {
  let crc = register;
  if (lowestFirst) for (let i = 0; i < length; i++) crc = LOWEST_FIRST[(crc ^ bytes[i]) & 0xff] ^ (crc >>> 8);
  else for (let i = 0; i < length; i++) crc = HIGHEST_FIRST[((crc >>> 24) ^ bytes[i]) & 0xff] ^ (crc << 8);
  return crc >>> 0;
}

/**
 * A seed or result is inverted and has the lowest bit first, unless `PLAIN_RESULT`; data is taken lowest bit first, unless `PLAIN_DATA`. So
 * with no flag and seed 0 this is the CRC-32C of RFC 3720, and a result is the seed of what follows.
 */
function toRegister(value: number, flags: number): number {
  const plain = (flags & CrcFlag.PLAIN_RESULT) !== 0;
  const sameOrder = plain === ((flags & CrcFlag.PLAIN_DATA) !== 0);
  const inverted = plain ? value : ~value >>> 0;
  return sameOrder ? inverted : reverse(inverted);
}

function fromRegister(register: number, flags: number): number {
  const plain = (flags & CrcFlag.PLAIN_RESULT) !== 0;
  const ordered = plain === ((flags & CrcFlag.PLAIN_DATA) !== 0) ? register : reverse(register);
  return plain ? ordered : ~ordered >>> 0;
}

function begin(work: Work): void {
  work.value = work.view.getUint32(Field.CRC_SEED, true);
  work.value2 = (work.specific & CrcFlag.SEED_IN_MEMORY) === 0 ? SEEDED : 0;
  work.third.read(work.view, Field.CRC_SEED_ADDRESS);
}

/** `value` is the CRC so far, as software would see it. */
function step(work: Work, mover: PageMover, copies: boolean): number {
  const { source, destination, done, specific } = work;
  if (work.value2 !== SEEDED) {
    if (!mover.read(work, work.third, 0, mover.part(SEED_BYTES))) return Step.STOPPED;
    work.value = mover.first.readUInt32LE(0);
    work.value2 = SEEDED;
  }
  const bytes = Math.min(work.size - done, source.roomAt(done), copies ? destination.roomAt(done) : Infinity);
  const part = mover.part(bytes);
  if (!mover.read(work, source, done, part) || (copies && !mover.write(work, destination, done, part))) return Step.STOPPED;
  work.value = fromRegister(update(toRegister(work.value, specific), mover.first, bytes, (specific & CrcFlag.PLAIN_DATA) === 0), specific);
  return advance(work, bytes);
}

const report = (work: Work): void => work.report(work.value);

export const crc: Operation = { begin, step: (work, mover) => step(work, mover, false), report };

export const copyCrc: Operation = {
  begin(work) {
    begin(work);
    work.written = work.size;
  },
  step: (work, mover) => step(work, mover, true),
  report,
};
