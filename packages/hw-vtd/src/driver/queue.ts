/** The invalidation queue from the software side (VT-d 6.5.2): descriptor, wait descriptor, tail, status word. */
import { encodeFields, type FieldTable, type FrameAllocator, type PhysicalMemory } from "@iommukit/core";
import {
  CC_DESCRIPTOR,
  DescriptorType,
  IOTLB_DESCRIPTOR,
  P_IOTLB_DESCRIPTOR,
  PC_DESCRIPTOR,
  WAIT_DESCRIPTOR,
} from "../spec/descriptors.js";
import { Fsts, Gcmd, Reg } from "../spec/registers.js";
import type { RegisterAccess } from "./registers.js";

const ENTRIES = 256;

export class CommandQueue {
  readonly #memory: PhysicalMemory;
  readonly #registers: RegisterAccess;
  readonly #entryBytes: number;
  readonly #base: number;
  readonly #status: number;
  #tail = 0;
  #sequence = 0;

  /** @param wide 256-bit descriptors: whenever the unit has scalable mode */
  constructor(memory: PhysicalMemory, frames: FrameAllocator, registers: RegisterAccess, wide: boolean) {
    this.#memory = memory;
    this.#registers = registers;
    this.#entryBytes = wide ? 32 : 16;
    const pages = (ENTRIES * this.#entryBytes) / 4096;
    this.#base = frames.alloc(pages);
    this.#status = frames.alloc();
    registers.write(Reg.IQT, 8, 0n);
    registers.write(Reg.IQA, 8, BigInt(this.#base) | (wide ? 0x800n : 0n) | BigInt(Math.log2(pages)));
    registers.command(Gcmd.QIE);
  }

  /** Context cache: everything of a source-id; in legacy mode under its old domain-id. */
  contextDevice(source: number, domain: number): void {
    this.#submit(CC_DESCRIPTOR, DescriptorType.CC, { G: 3n, SID: BigInt(source), DID: BigInt(domain) });
  }

  pasidCache(domain: number, pasid: number): void {
    this.#submit(PC_DESCRIPTOR, DescriptorType.PC, { G: 1n, DID: BigInt(domain), PASID: BigInt(pasid) });
  }

  /** Second stage, pass-through and legacy: 2^mask pages around `page`, or the whole domain. */
  iotlb(domain: number, range?: { readonly page: number; readonly mask: number }): void {
    const where = range ? { G: 3n, ADDR: BigInt(range.page), AM: BigInt(range.mask) } : { G: 2n };
    this.#submit(IOTLB_DESCRIPTOR, DescriptorType.IOTLB, { ...where, DID: BigInt(domain), DR: 1n, DW: 1n });
  }

  /** First stage: 2^mask pages around `page`, or all of the PASID. */
  pasidIotlb(domain: number, pasid: number, range?: { readonly page: number; readonly mask: number }): void {
    const where = range ? { G: 3n, ADDR: BigInt(range.page), AM: BigInt(range.mask) } : { G: 2n };
    this.#submit(P_IOTLB_DESCRIPTOR, DescriptorType.P_IOTLB, { ...where, DID: BigInt(domain), PASID: BigInt(pasid) });
  }

  /** @throws Error when the unit refuses the descriptor or does not complete it */
  #submit(table: FieldTable, type: number, fields: Readonly<Record<string, bigint>>): void {
    this.#push(table, type, fields);
    this.#sequence = (this.#sequence % 0x7fff_ffff) + 1;
    this.#push(WAIT_DESCRIPTOR, DescriptorType.WAIT, {
      SW: 1n,
      DATA: BigInt(this.#sequence),
      STATUS_ADDR: BigInt(this.#status) >> 2n,
    });
    this.#registers.write(Reg.IQT, 8, BigInt(this.#tail * this.#entryBytes));
    if (this.#memory.load64(this.#status) && this.#memory.lo === this.#sequence) return;
    const queueError = (Number(this.#registers.read(Reg.FSTS, 4)) & Fsts.IQE) !== 0;
    const code = this.#registers.read(Reg.IQERCD, 8) & 15n;
    throw new Error(queueError ? `the unit refused a ${table.structure}: IQEI ${code}` : `the unit did not complete a ${table.structure}`);
  }

  #push(table: FieldTable, type: number, fields: Readonly<Record<string, bigint>>): void {
    const words = encodeFields(table, { ...fields, type: BigInt(type & 15), typeHigh: BigInt(type >> 4) });
    for (let i = 0; i < this.#entryBytes / 8; i++) {
      this.#memory.writeU64(this.#base + this.#tail * this.#entryBytes + i * 8, words[i] ?? 0n);
    }
    this.#tail = (this.#tail + 1) % ENTRIES;
  }
}
