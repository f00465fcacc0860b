/**
 * A work queue of the parent as one virtual DSA may use it: a dedicated one is its own, of a shared one it has the descriptors with its
 * user's PASIDs. Here the guest's PASIDs become those on the wire.
 */
import type { DeviceErrorRecord, DsaParent } from "../dsa/parent.js";
import { CommandError } from "../dsa/spec/commands.js";
import { DeviceError } from "../dsa/spec/errors.js";
import { WqMode } from "../dsa/spec/queues.js";
import type { DevicePasids } from "../pasid/device-pasids.js";
import type { VirtualRegisters } from "./registers.js";

const PASID_MASK = 0xf_ffff;

export interface QueueSliceParts {
  readonly parent: DsaParent;
  readonly queue: number;
  readonly dedicated: boolean;
  /** Marks everything that names no PASID of the guest. */
  readonly defaultPasid: number;
  readonly registers: VirtualRegisters;
  readonly onError: (error: DeviceErrorRecord) => void;
}

export class QueueSlice {
  /** The user's vPASIDs, from bind to unbind. */
  pasids: DevicePasids | undefined;
  readonly #parts: QueueSliceParts;
  /** Error sinks by PASID on the wire. */
  readonly #sinks = new Map<number, () => void>();

  constructor(parts: QueueSliceParts) {
    this.#parts = parts;
    this.#listen(parts.defaultPasid);
  }

  /** PASIDs on the wire that its descriptors in a shared queue may have: only those that its user named. */
  get #wires(): number[] {
    const users = this.pasids?.users ?? [];
    return users.flatMap((user) => this.pasids?.toWire(user) ?? []);
  }

  /** The wire's number for the PASID that WQCFG names; undefined when it names none, or one that is not bound. */
  get namedWire(): number | undefined {
    const { mode } = this.#parts.registers;
    return (mode & WqMode.PASID_ENABLE) !== 0 ? this.pasids?.toWire((mode >>> WqMode.PASID_SHIFT) & PASID_MASK) : undefined;
  }

  /** Errors of the queue with this PASID come here. */
  #listen(wire: number): void {
    const { parent, queue, onError } = this.#parts;
    if (!this.#sinks.has(wire)) this.#sinks.set(wire, parent.onError(queue, wire, onError));
  }

  #deafen(wire: number): void {
    this.#sinks.get(wire)?.();
    this.#sinks.delete(wire);
  }

  /** The IOMMU is about to forget a PASID: nothing of it may be left in the device. */
  release(wire: number): void {
    const { parent, defaultPasid } = this.#parts;
    parent.abortPasid(wire);
    if (wire !== defaultPasid) this.#deafen(wire);
  }

  close(): void {
    for (const wire of [...this.#sinks.keys()]) this.#deafen(wire);
  }

  /** @returns a `CommandError` */
  enable(): number {
    const { parent, queue, dedicated, defaultPasid, registers } = this.#parts;
    const { mode } = registers;
    const named = (mode & WqMode.PASID_ENABLE) !== 0;
    if (!dedicated) {
      if (!named) return CommandError.WQ_PASID;
      registers.queueEnabled = true;
      return CommandError.NONE;
    }
    const wire = named ? this.namedWire : defaultPasid;
    if (wire === undefined) return CommandError.WQ_PASID;
    parent.configureQueue(queue, {
      dedicated: true,
      priority: 1,
      pasid: wire,
      // By the default PASID only user requests go: its page tables are not for supervisors (VT-d 9.6, SRE).
      privileged: named && (mode & WqMode.PRIVILEGED) !== 0,
      blockOnFault: (mode & WqMode.BLOCK_ON_FAULT) !== 0,
    });
    const error = parent.enableQueue(queue);
    if (error !== CommandError.NONE) return error;
    this.#listen(wire);
    registers.queueEnabled = true;
    return CommandError.NONE;
  }

  /** The queue is on for its user, but not in the parent: as after a migration. */
  get isParked(): boolean {
    const { parent, queue, dedicated, registers } = this.#parts;
    return dedicated && registers.queueEnabled && !parent.queueState(queue).enabled;
  }

  drain(done: () => void): void {
    const { parent, queue, dedicated } = this.#parts;
    if (dedicated) {
      parent.drainQueue(queue, done);
      return;
    }
    const wires = this.#wires;
    let left = wires.length;
    if (left === 0) done();
    for (const wire of wires) parent.drainPasid(wire, () => --left === 0 && done());
  }

  abort(): void {
    const { parent, queue, dedicated, registers } = this.#parts;
    if (!registers.queueEnabled) return;
    if (dedicated) parent.abortQueue(queue);
    else for (const wire of this.#wires) parent.abortPasid(wire);
  }

  disable(): void {
    const { parent, queue, dedicated, registers } = this.#parts;
    if (dedicated && parent.queueState(queue).enabled) parent.resetQueue(queue);
    registers.queueEnabled = false;
  }

  drainPasid(user: number, done: () => void): void {
    const wire = this.pasids?.toWire(user);
    if (wire === undefined) done();
    else this.#parts.parent.drainPasid(wire, done);
  }

  abortPasid(user: number): void {
    const wire = this.pasids?.toWire(user);
    if (wire !== undefined) this.#parts.parent.abortPasid(wire);
  }

  /** A trapped descriptor: its PASID is the guest's, and is translated here. False: the parent turned it away, or no such PASID is bound. */
  submit(bytes: Uint8Array, deferrable: boolean, limited: boolean): boolean {
    const { parent, queue, dedicated, onError } = this.#parts;
    if (dedicated) return parent.submit(queue, bytes, deferrable, limited);
    const sent = bytes.slice();
    const view = new DataView(sent.buffer);
    const word = view.getUint32(0, true);
    const wire = this.pasids?.toWire(word & PASID_MASK);
    if (wire === undefined) {
      onError({ error: DeviceError.PORTAL_PASID, queue: 0 });
      return false;
    }
    this.#listen(wire);
    view.setUint32(0, ((word & ~PASID_MASK) | wire) >>> 0, true);
    return parent.submit(queue, sent, deferrable, true);
  }

  /** A descriptor that no software has seen: its PASID is the wire's already. */
  submitDirect(bytes: Uint8Array): boolean {
    const { parent, queue } = this.#parts;
    const wire = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true) & PASID_MASK;
    if (this.pasids?.toUser(wire) !== undefined) this.#listen(wire);
    return parent.submit(queue, bytes, true, true);
  }
}
