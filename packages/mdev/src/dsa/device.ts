/** Intel Data Streaming Accelerator, 8086:0b25, as a PCI function, and as the parent of mediated devices. */
import { type DmaPort, type MdevFoundation, type MdevParent, NO_PASID, type PciBar, type PciCapability, type PciDevice, type PciExtendedCapability, type PciHost, type PciIdentity, type PciInterrupts } from "@iommukit/core";
import { AtsCapabilities, DeviceTlb, EXPRESS_CAPABILITY } from "@iommukit/core/devices";
import { mediateDsa } from "../adi/index.js";
import { capabilityWords, OPERATION_WORDS } from "./capabilities.js";
import { Commands } from "./commands.js";
import { Completions } from "./completion.js";
import { Control } from "./control.js";
import { Drains } from "./drains.js";
import { Engine } from "./engine.js";
import { type ErrorSink, Errors } from "./errors.js";
import { EventLog } from "./event-log.js";
import { Groups } from "./groups.js";
import { Interrupts } from "./interrupts.js";
import type { DsaOptions } from "./options.js";
import type { DsaParent, QueueSettings, QueueState } from "./parent.js";
import { accept, portalAt, type Submission } from "./portal.js";
import { settle } from "./queue-settings.js";
import { GENERAL_BYTES, Registers } from "./registers.js";
import { CommandError } from "./spec/commands.js";
import { DESCRIPTOR_BYTES, Field } from "./spec/descriptor.js";
import { DeviceError } from "./spec/errors.js";
import { WqLimits } from "./spec/queues.js";
import { BAR0_BYTES, DeviceState, GenCtrl, IntCause, PORTAL_PAGES, Register, Table } from "./spec/registers.js";
import type { Work } from "./work.js";
import { WorkQueue } from "./work-queue.js";

const PAGE = 4096;
const PORTAL_BAR = 2;
const MISC_VECTOR = 0;
const PASID_BITS = 20;

/** MSI-X with its table and pending bits in BAR 0. */
function msixCapability(vectors: number): PciCapability {
  const bytes = new Uint8Array(12);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, 0x11);
  view.setUint16(2, vectors - 1, true);
  view.setUint32(4, Table.MSIX, true);
  view.setUint32(8, Table.PENDING, true);
  return { offset: 0x60, bytes };
}

export class DsaDevice implements PciDevice, DsaParent {
  /** Class 08 80 00: system peripheral, other. */
  readonly identity: PciIdentity = { vendorId: 0x8086, deviceId: 0x0b25, classCode: 0x08_80_00, revision: 0 };
  readonly bars: readonly PciBar[];
  readonly interrupts: PciInterrupts;
  readonly capabilities: readonly PciCapability[];
  readonly extendedCapabilities: readonly PciExtendedCapability[];
  readonly pasidBits: number;
  readonly ats: boolean;
  readonly pageRequests: boolean;
  readonly resettable = true;
  readonly engines: readonly Engine[];
  readonly #options: DsaOptions;
  readonly #host: PciHost;
  readonly #tlb: DeviceTlb;
  readonly #queues: readonly WorkQueue[];
  readonly #groups: Groups;
  readonly #handles: Interrupts;
  readonly #log: EventLog;
  readonly #errors: Errors;
  readonly #control: Control;
  readonly #commands: Commands;
  readonly #registers: Registers;
  /** There is ATS at both ends. */
  readonly #translates: boolean;
  readonly #view: DataView = new DataView(new ArrayBuffer(GENERAL_BYTES));

