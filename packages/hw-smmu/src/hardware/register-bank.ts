/** Storage behind the registers (SMMU 6.2): aligned accesses of 4 bytes, and of 8 bytes to registers of 8. Everything else reads 0. */
import type { Register } from "../spec/registers.js";

export class RegisterBank {
  readonly #values = new Map<number, bigint>();
  readonly #registers = new Map<number, Register>();

  constructor(registers: readonly Register[]) {
    for (const register of registers) {
      this.#registers.set(register.offset, register);
      this.#values.set(register.offset, 0n);
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

  /** A 4-byte register, or the lower half of one of 8, as a number. */
  get32(offset: number): number {
    return Number(this.get(offset) & 0xffff_ffffn);
  }

  set(offset: number, value: bigint | number): void {
    this.#values.set(offset, BigInt(value));
  }

  read(offset: number, size: number): bigint {
    if (!isAccess(offset, size)) return 0n;
    if (size === 8) return this.#dword(offset) | (this.#dword(offset + 4) << 32n);
    return this.#dword(offset);
  }

  #dword(offset: number): bigint {
    const register = this.at(offset);
    if (register === undefined) return 0n;
    return (this.get(register.offset) >> BigInt(8 * (offset - register.offset))) & 0xffff_ffffn;
  }

  /** Stores the writable bits of one half, at once: no atomicity is promised between two (6.2). */
  writeDword(offset: number, value: bigint): void {
    const register = this.at(offset);
    if (register === undefined) return;
    const shift = BigInt(8 * (offset - register.offset));
    const stored = register.writable & (0xffff_ffffn << shift);
    this.set(register.offset, (this.get(register.offset) & ~stored) | ((value << shift) & stored));
  }
}

export function isAccess(offset: number, size: number): boolean {
  return (size === 4 || size === 8) && offset % size === 0 && offset >= 0;
}
