/** What tests do to a guest's unit past its driver: commands of their own, and stream table entries written by hand. */
import type { MmioHandler, PhysicalMemory } from "@iommukit/core";
import { Reg } from "@iommukit/hw-smmu/spec";

/** Commands of the guest's, by their first word. */
export const CFGI_STE = 0x03n;
export const SYNC = 0x46n;

interface Guest {
  readonly unit: MmioHandler;
  readonly memory: PhysicalMemory;
}

type Command = readonly [bigint, bigint];

/** Puts commands into the guest's queue, past its driver, and rings. */
export function send(unit: MmioHandler, memory: PhysicalMemory, commands: readonly Command[]): void {
  const base = unit.read(Reg.CMDQ_BASE, 8);
  const size = 2 ** Number(base & 31n);
  let at = Number(unit.read(Reg.CMDQ_PROD, 4)) % (2 * size);
  for (const [low, high] of commands) {
    const slot = Number(base & 0xf_ffff_ffff_ffe0n) + (at % size) * 16;
    memory.writeU64(slot, low);
    memory.writeU64(slot + 8, high);
    at = (at + 1) % (2 * size);
  }
  unit.write(Reg.CMDQ_PROD, 4, BigInt(at));
}

/** The same, and as many CMD_SYNCs as take the queue twice around: the driver finds it as it has left it. */
export function sendAside(unit: MmioHandler, memory: PhysicalMemory, commands: readonly Command[]): void {
  const size = 2 ** Number(unit.read(Reg.CMDQ_BASE, 8) & 31n);
  const all = Array.from({ length: 2 * size }, (_, i) => commands[i] ?? [SYNC, 0n]);
  for (let at = 0; at < all.length; at += size) send(unit, memory, all.slice(at, at + size));
}

/** How the guest's command queue stands: entries that wait, and the error that it stopped with. */
export function queueState(unit: MmioHandler): { readonly waiting: number; readonly error: number; readonly stopped: boolean } {
  const span = 2 ** (Number(unit.read(Reg.CMDQ_BASE, 8) & 31n) + 1);
  const consumer = Number(unit.read(Reg.CMDQ_CONS, 4));
  const waiting = (Number(unit.read(Reg.CMDQ_PROD, 4)) - (consumer & 0xf_ffff) + span) % span;
  return { waiting, error: (consumer >>> 24) & 0x7f, stopped: ((unit.read(Reg.GERROR, 4) ^ unit.read(Reg.GERRORN, 4)) & 1n) === 1n };
}

/** Where the guest's memory has the STE of a stream. */
export function steAddress({ unit, memory }: Guest, stream: number): number {
  const base = Number(unit.read(Reg.STRTAB_BASE, 8) & 0xff_ffff_ffff_ffc0n);
  const cfg = Number(unit.read(Reg.STRTAB_BASE_CFG, 4));
  const split = 2 ** ((cfg >>> 6) & 31);
  if (cfg >>> 16 === 0) return base + stream * 64;
  const table = memory.readU64(base + Math.floor(stream / split) * 8) ?? 0n;
  return Number(table & 0xff_ffff_ffff_ffc0n) + (stream % split) * 64;
}

/** The level-1 descriptor of the first streams. */
export function descriptorAddress({ unit }: Guest): number {
  return Number(unit.read(Reg.STRTAB_BASE, 8) & 0xff_ffff_ffff_ffc0n);
}

/** One word of an STE of stage 1 made another, and what its stream's accesses then meet; undefined: nothing passes, and nothing is recorded. */
export interface SteChange {
  readonly what: string;
  readonly word: number;
  readonly to: (word: bigint) => bigint;
  readonly event: RegExp | undefined;
}

function field(what: string, [word, low, width]: readonly [number, number, number], value: bigint, event?: RegExp): SteChange {
  const mask = ((1n << BigInt(width)) - 1n) << BigInt(low);
  return { what, word, to: (old) => (old & ~mask) | (value << BigInt(low)), event };
}

/** Word, lowest bit, width (5.2). */
const V = [0, 0, 1] as const;
const CONFIG = [0, 1, 3] as const;
const S1_CONTEXT_PTR = [0, 6, 50] as const;
const S1_CDMAX = [0, 59, 5] as const;
const S1DSS = [1, 0, 2] as const;
const S1STALLD = [1, 27, 1] as const;
const EATS = [1, 28, 2] as const;
const STAGE2 = [2, 0, 64] as const;

export const STE_CHANGES: readonly SteChange[] = [
  field("aborts", CONFIG, 0n),
  field("aborts, by another value", CONFIG, 3n),
  field("bypasses", CONFIG, 4n, /C_BAD_SUBSTREAMID/),
  field("asks for a stage 2 that a guest has not", CONFIG, 6n, /C_BAD_STE/),
  field("asks for both stages", CONFIG, 7n, /C_BAD_STE/),
  field("is not valid", V, 0n, /C_BAD_STE/),
  field("has more SubstreamIDs than the unit", S1_CDMAX, 21n, /C_BAD_STE/),
  field("has its context descriptors beyond the address size", S1_CONTEXT_PTR, 1n << 45n, /C_BAD_STE/),
  field("has its context descriptors where no memory is", S1_CONTEXT_PTR, 1n << 34n, /F_CD_FETCH/),
  field("has none for requests without SubstreamID", S1DSS, 0n, /F_STREAM_DISABLED/),
  field("has requests without SubstreamID bypass stage 1", S1DSS, 1n, /^$/),
  field("turns stalls off", S1STALLD, 1n, /C_BAD_STE/),
  field("asks for split-stage ATS", EATS, 2n, /C_BAD_STE/),
  field("asks for ATS with DPT, which the unit has not", EATS, 3n, /F_TRANSLATION/),
  field("says what only a stage 2 would look at", STAGE2, 2n ** 64n - 1n, /F_TRANSLATION/),
];
