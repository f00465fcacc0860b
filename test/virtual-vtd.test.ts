/** A guest's VT-d on a host: guest driver, virtual VT-d, iommufd, host driver, host hardware, memory. */
import { Prot } from "@iommukit/core";
import { DmaTestStatus } from "@iommukit/core/devices";
import { smmuIommuFactory } from "@iommukit/hw-smmu/plugin";
import { Reg } from "@iommukit/hw-vtd/spec";
import { describe, expect, it } from "vitest";
import { type GuestOptions, type Mode, vtdGuest } from "./guest-vtd.js";

const IOVA = 0x40_0000n;
const READ_WRITE = Prot.READ | Prot.WRITE;
const word = (ram: Uint8Array, at: number): bigint => new DataView(ram.buffer, ram.byteOffset).getBigUint64(at, true);

const PLACES: readonly (readonly [name: string, mode: Mode, options: GuestOptions])[] = [
  ["nested", "nested", {}],
  ["shadowed on VT-d", "shadowed", {}],
  ["legacy, shadowed on VT-d", "legacy", {}],
  ["shadowed by the kernel", "shadowed", { children: true }],
  ["legacy, shadowed by the kernel", "legacy", { children: true }],
  ["shadowed on an SMMUv3", "shadowed", { factory: smmuIommuFactory }],
  ["legacy, shadowed on an SMMUv3", "legacy", { factory: smmuIommuFactory }],
];

describe.each(PLACES)("a virtual VT-d, %s", (_name, mode, options) => {
  it("translates as the guest's tables say, and stops what the guest unmaps", () => {
    const { driver, devices, domain, page, dma, ram, log } = vtdGuest(mode, options);
    expect(dma(0, true, IOVA, 1n)).toBe(false);
    const space = domain();
    driver.attach(devices[0], 0, space);
    space.map(IOVA, page(3), 4096, READ_WRITE);
    expect([dma(0, true, IOVA + 8n, 7n), word(ram, page(3) + 8)]).toEqual([true, 7n]);
    space.unmap(IOVA, 4096);
    expect(dma(0, true, IOVA + 8n, 9n)).toBe(false);
    expect(log).toHaveLength(2);
    driver.detach(devices[0], 0);
    expect([dma(0, true, IOVA, 1n), word(ram, page(3) + 8)]).toEqual([false, 7n]);
  });

  it("tells devices apart, and keeps to rights", () => {
    const { driver, devices, domain, page, dma, buffer, ram } = vtdGuest(mode, { ...options, devices: 2 });
    const [a, b] = [domain(), domain()];
    driver.attach(devices[0], 0, a);
    driver.attach(devices[1], 0, b);
    a.map(IOVA, page(1), 4096, READ_WRITE);
    b.map(IOVA, page(2), 4096, Prot.READ);
    expect([dma(0, true, IOVA, 1n), dma(1, true, IOVA, 2n), word(ram, page(1)), word(ram, page(2))]).toEqual([true, false, 1n, 0n]);
    expect([dma(1, false, IOVA), buffer(1)]).toEqual([true, 0n]);
  });
});

describe.each(PLACES.filter(([, mode]) => mode !== "legacy").slice(0, 2))("PASIDs of a guest, %s", (_name, mode, options) => {
  it("have address spaces of their own", () => {
    const { driver, devices, domain, page, dma, ram } = vtdGuest(mode, options);
    const [own, other] = [domain(), domain()];
    driver.attach(devices[0], 0, own);
    driver.attach(devices[0], 5, other);
    own.map(IOVA, page(1), 4096, READ_WRITE);
    other.map(IOVA, page(2), 4096, READ_WRITE);
    expect([dma(0, true, IOVA, 1n), dma(0, true, IOVA, 2n, 5), word(ram, page(1)), word(ram, page(2))]).toEqual([true, true, 1n, 2n]);
    driver.detach(devices[0], 5);
    expect([dma(0, true, IOVA, 3n, 5), dma(0, true, IOVA, 4n), word(ram, page(1))]).toEqual([false, true, 4n]);
  });
});

it("forwards the invalidations of one unmap together", () => {
  const { driver, devices, domain, page, calls } = vtdGuest("nested");
  const space = domain();
  driver.attach(devices[0], 0, space);
  for (let i = 0; i < 8; i++) space.map(IOVA + BigInt(i) * 0x20_0000n, page(i), 4096, READ_WRITE);
  calls.length = 0;
  space.unmap(IOVA, 0x100_0000);
  expect(calls).toEqual(["IOMMU_HWPT_INVALIDATE 1"]);
});


describe.each(PLACES.filter(([, mode]) => mode !== "legacy"))("page requests of a guest's device, %s", (_name, mode, options) => {
  it.each([[undefined], [5]])("go to the guest, which maps the page and answers: PASID %s (RFC v2, 4.6)", (pasid) => {
    const { driver, devices, domain, page, dma, host, ram } = vtdGuest(mode, { ...options, pageRequests: true });
    const space = domain();
    driver.attach(devices[0], pasid ?? 0, space);
    const asked: unknown[] = [];
    driver.reportPageFaults(devices[0], {
      report(fault) {
        asked.push([fault.address, fault.pasid, fault.last]);
        if (fault.address === IOVA) space.map(IOVA, page(4), 4096, READ_WRITE);
        driver.respondToPageFault(devices[0], { pasid: fault.pasid, group: fault.group, code: fault.address === IOVA ? "success" : "invalid" });
      },
      discardPartial: () => undefined,
    });
    // It waits when the call returns; the VMM has looked at the host's queue by then, and the guest has answered.
    dma(0, true, IOVA, 0x1234n, pasid);
    expect([asked, word(ram, page(4)), host.status(host.devices[0])]).toEqual([[[IOVA, pasid, true]], 0x1234n, DmaTestStatus.DONE]);
    dma(0, true, IOVA + 0x1000n, 1n, pasid);
    expect(host.status(host.devices[0])).toBe(DmaTestStatus.REFUSED);
  });

  it("do not keep the guest's driver busy for ever when somebody else has moved its queue's tail out of its queue", () => {
    const { unit, driver, devices, domain, dma } = vtdGuest("nested", { pageRequests: true });
    driver.attach(devices[0], 0, domain());
    unit.write(Reg.PQA, 8, unit.read(Reg.PQA, 8) | 7n);
    unit.write(Reg.PQT, 8, 0x4_0000n);
    expect(dma(0, true, IOVA, 1n)).toBe(false);
  });

  it("that nobody in the guest sees to are answered all the same", () => {
    const { driver, devices, domain, dma, host } = vtdGuest(mode, { ...options, pageRequests: true });
    const space = domain();
    driver.attach(devices[0], 0, space);
    dma(0, true, IOVA, 1n);
    expect(host.status(host.devices[0])).toBe(DmaTestStatus.REFUSED);
  });
});
