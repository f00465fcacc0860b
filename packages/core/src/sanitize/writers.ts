/** Who wrote which table word last, as the trace tells it. */
import type { TableWriteEvent, TraceEvent } from "../trace.js";

const FRAME = 4096;
const WORDS_IN_FRAME = FRAME / 8;
/** Frames of tables that are remembered; the oldest are forgotten first. */
const FRAME_LIMIT = 65_536;
/** Calls and invalidations that are remembered by name. */
const HISTORY = 4096;

interface Invalidation {
  readonly moment: number;
  readonly text: string;
}

export class WriterLog {
  /** Moments: every table write, invalidation and call has one of its own. */
  #moment = 1;
  #call = 1;
  readonly #frames = new Map<number, Float64Array>();
  /** By moment of the write: unit and call. */
  readonly #writers = new Map<number, { readonly unit: string; readonly call: number }>();
  readonly #calls = new Map<number, string>();
  readonly #invalidations: Invalidation[] = [];

  get moment(): number {
    return this.#moment;
  }

  observe(event: TraceEvent): void {
    if (event.kind === "table-write") this.#wrote(event);
    else if (event.kind === "invalidation") this.#invalidated(`${event.unit}: ${event.descriptor}`);
    else if (event.kind === "call") this.#called(`${event.name} on ${event.file}`);
  }

  #wrote({ unit, pa, count }: TableWriteEvent): void {
    const moment = this.#moment++;
    this.#writers.set(moment, { unit, call: this.#call });
    trim(this.#writers, HISTORY * 16);
    for (let at = pa; at < pa + count * 8; at += 8) this.#frame(at).fill(moment, (at % FRAME) / 8, (at % FRAME) / 8 + 1);
  }

  #frame(pa: number): Float64Array {
    const frame = Math.floor(pa / FRAME);
    let words = this.#frames.get(frame);
    if (words === undefined) {
      words = new Float64Array(WORDS_IN_FRAME);
      this.#frames.set(frame, words);
      trim(this.#frames, FRAME_LIMIT);
    }
    return words;
  }

  #invalidated(text: string): void {
    this.#invalidations.push({ moment: this.#moment++, text });
    if (this.#invalidations.length > HISTORY) this.#invalidations.shift();
  }

  #called(text: string): void {
    this.#calls.set(this.#call++, text);
    trim(this.#calls, HISTORY);
    this.#moment++;
  }

  /** Moment of the last traced write to the structure; 0 for none. */
  lastWrite(pa: number, words: number): number {
    let last = 0;
    for (let at = pa; at < pa + words * 8; at += 8) last = Math.max(last, this.#frames.get(Math.floor(at / FRAME))?.[(at % FRAME) / 8] ?? 0);
    return last;
  }

  /** "vtd0's driver in IOMMU_IOAS_UNMAP on /dev/iommu (call 12)". */
  describe(moment: number): string {
    const writer = this.#writers.get(moment);
    if (writer === undefined) return "somebody else than a driver of this machine";
    const call = writer.call === this.#call ? "the call that is running" : this.#calls.get(writer.call);
    return `${writer.unit}'s driver in ${call ?? "a call"} (call ${writer.call})`;
  }

  /** Invalidations since `moment`, oldest first. */
  invalidationsSince(moment: number): string[] {
    return this.#invalidations.filter((row) => row.moment > moment).map((row) => row.text);
  }
}

/** Forgets the oldest keys above `limit`. */
export function trim(map: Map<unknown, unknown>, limit: number): void {
  for (const key of map.keys()) {
    if (map.size <= limit) return;
    map.delete(key);
  }
}
