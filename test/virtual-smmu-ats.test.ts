/** Devices with a translation cache behind a virtual SMMUv3: what the guest orders of it, and what the host forgets by itself. */
import { Prot } from "@iommukit/core";
import { DmaTestRegister } from "@iommukit/core/devices";
import { Op } from "@iommukit/hw-smmu/spec";
import { describe, expect, it } from "vitest";
import { RAM, type SmmuGuest, smmuGuest, STREAM } from "./guest-smmu.js";
import { CFGI_STE, send, steAddress, SYNC } from "./guest-ste.js";

const IOVA = 0x40_0000n;
const READ_WRITE = Prot.READ | Prot.WRITE;
/** STE.EATS, in its second word. */
const EATS = 3n << 28n;
/** STE.Config: bits 3:1 of the first. */
const CONFIG = 0xen;

/** Translations that the device holds. */
const cached = ({ host }: SmmuGuest): number => host.cached(host.devices[0]);

/** A guest whose device has used a page of its own, and one of SubstreamID 5. */
function scene() {
  const guest = smmuGuest({ ats: true });
  const { driver, devices, domain, page, dma } = guest;
  const [own, other] = [domain(true), domain(true)];
  driver.attach(devices[0], 0, own);
  driver.attach(devices[0], 5, other);
  own.map(IOVA, page(1), 4096, READ_WRITE);
  other.map(IOVA, page(2), 4096, READ_WRITE);
  expect([dma(0, true, IOVA, 1n), dma(0, true, IOVA, 2n, 5), cached(guest)]).toEqual([true, true, 2]);
  return { guest, own, other };
}

/** Writes a word of the device's STE, and says so. */
function rewrite(guest: SmmuGuest, index: number, change: (word: bigint) => bigint): bigint {
  const at = steAddress(guest, STREAM) + index * 8;
  const before = guest.memory.readU64(at) ?? 0n;
  guest.memory.writeU64(at, change(before));
  send(guest.unit, guest.memory, [[CFGI_STE | (BigInt(STREAM) << 32n), 1n], [SYNC, 0n]]);
  return before;
}

describe("a translation cache behind a virtual SMMUv3", () => {
  it("forgets what the guest unmaps, of that SubstreamID alone", () => {
    const { guest, own, other } = scene();
    other.unmap(IOVA, 4096);
    expect([cached(guest), guest.dma(0, true, IOVA, 3n, 5), guest.dma(0, true, IOVA, 4n)]).toEqual([1, false, true]);
    own.unmap(IOVA, 4096);
    expect([cached(guest), guest.dma(0, true, IOVA, 5n)]).toEqual([0, false]);
  });

  it("is told that there is no ATS once the guest's driver has taken the device in, and stopped it", () => {
    const guest = smmuGuest({ ats: true });
    const { program, devices } = guest.host;
    const control = (): number => program.pread(devices[0].fd, BigInt(DmaTestRegister.CONTROL), 4)[0];
    expect([control(), guest.dma(0, true, IOVA, 1n), control(), guest.log]).toEqual([1, false, 0, []]);
  });

  it("it is the guest's ATC_INV that does it: one that is lost on the way leaves the device what it holds", () => {
    const { guest, own } = scene();
    const { observer } = guest.unit;
    guest.unit.observer = {
      command: (opcode, fields, words) => (opcode === Op.ATC_INV ? undefined : observer?.command(opcode, fields, words)),
      idle: () => observer?.idle(),
      control: () => observer?.control(),
    };
    own.unmap(IOVA, 4096);
    expect([cached(guest), guest.dma(0, true, IOVA, 3n), guest.memory.readU64(guest.page(1))]).toEqual([2, true, 3n]);
  });

  it("is on as the guest's STE says, EATS=11 being as 00 without DPT", () => {
    const { guest } = scene();
    const write = (): boolean => guest.dma(0, true, IOVA, 3n);
    for (const eats of [0n, 3n]) {
      guest.turnOnCache(0);
      rewrite(guest, 1, (word) => (word & ~EATS) | (eats << 28n));
      // The device turns it off when it is told that there is none, and goes on without.
      expect([cached(guest), write(), write(), cached(guest)], `EATS=${eats}`).toEqual([0, false, true, 0]);
      expect(guest.log.splice(0)).toEqual([expect.stringMatching(/^F_BAD_ATS_TREQ by 00:04\.0 Span=0x1 W=0x1 R=0x1 InputAddr=at 0x400000$/)]);
    }
    rewrite(guest, 1, (word) => (word & ~EATS) | (1n << 28n));
    guest.turnOnCache(0);
    expect([write(), cached(guest)]).toEqual([true, 1]);
  });

  it.each([["stops", 0n], ["passes", 4n]])("nothing of it outlives an STE that %s, of whatever SubstreamID", (_what, config) => {
    const { guest } = scene();
    const before = rewrite(guest, 0, (word) => (word & ~CONFIG) | (config << 1n));
    expect(cached(guest)).toBe(0);
    // What was mapped then is not there when it translates again.
    rewrite(guest, 0, () => before);
    guest.turnOnCache(0);
    expect([guest.dma(0, true, IOVA, 3n), guest.dma(0, true, IOVA, 4n, 5), cached(guest)]).toEqual([true, true, 2]);
  });

  it("nothing of it outlives memory that is taken from the guest", () => {
    const { guest } = scene();
    const { program, iommufd } = guest.host;
    program.ioctl(iommufd, "IOMMU_IOAS_UNMAP", { ioas_id: guest.objects.ioas, iova: 0, length: RAM });
    expect([cached(guest), guest.dma(0, true, IOVA, 3n), guest.dma(0, true, IOVA, 4n, 5)]).toEqual([0, false, false]);
    expect([1, 2].map((index) => guest.memory.readU64(guest.page(index)))).toEqual([1n, 2n]);
  });
});
