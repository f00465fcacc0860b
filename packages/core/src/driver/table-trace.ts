/** Entries that a driver's page table writes, told to the tracer. */
import type { TableWriteListener } from "../pt/page-table.js";
import type { Tracer } from "../trace.js";

export interface TableWords {
  /** The manual's name of an entry: "FS-PTE". */
  structure(level: number, leaf: boolean): string;
  /** Of input addresses: "IOVA". */
  readonly input: string;
  /** Of an entry that is 0: "not present". */
  readonly absent: string;
  /** Address bits of an entry. */
  readonly addressMask: bigint;
}

export function tableListener(tracer: Tracer | undefined, unit: string, words: TableWords): TableWriteListener {
  return (level, leaf, pa, value, count, page) => {
    if (tracer?.listener === undefined) return;
    const input = `${words.input} 0x${(BigInt(page) << 12n).toString(16)}`;
    const meaning = value === 0n ? `${input}: ${words.absent}` : `${input} -> ${leaf ? "" : "table "}0x${(value & words.addressMask).toString(16)}`;
    tracer.listener({ kind: "table-write", unit, structure: words.structure(level, leaf), pa, value, count, meaning });
  };
}
