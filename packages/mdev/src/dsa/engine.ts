/**
 * An engine: takes descriptors from the queues of its group and brings each to its end. What waits for a page is put aside, and the engine goes
 * on with others (341204, 3.5). It works until nothing is left to do, or a slice is full, and then lets the event loop have a turn.
 */
import { Access, PageResponseCode } from "@iommukit/core";
import { type DeviceTlb, PageOutcome } from "@iommukit/core/devices";
import { Address } from "./address.js";
import { Batches } from "./batch.js";
import { type CheckContext, checkDescriptor } from "./checks.js";
import type { Completions } from "./completion.js";
import { OPERATION_BY_OPCODE, Step } from "./operations/index.js";
import { PageMover } from "./page-mover.js";
import { readbackAddress, readbacksOf } from "./readback.js";
import { Status } from "./spec/completion.js";
import { Opcode } from "./spec/descriptor.js";
import { Stage, Work } from "./work.js";
import type { WorkQueue } from "./work-queue.js";

/** Descriptors from queues that an engine has begun and not ended. */
export const ENGINE_SLOTS = 64;
/** Work of one turn: bytes moved, a descriptor counting as some. */
const SLICE = 2 ** 24;
const DESCRIPTOR_COST = 256;
/** A page that is said to be there and is not, this often in a row, is given up. */
const MAX_REQUESTS = 16;

/** What an engine asks of the device. */
export interface EngineHost extends CheckContext {
  readonly tlb: DeviceTlb;
  readonly completions: Completions;
  /** The queue that the group's engines are to serve next. */
  nextQueue(engine: number): WorkQueue | undefined;
  /** Calls back when everything that came to a descriptor's queue before it, with its PASID, has ended. */
  whenEarlierEnded(work: Work, done: () => void): void;
  /** A descriptor has left the device. */
  ended(work: Work): void;
  /** False: engines are stepped by hand. */
  readonly automatic: boolean;
}

export class Engine {
  readonly index: number;
  readonly #host: EngineHost;
  readonly #mover: PageMover;
  readonly #pool: Work[] = [];
  readonly #ready: Work[] = [];
  readonly #batches: Batches;
  /** All that has begun and not ended. */
  readonly #open = new Set<Work>();
  readonly #readbackAddress = new Address();
  #slots = 0;
  #running = false;
  #scheduled = false;
  #cost = 0;
  #current: Work | undefined;

