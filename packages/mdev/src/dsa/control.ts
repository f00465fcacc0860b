/** What commands do: the device's and its queues' states, draining, aborting (341204, 3.9 to 3.11). */
import type { Drains } from "./drains.js";
import type { Engine } from "./engine.js";
import type { Groups } from "./groups.js";
import { CommandError } from "./spec/commands.js";
import { WqLimits, WqMode, WqWord } from "./spec/queues.js";
import { DeviceState, ResetNeeded } from "./spec/registers.js";
import type { Work } from "./work.js";
import type { WorkQueue } from "./work-queue.js";

/** What control asks of the function around it. */
export interface ControlHost {
  readonly busMaster: boolean;
  /** Enables in configuration space. */
  readonly pasidEnabled: boolean;
  readonly atsEnabled: boolean;
  readonly prsEnabled: boolean;
  /** WQCAP and GENCAP. */
  readonly entries: number;
  readonly maxTransferShift: number;
  readonly maxBatchShift: number;
  /** The event log can be used as it is configured, or is off. */
  readonly eventLogIsValid: boolean;
  /** The device is about to be enabled. */
  starting(): void;
  /** Registers and tables go back to their defaults. */
  clear(): void;
  clearQueue(queue: WorkQueue): void;
  /** Ends page requests of a PASID. */
  stopPageRequests(pasid: number): void;
}

interface Check {
  readonly error: number;
  readonly fails: () => boolean;
}

export class Control {
  state: number = DeviceState.DISABLED;
  resetNeeded: number = ResetNeeded.SOFTWARE;
  readonly queues: readonly WorkQueue[];
  readonly #engines: readonly Engine[];
  readonly #groups: Groups;
  readonly #drains: Drains;
  readonly #host: ControlHost;
  #sequence = 0;

  constructor(queues: readonly WorkQueue[], engines: readonly Engine[], groups: Groups, drains: Drains, host: ControlHost) {
    this.queues = queues;
    this.#engines = engines;
    this.#groups = groups;
    this.#drains = drains;
    this.#host = host;
  }

  get halted(): boolean {
    return this.state === DeviceState.HALT;
  }

  /** Place of a new descriptor in the order of all. */
  nextSequence(): number {
    return ++this.#sequence;
  }

  enableDevice(): number {
    const host = this.#host;
    const checks: readonly Check[] = [
      { error: CommandError.DEVICE_ENABLED, fails: () => this.state !== DeviceState.DISABLED },
      { error: CommandError.BUS_MASTER, fails: () => !host.busMaster },
      { error: CommandError.PASID_COMBINATION, fails: () => (host.pasidEnabled || host.prsEnabled) && !host.atsEnabled },
      { error: CommandError.WQ_SIZE_SUM, fails: () => this.queues.reduce((sum, { size }) => sum + size, 0) > host.entries },
      { error: CommandError.DEVICE_CONFIG, fails: () => !host.eventLogIsValid },
    ];
    const error = firstError(checks) || this.#groups.apply();
    if (error !== CommandError.NONE) return error;
    host.starting();
    this.state = DeviceState.ENABLED;
    return CommandError.NONE;
  }

  /** Its queues take nothing more; when everything has ended, they and the device are off. Configuration stays. */
  disableDevice(done: () => void): number {
    if (this.state !== DeviceState.ENABLED) return CommandError.DISABLE_NOT_ENABLED;
    this.state = DeviceState.DRAIN;
    for (const queue of this.queues) queue.closing = queue.enabled;
    this.drain(() => true, () => {
      for (const queue of this.queues) queue.disable();
      this.state = DeviceState.DISABLED;
      done();
    });
    return CommandError.NONE;
  }

  /** Everything is dropped, and every register has its default again. A halt for which this is not enough stays. */
  resetDevice(): number {
    if (this.halted && this.resetNeeded !== ResetNeeded.SOFTWARE) return CommandError.HARDWARE;
    this.#dropAll();
    this.#host.clear();
    return CommandError.NONE;
  }

  /** What a function-level reset adds: it ends any halt but those for which the whole system is to be reset. */
  resetFunction(): void {
    this.#dropAll();
    this.#host.clear();
  }

