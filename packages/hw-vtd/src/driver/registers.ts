/** The unit's registers as its driver uses them. */
import { MmioRegisters, type PhysicalMemory, type Tracer } from "@iommukit/core";
import type { Capabilities } from "../spec/capabilities.js";
import { Gcmd, placedRegisters, Reg, REGISTERS } from "../spec/registers.js";

/** One-shot bits of GSTS that must not be written back (VT-d 11.4.4). */
const ONE_SHOTS = 0x6900_0000;
const POLLS = 1000;

export class RegisterAccess extends MmioRegisters {
  constructor(memory: PhysicalMemory, base: number, unit: string, tracer: Tracer | undefined) {
    super(memory, base, unit, tracer, REGISTERS);
  }

  /** The unit's capabilities say where the rest of its registers lies. */
  place({ iotlbOffset, faultRecordOffset, faultRecords }: Capabilities): void {
    this.know(placedRegisters(iotlbOffset, faultRecordOffset, faultRecords));
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
    throw new Error(`${this.unit}: GSTS bit 0x${(bit >>> 0).toString(16)} does not become ${shown === 0 ? 0 : 1} after GCMD`);
  }
}
