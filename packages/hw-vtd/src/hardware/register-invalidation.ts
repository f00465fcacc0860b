/**
 * Invalidation by register (VT-d 6.5.1, 11.4.6): CCMD, IVA and IOTLB. Legacy mode only, and gone with major version 6. It is done
 * at once, and the actual granularity tells what was done: 0 for a request that was refused.
 */
import type { RegisterBank } from "@iommukit/core";
import type { Capabilities } from "../spec/capabilities.js";
import { TranslationTableMode } from "../spec/entries.js";
import type { UnitOrder } from "../spec/orders.js";
import { Gcmd, Reg } from "../spec/registers.js";
import type { Caches } from "./caches.js";

/** CCMD.ICC, IOTLB.IVT. */
export const TRIGGER = 0x8000_0000_0000_0000n;
const DOMAIN_SELECTIVE = 2;
const PAGE_SELECTIVE = 3;

export class RegisterInvalidation {
  readonly #bank: RegisterBank;
  readonly #caps: Capabilities;
  readonly #caches: Caches;
  readonly #tell: (order: UnitOrder) => void;

  /** @param tell tells whoever stands behind the unit */
  constructor(bank: RegisterBank, caps: Capabilities, caches: Caches, tell: (order: UnitOrder) => void) {
    this.#bank = bank;
    this.#caps = caps;
    this.#caches = caches;
    this.#tell = tell;
  }

  /** Software must not mix it with the queue (6.5.1): refused while that is on. */
  #isRefused(mode: number): boolean {
    const queued = (Number(this.#bank.get(Reg.GSTS)) & Gcmd.QIE) !== 0;
    return mode !== TranslationTableMode.LEGACY || this.#caps.majorVersion >= 6 || queued;
  }

  context(mode: number): void {
    const value = this.#bank.get(Reg.CCMD);
    const granularity = this.#isRefused(mode) ? 0 : Number((value >> 61n) & 3n);
    const [domain, source, functionMask] = [this.#domain(value), Number((value >> 16n) & 0xffffn), Number((value >> 32n) & 3n)];
    if (granularity !== 0) {
      this.#caches.context(granularity, domain, source, functionMask);
      this.#done({ kind: "contexts", granularity, domain, source, functionMask });
    }
    this.#bank.set(Reg.CCMD, (value & ~(TRIGGER | (3n << 59n))) | (BigInt(granularity) << 59n));
  }

  iotlb(mode: number): void {
    const offset = this.#caps.iotlbOffset + 8;
    const value = this.#bank.get(offset);
    const address = this.#bank.get(offset - 8);
    const mask = Number(address & 63n);
    let granularity = this.#isRefused(mode) ? 0 : Number((value >> 60n) & 3n);
    // A unit without PSI invalidates the domain instead, and says so.
    if (granularity === PAGE_SELECTIVE && !this.#caps.pageSelective) granularity = DOMAIN_SELECTIVE;
    if (granularity === PAGE_SELECTIVE && mask > this.#caps.maxAddressMask) granularity = 0;
    const [domain, page, leavesOnly] = [this.#domain(value >> 32n), Number(address >> 12n), (address & 0x40n) !== 0n];
    if (granularity !== 0) {
      this.#caches.iotlbDomain(granularity, domain, page, mask, leavesOnly);
      this.#done({ kind: "translations", granularity, domain, page, addressMask: mask, leavesOnly });
    }
    this.#bank.set(offset, (value & ~(TRIGGER | (3n << 57n))) | (BigInt(granularity) << 57n));
  }

  #done(order: UnitOrder): void {
    this.#tell(order);
    this.#tell({ kind: "idle" });
  }

  #domain(value: bigint): number {
    return Number(value & 0xffffn) & (2 ** this.#caps.domainIdBits - 1);
  }
}
