/** Which page frames of clients are pinned for DMA, over every process, and which files are memory of devices. */
import type { FrameIdentity } from "@iommukit/core";
import type { ProcessMapping } from "./mappings.js";

/** Neighbouring pages of one memory. */
export interface FrameRun {
  /** "00:01 1042" for a file, the process number for private memory. */
  readonly space: string;
  readonly first: bigint;
  readonly count: number;
}

export class FrameRegistry {
  readonly #held = new Set<HeldFrames>();
  readonly #devices = new Set<string>();

  /** @param file as `ProcessMapping.file` names it */
  addDevice(file: string): void {
    this.#devices.add(file);
  }

  isDevice({ file }: ProcessMapping): boolean {
    return file !== undefined && this.#devices.has(file);
  }

  /** Ranges that are held. */
  get size(): number {
    return this.#held.size;
  }

  hold(runs: readonly FrameRun[]): HeldFrames {
    const held = new HeldFrames(this, runs, (done) => this.#held.delete(done));
    this.#held.add(held);
    return held;
  }

  /** Only test commands ask for the number of pins: it is counted when they do, so that pinning costs nothing a page. */
  at(space: string, page: bigint): FrameIdentity {
    const holders = this.#held;
    return {
      key: `${space} ${page}`,
      compound: false,
      get pins() {
        let pins = 0;
        for (const held of holders) pins += held.pinsOf(space, page);
        return pins;
      },
    };
  }
}

/** The frames of one pin, in order. */
export class HeldFrames {
  readonly #registry: FrameRegistry;
  readonly #runs: readonly FrameRun[];
  readonly #onEnd: (held: HeldFrames) => void;
  #left: number;
  /** 1 for each page that was let go of; made when it is the first and not the last. */
  #released: Uint8Array | undefined;

  constructor(registry: FrameRegistry, runs: readonly FrameRun[], onEnd: (held: HeldFrames) => void) {
    this.#registry = registry;
    this.#runs = runs;
    this.#onEnd = onEnd;
    this.#left = this.#count;
  }

  get #count(): number {
    return this.#runs.reduce((sum, run) => sum + run.count, 0);
  }

  frame(page: number): FrameIdentity | undefined {
    let first = 0;
    for (const run of this.#runs) {
      if (page < first + run.count) return this.#registry.at(run.space, run.first + BigInt(page - first));
      first += run.count;
    }
    return undefined;
  }

  pinsOf(space: string, page: bigint): number {
    let pins = 0;
    let first = 0;
    for (const run of this.#runs) {
      const at = page - run.first;
      if (run.space === space && at >= 0n && at < BigInt(run.count) && this.#released?.[first + Number(at)] !== 1) pins++;
      first += run.count;
    }
    return pins;
  }

  /** Lets go of `count` pages from page `first` on; true when none is left. */
  release(first: number, count: number): boolean {
    this.#left -= count;
    if (this.#left === 0) this.#onEnd(this);
    else {
      this.#released ??= new Uint8Array(this.#count);
      this.#released.fill(1, first, first + count);
    }
    return this.#left === 0;
  }
}
