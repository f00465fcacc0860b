/** A copy engine as one client has it: a ring of descriptors in its memory, carried out with its access and no other. */
import {
  type Interval,
  type MdevEnvironment,
  type PciBar,
  type PciCapability,
  type PciDevice,
  type PciIdentity,
  type PciInterrupts,
  type SoftwareMemory,
  type SoftwareUser,
} from "@iommukit/core";
import type { CopyEngine } from "./copy-engine.js";
import {
  BAR_BYTES, CopyControl, CopyInterrupt, CopyRegister as R, CopyStatus, DESCRIPTOR_BYTES, DescriptorStatus, FaultReason, MAGIC, RING_LIMIT, VERSION,
} from "./copy-layout.js";
import { CopyRing } from "./copy-ring.js";
import { type CopyFault, CopyTransfer, refusalOf, rightOf } from "./copy-transfer.js";

const WHOLE = 2n ** 64n - 1n;
const PAGE = 4096n;
const WORD = 4;
/** MSI, 64-bit addresses, one vector. */
const MSI: PciCapability = { offset: 0x40, bytes: Uint8Array.of(0x05, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0) };

export interface ChannelOptions {
  /** It keeps its ring pinned when UNMAP asks for it: to see what happens then. */
  readonly stubborn: boolean;
}

export class CopyChannel implements PciDevice, SoftwareUser {
  readonly identity: PciIdentity = { vendorId: 0x1d1d, deviceId: 0x0003, classCode: 0x080100, revision: 1 };
  readonly bars: readonly PciBar[] = [{ index: 0, size: BAR_BYTES }];
  readonly pasidBits = 0;
  readonly ats = false;
  readonly resettable = true;
  readonly interrupts: PciInterrupts = { intx: true, msiVectors: 1, msixVectors: 0 };
  readonly capabilities: readonly PciCapability[] = [MSI];
  readonly raisesFaults = true;
  readonly #engine: CopyEngine;
  readonly #environment: MdevEnvironment;
  readonly #options: ChannelOptions;
  readonly #step = (): boolean => this.#work();
  #memory: SoftwareMemory | undefined;
  /** While it runs. */
  #ring: CopyRing | undefined;
  /** The descriptor that has begun. */
  #transfer: CopyTransfer | undefined;
  #waiting = false;
  #interruptsOn = false;
  #troubles = 0;
  #address = 0n;
  #size = 0;
  #raised = 0;
  #faultAddress = 0n;
  #faultReason: number = FaultReason.NONE;
  #completed = 0;

