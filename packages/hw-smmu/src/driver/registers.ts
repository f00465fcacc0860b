/** The unit's registers as a driver reaches them: memory-mapped, traced. */
import type { PhysicalMemory, Tracer } from "@iommukit/core";
import { REGISTERS } from "../spec/registers.js";

const NAMES: ReadonlyMap<number, string> = new Map(REGISTERS.map(({ offset, name }) => [offset, name]));
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

  read(offset: number, size: 4 | 8 = 4): bigint {
    return this.#memory.readMmio(this.#base + offset, size);
  }

  read32(offset: number): number {
    return Number(this.read(offset));
  }

  write(offset: number, size: 4 | 8, value: bigint): void {
    if (this.#tracer?.listener) {
      this.#tracer.listener({ kind: "register", unit: this.#unit, op: "write", name: NAMES.get(offset) ?? `0x${offset.toString(16)}`, value });
    }
    this.#memory.writeMmio(this.#base + offset, size, value);
  }

  write32(offset: number, value: number): void {
    this.write(offset, 4, BigInt(value >>> 0));
  }

  /** Writes a control register and waits until its acknowledgement shows the same (6.3.9, 6.3.17). @throws Error when it does not */
  control(register: number, acknowledgement: number, value: number): void {
    this.write32(register, value);
    for (let i = 0; i < POLLS; i++) if (this.read32(acknowledgement) === value) return;
    throw new Error(`${this.#unit}: ${NAMES.get(acknowledgement)} does not become 0x${value.toString(16)}`);
  }
}
