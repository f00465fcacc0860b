/** What a guest's registers and STEs make of a stream, on the host's hardware; and events that are lost on the way. */
import { Prot } from "@iommukit/core";
import { Cr0, Gbpa, Reg } from "@iommukit/hw-smmu/spec";
import { describe, expect, it } from "vitest";
import { queueState, send, type SmmuGuest, smmuGuest, STREAM } from "./guest-smmu.js";

/** Beyond the guest's memory: reached by its tables only. */
const IOVA = 0x4000_0000n;
const OVERFLOW = 0x8000_0000n;

const CFGI_STE = 0x03n;
const SYNC = 0x46n;

/** Where the guest's memory has the STE of a stream. */
function steAddress({ unit, memory }: SmmuGuest, stream: number): number {
  const base = Number(unit.read(Reg.STRTAB_BASE, 8) & 0xff_ffff_ffff_ffc0n);
  const cfg = Number(unit.read(Reg.STRTAB_BASE_CFG, 4));
  const split = 2 ** ((cfg >>> 6) & 31);
  if (cfg >>> 16 === 0) return base + stream * 64;
  const table = memory.readU64(base + Math.floor(stream / split) * 8) ?? 0n;
  return Number(table & 0xff_ffff_ffff_ffc0n) + (stream % split) * 64;
}

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

  it.each([
    ["aborts", 0n, false],
    ["bypasses", 4n, true],
    ["asks for a stage 2 that a guest has not", 6n, false],
    ["asks for both stages", 7n, false],
  ])("an STE that %s, once CFGI_STE says so", (_what, config, passes) => {
    const guest = smmuGuest();
    const { unit, memory, driver, devices, domain, dma, page } = guest;
    const space = domain();
    driver.attach(devices[0], 0, space);
    space.map(IOVA, page(1), 4096, Prot.READ | Prot.WRITE);
    const at = steAddress(guest, STREAM);
    const before = memory.readU64(at) ?? 0n;
    memory.writeU64(at, (before & ~0xen) | (config << 1n));
    expect(dma(0, true, IOVA, 1n)).toBe(true);
    send(unit, memory, [[CFGI_STE | (BigInt(STREAM) << 32n), 1n], [SYNC, 0n]]);
    expect(queueState(unit)).toMatchObject({ waiting: 0, stopped: false });
    expect([dma(0, true, IOVA, 2n), dma(0, true, BigInt(page(2)), 3n)]).toEqual([false, passes]);
    memory.writeU64(at, before);
    send(unit, memory, [[CFGI_STE | (BigInt(STREAM) << 32n), 1n], [SYNC, 0n]]);
    expect([dma(0, true, IOVA, 4n), memory.readU64(page(1))]).toEqual([true, 4n]);
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
