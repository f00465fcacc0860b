/** Interrupt handles: entries of the MSI-X table and of interrupt message storage, and who may use which (341204, 3.7 and 9.2). */
import { NO_PASID } from "@iommukit/core";
import { ImsWord, Owner } from "./spec/queues.js";
import { IMS_ENTRIES, IMS_ENTRY_BYTES, MSIX_PERM_BYTES } from "./spec/registers.js";

/** How interrupts leave the device. */
export interface InterruptPort {
  /** MSI-X vector. */
  vector(index: number): void;
  message(address: bigint, data: number): void;
}

/** What a parent's user hears an interrupt by, instead of a message. */
type Listener = () => void;

export class Interrupts {
  /** MSIX_PERM, one word an entry: the second word of each is reserved. */
  readonly permissions: Uint32Array;
  readonly storage: Uint32Array = new Uint32Array((IMS_ENTRIES * IMS_ENTRY_BYTES) / 4);
  readonly #port: InterruptPort;
  /** A handle has to be asked for; else it is the entry's number. */
  readonly #requested: boolean;
  /** Handles that software asked for, of both kinds. */
  readonly #msix = new Set<number>();
  readonly #ims = new Set<number>();
  readonly #listeners = new Map<number, Listener>();

  constructor(port: InterruptPort, vectors: number, requested: boolean) {
    this.#port = port;
    this.#requested = requested;
    this.permissions = new Uint32Array(vectors);
    this.reset();
  }

  reset(): void {
    this.permissions.fill(0);
    this.storage.fill(0);
    for (let i = 0; i < IMS_ENTRIES; i++) this.storage[4 * i + ImsWord.CONTROL] = Owner.MASKED;
    this.#msix.clear();
    this.#ims.clear();
    this.#listeners.clear();
  }

  entries(ims: boolean): number {
    return ims ? IMS_ENTRIES : this.permissions.length;
  }

  /** The handle of an entry is its index. False when it is taken. */
  request(index: number, ims: boolean): boolean {
    const handles = ims ? this.#ims : this.#msix;
    if (handles.has(index)) return false;
    handles.add(index);
    return true;
  }

  release(handle: number, ims: boolean): boolean {
    if (ims && this.#listeners.delete(handle)) this.storage[4 * handle + ImsWord.CONTROL] = Owner.MASKED;
    return (ims ? this.#ims : this.#msix).delete(handle);
  }

  /** Takes a free entry of message storage for a PASID, whose interrupts go to `listener`. Undefined when none is free. */
  listen(pasid: number, listener: Listener): number | undefined {
    for (let index = IMS_ENTRIES - 1; index >= 0; index--) {
      if (!this.request(index, true)) continue;
      this.#listeners.set(index, listener);
      this.storage[4 * index + ImsWord.CONTROL] = pasid === NO_PASID ? 0 : Owner.PASID_ENABLE + pasid * 2 ** Owner.PASID_SHIFT;
      return index;
    }
    return undefined;
  }

  #exists(handle: number, ims: boolean): boolean {
    return this.#requested ? (ims ? this.#ims : this.#msix).has(handle) : handle < this.entries(ims);
  }

  /** A descriptor with `pasid` may use the handle. */
  owns(handle: number, ims: boolean, pasid: number): boolean {
    if (!this.#exists(handle, ims)) return false;
    const word = ims ? this.storage[4 * handle + ImsWord.CONTROL] : this.permissions[handle];
    if ((word & Owner.IGNORE_PASID) !== 0) return true;
    const owner = (word & Owner.PASID_ENABLE) !== 0 ? word >>> Owner.PASID_SHIFT : NO_PASID;
    return owner === pasid;
  }

  /** A handle that was given back meanwhile is silent. */
  raise(handle: number, ims: boolean): void {
    if (!this.#exists(handle, ims)) return;
    if (!ims) return this.#port.vector(handle);
    const control = 4 * handle + ImsWord.CONTROL;
    if ((this.storage[control] & Owner.MASKED) !== 0) this.storage[control] |= Owner.PENDING;
    else this.#send(handle);
  }

  #send(handle: number): void {
    const listener = this.#listeners.get(handle);
    if (listener) return listener();
    const [low, high, data] = this.storage.subarray(4 * handle, 4 * handle + 3);
    this.#port.message((BigInt(high) << 32n) | BigInt(low), data);
  }

  readPermission(offset: number): number {
    return offset % MSIX_PERM_BYTES === 0 ? (this.permissions[offset / MSIX_PERM_BYTES] ?? 0) : 0;
  }

  writePermission(offset: number, value: number): void {
    const index = offset / MSIX_PERM_BYTES;
    if (Number.isInteger(index) && index < this.permissions.length) this.permissions[index] = value & ~(Owner.MASKED | Owner.PENDING | 0xff0);
  }

  /** Unmasking sends what was held back. The pending bit is the device's. */
  writeStorage(word: number, value: number): void {
    if (word % 4 !== ImsWord.CONTROL) {
      this.storage[word] = value;
      return;
    }
    const pending = this.storage[word] & Owner.PENDING;
    this.storage[word] = (value & ~(Owner.PENDING | 0xff0)) | pending;
    if (pending === 0 || (value & Owner.MASKED) !== 0) return;
    this.storage[word] &= ~Owner.PENDING;
    this.#send(word >> 2);
  }
}
