/** A unit's registers as its driver reaches them: memory-mapped, traced. */
import type { PhysicalMemory } from "../memory/physical-memory.js";
import type { Tracer } from "../trace.js";

export interface RegisterName {
  readonly name: string;
  readonly offset: number;
  readonly width: 4 | 8;
}

export class MmioRegisters {
  protected readonly unit: string;
  readonly #memory: PhysicalMemory;
  readonly #base: number;
  readonly #tracer: Tracer | undefined;
  /** By offset, for the tracer. */
  readonly #names = new Map<number, string>();

  constructor(memory: PhysicalMemory, base: number, unit: string, tracer: Tracer | undefined, registers: readonly RegisterName[]) {
    this.#memory = memory;
    this.#base = base;
    this.unit = unit;
    this.#tracer = tracer;
    this.know(registers);
  }

  /** Registers whose place others say. */
  protected know(registers: readonly RegisterName[]): void {
    for (const { offset, width, name } of registers) {
      this.#names.set(offset, name);
      if (width === 8) this.#names.set(offset + 4, `${name} bits 63:32`);
    }
  }

  protected nameOf(offset: number): string {
    return this.#names.get(offset) ?? `0x${offset.toString(16)}`;
  }

  read(offset: number, size: 4 | 8 = 4): bigint {
    return this.#memory.readMmio(this.#base + offset, size);
  }

  read32(offset: number): number {
    return Number(this.read(offset));
  }

  write(offset: number, size: 4 | 8, value: bigint): void {
    if (this.#tracer?.listener) this.#tracer.listener({ kind: "register", unit: this.unit, op: "write", name: this.nameOf(offset), value });
    this.#memory.writeMmio(this.#base + offset, size, value);
  }

  write32(offset: number, value: number): void {
    this.write(offset, 4, BigInt(value >>> 0));
  }
}
