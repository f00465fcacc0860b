/** What a guest's registers and STEs make of a stream, on the host's hardware; and events that are lost on the way. */
import { Prot } from "@iommukit/core";
import { Cr0, Gbpa, Reg } from "@iommukit/hw-smmu/spec";
import { describe, expect, it } from "vitest";
import { smmuGuest } from "./guest-smmu.js";

const IOVA = 0x40_0000n;
const OVERFLOW = 0x8000_0000n;

describe("streams of a virtual SMMUv3", () => {
  it("GBPA decides, both ways, while SMMUEN is off", () => {
    const { unit, dma, page } = smmuGuest();
    const cr0 = unit.read(Reg.CR0, 4);
    const at = BigInt(page(1));
    unit.write(Reg.CR0, 4, cr0 & ~BigInt(Cr0.SMMUEN));
    const passes = (abort: boolean): boolean => {
      unit.write(Reg.GBPA, 4, BigInt(Gbpa.UPDATE) + (abort ? BigInt(Gbpa.ABORT) : 0n));
      return dma(0, true, at, 1n);
    };
    expect([passes(false), passes(true), passes(false)]).toEqual([true, false, true]);
    unit.write(Reg.CR0, 4, cr0);
    expect(dma(0, true, at, 1n)).toBe(false);
  });

  it("a full event queue of the guest is told of what is lost by its overflow flag, at one record more than it holds", () => {
    const { unit, driver, devices, domain, dma, page } = smmuGuest();
    const space = domain();
    driver.attach(devices[0], 0, space);
    space.map(IOVA, page(1), 4096, Prot.READ);
    // The guest's driver takes nothing while its queue's interrupt is off.
    unit.write(Reg.IRQ_CTRL, 4, 0n);
    const size = 2 ** Number(unit.read(Reg.EVENTQ_BASE, 8) & 31n);
    for (let i = 0; i < size; i++) dma(0, true, IOVA, 1n);
    const before = unit.read(Reg.EVENTQ_PROD, 4) & OVERFLOW;
    dma(0, true, IOVA, 1n);
    expect([before, unit.read(Reg.EVENTQ_PROD, 4) & OVERFLOW]).toEqual([0n, OVERFLOW]);
  });
});
