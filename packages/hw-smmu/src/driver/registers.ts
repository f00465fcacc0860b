/** The unit's registers as its driver uses them. */
import { MmioRegisters, type PhysicalMemory, type Tracer } from "@iommukit/core";
import { REGISTERS } from "../spec/registers.js";

const POLLS = 1000;

export class RegisterAccess extends MmioRegisters {
  constructor(memory: PhysicalMemory, base: number, unit: string, tracer: Tracer | undefined) {
    super(memory, base, unit, tracer, REGISTERS);
  }

  /** Writes a control register and waits until its acknowledgement shows the same (6.3.9, 6.3.17). @throws Error when it does not */
  control(register: number, acknowledgement: number, value: number): void {
    this.write32(register, value);
    for (let i = 0; i < POLLS; i++) if (this.read32(acknowledgement) === value) return;
    throw new Error(`${this.unit}: ${this.nameOf(acknowledgement)} does not become 0x${value.toString(16)}`);
  }
}
