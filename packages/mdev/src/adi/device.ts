/**
 * An Assignable Device Interface of a DSA, composed into a virtual DSA (Intel SIOV specification 337679, and Intel's own such driver):
 * one work queue of the parent, a PASID that marks whatever it does by default, registers that are emulated here, and portals that lead
 * to the parent.
 */
import { type IommufdContext, type MdevEnvironment, type Migratable, type PciBar, type PciCapability, type PciDevice, type PciExtendedCapability, type PciIdentity, type PciInterrupts, refuse } from "@iommukit/core";
import type { DeviceErrorRecord, DsaParent } from "../dsa/parent.js";
import { Cmd, CmdSts, CommandError } from "../dsa/spec/commands.js";
import { DESCRIPTOR_BYTES } from "../dsa/spec/descriptor.js";
import { DeviceError, SwErr } from "../dsa/spec/errors.js";
import { WqWord } from "../dsa/spec/queues.js";
import { BAR0_BYTES, DeviceState, GenCtrl, IntCause, Portal, PORTAL_PAGES, Register, Table } from "../dsa/spec/registers.js";
import { storeError } from "../dsa/errors.js";
import type { Portal as CpuPortal } from "../pasid/enqcmd.js";
import { DevicePasids } from "../pasid/device-pasids.js";
import { pasidKind, type PasidKind } from "../pasid/kinds.js";
import type { SharedPasids } from "../pasid/shared-pasids.js";
import type { VirtualMachine } from "../pasid/virtual-machine.js";
import { type CommandTarget, VIRTUAL_COMMANDS } from "./commands.js";
import { decodeState, encodeState } from "./migration.js";
import { extendedCapabilities, msixCapability } from "./configuration.js";
import type { DsaHostDriver } from "./host-driver.js";
import { QueueSlice } from "./queue-slice.js";
import { VirtualRegisters } from "./registers.js";

const PAGE = 4096;
/** MSI-X: one for errors and commands, the others for descriptors. */
const VECTORS = 9;
const MISC_VECTOR = 0;
const PASID_BITS = 20;
/** Registers that migrate, by their offsets in BAR 0. */
const MIGRATED: readonly number[] = [Register.GENCTRL, Register.GENSTS, Register.INTCAUSE, Register.CMDSTS, ...[0, 4, 8, 12, 16, 20, 24, 28].map((at) => Register.SWERR + at)];

export class VirtualDsa implements PciDevice, CommandTarget {
  readonly identity: PciIdentity = { vendorId: 0x8086, deviceId: 0x0b25, classCode: 0x08_80_00, revision: 0 };
  readonly bars: readonly PciBar[] = [
    { index: 0, size: BAR0_BYTES, msixTable: { start: Table.MSIX, end: Table.MSIX + 16 * VECTORS } },
    { index: 2, size: PORTAL_PAGES * PAGE },
  ];
  readonly interrupts: PciInterrupts = { intx: false, msiVectors: 0, msixVectors: VECTORS };
  readonly capabilities: readonly PciCapability[] = msixCapability(VECTORS);
  readonly extendedCapabilities: readonly PciExtendedCapability[];
  readonly pasidBits: number = PASID_BITS;
  readonly ats: boolean;
  readonly pageRequests: boolean;
  readonly resettable = true;
  readonly migratable: Migratable = { stop: () => this.#stop(), resume: () => this.#resume(), save: () => this.#save(), load: (bytes) => this.#load(bytes) };
  readonly vectors: number = VECTORS;
  readonly kind: PasidKind;
  /** Marks everything that names no PASID of the guest. */
  readonly defaultPasid: number;
  readonly queue: number;
  readonly registers: VirtualRegisters;
  readonly #host: DsaHostDriver;
  readonly #slice: QueueSlice;
  readonly #environment: Pick<MdevEnvironment, "host" | "mastering">;
  /** PASIDs that it shares with other devices of whoever has it bound: what a virtual machine maps. */
  shared: SharedPasids | undefined;
  /** Handles of the parent's message storage that the guest asked for. */
  readonly #handles = new Set<number>();
  /** Stopped: descriptors are kept until it goes on. */
  #stopped = false;
  #kept: { readonly bytes: Uint8Array; readonly deferrable: boolean }[] = [];
  /** Counts commands: one that a reset cut off does not end another. */
  #issued = 0;

  constructor(host: DsaHostDriver, queue: number, dedicated: boolean, environment: Pick<MdevEnvironment, "host" | "mastering">) {
    this.#host = host;
    this.#environment = environment;
    this.queue = queue;
    this.kind = pasidKind(dedicated ? 6 : 8);
    this.defaultPasid = host.pasids.take();
    const { device, blocksOnFault } = host;
    const { ats, pageRequests = false } = host.foundation.bindable.device;
    this.ats = ats;
    this.pageRequests = pageRequests;
    this.extendedCapabilities = extendedCapabilities({ ats, pageRequests });
    const { size, threshold } = device.queueState(queue);
    this.registers = new VirtualRegisters(device, { dedicated, size, threshold, blocksOnFault }, VECTORS);
    this.#slice = new QueueSlice({ parent: device, queue, dedicated, defaultPasid: this.defaultPasid, registers: this.registers, onError: (error) => this.#error(error) });
  }

  get #parent(): DsaParent {
    return this.#host.device;
  }

