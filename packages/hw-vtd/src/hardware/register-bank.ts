/**
 * Storage behind the registers (VT-d 11.2, 11.3): 4-byte or 8-byte aligned accesses,
 * write masks, write-1-to-clear and write-only bits from the spec's rows. An 8-byte register
 * may be written in two halves. Everything else reads 0 and is not stored.
 */
import type { Capabilities } from "../spec/capabilities.js";
import { placedRegisters, Reg, type Register, REGISTERS, type RegisterNeed, Rtaddr } from "../spec/registers.js";

export class RegisterBank {
  readonly #values = new Map<number, bigint>();
  readonly #registers = new Map<number, Register>();

  constructor(registers: readonly Register[]) {
    for (const register of registers) {
      this.#registers.set(register.offset, register);
      this.#values.set(register.offset, register.reset);
    }
  }

  /** The register that covers `offset`, which must be a multiple of 4. */
  at(offset: number): Register | undefined {
    const exact = this.#registers.get(offset);
    if (exact) return exact;
    const before = this.#registers.get(offset - 4);
    return before?.width === 8 ? before : undefined;
  }

  get(offset: number): bigint {
    return this.#values.get(offset) ?? 0n;
  }

  set(offset: number, value: bigint): void {
    this.#values.set(offset, value);
  }

  read(offset: number, size: number): bigint {
    if (!isAccess(offset, size)) return 0n;
    if (size === 8) return this.#dword(offset) | (this.#dword(offset + 4) << 32n);
    return this.#dword(offset);
  }

  #dword(offset: number): bigint {
    const register = this.at(offset);
    if (register === undefined) return 0n;
    return ((this.get(register.offset) & ~register.writeOnly) >> BigInt(8 * (offset - register.offset))) & 0xffff_ffffn;
  }

  /**
   * Stores what the register lets software store of one 4-byte half and returns the
   * register with the bits that were written as 1 and as 0; undefined when none is there.
   */
  writeDword(offset: number, value: bigint): { register: Register; written: bigint; top: boolean } | undefined {
    const register = this.at(offset);
    if (register === undefined) return undefined;
    const shift = BigInt(8 * (offset - register.offset));
    const lanes = 0xffff_ffffn << shift;
    const written = (value & 0xffff_ffffn) << shift;
    const stored = register.writable & lanes;
    const old = this.get(register.offset);
    this.set(register.offset, ((old & ~stored) | (written & stored)) & ~(written & register.clear & lanes));
    return { register, written, top: register.width === 4 || shift === 32n };
  }
}

export function isAccess(offset: number, size: number): boolean {
  return (size === 4 || size === 8) && offset % size === 0 && offset >= 0;
}

/** The registers that a unit of these capabilities has. */
export function registersOf(caps: Capabilities): Register[] {
  const has: Readonly<Record<RegisterNeed, boolean>> = {
    QI: caps.queuedInvalidation,
    IR: caps.interruptRemapping,
    PRS: caps.pageRequests,
    PLMR: caps.protectedLow,
    PHMR: caps.protectedHigh,
    PMR: caps.protectedLow || caps.protectedHigh,
    EIM: caps.extendedInterrupts,
    "QI+EIM": caps.queuedInvalidation && caps.extendedInterrupts,
    "PRS+EIM": caps.pageRequests && caps.extendedInterrupts,
  };
  const rows = REGISTERS.filter((row) => row.needs === undefined || has[row.needs]);
  return [...rows.map((row) => adapted(row, caps)), ...placedRegisters(caps.iotlbOffset, caps.faultRecordOffset, caps.faultRecords)];
}

/** Bits of a register that exist with a capability only, or end at the host address width. */
function adapted(row: Register, caps: Capabilities): Register {
  if (row.offset === Reg.RTADDR && caps.secondStageIoRights) return { ...row, writable: row.writable | BigInt(Rtaddr.SSIRWE) };
  if (row.offset === Reg.IRTA && !caps.extendedInterrupts) return { ...row, writable: row.writable & ~0x800n };
  if (row.offset === Reg.PHMBASE || row.offset === Reg.PHMLIMIT) return { ...row, writable: row.writable & ((1n << BigInt(caps.haw)) - 1n) };
  return row;
}