  constructor(index: number, host: EngineHost) {
    this.index = index;
    this.#host = host;
    this.#mover = new PageMover(host.tlb);
    this.#batches = new Batches({
      mover: this.#mover,
      take: () => this.#take(),
      giveBack: (work) => this.#giveBack(work),
      mayAsk: (work) => this.#mayAsk(work),
      ask: (work, then) => this.#ask(work, then),
      faulted: (work, pageFault) => this.#faulted(work, faultStatus(this.#mover.outcome, pageFault, Status.HARDWARE)),
      refused: (work, status) => this.#faulted(work, status),
    });
  }

  /** Descriptors that it holds, those of batches included. */
  get open(): number {
    return this.#open.size;
  }

  /** Goes on for as long as there is something to do. */
  run(): void {
    if (this.#running || this.#scheduled || !this.#host.automatic) return;
    this.#running = true;
    const limit = this.#spent + SLICE;
    try {
      while (this.#spent < limit) if (!this.#advanceOne()) return;
    } finally {
      this.#running = false;
    }
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.run();
    });
  }

  get #spent(): number {
    return this.#mover.moved + this.#cost;
  }

  /** Brings one descriptor on until it ends or waits. False when there is none. */
  step(): boolean {
    if (this.#running) return false;
    this.#running = true;
    try {
      const work = this.#next();
      return work !== undefined && this.#advance(work, Infinity);
    } finally {
      this.#running = false;
    }
  }

  #advanceOne(): boolean {
    const work = this.#next();
    if (work === undefined) return false;
    if (!this.#advance(work, this.#spent + SLICE)) this.#ready.push(work);
    return true;
  }

  /** Drops what matches, without a record. The one at hand is dropped when it comes to look: whoever aborts may be called from within it. */
  discard(matches: (work: Work) => boolean): void {
    const dropped = [...this.#open].filter(matches);
    const uses = dropped.map(({ use }) => use);
    for (const work of dropped) work.discarded = true;
    this.#batches.forgetDiscarded();
    const kept = this.#ready.filter((work) => !work.discarded);
    this.#ready.splice(0, Infinity, ...kept);
    for (const [i, work] of dropped.entries()) if (work !== this.#current && work.use === uses[i]) this.#end(work);
  }

  /** What waited and may go on; then a batch's next descriptor; then a queue's. */
  #next(): Work | undefined {
    const ready = this.#ready.shift();
    if (ready) return ready;
    const member = this.#batches.next();
    if (member) return member;
    if (this.#slots >= ENGINE_SLOTS) return undefined;
    const queue = this.#host.nextQueue(this.index);
    if (queue === undefined) return undefined;
    const work = this.#take();
    queue.pop(work);
    this.#slots++;
    return work;
  }

  #take(): Work {
    const work = this.#pool.pop() ?? new Work();
    this.#open.add(work);
    return work;
  }

  #giveBack(work: Work): void {
    this.#open.delete(work);
    this.#pool.push(work);
  }

  #faulted(work: Work, status: number): void {
    work.fail(status);
    work.faultPage = work.access.page;
    work.refused = false;
    work.asked = 0;
  }

  /** @returns false when the slice is full before the work has ended or waits */
  #advance(work: Work, limit: number): boolean {
    this.#current = work;
    this.#cost += DESCRIPTOR_COST;
    while (!work.discarded && this.#stage(work)) if (this.#spent >= limit) return false;
    this.#current = undefined;
    if (work.discarded || (work.stage === Stage.END && !work.waiting)) this.#end(work);
    return true;
  }

  /** Does one stage's next piece. False when the work has ended, or waits. */
  #stage(work: Work): boolean {
    switch (work.stage) {
      case Stage.CHECK:
        return this.#check(work);
      case Stage.RUN:
        return this.#run(work);
      case Stage.READBACK:
        return this.#readBack(work);
      case Stage.RECORD:
        work.stage = this.#host.completions.prepare(work) ? Stage.STATUS : Stage.END;
        return work.stage !== Stage.END;
      case Stage.STATUS:
        return this.#store(work);
      default:
        return false;
    }
  }

  #check(work: Work): boolean {
    const status = checkDescriptor(work, this.#host);
    if (status !== Status.NONE) {
      work.fail(status);
      work.stage = Stage.RECORD;
      return true;
    }
    if (work.opcode === Opcode.BATCH) {
      this.#batches.begin(work);
      return false;
    }
    OPERATION_BY_OPCODE.get(work.opcode)?.begin?.(work);
    work.stage = Stage.RUN;
    if (work.opcode !== Opcode.DRAIN) return true;
    work.waiting = true;
    const { use } = work;
    this.#host.whenEarlierEnded(work, () => this.#resume(work, use));
    return false;
  }

  #run(work: Work): boolean {
    const operation = OPERATION_BY_OPCODE.get(work.opcode);
    if (operation === undefined) throw new Error(`opcode ${work.opcode} passed the checks and is no operation`);
    if (work.refused) return this.#fault(work, Status.PAGE_RESPONSE);
    const step = operation.step(work, this.#mover);
    if (step === Step.STOPPED) return !this.#wait(work) && this.#fault(work, faultStatus(this.#mover.outcome, Status.PAGE_FAULT, Status.HARDWARE));
    work.asked = 0;
    if (step === Step.END) work.stage = work.status === Status.SUCCESS && readbacksOf(work) > 0 ? Stage.READBACK : Stage.RECORD;
    return true;
  }

  /** Puts the work aside until the page that it lacks has come. False when there is nobody to ask. */
  #wait(work: Work): boolean {
    if (!this.#mayAsk(work)) return false;
    work.waiting = true;
    const { use } = work;
    this.#ask(work, () => this.#resume(work, use));
    return true;
  }

  #fault(work: Work, status: number): boolean {
    this.#faulted(work, status);
    work.faultWrite = work.access.kind === Access.WRITE;
    work.completed = OPERATION_BY_OPCODE.get(work.opcode)?.restarts ? 0 : work.done;
    work.stage = Stage.RECORD;
    return true;
  }

  #mayAsk(work: Work): boolean {
    return this.#mover.outcome === PageOutcome.MISSING && work.blocks && this.#host.tlb.pages.enabled && ++work.asked <= MAX_REQUESTS;
  }

  #ask(work: Work, then: () => void): void {
    const { use } = work;
    this.#host.tlb.askForPage(work.access, (code) => {
      if (work.use !== use) return;
      work.refused = code !== PageResponseCode.SUCCESS;
      then();
      this.run();
    });
  }

  #resume(work: Work, use: number): void {
    if (work.use !== use) return;
    work.waiting = false;
    this.#ready.push(work);
    this.run();
  }

  /** Reads back from destinations, so that what was written has arrived (GENCAP bits 8 and 9). */
  #readBack(work: Work): boolean {
    if (work.refused) return this.#fault(work, Status.READBACK_FAULT);
    const byte = this.#mover.second.subarray(0, 1);
    for (const total = readbacksOf(work); work.readbacks < total; work.readbacks++) {
      const at = readbackAddress(work, work.readbacks, this.#readbackAddress);
      if (this.#mover.read(work, this.#readbackAddress, at, byte)) continue;
      return !this.#wait(work) && this.#fault(work, faultStatus(this.#mover.outcome, Status.READBACK_FAULT, Status.READBACK_HARDWARE));
    }
    work.asked = 0;
    work.stage = Stage.RECORD;
    return true;
  }

  #store(work: Work): boolean {
    const { completions } = this.#host;
    if (work.refused) completions.lost(work);
    else if (completions.store(work, this.#mover)) completions.interrupt(work);
    else if (this.#wait(work)) return false;
    else completions.lost(work);
    work.stage = Stage.END;
    return false;
  }

  #end(work: Work): void {
    this.#open.delete(work);
    work.use++;
    const { batch } = work;
    if (batch) {
      batch.open--;
      if (work.status !== Status.SUCCESS) batch.failed = true;
      work.batch = undefined;
    } else {
      this.#slots--;
      work.queue.inFlight.delete(work);
      this.#host.ended(work);
    }
    this.#pool.push(work);
  }
}

/** A page that is missing, or that the unit refused, is a page fault; other refusals are the hardware's. */
function faultStatus(outcome: number, pageFault: number, hardware: number): number {
  if (outcome === PageOutcome.UNTRANSLATABLE) return Status.TRANSLATION;
  return outcome === PageOutcome.REFUSED ? hardware : pageFault;
}
