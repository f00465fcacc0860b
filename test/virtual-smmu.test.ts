/** A guest's SMMUv3 on a host's: guest driver, virtual SMMU, iommufd, host driver, host hardware, memory. */
import { Prot } from "@iommukit/core";
import { Reg } from "@iommukit/hw-smmu/spec";
import { describe, expect, it } from "vitest";
import { smmuGuest } from "./guest-smmu.js";
import { queueState, send, SYNC } from "./guest-ste.js";

const IOVA = 0x40_0000n;
/** Commands, by their first word. */
const TLBI_NSNH_ALL = 0x30n;
/** TLBI_NH_ASID of one that the test's host refuses. */
const BAD = 0x11n | (0xbeefn << 48n);
const READ_WRITE = Prot.READ | Prot.WRITE;

const word = (ram: Uint8Array, at: number): bigint => new DataView(ram.buffer, ram.byteOffset).getBigUint64(at, true);

describe("a virtual SMMUv3", () => {
  it("translates as the guest's tables say, and stops what the guest unmaps", () => {
    const { driver, devices, domain, page, dma, ram, log } = smmuGuest();
    expect(dma(0, true, IOVA, 1n)).toBe(false);
    const space = domain();
    driver.attach(devices[0], 0, space);
    space.map(IOVA, page(3), 4096, READ_WRITE);
    expect([dma(0, true, IOVA + 8n, 7n), word(ram, page(3) + 8)]).toEqual([true, 7n]);
    space.unmap(IOVA, 4096);
    expect(dma(0, true, IOVA + 8n, 9n)).toBe(false);
    expect(log.join("\n")).toMatch(/F_TRANSLATION by 00:04\.0/);
    driver.detach(devices[0], 0);
    expect(dma(0, true, IOVA, 1n)).toBe(false);
  });

  it("SubstreamIDs have address spaces of their own", () => {
    const { driver, devices, domain, page, dma, ram } = smmuGuest();
    const [own, other] = [domain(true), domain(true)];
    driver.attach(devices[0], 0, own);
    driver.attach(devices[0], 5, other);
    own.map(IOVA, page(1), 4096, READ_WRITE);
    other.map(IOVA, page(2), 4096, READ_WRITE);
    expect([dma(0, true, IOVA, 1n), dma(0, true, IOVA, 2n, 5), word(ram, page(1)), word(ram, page(2))]).toEqual([true, true, 1n, 2n]);
    driver.detach(devices[0], 5);
    expect([dma(0, true, IOVA, 3n, 5), dma(0, true, IOVA, 4n), word(ram, page(1))]).toEqual([false, true, 4n]);
  });

  it("devices are told apart, by StreamIDs of the guest", () => {
    const { driver, devices, domain, page, dma, ram, log } = smmuGuest({ devices: 2 });
    const [a, b] = [domain(), domain()];
    driver.attach(devices[0], 0, a);
    driver.attach(devices[1], 0, b);
    a.map(IOVA, page(1), 4096, READ_WRITE);
    b.map(IOVA, page(2), 4096, Prot.READ);
    expect([dma(0, true, IOVA, 1n), dma(1, true, IOVA, 2n), word(ram, page(1)), word(ram, page(2))]).toEqual([true, false, 1n, 0n]);
    expect(log.join("\n")).toMatch(/F_PERMISSION by 00:04\.1/);
  });

  it.each([0, 10, 63, 64, 126])("a command that the host refuses stops the guest's queue at its very place: %i", (index) => {
    const { unit, memory, calls } = smmuGuest({ refusesCommand: (low) => low === BAD });
    send(unit, memory, [...Array.from({ length: 127 }, (_, i) => (i === index ? BAD : TLBI_NSNH_ALL)), SYNC].map((low) => [low, 0n] as const));
    expect(queueState(unit)).toEqual({ waiting: 128 - index, error: 1, stopped: true });
    // What came before it was done all the same, one by one: the host had not.
    expect(calls.slice(-index).every((name) => index === 0 || name === "IOMMU_HWPT_INVALIDATE 1")).toBe(true);
  });

  it("a refused command without a CMD_SYNC behind it stops the queue too, and goes when the guest puts another in its place", () => {
    const { unit, memory } = smmuGuest({ refusesCommand: (low) => low === BAD });
    send(unit, memory, [[TLBI_NSNH_ALL, 0n], [BAD, 0n], [TLBI_NSNH_ALL, 0n]]);
    expect(queueState(unit)).toEqual({ waiting: 2, error: 1, stopped: true });
    const base = Number(unit.read(Reg.CMDQ_BASE, 8) & 0xf_ffff_ffff_ffe0n);
    const size = 2 ** Number(unit.read(Reg.CMDQ_BASE, 8) & 31n);
    memory.writeU64(base + (Number(unit.read(Reg.CMDQ_CONS, 4) & 0xf_ffffn) % size) * 16, SYNC);
    unit.write(Reg.GERRORN, 4, unit.read(Reg.GERROR, 4));
    expect(queueState(unit)).toMatchObject({ waiting: 0, stopped: false });
  });

  it("an earlier command that is refused counts before a later one that is no command", () => {
    const { unit, memory } = smmuGuest({ refusesCommand: (low) => low === BAD });
    send(unit, memory, [[BAD, 0n], [TLBI_NSNH_ALL, 0n], [0xffn, 0n]]);
    expect(queueState(unit)).toEqual({ waiting: 3, error: 1, stopped: true });
  });

  it("hands invalidations on together", () => {
    const { driver, devices, domain, page, calls } = smmuGuest();
    const space = domain();
    driver.attach(devices[0], 0, space);
    for (let i = 0; i < 8; i++) space.map(IOVA + BigInt(i) * 0x20_0000n, page(i), 4096, READ_WRITE);
    const before = calls.length;
    space.unmap(IOVA, 0x100_0000);
    expect(calls.slice(before).filter((name) => name.startsWith("IOMMU_HWPT_INVALIDATE"))).toHaveLength(1);
  });
});