  constructor(port: DmaPort, host: PciHost, options: DsaOptions) {
    const vectors = options.workQueues + 1;
    this.#options = options;
    this.#host = host;
    this.pasidBits = options.pasid ? PASID_BITS : 0;
    this.ats = options.ats;
    this.pageRequests = options.pri;
    this.bars = [
      { index: 0, size: BAR0_BYTES, msixTable: { start: Table.MSIX, end: Table.MSIX + 16 * vectors } },
      { index: PORTAL_BAR, size: 2 ** Math.ceil(Math.log2(options.workQueues * PORTAL_PAGES * PAGE)) },
    ];
    this.interrupts = { intx: false, msiVectors: 0, msixVectors: vectors };
    this.capabilities = [msixCapability(vectors), EXPRESS_CAPABILITY];
    this.#tlb = new DeviceTlb(port, { geometry: { sets: 256, ways: 4 }, pageRequests: options.pri });
    this.#translates = options.ats && port.ats !== undefined;
    const extended = new AtsCapabilities(this.#tlb, { pageRequests: options.pri, pasidBits: PASID_BITS }).list;
    this.extendedCapabilities = extended.filter(({ id }) => (id === 0x1b ? options.pasid : options.ats));

    this.#handles = new Interrupts({ vector: (index) => host.interrupt(index), message: (address, data) => void port.interrupt(address, data) }, vectors, options.interruptHandles);
    this.#log = new EventLog(this.#view, this.#tlb);
    this.#errors = new Errors(this.#view, this.#log, (bits) => this.#cause(bits));
    this.#queues = Array.from({ length: options.workQueues }, (_, index) => new WorkQueue(index));
    this.#groups = new Groups(options.groups, this.#queues, options.engines);
    const drains = new Drains();
    const completions = new Completions(this.#errors, this.#log, this.#handles);
    const engineHost = {
      tlb: this.#tlb,
      completions,
      automatic: options.engine === "automatic",
      nextQueue: (engine: number): WorkQueue | undefined => this.#groups.next(engine),
      whenEarlierEnded: (work: Work, done: () => void): void => this.#control.whenEarlierEnded(work, done),
      ended: ({ sequence, queue, access }: Work): void => drains.ended(sequence, queue.index, access.pasid),
      groupFlags: ({ queue }: Work): number => this.#groups.flagsOf(queue.index),
      ownsInterrupt: (work: Work): boolean => this.#handles.owns(work.view.getUint16(Field.HANDLE, true), work.ims, work.access.pasid),
    };
    this.engines = Array.from({ length: options.engines }, (_, index) => new Engine(index, engineHost));
    this.#control = new Control(this.#queues, this.engines, this.#groups, drains, this.#controlHost());
    this.#commands = new Commands(this.#view, { control: this.#control, interrupts: this.#handles }, (error) => this.#errors.report({ error }), (bits) => this.#cause(bits));
    this.#registers = new Registers(this.#view, this.#registerHost());
    this.reset();
  }

  #controlHost(): ConstructorParameters<typeof Control>[4] {
    const [host, options, tlb, log] = [this.#host, this.#options, this.#tlb, this.#log];
    return {
      get busMaster() {
        return host.busMaster ?? true;
      },
      // An operating system turns PASIDs on together with ATS, where the unit has it.
      pasidEnabled: options.pasid && this.#translates,
      get atsEnabled() {
        return tlb.enabled;
      },
      get prsEnabled() {
        return tlb.pages.enabled;
      },
      entries: options.entries,
      maxTransferShift: options.maxTransferShift,
      maxBatchShift: options.maxBatchShift,
      get eventLogIsValid() {
        return !log.enabled || log.isValid(options.pasid);
      },
      starting: () => log.start(),
      clear: () => this.#clear(),
      clearQueue: (queue) => this.#clearQueue(queue),
      stopPageRequests: (pasid) => tlb.pages.enabled && tlb.stop(pasid),
    };
  }

  #registerHost(): ConstructorParameters<typeof Registers>[1] {
    const control = this.#control;
    return {
      queues: this.#queues,
      groups: this.#groups,
      interrupts: this.#handles,
      get deviceDisabled() {
        return control.state === DeviceState.DISABLED;
      },
      refresh: () => this.#view.setUint32(Register.GENSTS, control.state | (control.resetNeeded << 2), true),
      act: (offset, value) => this.#act(offset, value),
    };
  }

  #act(offset: number, value: number): void {
    if (offset === Register.CMD) {
      this.#view.setUint32(Register.CMD, value, true);
      this.#commands.issue(value);
    } else if (offset === Register.EVLSTATUS) this.#log.moveHead(value);
    else this.#view.setUint32(offset, value, true);
  }

