/** A work queue: its configuration, and the descriptors that wait in it. */
import { Access, type DmaOptions, NO_PASID } from "@iommukit/core";
import type { PageAccess } from "@iommukit/core/devices";
import { DESCRIPTOR_BYTES, Field, PASID_MASK, PRIVILEGED } from "./spec/descriptor.js";
import { WQ_WORDS, WQ_WRITABLE, WqLimits, WqMode, WqState, WqStatus, WqWord } from "./spec/queues.js";
import type { Work } from "./work.js";

const DESCRIPTOR_WORDS = DESCRIPTOR_BYTES / 4;

export class WorkQueue {
  readonly index: number;
  /** WQCFG, without what changes by itself. */
  readonly words: Uint32Array = new Uint32Array(WQ_WORDS);
  enabled = false;
  /** It is being disabled: nothing new is taken. */
  closing = false;
  /** Descriptors that left the queue and have not ended, in their order. */
  readonly inFlight: Set<Work> = new Set();
  /** Rounds it may still go before those of lower priority. */
  credit = 0;
  /** Descriptors waiting. */
  count = 0;
  #head = 0;
  #capacity = 0;
  /** Descriptors, as words. */
  #slots: Uint32Array = new Uint32Array(0);
  #sequences: Float64Array = new Float64Array(0);
  #storage: Uint8Array = new Uint8Array(0);
  /** Of a dedicated queue, for every descriptor. */
  #options: DmaOptions = {};

  constructor(index: number) {
    this.index = index;
  }

  get size(): number {
    return this.words[WqWord.SIZE];
  }

  get threshold(): number {
    return this.words[WqWord.THRESHOLD];
  }

  get mode(): number {
    return this.words[WqWord.MODE];
  }

  get dedicated(): boolean {
    return (this.mode & WqMode.DEDICATED) !== 0;
  }

  get priority(): number {
    return (this.mode >>> WqMode.PRIORITY_SHIFT) & 0xf;
  }

  get pasid(): number {
    return (this.mode & WqMode.PASID_ENABLE) !== 0 ? (this.mode >>> WqMode.PASID_SHIFT) & PASID_MASK : NO_PASID;
  }

  /** Descriptors may block on faults. */
  get blocks(): boolean {
    return (this.mode & WqMode.BLOCK_ON_FAULT) !== 0 && (this.mode & WqMode.PRS_DISABLE) === 0;
  }

  get maxTransfer(): number {
    return 2 ** (this.words[WqWord.LIMITS] & WqLimits.TRANSFER_MASK);
  }

  get maxBatch(): number {
    return 2 ** ((this.words[WqWord.LIMITS] >>> WqLimits.BATCH_SHIFT) & WqLimits.BATCH_MASK);
  }

  allows(opcode: number): boolean {
    return (this.words[WqWord.OPERATIONS + (opcode >> 5)] & (1 << (opcode & 31))) !== 0;
  }

  readWord(word: number): number {
    if (word !== WqWord.OCCUPANCY) return this.words[word];
    return (this.count | WqStatus.MODE_SUPPORT | ((this.enabled ? WqState.ENABLED : WqState.DISABLED) << WqStatus.STATE_SHIFT)) >>> 0;
  }

  writeWord(word: number, value: number, deviceDisabled: boolean): void {
    const row = WQ_WRITABLE.find((candidate) => candidate.word === word);
    if (row === undefined || this.enabled || (row.device && !deviceDisabled)) return;
    this.words[word] = value & row.mask;
  }

  /** Defaults of the configuration: everything off; limits and operations as wide as the device's. */
  resetConfiguration(limits: number, operations: Uint32Array): void {
    this.words.fill(0);
    this.words[WqWord.LIMITS] = limits;
    this.words.set(operations, WqWord.OPERATIONS);
  }

  enable(): void {
    this.enabled = true;
    this.closing = false;
    this.count = 0;
    this.#head = 0;
    this.#capacity = this.size;
    this.#slots = new Uint32Array(this.#capacity * DESCRIPTOR_WORDS);
    this.#sequences = new Float64Array(this.#capacity);
    this.#storage = new Uint8Array(this.#capacity);
    this.#options = this.pasid === NO_PASID ? {} : { pasid: this.pasid, privileged: (this.mode & WqMode.PRIVILEGED) !== 0 };
  }

  disable(): void {
    this.enabled = false;
    this.closing = false;
    this.count = 0;
    this.#slots = new Uint32Array(0);
  }

  /** @returns false when there is no room below `limit` */
  push(bytes: Uint8Array, sequence: number, ims: boolean, limit: number): boolean {
    if (this.count >= Math.min(limit, this.#capacity)) return false;
    const slot = (this.#head + this.count) % this.#capacity;
    for (let word = 0, at = 0; word < DESCRIPTOR_WORDS; word++, at += 4) {
      this.#slots[slot * DESCRIPTOR_WORDS + word] = bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24);
    }
    this.#sequences[slot] = sequence;
    this.#storage[slot] = ims ? 1 : 0;
    this.count++;
    return true;
  }

  /** Takes the oldest descriptor out. */
  pop(work: Work): void {
    const at = this.#head * DESCRIPTOR_WORDS;
    for (let word = 0; word < DESCRIPTOR_WORDS; word++) work.words[word] = this.#slots[at + word];
    work.begin(this, this.#sequences[this.#head], this.#storage[this.#head] === 1);
    this.#head = this.#head + 1 === this.#capacity ? 0 : this.#head + 1;
    this.count--;
    this.inFlight.add(work);
  }

  /** Whose a waiting descriptor is, from the oldest on. */
  pasidAt(position: number): number {
    if (this.dedicated) return this.pasid;
    return this.#slots[((this.#head + position) % this.#capacity) * DESCRIPTOR_WORDS] & PASID_MASK;
  }

  /** Drops waiting descriptors of PASIDs that match; the others keep their order. `dropped` hears of each. */
  drop(matches: (pasid: number) => boolean, dropped: (sequence: number, pasid: number) => void): void {
    let kept = 0;
    const gone: [sequence: number, pasid: number][] = [];
    for (let i = 0; i < this.count; i++) {
      const from = (this.#head + i) % this.#capacity;
      const owner = this.pasidAt(i);
      if (matches(owner)) {
        gone.push([this.#sequences[from], owner]);
        continue;
      }
      const to = (this.#head + kept++) % this.#capacity;
      this.#slots.copyWithin(to * DESCRIPTOR_WORDS, from * DESCRIPTOR_WORDS, (from + 1) * DESCRIPTOR_WORDS);
      this.#sequences[to] = this.#sequences[from];
      this.#storage[to] = this.#storage[from];
    }
    this.count = kept;
    for (const [sequence, owner] of gone) dropped(sequence, owner);
  }

  /** With whose rights a descriptor goes: a dedicated queue's own, a shared one's from the descriptor. */
  identify(view: DataView, access: PageAccess): void {
    access.untranslated = (this.mode & WqMode.ATS_DISABLE) !== 0;
    if (this.dedicated) {
      access.pasid = this.pasid;
      access.options = this.#options;
      access.flags = this.#options.privileged ? Access.PRIVILEGED : 0;
      return;
    }
    const word = view.getUint32(Field.PASID, true);
    const privileged = (word & PRIVILEGED) !== 0;
    access.pasid = word & PASID_MASK;
    access.options = { pasid: access.pasid, privileged };
    access.flags = privileged ? Access.PRIVILEGED : 0;
  }
}
