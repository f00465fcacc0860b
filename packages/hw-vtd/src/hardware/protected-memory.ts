/**
 * Protected memory (VT-d 11.4.8): two regions that no device reaches while PMEN.EPM is on. What is blocked leaves no fault
 * record. The unit's own walks and queues are exempt.
 */
import type { RegisterBank } from "@iommukit/core";
import type { Capabilities } from "../spec/capabilities.js";
import { Pmen, Reg } from "../spec/registers.js";

export class ProtectedMemory {
  /** PMEN.PRS: some region is protected. */
  enabled = false;
  readonly #caps: Capabilities;
  readonly #bank: RegisterBank;
  /** First and last page of each region; last < first: off. */
  #lowFirst = 0;
  #lowLast = -1;
  #highFirst = 0;
  #highLast = -1;

  constructor(caps: Capabilities, bank: RegisterBank) {
    this.#caps = caps;
    this.#bank = bank;
  }

  /** PMEN was written: the regions are those of the base and limit registers as they stand now. */
  update(): void {
    const bank = this.#bank;
    this.enabled = (Number(BigInt.asIntN(32, bank.get(Reg.PMEN))) & Pmen.EPM) !== 0;
    bank.set(Reg.PMEN, (bank.get(Reg.PMEN) & ~BigInt(Pmen.PRS)) | (this.enabled ? BigInt(Pmen.PRS) : 0n));
    this.#lowFirst = Number(bank.get(Reg.PLMBASE) >> 12n);
    this.#lowLast = this.#caps.protectedLow ? limit(bank.get(Reg.PLMLIMIT)) : -1;
    this.#highFirst = Number(bank.get(Reg.PHMBASE) >> 12n);
    this.#highLast = this.#caps.protectedHigh ? limit(bank.get(Reg.PHMLIMIT)) : -1;
  }

  /** @param translated the request was subject to remapping: those passed on parts before major version 2 */
  blocks(page: number, translated: boolean): boolean {
    if (translated && this.#caps.majorVersion < 2) return false;
    return (page >= this.#lowFirst && page <= this.#lowLast) || (page >= this.#highFirst && page <= this.#highLast);
  }
}

/** The low bits of a limit count as ones. */
function limit(register: bigint): number {
  return Number((register | 0xf_ffffn) >> 12n);
}