  /** Sets causes, and interrupts for those that GENCTRL lets; a command's asked for its own. */
  #cause(bits: number): void {
    this.#view.setUint32(Register.INTCAUSE, (this.#view.getUint32(Register.INTCAUSE, true) | bits) >>> 0, true);
    const enables = this.#view.getUint32(Register.GENCTRL, true);
    const wanted = (enables & GenCtrl.ERROR ? IntCause.ERROR : 0) | (enables & GenCtrl.HALT ? IntCause.HALT : 0) | (enables & GenCtrl.EVENT_LOG ? IntCause.EVENT_LOG : 0);
    if ((bits & (wanted | IntCause.COMMAND)) !== 0) this.#host.interrupt(MISC_VECTOR);
  }

  reset(): void {
    this.#commands.reset();
    this.#tlb.reset();
    this.#tlb.enabled = this.#translates;
    this.#tlb.pages.enabled = this.#tlb.enabled && this.#options.pri;
    this.#control.resetFunction();
  }

  #clear(): void {
    const active = this.#commands.active;
    for (let at = 0; at < GENERAL_BYTES; at += 4) this.#view.setUint32(at, 0, true);
    for (const [offset, value] of capabilityWords(this.#options)) this.#view.setBigUint64(offset, value, true);
    if (active) this.#view.setUint32(Register.CMDSTS, 0x8000_0000, true);
    this.#groups.reset();
    this.#handles.reset();
    for (const queue of this.#queues) this.#clearQueue(queue);
  }

  #clearQueue(queue: WorkQueue): void {
    const { maxTransferShift, maxBatchShift } = this.#options;
    queue.resetConfiguration(maxTransferShift | (maxBatchShift << WqLimits.BATCH_SHIFT), OPERATION_WORDS);
  }

  /** Ends all work by an error that only a reset of the given kind mends. */
  halt(resetNeeded: number): void {
    this.#control.halt(resetNeeded);
    this.#cause(IntCause.HALT);
  }

  readBar(bar: number, offset: number, size: number): bigint {
    return bar === 0 ? this.#registers.read(offset, size) : 0n;
  }

  /** A portal takes 64 bytes at once and nothing less: parts are lost, with an error. */
  writeBar(bar: number, offset: number, size: number, value: bigint): void {
    if (bar === 0) return this.#registers.write(offset, size, value);
    const { queue } = portalAt(offset);
    if (queue < this.#queues.length) this.#errors.report({ error: DeviceError.PORTAL_WRITE, queue });
  }

  writeBlock(bar: number, offset: number, bytes: Uint8Array, deferrable: boolean): boolean {
    if (bar === 0) return this.#blockOfRegisters(offset, bytes, deferrable);
    const { queue, limited, ims } = portalAt(offset);
    if (queue >= this.#queues.length || bytes.length !== DESCRIPTOR_BYTES) return false;
    return this.#submit(this.#queues[queue], bytes, { deferrable, limited, ims });
  }

  /** Registers take a posted write in parts, and turn a deferrable one away. */
  #blockOfRegisters(offset: number, bytes: Uint8Array, deferrable: boolean): boolean {
    if (deferrable) return false;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    for (let at = 0; at + 8 <= bytes.length; at += 8) this.#registers.write(offset + at, 8, view.getBigUint64(at, true));
    return true;
  }

  #submit(queue: WorkQueue, bytes: Uint8Array, submission: Submission): boolean {
    if (!accept(queue, bytes, submission, this.#control.nextSequence(), this.#errors)) return false;
    for (const engine of this.#groups.enginesOf(queue.index)) this.engines[engine].run();
    return true;
  }

  get queueCount(): number {
    return this.#queues.length;
  }

  get enabled(): boolean {
    return this.#control.state === DeviceState.ENABLED;
  }

  configureGroup(group: number, { queues, engines }: { readonly queues: readonly number[]; readonly engines: readonly number[] }): void {
    if (this.#control.state !== DeviceState.DISABLED) throw new RangeError("groups cannot change while the device is enabled");
    if (group >= this.#groups.words.length) throw new RangeError(`there is no group ${group}; there are ${this.#groups.words.length}`);
    this.#groups.configure(group, queues, engines);
  }

  enableDevice(): number {
    return this.#control.enableDevice();
  }

  #queue(index: number): WorkQueue {
    const queue = this.#queues[index];
    if (queue === undefined) throw new RangeError(`there is no work queue ${index}; there are ${this.#queues.length}`);
    return queue;
  }

  queueState(index: number): QueueState {
    const { enabled, dedicated, size, threshold, count, inFlight, pasid } = this.#queue(index);
    return { enabled, dedicated, size, threshold, occupancy: count, inFlight: inFlight.size, pasid: pasid === NO_PASID ? undefined : pasid };
  }

  configureQueue(index: number, settings: QueueSettings): void {
    settle(this.#queue(index), settings, this.#control.state === DeviceState.DISABLED);
  }

  enableQueue(index: number): number {
    return this.#control.enableQueue(this.#queue(index));
  }

  /** On an enabled queue only. */
  #onQueue(index: number, run: (queue: WorkQueue) => void): number {
    const queue = this.#queue(index);
    if (!queue.enabled) return CommandError.WQ_NOT_ENABLED;
    run(queue);
    return CommandError.NONE;
  }

  disableQueue(index: number, done: () => void): number {
    return this.#onQueue(index, (queue) => this.#control.disableQueue(queue, done));
  }

  resetQueue(index: number): number {
    return this.#onQueue(index, (queue) => this.#control.resetQueue(queue));
  }

  abortQueue(index: number): number {
    return this.#onQueue(index, (queue) => this.#control.abortQueue(queue));
  }

  drainQueue(index: number, done: () => void): number {
    return this.#onQueue(index, (queue) => this.#control.drain((other) => other === queue.index, done));
  }

  submit(index: number, bytes: Uint8Array, deferrable: boolean, limited = true): boolean {
    return this.#submit(this.#queue(index), bytes, { deferrable, limited, ims: true });
  }

  drainPasid(pasid: number, done: () => void): void {
    this.#control.drain((_queue, owner) => owner === pasid, done);
  }

  abortPasid(pasid: number): void {
    this.#control.abortPasid(pasid);
  }

  mediate(foundation: MdevFoundation): MdevParent {
    return mediateDsa(this, foundation);
  }

  requestInterrupt(pasid: number | undefined, listener: () => void): number | undefined {
    return this.#handles.listen(pasid ?? NO_PASID, listener);
  }

  releaseInterrupt(handle: number): void {
    this.#handles.release(handle, true);
  }

  onError(index: number, pasid: number | undefined, sink: ErrorSink): () => void {
    return this.#errors.subscribe(this.#queue(index).index, pasid, sink);
  }
}
