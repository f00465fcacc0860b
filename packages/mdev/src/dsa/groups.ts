/** Groups: which engines serve which queues (GRPCFG), and in what order. */
import { CommandError } from "./spec/commands.js";
import { GRP_WORDS, GRP_WRITABLE, GrpWord } from "./spec/queues.js";
import type { WorkQueue } from "./work-queue.js";

const NONE = -1;

export class Groups {
  /** GRPCFG of each. */
  readonly words: readonly Uint32Array[];
  readonly #queues: readonly WorkQueue[];
  readonly #engineCount: number;
  /** By group. */
  #engines: number[][] = [];
  #groupOfQueue: number[] = [];
  /** By engine: the queues that it serves, and which is next. */
  #served: WorkQueue[][] = [];
  #turns: number[] = [];

  constructor(count: number, queues: readonly WorkQueue[], engines: number) {
    this.words = Array.from({ length: count }, () => new Uint32Array(GRP_WORDS));
    this.#queues = queues;
    this.#engineCount = engines;
  }

  write(group: number, word: number, value: number): void {
    if (word < GRP_WRITABLE) this.words[group][word] = value;
  }

  configure(group: number, queues: readonly number[], engines: readonly number[]): void {
    const words = this.words[group];
    words.fill(0, GrpWord.QUEUES, GrpWord.FLAGS);
    for (const queue of queues) words[GrpWord.QUEUES + (queue >> 5)] |= 1 << (queue & 31);
    for (const engine of engines) words[GrpWord.ENGINES + (engine >> 5)] |= 1 << (engine & 31);
  }

  reset(): void {
    for (const words of this.words) words.fill(0);
    this.#groupOfQueue = [];
    this.#served = [];
  }

  /** Takes the configuration over. Returns a `CommandError`. */
  apply(): number {
    const ofQueue = this.#queues.map(() => NONE);
    const ofEngine = Array.from({ length: this.#engineCount }, () => NONE);
    for (const [group, words] of this.words.entries()) {
      const [queues, engines] = [bitsOf(words, GrpWord.QUEUES, 8), bitsOf(words, GrpWord.ENGINES, 2)];
      if (queues.some((queue) => queue >= ofQueue.length) || engines.some((engine) => engine >= this.#engineCount)) return CommandError.GROUP_RANGE;
      for (const queue of queues) {
        if (ofQueue[queue] !== NONE) return CommandError.GROUP_QUEUE_TWICE;
        ofQueue[queue] = group;
      }
      for (const engine of engines) {
        if (ofEngine[engine] !== NONE) return CommandError.GROUP_ENGINE_TWICE;
        ofEngine[engine] = group;
      }
    }
    const lost = this.#queues.some((queue, i) => queue.size > 0 && (ofQueue[i] === NONE || !ofEngine.includes(ofQueue[i])));
    if (lost) return CommandError.GROUP_QUEUE_LOST;
    this.#groupOfQueue = ofQueue;
    this.#engines = this.words.map((_, group) => ofEngine.flatMap((owner, engine) => (owner === group ? [engine] : [])));
    this.#served = ofEngine.map((group) => (group === NONE ? [] : this.#queues.filter((_, i) => ofQueue[i] === group)));
    this.#turns = ofEngine.map(() => 0);
    return CommandError.NONE;
  }

  flagsOf(queue: number): number {
    return this.words[this.#groupOfQueue[queue]]?.[GrpWord.FLAGS] ?? 0;
  }

  /** Engines that serve a queue. */
  enginesOf(queue: number): readonly number[] {
    return this.#engines[this.#groupOfQueue[queue]] ?? [];
  }

  /** By turns, each queue as often in a round as its priority says. */
  next(engine: number): WorkQueue | undefined {
    const queues = this.#served[engine] ?? [];
    for (let refilled = false; ; refilled = true) {
      for (let i = 0; i < queues.length; i++) {
        const turn = (this.#turns[engine] + i) % queues.length;
        const queue = queues[turn];
        if (queue.count === 0 || queue.credit === 0) continue;
        queue.credit--;
        this.#turns[engine] = queue.credit > 0 ? turn : (turn + 1) % queues.length;
        return queue;
      }
      if (refilled) return undefined;
      for (const queue of queues) queue.credit = queue.priority;
    }
  }
}

function bitsOf(words: Uint32Array, first: number, count: number): number[] {
  const bits: number[] = [];
  for (let i = 0; i < count; i++) for (let bit = 0; bit < 32; bit++) if ((words[first + i] >>> bit) & 1) bits.push(32 * i + bit);
  return bits;
}