  get #dedicated(): boolean {
    return this.kind.type === 6;
  }

  /** Its user's vPASIDs, from bind to unbind. */
  pasidsOf(context: IommufdContext): DevicePasids {
    this.shared = this.#host.sharedOf(context);
    this.#slice.pasids = new DevicePasids(this.kind, { rid: this.#host.pasids, shared: this.shared });
    return this.#slice.pasids;
  }

  /** The IOMMU is about to forget a PASID: nothing of it may be left in the device. */
  release(wire: number): void {
    this.#slice.release(wire);
  }

  /** Back to the host: nothing of it is left in the parent. */
  removed(): void {
    this.reset();
    this.#slice.close();
    this.#host.pasids.free(this.defaultPasid);
    this.#host.giveBack(this.queue);
  }

  // Registers.

  readBar(bar: number, offset: number, size: number): bigint {
    if (bar !== 0) return 0n;
    let value = 0n;
    for (let i = size - 1; i >= 0; i--) {
      const at = offset + i;
      value = (value << 8n) | BigInt((this.registers.read(at - (at % 4)) >>> (8 * (at % 4))) & 0xff);
    }
    return value;
  }

  writeBar(bar: number, offset: number, size: number, value: bigint): void {
    if (bar !== 0) {
      if (offset < PORTAL_PAGES * PAGE) this.#error({ error: DeviceError.PORTAL_WRITE, queue: 0 });
      return;
    }
    if (size % 4 !== 0 || offset % 4 !== 0) return;
    for (let i = 0; i < size; i += 4) {
      const word = Number((value >> BigInt(8 * i)) & 0xffff_ffffn);
      if (this.registers.write(offset + i, word)) this.#command(word);
    }
  }

  #command(word: number): void {
    const { general } = this.registers;
    if (general.getUint32(Register.CMDSTS, true) >= CmdSts.ACTIVE) return this.#error({ error: DeviceError.COMMAND });
    const issued = ++this.#issued;
    general.setUint32(Register.CMDSTS, CmdSts.ACTIVE, true);
    const run = VIRTUAL_COMMANDS[(word >>> Cmd.COMMAND_SHIFT) & Cmd.COMMAND_MASK];
    const done = (error: number, result = 0): void => {
      if (issued !== this.#issued) return;
      general.setUint32(Register.CMDSTS, error | (result << CmdSts.RESULT_SHIFT), true);
      if (word >= Cmd.INTERRUPT) this.#cause(IntCause.COMMAND);
    };
    if (run === undefined) done(CommandError.INVALID_COMMAND);
    else run(this, word & Cmd.OPERAND_MASK, done);
  }

  #cause(bits: number): void {
    const { general } = this.registers;
    general.setUint32(Register.INTCAUSE, (general.getUint32(Register.INTCAUSE, true) | bits) >>> 0, true);
    const errors = general.getUint32(Register.GENCTRL, true) & GenCtrl.ERROR ? IntCause.ERROR : 0;
    if ((bits & (errors | IntCause.COMMAND)) !== 0) this.#environment.host.interrupt(MISC_VECTOR);
  }

  /** An error of this device, in the guest's numbers: its queue is 0, its PASIDs are the guest's. */
  #error(error: DeviceErrorRecord): void {
    const { general } = this.registers;
    const user = error.pasid === undefined ? undefined : this.#slice.pasids?.toUser(error.pasid);
    const first = general.getUint32(Register.SWERR, true);
    if ((first & SwErr.VALID) !== 0) general.setUint32(Register.SWERR, first | SwErr.OVERFLOW, true);
    else storeError(general, { ...error, ...(error.queue === undefined ? {} : { queue: 0 }), pasid: user ?? 0 });
    this.#cause(IntCause.ERROR);
  }

  // Portals.

  /** A trapped store. */
  writeBlock(bar: number, offset: number, bytes: Uint8Array, deferrable: boolean): boolean {
    if (bar !== 2 || bytes.length !== DESCRIPTOR_BYTES || offset >= PORTAL_PAGES * PAGE) return false;
    const kind = Math.floor(offset / PAGE);
    // Portals of message storage are there for devices that have any.
    if (kind === Portal.UNLIMITED_IMS || kind === Portal.LIMITED_IMS || !this.registers.queueEnabled) {
      this.#error({ error: this.registers.queueEnabled ? DeviceError.PORTAL_MODE : DeviceError.PORTAL_DISABLED, queue: 0 });
      return false;
    }
    if (this.#stopped) return this.#keep(bytes, deferrable);
    return this.#slice.submit(bytes, deferrable, kind === Portal.LIMITED_MSIX);
  }

  /**
   * The portal as the CPUs of a virtual machine reach it, without a trap: what arrives has the host's PASID. It is there once they
   * translate, since a guest's own number would reach any address space of the parent.
   */
  mapPortal(machine: VirtualMachine, ready: (portal: CpuPortal) => void): void {
    machine.link(() => ready((bytes) => this.registers.queueEnabled && !this.#stopped && this.#slice.submitDirect(bytes)));
  }

  // Migration.

  #keep(bytes: Uint8Array, deferrable: boolean): boolean {
    if (this.#kept.length >= this.registers.queue[WqWord.SIZE]) return false;
    this.#kept.push({ bytes: bytes.slice(), deferrable });
    return true;
  }

  /** Nothing of it may be under way: what waits for a page is to be answered first. */
  #stop(): void {
    let waiting = this.queueEnabled;
    if (waiting) this.drainQueue(() => (waiting = false));
    if (waiting) refuse("EBUSY", "descriptors wait for pages: answer their faults first", { argument: "device_state", rule: "vfio_device_mig_state STOP" });
    this.#stopped = true;
  }

  #resume(): void {
    if (this.#slice.isParked) {
      this.registers.queueEnabled = false;
      const error = this.enableQueue();
      if (error !== CommandError.NONE) {
        this.registers.queueEnabled = true;
        refuse("EINVAL", `its queue cannot be turned on (command error 0x${error.toString(16)}): attach its vPASIDs first`, { argument: "device_state" });
      }
    }
    this.#stopped = false;
    for (const { bytes, deferrable } of this.#kept.splice(0)) this.#slice.submit(bytes, deferrable, true);
  }

  #save(): Uint8Array {
    const { general } = this.registers;
    const words = Uint32Array.from([...MIGRATED.map((offset) => general.getUint32(offset, true)), this.registers.mode, Number(this.queueEnabled)]);
    return encodeState({ dedicated: this.#dedicated, words, waiting: this.#kept.map(({ bytes }) => bytes) });
  }

  #load(bytes: Uint8Array): void {
    const { words, waiting } = decodeState(bytes, this.#dedicated, MIGRATED.length + 2);
    this.abortQueue();
    this.disableQueue();
    this.clear();
    const { general } = this.registers;
    MIGRATED.forEach((offset, i) => general.setUint32(offset, words[i], true));
    this.registers.write(Table.WQCFG + 4 * WqWord.MODE, words[MIGRATED.length]);
    this.registers.queueEnabled = words[MIGRATED.length + 1] === 1;
    this.#kept = waiting.map((descriptor) => ({ bytes: descriptor, deferrable: !this.#dedicated }));
    this.#cause(IntCause.HANDLES_REVOKED);
  }

  // What commands do.

  get state(): number {
    return this.registers.state;
  }

  set state(state: number) {
    this.registers.state = state;
  }

  get queueEnabled(): boolean {
    return this.registers.queueEnabled;
  }

  get busMaster(): boolean {
    return this.#environment.mastering();
  }

  enableQueue(): number {
    return this.#slice.enable();
  }

  drainQueue(done: () => void): void {
    this.#slice.drain(done);
  }

  abortQueue(): void {
    this.#slice.abort();
  }

  disableQueue(): void {
    this.#slice.disable();
  }

  clearQueue(): void {
    this.registers.resetQueue();
  }

  drainPasid(user: number, done: () => void): void {
    this.#slice.drainPasid(user, done);
  }

  abortPasid(user: number): void {
    this.#slice.abortPasid(user);
  }

  /** Registers, handles, state: as new. */
  clear(): void {
    const active = this.registers.general.getUint32(Register.CMDSTS, true);
    this.registers.reset();
    this.registers.general.setUint32(Register.CMDSTS, active, true);
    for (const handle of this.#handles) this.#parent.releaseInterrupt(handle);
    this.#handles.clear();
    this.state = DeviceState.DISABLED;
  }

  /** The handle is the parent's own, since descriptors in memory name it; it is good for the PASID that the queue works with. */
  requestHandle(vector: number): number | undefined {
    const named = this.#dedicated ? this.#slice.namedWire : undefined;
    const handle = this.#parent.requestInterrupt(named ?? this.defaultPasid, () => this.#environment.host.interrupt(vector));
    if (handle !== undefined) this.#handles.add(handle);
    return handle;
  }

  releaseHandle(handle: number): boolean {
    if (!this.#handles.delete(handle)) return false;
    this.#parent.releaseInterrupt(handle);
    return true;
  }

  /** A function-level reset ends what a command waits for, too. */
  reset(): void {
    this.#issued++;
    this.#stopped = false;
    this.#kept = [];
    this.abortQueue();
    this.disableQueue();
    this.clear();
    this.registers.general.setUint32(Register.CMDSTS, 0, true);
  }
}
