/** What a guest's registers and STEs make of a stream, on the host's hardware; and events that are lost on the way. */
import { Prot } from "@iommukit/core";
import { Cr0, Cr2, Gbpa, Reg } from "@iommukit/hw-smmu/spec";
import { describe, expect, it } from "vitest";
import { bareGuest, type Guest, smmuGuest, STREAM } from "./guest-smmu.js";
import { CFGI_STE, descriptorAddress, queueState, send, STE_CHANGES, steAddress, SYNC } from "./guest-ste.js";

/** Beyond the guest's memory: reached by its tables only. */
const IOVA = 0x4000_0000n;
const OVERFLOW = 0x8000_0000n;

/** Changes a word at an address of the guest's, and says so with `CFGI_STE`. @returns what it was */
function change({ unit, memory }: Guest, at: number, to: (word: bigint) => bigint): bigint {
  const before = memory.readU64(at) ?? 0n;
  memory.writeU64(at, to(before));
  send(unit, memory, [[CFGI_STE | (BigInt(STREAM) << 32n), 0n], [SYNC, 0n]]);
  expect(queueState(unit)).toMatchObject({ waiting: 0, stopped: false });
  return before;
}

/** With a page of its own, and one of SubstreamID 5. */
function mapped<G extends Guest>(guest: G): G {
  const { driver, devices, domain, page } = guest;
  for (const pasid of [0, 5]) {
    const space = domain(true);
    driver.attach(devices[0], pasid, space);
    space.map(IOVA, page(pasid + 1), 4096, Prot.READ | Prot.WRITE);
  }
  return guest;
}

/** What becomes of accesses that a page of the guest's, or none, would answer; and what its driver reads of them. */
function tried({ dma, page, log }: Guest): readonly unknown[] {
  log.length = 0;
  const passed = [dma(0, true, IOVA, 2n), dma(0, false, IOVA), dma(0, true, IOVA, 3n, 5), dma(0, true, BigInt(page(2)), 4n)];
  return [passed, [...log]];
}

describe("streams of a virtual SMMUv3", () => {
  it("GBPA decides, both ways, while SMMUEN is off", () => {
    const { unit, dma, page, log } = smmuGuest();
    const cr0 = unit.read(Reg.CR0, 4);
    const at = BigInt(page(1));
    unit.write(Reg.CR0, 4, cr0 & ~BigInt(Cr0.SMMUEN));
    const passes = (abort: boolean): boolean => {
      unit.write(Reg.GBPA, 4, BigInt(Gbpa.UPDATE) + (abort ? BigInt(Gbpa.ABORT) : 0n));
      return dma(0, true, at, 1n);
    };
    expect([passes(false), passes(true), passes(false), log]).toEqual([true, false, true, []]);
    unit.write(Reg.CR0, 4, cr0);
    expect(dma(0, true, at, 1n)).toBe(false);
  });

  it.each(STE_CHANGES.map((each) => [each.what, each] as const))("an STE that %s, once CFGI_STE says so: as on hardware of its own", (_what, { word, to, event }) => {
    const guest = mapped(smmuGuest());
    const both = [guest, mapped(bareGuest(guest.identification))];
    const before = both.map((one) => one.memory.readU64(steAddress(one, STREAM) + word * 8) ?? 0n);
    for (const [i, one] of both.entries()) one.memory.writeU64(steAddress(one, STREAM) + word * 8, to(before[i]));
    expect(guest.dma(0, true, IOVA, 1n)).toBe(true);
    const [virtual, bare] = both.map((one) => {
      change(one, steAddress(one, STREAM) + word * 8, (now) => now);
      return tried(one);
    });
    expect(virtual).toEqual(bare);
    if (event) expect((virtual[1] as string[]).join("\n")).toMatch(event);
    else expect(virtual).toEqual([[false, false, false, false], []]);
    for (const [i, one] of both.entries()) change(one, steAddress(one, STREAM) + word * 8, () => before[i]);
    expect(tried(guest)).toEqual(tried(both[1]));
    expect([guest.dma(0, true, IOVA, 5n), guest.memory.readU64(guest.page(1))]).toEqual([true, 5n]);
  });

  it.each<readonly [string, bigint, RegExp]>([
    ["no entries", 0n, /C_BAD_STREAMID/],
    ["too few entries", 5n, /C_BAD_STREAMID/],
    ["entries where no memory is", 0x100_0000_0009n, /F_STE_FETCH/],
  ])("a level-1 descriptor with %s: as on hardware of its own", (_what, descriptor, event) => {
    const guest = mapped(smmuGuest());
    const both = [guest, mapped(bareGuest(guest.identification))];
    const before = both.map((one) => change(one, descriptorAddress(one), () => descriptor));
    const [virtual, bare] = both.map(tried);
    expect(virtual).toEqual(bare);
    expect((virtual[1] as string[]).join("\n")).toMatch(event);
    for (const [i, one] of both.entries()) change(one, descriptorAddress(one), () => before[i]);
    expect([guest.dma(0, true, IOVA, 5n), guest.memory.readU64(guest.page(1))]).toEqual([true, 5n]);
  });

  it("a stream that is beyond the guest's table is told of where CR2 says so", () => {
    const guest = mapped(smmuGuest());
    const both = [guest, mapped(bareGuest(guest.identification))];
    const told = [Cr2.RECINVSID, 0].map((recorded) => both.map((one) => {
      const { unit } = one;
      const cr0 = unit.read(Reg.CR0, 4);
      unit.write(Reg.CR0, 4, cr0 & ~BigInt(Cr0.SMMUEN));
      unit.write(Reg.STRTAB_BASE_CFG, 4, 4n);
      unit.write(Reg.CR2, 4, BigInt(recorded));
      unit.write(Reg.CR0, 4, cr0);
      return tried(one);
    }));
    expect(told.map(([virtual]) => virtual)).toEqual(told.map(([, bare]) => bare));
    expect(told.map(([virtual]) => (virtual[1] as string[]).filter((line) => line.includes("C_BAD_STREAMID")).length)).toEqual([4, 0]);
  });

  it("what the host could not keep until somebody looked is lost to the guest, too: its driver is told so", () => {
    const guest = mapped(smmuGuest());
    change(guest, steAddress(guest, STREAM), () => 0n);
    guest.log.length = 0;
    const device = guest.host.devices[0];
    for (let i = 0; i < 1025; i++) guest.host.dma(device, true, IOVA, 1n);
    guest.virtual.service();
    expect(guest.log.filter((line) => !line.startsWith("C_BAD_STE"))).toEqual([]);
    guest.dma(0, true, IOVA, 1n);
    expect(guest.log.filter((line) => !line.startsWith("C_BAD_STE"))).toEqual([expect.stringContaining("records were lost")]);
    expect(guest.log).toHaveLength(1026);
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
