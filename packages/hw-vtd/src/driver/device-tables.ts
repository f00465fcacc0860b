/** Root table, context tables, PASID directories and PASID tables of one unit (VT-d 9.1 to 9.6). */
import { type FieldTable, type FrameAllocator, type IommuDevice, type PhysicalMemory } from "@iommukit/core";
import type { Capabilities } from "../spec/capabilities.js";
import {
  LEGACY_CONTEXT_ENTRY,
  LEGACY_ROOT_ENTRY,
  PASID_DIRECTORY_ENTRY,
  PASID_TABLE_ENTRY,
  SCALABLE_CONTEXT_ENTRY,
  SCALABLE_ROOT_ENTRY,
} from "../spec/entries.js";
import type { Attachment } from "./domain.js";
import type { PagingVtdDomain } from "./paging-domain.js";
import type { Structures } from "./structures.js";

const PASIDS_PER_TABLE = 64;
const PASID_ENTRY_BYTES = 64;
/** A directory of the smallest size (PDTS=0): 2^7 entries, 2^13 PASIDs. */
const SMALLEST_PASID_BITS = 13;
/** First word of a scalable-mode context entry (9.4). */
const CONTEXT_FLAGS = 0x1ffn;
const PDTS_SHIFT = 9n;

/** What the driver keeps of a device. */
export interface DeviceRecord {
  readonly device: IommuDevice;
  /** Physical address of its context entry. */
  readonly context: number;
  /** PASID directory; 0 in legacy mode. */
  directory: number;
  /** PDTS: the directory has 2^(PDTS + 7) entries. */
  directorySize: number;
  /** By PASID; 0 is the RID itself. */
  readonly attachments: Map<number, Attachment>;
  /** Its device-TLB is in use (DTE, TT), and is told of what goes. */
  deviceTlb: boolean;
  /** It may send page requests (PRE). */
  readonly pageRequests: boolean;
  /** What the RID uses while nothing is attached. */
  fallback?: PagingVtdDomain;
}

/** What a device may do, as its context entry says. */
export interface ContextFlags {
  readonly pasids: boolean;
  readonly deviceTlb: boolean;
  readonly pageRequests: boolean;
}

export class DeviceTables {
  /** Physical address of the root table. */
  readonly root: number;
  readonly #memory: PhysicalMemory;
  readonly #frames: FrameAllocator;
  readonly #structures: Structures;
  readonly #caps: Capabilities;

  constructor(memory: PhysicalMemory, frames: FrameAllocator, structures: Structures, caps: Capabilities) {
    this.#memory = memory;
    this.#frames = frames;
    this.#structures = structures;
    this.#caps = caps;
    this.root = frames.alloc();
  }

  /** Tables of a new device. In legacy mode its context entry stays absent until something is attached. */
  create(device: IommuDevice, flags: ContextFlags): DeviceRecord {
    const { deviceTlb, pageRequests } = flags;
    const record: DeviceRecord = { device, context: this.#contextEntry(device.rid), directory: 0, directorySize: 0, attachments: new Map(), deviceTlb, pageRequests };
    if (!this.#caps.scalableMode) return record;
    record.directory = this.#frames.alloc();
    this.#structures.write(SCALABLE_CONTEXT_ENTRY, record.context, {
      P: 1n,
      DTE: BigInt(deviceTlb),
      PASIDE: BigInt(flags.pasids),
      PRE: BigInt(pageRequests),
      PASIDDIRPTR: BigInt(record.directory / 4096),
    });
    return record;
  }

  /** Gives back a device's PASID tables; nothing refers to them any more. */
  free(record: DeviceRecord): void {
    if (record.directory === 0) return;
    for (let i = 0; i < 2 ** (record.directorySize + 7); i++) {
      const table = this.#structures.pointer(record.directory + i * 8);
      if (table !== 0) this.#frames.free(table);
    }
    this.#frames.free(record.directory, directoryFrames(record.directorySize));
  }

  get contextTable(): FieldTable {
    return this.#caps.scalableMode ? SCALABLE_CONTEXT_ENTRY : LEGACY_CONTEXT_ENTRY;
  }

  /**
   * Physical address of the entry that says what (device, pasid) uses: a PASID table entry, or the context entry in legacy mode. Makes
   * the tables above it.
   * @param moved the context entry points to a larger directory from now on; when it returns, nothing uses the old one
   * @throws IommuError ENOMEM
   */
  entry(record: DeviceRecord, pasid: number, moved: () => void): number {
    if (!this.#caps.scalableMode) return record.context;
    if (pasid >= 2 ** (SMALLEST_PASID_BITS + record.directorySize)) this.#grow(record, pasid, moved);
    const directory = record.directory + Math.floor(pasid / PASIDS_PER_TABLE) * 8;
    const table = this.#structures.pointer(directory) || this.#newTable(PASID_DIRECTORY_ENTRY, directory, "SMPTBLPTR");
    return table + (pasid % PASIDS_PER_TABLE) * PASID_ENTRY_BYTES;
  }

  get entryTable(): FieldTable {
    return this.#caps.scalableMode ? PASID_TABLE_ENTRY : LEGACY_CONTEXT_ENTRY;
  }

  /** A larger directory of the same tables takes the old one's place: pointer and size lie in one word, so one store swaps both. */
  #grow(record: DeviceRecord, pasid: number, moved: () => void): void {
    const size = Math.ceil(Math.log2(pasid + 1)) - SMALLEST_PASID_BITS;
    const directory = this.#frames.alloc(directoryFrames(size));
    for (let i = 0; i < 2 ** (record.directorySize + 7); i++) this.#memory.writeU64(directory + i * 8, this.#structures.word(record.directory + i * 8));
    const old = { directory: record.directory, frames: directoryFrames(record.directorySize) };
    record.directory = directory;
    record.directorySize = size;
    const flags = this.#structures.word(record.context) & CONTEXT_FLAGS;
    this.#structures.writeWord(SCALABLE_CONTEXT_ENTRY, record.context, 0, flags | (BigInt(size) << PDTS_SHIFT) | BigInt(directory));
    moved();
    this.#frames.free(old.directory, old.frames);
  }

  /** Physical address of a requester's context entry; makes the root entry and context table. */
  #contextEntry(rid: number): number {
    const root = this.root + (rid >> 8) * 16;
    if (!this.#caps.scalableMode) return (this.#structures.pointer(root) || this.#newTable(LEGACY_ROOT_ENTRY, root, "CTP")) + (rid & 0xff) * 16;
    const half = (rid & 0x80) === 0 ? 0 : 1;
    const table = this.#structures.pointer(root + half * 8) || this.#newContextHalf(root, half);
    return table + (rid & 0x7f) * 32;
  }

  /** The other half of the root entry may be in use already: only this half's word is written. */
  #newContextHalf(root: number, half: number): number {
    const table = this.#frames.alloc();
    this.#structures.writeWord(SCALABLE_ROOT_ENTRY, root, half, BigInt(table) | 1n);
    return table;
  }

  #newTable(table: FieldTable, pa: number, pointer: string): number {
    const frame = this.#frames.alloc();
    this.#structures.write(table, pa, { P: 1n, [pointer]: BigInt(frame / 4096) });
    return frame;
  }
}

function directoryFrames(size: number): number {
  return Math.max(1, 2 ** (size + 10 - 12));
}
