/** Page frames and the memory objects that processes map: what Linux calls pages, anonymous memory and memfds. */
import { refuse } from "../errors.js";
import type { FrameIdentity, MemoryFile, PinnedMemory } from "./types.js";

export const PAGE = 4096;

export class Frame implements FrameIdentity {
  readonly bytes: Uint8Array = new Uint8Array(PAGE);
  pins = 0;
  readonly compound: boolean;

  constructor(compound: boolean) {
    this.compound = compound;
  }

  get key(): this {
    return this;
  }

  /** A private copy. */
  copy(): Frame {
    const frame = new Frame(this.compound);
    frame.bytes.set(this.bytes);
    return frame;
  }
}

/** Frames by page number, made on first touch. */
export class FrameObject {
  readonly compound: boolean;
  readonly #frames = new Map<number, Frame>();

  constructor(compound: boolean) {
    this.compound = compound;
  }

  frame(page: number): Frame {
    let frame = this.#frames.get(page);
    if (frame === undefined) {
      frame = new Frame(this.compound);
      this.#frames.set(page, frame);
    }
    return frame;
  }

  /** The frame of a page that has been touched. */
  existing(page: number): Frame | undefined {
    return this.#frames.get(page);
  }

  place(page: number, frame: Frame): void {
    this.#frames.set(page, frame);
  }

  drop(from: number): void {
    for (const page of this.#frames.keys()) if (page >= from) this.#frames.delete(page);
  }

  /** What a forked child gets of private memory. */
  copy(): FrameObject {
    const copy = new FrameObject(this.compound);
    for (const [page, frame] of this.#frames) copy.#frames.set(page, frame.copy());
    return copy;
  }
}

/** Frames held for DMA. */
export class PinnedFrames implements PinnedMemory {
  readonly #frames: readonly Frame[];

  constructor(frames: readonly Frame[]) {
    this.#frames = frames;
    for (const frame of frames) frame.pins++;
  }

  frame(page: number): Frame {
    return this.#frames[page];
  }

  release(first: number, count: number): void {
    for (let page = first; page < first + count; page++) this.#frames[page].pins--;
  }

  read(offset: number, target: Uint8Array): void {
    this.#each(offset, target.length, (part, done) => target.set(part, done));
  }

  write(offset: number, source: Uint8Array): void {
    this.#each(offset, source.length, (part, done) => part.set(source.subarray(done, done + part.length)));
  }

  #each(offset: number, length: number, visit: (part: Uint8Array, done: number) => void): void {
    for (let done = 0; done < length; ) {
      const at = offset + done;
      const part = this.#frames[Math.floor(at / PAGE)].bytes.subarray(at % PAGE, Math.min(PAGE, (at % PAGE) + length - done));
      visit(part, done);
      done += part.length;
    }
  }
}

/** A memfd of this process: memory with a size. */
export class SimulatedMemfd implements MemoryFile {
  readonly kind = "memory";
  readonly object: FrameObject;
  size: number;

  constructor(size: number, hugetlb: boolean) {
    this.size = size;
    this.object = new FrameObject(hugetlb);
  }

  truncate(size: number): void {
    this.size = size;
    this.object.drop(Math.ceil(size / PAGE));
  }

  pin(offset: bigint, length: bigint): PinnedMemory {
    if (offset + length > BigInt(Math.ceil(this.size / PAGE) * PAGE)) {
      refuse("EINVAL", `0x${offset.toString(16)} + 0x${length.toString(16)} lies behind the file's end at 0x${this.size.toString(16)}`, { argument: "fd" });
    }
    const first = Number(offset) / PAGE;
    return new PinnedFrames(Array.from({ length: Number(length) / PAGE }, (_, i) => this.object.frame(Math.floor(first) + i)));
  }
}
