/** BAR 0 as software reads and writes it: aligned accesses of 4 or 8 bytes; others read as parts, and write nothing. */
import type { Groups } from "./groups.js";
import type { Interrupts } from "./interrupts.js";
import { BAR0_BYTES, GRPCFG_BYTES, IMS_ENTRIES, IMS_ENTRY_BYTES, MSIX_PERM_BYTES, Table, type WriteRow, WRITES, WQCFG_BYTES } from "./spec/registers.js";
import type { WorkQueue } from "./work-queue.js";

/** Bytes of general registers. */
export const GENERAL_BYTES = 0x200;
const WORD = 4;

/** What stands behind the registers. */
export interface RegisterHost {
  readonly queues: readonly WorkQueue[];
  readonly groups: Groups;
  readonly interrupts: Interrupts;
  readonly deviceDisabled: boolean;
  /** Brings what changes by itself up to date. */
  refresh(): void;
  /** A register of kind "act" got a value. */
  act(offset: number, value: number): void;
}

/** A table in BAR 0, by words counted from its beginning. */
interface TableRow {
  readonly start: number;
  readonly bytes: number;
  readonly read: (word: number) => number;
  readonly write: (word: number, value: number) => void;
}

export class Registers {
  /** The general registers' bytes. */
  readonly view: DataView;
  readonly #host: RegisterHost;
  readonly #tables: readonly TableRow[];
  readonly #rows: ReadonlyMap<number, WriteRow> = new Map(WRITES.map((row) => [row.offset, row]));

  constructor(view: DataView, host: RegisterHost) {
    this.view = view;
    this.#host = host;
    const { queues, groups, interrupts } = host;
    const split = (word: number, bytes: number): [index: number, word: number] => [Math.floor(word / (bytes / WORD)), word % (bytes / WORD)];
    this.#tables = [
      {
        start: Table.GRPCFG,
        bytes: groups.words.length * GRPCFG_BYTES,
        read: (at) => {
          const [group, word] = split(at, GRPCFG_BYTES);
          return groups.words[group][word];
        },
        write: (at, value) => host.deviceDisabled && groups.write(...split(at, GRPCFG_BYTES), value),
      },
      {
        start: Table.WQCFG,
        bytes: queues.length * WQCFG_BYTES,
        read: (at) => {
          const [queue, word] = split(at, WQCFG_BYTES);
          return queues[queue].readWord(word);
        },
        write: (at, value) => {
          const [queue, word] = split(at, WQCFG_BYTES);
          queues[queue].writeWord(word, value, host.deviceDisabled);
        },
      },
      {
        start: Table.MSIX_PERM,
        bytes: interrupts.permissions.length * MSIX_PERM_BYTES,
        read: (at) => interrupts.readPermission(at * WORD),
        write: (at, value) => interrupts.writePermission(at * WORD, value),
      },
      { start: Table.IMS, bytes: IMS_ENTRIES * IMS_ENTRY_BYTES, read: (at) => interrupts.storage[at], write: (at, value) => interrupts.writeStorage(at, value) },
    ];
  }

  read(offset: number, size: number): bigint {
    this.#host.refresh();
    let value = 0n;
    for (let i = size - 1; i >= 0; i--) value = (value << 8n) | BigInt((this.#word(offset + i) >>> (8 * ((offset + i) % WORD))) & 0xff);
    return value;
  }

  #word(offset: number): number {
    const at = offset - (offset % WORD);
    if (at + WORD <= GENERAL_BYTES) return this.view.getUint32(at, true);
    const table = this.#table(at);
    return table ? table.read((at - table.start) / WORD) : 0;
  }

  write(offset: number, size: number, value: bigint): void {
    if (size % WORD !== 0 || offset % WORD !== 0 || offset + size > BAR0_BYTES) return;
    for (let i = 0; i < size; i += WORD) this.#writeWord(offset + i, Number((value >> BigInt(8 * i)) & 0xffff_ffffn));
  }

  #writeWord(offset: number, value: number): void {
    const row = this.#rows.get(offset);
    if (row === undefined) {
      const table = this.#table(offset);
      table?.write((offset - table.start) / WORD, value);
      return;
    }
    if (row.disabled && !this.#host.deviceDisabled) return;
    const bits = (value & row.mask) >>> 0;
    const before = this.view.getUint32(offset, true);
    if (row.kind === "act") this.#host.act(offset, bits);
    else this.view.setUint32(offset, row.kind === "store" ? bits : before & ~bits, true);
  }

  #table(offset: number): TableRow | undefined {
    return this.#tables.find(({ start, bytes }) => offset >= start && offset < start + bytes);
  }
}
