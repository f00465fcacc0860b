/** The unit's registers as a driver reaches them: memory-mapped, traced. */
import type { PhysicalMemory, Tracer } from "@iommukit/core";
import type { Capabilities } from "../spec/capabilities.js";
import { Gcmd, placedRegisters, Reg, type Register, REGISTERS } from "../spec/registers.js";

/** One-shot bits of GSTS that must not be written back (VT-d 11.4.4). */
const ONE_SHOTS = 0x6900_0000;
const POLLS = 1000;

export class RegisterAccess {
  readonly #memory: PhysicalMemory;
  readonly #base: number;
  readonly #unit: string;
  readonly #tracer: Tracer | undefined;
  /** By offset, for the tracer. */
  readonly #names = new Map<number, string>();

  constructor(memory: PhysicalMemory, base: number, unit: string, tracer: Tracer | undefined) {
    this.#memory = memory;
    this.#base = base;
    this.#unit = unit;
    this.#tracer = tracer;
    this.#know(REGISTERS);
  }

  /** The unit's capabilities say where the rest of its registers lies. */
  place({ iotlbOffset, faultRecordOffset, faultRecords }: Capabilities): void {
    this.#know(placedRegisters(iotlbOffset, faultRecordOffset, faultRecords));
  }

  #know(registers: readonly Register[]): void {
    for (const { offset, width, name } of registers) {
      this.#names.set(offset, name);
      if (width === 8) this.#names.set(offset + 4, `${name} bits 63:32`);
    }
  }

  read(offset: number, size: 4 | 8): bigint {
    return this.#memory.readMmio(this.#base + offset, size);
  }

  write(offset: number, size: 4 | 8, value: bigint): void {
    if (this.#tracer?.listener) {
      const name = this.#names.get(offset) ?? `0x${offset.toString(16)}`;
      this.#tracer.listener({ kind: "register", unit: this.#unit, op: "write", name, value });
    }
    this.#memory.writeMmio(this.#base + offset, size, value);
  }

  /** Sets one bit of GCMD and waits until GSTS shows it. @throws Error when the unit does not answer */
  command(bit: number): void {
    this.#order(bit, bit);
  }

  /** What was written to memory reaches it: GSTS.WBFS shows 1 until then (11.4.4.2). @throws Error when the unit does not answer */
  flushWriteBuffer(): void {
    this.#order(Gcmd.WBF, 0);
  }

  #order(bit: number, shown: number): void {
    const status = Number(this.read(Reg.GSTS, 4)) & ~ONE_SHOTS;
    this.write(Reg.GCMD, 4, BigInt((status | bit) >>> 0));
    for (let i = 0; i < POLLS; i++) if ((Number(this.read(Reg.GSTS, 4)) & bit) === shown) return;
    throw new Error(`${this.#unit}: GSTS bit 0x${(bit >>> 0).toString(16)} does not become ${shown === 0 ? 0 : 1} after GCMD`);
  }
}