  #dropAll(): void {
    this.abort(() => true);
    for (const queue of this.queues) queue.disable();
    this.state = DeviceState.DISABLED;
    this.resetNeeded = ResetNeeded.SOFTWARE;
  }

  /** Stops everything: a state that only a reset ends. */
  halt(resetNeeded: number): void {
    this.abort(() => true);
    for (const queue of this.queues) queue.disable();
    this.state = DeviceState.HALT;
    this.resetNeeded = resetNeeded;
  }

  enableQueue(queue: WorkQueue): number {
    const { mode } = queue;
    const host = this.#host;
    const limits = queue.words[WqWord.LIMITS];
    const pasid = (mode & WqMode.PASID_ENABLE) !== 0;
    const checks: readonly Check[] = [
      { error: CommandError.DEVICE_NOT_ENABLED, fails: () => this.state !== DeviceState.ENABLED },
      { error: CommandError.WQ_ENABLED, fails: () => queue.enabled },
      { error: CommandError.WQ_SIZE, fails: () => queue.size === 0 },
      { error: CommandError.WQ_PRIORITY, fails: () => queue.priority === 0 },
      { error: CommandError.WQ_BLOCK_ON_FAULT, fails: () => (mode & WqMode.BLOCK_ON_FAULT) !== 0 && !host.prsEnabled },
      { error: CommandError.WQ_PASID, fails: () => (pasid ? !host.pasidEnabled : !queue.dedicated) },
      { error: CommandError.WQ_MAX_BATCH, fails: () => ((limits >>> WqLimits.BATCH_SHIFT) & WqLimits.BATCH_MASK) > host.maxBatchShift },
      { error: CommandError.WQ_MAX_TRANSFER, fails: () => (limits & WqLimits.TRANSFER_MASK) > host.maxTransferShift },
    ];
    const error = firstError(checks);
    if (error === CommandError.NONE) queue.enable();
    return error;
  }

  disableQueue(queue: WorkQueue, done: () => void): void {
    queue.closing = true;
    this.drain((index) => index === queue.index, () => {
      queue.disable();
      done();
    });
  }

  /** What it holds is dropped, and its configuration, but for the share of entries that it has. */
  resetQueue(queue: WorkQueue): void {
    this.abortQueue(queue);
    const { size } = queue;
    queue.disable();
    this.#host.clearQueue(queue);
    queue.words[WqWord.SIZE] = size;
  }

  abortQueue(queue: WorkQueue): void {
    this.abort((index) => index === queue.index);
  }

  /** Calls back when everything that matches, of what is in the device now, has ended. */
  drain(counts: (queue: number, pasid: number) => boolean, done: () => void, upTo: number = this.#sequence): void {
    let left = 0;
    for (const queue of this.queues) {
      for (const work of queue.inFlight) if (work.sequence <= upTo && counts(queue.index, work.access.pasid)) left++;
      for (let i = 0; i < queue.count; i++) if (counts(queue.index, queue.pasidAt(i))) left++;
    }
    this.#drains.add(upTo, left, counts, done);
  }

  /** For a drain descriptor: nothing that waits in its queue is earlier than it. */
  whenEarlierEnded({ queue, sequence, access: { pasid } }: Work, done: () => void): void {
    let left = 0;
    for (const work of queue.inFlight) if (work.sequence < sequence && work.access.pasid === pasid) left++;
    this.#drains.add(sequence - 1, left, (index, owner) => index === queue.index && owner === pasid, done);
  }

  abort(matches: (queue: number, pasid: number) => boolean): void {
    for (const queue of this.queues) queue.drop((pasid) => matches(queue.index, pasid), (sequence, pasid) => this.#drains.ended(sequence, queue.index, pasid));
    for (const engine of this.#engines) engine.discard((work) => matches(work.queue.index, work.access.pasid));
  }

  abortPasid(pasid: number): void {
    this.abort((_queue, owner) => owner === pasid);
    this.#host.stopPageRequests(pasid);
  }
}

function firstError(checks: readonly Check[]): number {
  return checks.find(({ fails }) => fails())?.error ?? CommandError.NONE;
}
