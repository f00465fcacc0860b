/**
 * A virtual DSA's state on its way to another machine. It has the guest's numbers alone: vPASIDs, registers, descriptors that waited. The
 * other side's numbers are its own, so interrupt handles are revoked there (INTCAUSE), and the queue is turned on by the PASIDs that are
 * attached there (RFC v2, 1.4: only vPASIDs migrate).
 */
import { refuse } from "@iommukit/core";
import { DESCRIPTOR_BYTES } from "../dsa/spec/descriptor.js";

const MAGIC = 0x4153_4456;
const VERSION = 1;
/** Header of five words: magic, version, shape, descriptors, words. */
const HEADER_WORDS = 5;
/** Descriptors that a stopped device may hold. */
const DESCRIPTOR_LIMIT = 4096;

export interface VirtualDsaState {
  /** 1 with a dedicated queue, 0 with a shared one. */
  readonly dedicated: boolean;
  /** Words of registers that the guest can tell apart, in an order of this version. */
  readonly words: Uint32Array;
  readonly waiting: readonly Uint8Array[];
}

export function encodeState({ dedicated, words, waiting }: VirtualDsaState): Uint8Array {
  const head = Uint32Array.of(MAGIC, VERSION, Number(dedicated), waiting.length, words.length);
  const bytes = new Uint8Array(4 * (HEADER_WORDS + words.length) + DESCRIPTOR_BYTES * waiting.length);
  bytes.set(new Uint8Array(head.buffer));
  bytes.set(new Uint8Array(words.buffer, words.byteOffset, words.byteLength), 4 * HEADER_WORDS);
  waiting.forEach((descriptor, i) => bytes.set(descriptor, 4 * (HEADER_WORDS + words.length) + DESCRIPTOR_BYTES * i));
  return bytes;
}

/** @throws IommuError EINVAL for anything but a state of this version and shape */
export function decodeState(bytes: Uint8Array, dedicated: boolean, wordCount: number): VirtualDsaState {
  const wrong = (why: string): never => refuse("EINVAL", `the state of a virtual DSA ${why}`, { argument: "data_fd", rule: "virtual DSA state, version 1" });
  if (bytes.length < 4 * HEADER_WORDS) return wrong(`has ${bytes.length} bytes`);
  const whole = bytes.slice();
  const [magic, version, shape, count, words] = new Uint32Array(whole.buffer, 0, HEADER_WORDS);
  if (magic !== MAGIC || version !== VERSION) wrong(`begins with 0x${magic.toString(16)}, version ${version}`);
  if (shape !== Number(dedicated)) wrong("is of another kind of queue");
  if (words !== wordCount || count > DESCRIPTOR_LIMIT) wrong(`has ${words} words and ${count} descriptors`);
  const start = 4 * (HEADER_WORDS + words);
  if (whole.length !== start + DESCRIPTOR_BYTES * count) wrong(`has ${whole.length} bytes, not ${start + DESCRIPTOR_BYTES * count}`);
  const waiting = Array.from({ length: count }, (_, i) => whole.slice(start + DESCRIPTOR_BYTES * i, start + DESCRIPTOR_BYTES * (i + 1)));
  return { dedicated, words: new Uint32Array(whole.buffer.slice(4 * HEADER_WORDS, start)), waiting };
}
