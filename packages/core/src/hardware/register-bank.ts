/**
 * Storage behind a unit's registers: aligned accesses of 4 and 8 bytes, write masks, write-1-to-clear and write-only bits from the
 * rows of its manual. A register of 8 bytes may be written in two halves, each at once. Everything else reads 0 and is not stored.
 */

export interface BankRegister {
  readonly offset: number;
  readonly width: 4 | 8;
  readonly writable: bigint;
  /** Written as 1, they become 0. */
  readonly clear?: bigint;
  /** Stored, but read as 0. */
  readonly writeOnly?: bigint;
  readonly reset?: bigint;
}

const DWORD = 0xffff_ffffn;

export class RegisterBank<R extends BankRegister = BankRegister> {
  readonly #values = new Map<number, bigint>();
  readonly #registers = new Map<number, R>();

  constructor(registers: readonly R[]) {
    for (const register of registers) {
      this.#registers.set(register.offset, register);
      this.#values.set(register.offset, register.reset ?? 0n);
    }
  }

  /** The register that covers `offset`, which must be a multiple of 4. */
  at(offset: number): R | undefined {
    const exact = this.#registers.get(offset);
    if (exact) return exact;
    const before = this.#registers.get(offset - 4);
    return before?.width === 8 ? before : undefined;
  }

  get(offset: number): bigint {
    return this.#values.get(offset) ?? 0n;
  }

  /** A register of 4 bytes, or the lower half of one of 8, as a number. */
  get32(offset: number): number {
    return Number(this.get(offset) & DWORD);
  }

  set(offset: number, value: bigint): void {
    this.#values.set(offset, value);
  }

  set32(offset: number, value: number): void {
    this.#values.set(offset, BigInt(value >>> 0));
  }

  read(offset: number, size: number): bigint {
    if (!isRegisterAccess(offset, size)) return 0n;
    if (size === 8) return this.#dword(offset) | (this.#dword(offset + 4) << 32n);
    return this.#dword(offset);
  }

  #dword(offset: number): bigint {
    const register = this.at(offset);
    if (register === undefined) return 0n;
    const { offset: start, writeOnly = 0n } = register;
    return ((this.get(start) & ~writeOnly) >> BigInt(8 * (offset - start))) & DWORD;
  }

  /**
   * Stores what the register lets software store of one 4-byte half and returns the
   * register with the bits that were written as 1 and as 0; undefined when none is there.
   */
  writeDword(offset: number, value: bigint): { readonly register: R; readonly written: bigint; readonly top: boolean } | undefined {
    const register = this.at(offset);
    if (register === undefined) return undefined;
    const { offset: start, width, writable, clear = 0n } = register;
    const shift = BigInt(8 * (offset - start));
    const lanes = DWORD << shift;
    const written = (value & DWORD) << shift;
    const stored = writable & lanes;
    this.set(start, ((this.get(start) & ~stored) | (written & stored)) & ~(written & clear));
    return { register, written, top: width === 4 || shift === 32n };
  }
}

export function isRegisterAccess(offset: number, size: number): boolean {
  return (size === 4 || size === 8) && offset % size === 0 && offset >= 0;
}
