/** The unit's registers as a driver reaches them: memory-mapped, traced. */
import type { PhysicalMemory, Tracer } from "@iommukit/core";
import { Gcmd, Reg, REGISTERS } from "../spec/registers.js";

/** One-shot bits of GSTS that must not be written back (VT-d 11.4.4). */
const ONE_SHOTS = 0x6900_0000;
const POLLS = 1000;

export class RegisterAccess {
  readonly #memory: PhysicalMemory;
  readonly #base: number;
  readonly #unit: string;
  readonly #tracer: Tracer | undefined;

  constructor(memory: PhysicalMemory, base: number, unit: string, tracer: Tracer | undefined) {
    this.#memory = memory;
    this.#base = base;
    this.#unit = unit;
    this.#tracer = tracer;
  }

  read(offset: number, size: 4 | 8): bigint {
    return this.#memory.readMmio(this.#base + offset, size);
  }

  write(offset: number, size: 4 | 8, value: bigint): void {
    if (this.#tracer?.listener) {
      const name = REGISTERS.find((row) => row.offset === offset)?.name ?? `0x${offset.toString(16)}`;
      this.#tracer.listener({ kind: "register", unit: this.#unit, op: "write", name, value });
    }
    this.#memory.writeMmio(this.#base + offset, size, value);
  }

  /** Sets one bit of GCMD and waits until GSTS shows it. @throws Error when the unit does not answer */
  command(bit: number): void {
    const status = Number(this.read(Reg.GSTS, 4)) & ~ONE_SHOTS;
    this.write(Reg.GCMD, 4, BigInt((status | bit) >>> 0));
    for (let i = 0; i < POLLS; i++) if ((Number(this.read(Reg.GSTS, 4)) & bit) !== 0) return;
    throw new Error(`${this.#unit}: GSTS does not show 0x${(bit >>> 0).toString(16)} after GCMD`);
  }

  /** What was written to memory reaches it: GSTS.WBFS shows 1 until then (11.4.4.2). @throws Error when the unit does not answer */
  flushWriteBuffer(): void {
    const status = Number(this.read(Reg.GSTS, 4)) & ~ONE_SHOTS;
    this.write(Reg.GCMD, 4, BigInt((status | Gcmd.WBF) >>> 0));
    for (let i = 0; i < POLLS; i++) if ((Number(this.read(Reg.GSTS, 4)) & Gcmd.WBF) === 0) return;
    throw new Error(`${this.#unit}: GSTS.WBFS stays set`);
  }
}