  constructor(engine: CopyEngine, environment: MdevEnvironment, options: ChannelOptions) {
    this.#engine = engine;
    this.#environment = environment;
    this.#options = options;
    engine.add(this.#step);
  }

  /** The mdev is gone. */
  end(): void {
    this.#engine.remove(this.#step);
  }

  bound(memory: SoftwareMemory): void {
    this.#memory = memory;
  }

  unmapping(range: Interval): void {
    if (this.#options.stubborn && range.last !== WHOLE) return;
    if (this.#ring?.meets(range)) this.#loseRing();
  }

  unbound(): void {
    this.#stop();
    this.#memory = undefined;
  }

  reset(): void {
    this.#stop();
    this.#interruptsOn = false;
    this.#troubles = 0;
    this.#address = 0n;
    this.#size = 0;
    this.#raised = 0;
    this.#faultAddress = 0n;
    this.#faultReason = FaultReason.NONE;
    this.#completed = 0;
  }

  get pinAsserted(): boolean {
    return this.#interruptsOn && this.#raised !== 0;
  }

  // Registers ----------------------------------------------------------------------------------------------------

  /** Words, alone or two at a time; other accesses read 0 and do nothing. */
  readBar(_bar: number, offset: number, size: number): bigint {
    if (size !== WORD && size !== 2 * WORD) return 0n;
    const low = BigInt(this.#read(offset));
    return size === WORD ? low : low | (BigInt(this.#read(offset + WORD)) << 32n);
  }

  #read(offset: number): number {
    switch (offset) {
      case R.MAGIC:
        return MAGIC;
      case R.VERSION:
        return VERSION;
      case R.CONTROL:
        return (this.#ring ? CopyControl.RUN : 0) | (this.#interruptsOn ? CopyControl.INTERRUPTS : 0);
      case R.STATUS:
        return (this.#ring ? CopyStatus.RUNNING : 0) | (this.#waiting ? CopyStatus.WAITING : 0) | this.#troubles;
      case R.RING:
        return Number(this.#address & 0xffff_ffffn);
      case R.RING + WORD:
        return Number(this.#address >> 32n);
      case R.SIZE:
        return this.#size;
      case R.HEAD:
        return this.#ring?.head ?? 0;
      case R.TAIL:
        return this.#ring?.tail ?? 0;
      case R.INTERRUPT:
        return this.#raised;
      case R.FAULT_ADDRESS:
        return Number(this.#faultAddress & 0xffff_ffffn);
      case R.FAULT_ADDRESS + WORD:
        return Number(this.#faultAddress >> 32n);
      case R.FAULT_REASON:
        return this.#faultReason;
      case R.COMPLETED:
        return this.#completed;
      default:
        return 0;
    }
  }

  writeBar(_bar: number, offset: number, size: number, value: bigint): void {
    if (size !== WORD && size !== 2 * WORD) return;
    this.#write(offset, Number(value & 0xffff_ffffn));
    if (size === 2 * WORD) this.#write(offset + WORD, Number(value >> 32n));
  }

  #write(offset: number, value: number): void {
    switch (offset) {
      case R.CONTROL:
        return this.#control(value);
      case R.STATUS:
        this.#troubles &= ~value;
        break;
      case R.RING:
        if (this.#ring === undefined) this.#address = (this.#address & ~0xffff_ffffn) | BigInt(value);
        break;
      case R.RING + WORD:
        if (this.#ring === undefined) this.#address = (this.#address & 0xffff_ffffn) | (BigInt(value) << 32n);
        break;
      case R.SIZE:
        if (this.#ring === undefined) this.#size = value;
        break;
      case R.TAIL:
        return this.#doorbell(value);
      case R.INTERRUPT:
        this.#raised &= ~value;
        break;
      default: // read-only, or nothing there
    }
  }

  #control(value: number): void {
    const turnedOn = !this.#interruptsOn && (value & CopyControl.INTERRUPTS) !== 0;
    this.#interruptsOn = (value & CopyControl.INTERRUPTS) !== 0;
    if (turnedOn && this.#raised !== 0) this.#environment.host.interrupt(0);
    if ((value & CopyControl.RUN) === 0) this.#stop();
    else if (this.#ring === undefined) this.#start();
  }

  /** Without bus mastering it reaches no memory, so it has no ring either. */
  #start(): void {
    const [memory, address, size] = [this.#memory, this.#address, this.#size];
    this.#completed = 0;
    const sound = size >= 2 && size <= RING_LIMIT && address % BigInt(DESCRIPTOR_BYTES) === 0n && this.#environment.mastering();
    this.#faultReason = FaultReason.NONE;
    if (sound && memory) {
      this.#faultReason = refusalOf(() => {
        this.#ring = new CopyRing(memory.pin(address, BigInt(size * DESCRIPTOR_BYTES), true), address, size);
      });
    }
    if (this.#ring) return;
    this.#faultAddress = address;
    this.#trouble(CopyStatus.RING_LOST);
  }

  #doorbell(tail: number): void {
    const ring = this.#ring;
    if (ring === undefined) return;
    if (tail >= this.#size) return this.#trouble(CopyStatus.ERROR);
    ring.tail = tail;
    this.#engine.run();
  }

  /** What has begun is forgotten, and nobody waits for an answer any more. */
  #stop(): void {
    this.#ring?.release();
    this.#ring = undefined;
    this.#transfer = undefined;
    this.#waiting = false;
    this.#memory?.withdrawRequests();
  }

  #loseRing(): void {
    this.#stop();
    this.#trouble(CopyStatus.RING_LOST);
  }

  #trouble(status: number): void {
    this.#troubles |= status;
    this.#raise(CopyInterrupt.TROUBLE);
  }

  #raise(reason: number): void {
    this.#raised |= reason;
    if (this.#interruptsOn) this.#environment.host.interrupt(0);
  }

  // Work ---------------------------------------------------------------------------------------------------------

  /** One descriptor, or a part of it up to a page that is missing. */
  #work(): boolean {
    const [ring, memory] = [this.#ring, this.#memory];
    if (ring === undefined || memory === undefined || this.#waiting || ring.head === ring.tail || !this.#environment.mastering()) return false;
    const transfer = this.#transfer ?? this.#begin(ring);
    if (transfer === undefined) return false;
    const fault = transfer.good ? transfer.run(memory) : undefined;
    if (fault && this.#askFor(memory, fault)) return false;
    if (!transfer.good) this.#complete(ring, transfer, DescriptorStatus.BAD);
    else if (fault) this.#failed(ring, transfer, fault);
    else this.#complete(ring, transfer, DescriptorStatus.DONE);
    return true;
  }

  /** The descriptor at the head. Undefined, and the ring is lost, when it cannot be read any more. */
  #begin(ring: CopyRing): CopyTransfer | undefined {
    const descriptor = ring.next();
    if (descriptor) this.#transfer = new CopyTransfer(descriptor);
    else this.#loseRing();
    return this.#transfer;
  }

  /** User space may make the page usable: then the transfer goes on, otherwise its descriptor ends with an error. */
  #askFor(memory: SoftwareMemory, fault: CopyFault): boolean {
    this.#waiting = memory.requestPage(fault.address - (fault.address % PAGE), rightOf(fault), (code) => {
      this.#waiting = false;
      const [ring, transfer] = [this.#ring, this.#transfer];
      if (code === "invalid" && ring && transfer) this.#failed(ring, transfer, fault);
      this.#engine.run();
    });
    return this.#waiting;
  }

  #failed(ring: CopyRing, transfer: CopyTransfer, { address, write, reason }: CopyFault): void {
    this.#faultAddress = address;
    this.#faultReason = reason;
    this.#complete(ring, transfer, write ? DescriptorStatus.WRITE_FAULT : DescriptorStatus.READ_FAULT);
  }

  #complete(ring: CopyRing, transfer: CopyTransfer, status: number): void {
    if (!ring.complete(status, transfer.moved)) return this.#loseRing();
    this.#transfer = undefined;
    this.#completed++;
    if (status !== DescriptorStatus.DONE) this.#trouble(CopyStatus.ERROR);
    if (transfer.interrupts) this.#raise(CopyInterrupt.DONE);
  }
}
