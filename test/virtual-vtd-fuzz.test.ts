/** A hostile guest of a virtual VT-d: it writes what it likes, where it likes. */
import { DescriptorType, Gcmd, Reg } from "@iommukit/hw-vtd/spec";
import { expect, it } from "vitest";
import { generator } from "./guest-history.js";
import { type Mode, vtdGuest } from "./guest-vtd.js";

/** `FUZZ=1000000` for a long run; `SEED` for another one. */
const ACCESSES = Number(process.env.FUZZ ?? 20_000);
const SEED = Number(process.env.SEED ?? 20_261_125);
const DEVICES = 2;
/** Calls of the host that one access may cost: a full queue, each descriptor of which has every PASID looked at. */
const BUDGET = 256 * DEVICES * 8;
/** The guest's playground: root, context and PASID tables, queue and page tables, all in each other's way. */
const GROUND = 0x20_0000;
const REGISTERS = Object.values(Reg);
const TYPES = [...Object.values(DescriptorType), 0, 15];

it.each(["nested", "shadowed", "legacy"] as Mode[])(`${ACCESSES} accesses of a guest, %s: no exception, no work without bound, nothing outside of the guest`, (mode) => {
  const random = generator(SEED);
  const { unit, memory, calls, virtual, bystander, devices, dma } = vtdGuest(mode, { devices: DEVICES });
  const scalable = mode !== "legacy";
  const pick = <T>(list: readonly T[]): T => list[random(list.length)];
  const address = (): bigint => pick([BigInt(GROUND + random(8) * 4096), BigInt(GROUND + random(32) * 4096), 0xffff_ffff_f000n, BigInt(random(2 ** 19)) << 12n]);
  const number = (): bigint => pick([0n, 1n, BigInt(random(64)), BigInt(random(2 ** 31)), address(), (BigInt(random(2 ** 31)) << 32n) | BigInt(random(2 ** 31)), 2n ** 64n - 1n]);
  const structures: (() => bigint)[] = [
    () => address() | 1n,
    () => address() | BigInt(random(4)) | (BigInt(random(2)) << 7n),
    // A PASID entry, the upper word of a context entry, a descriptor.
    () => 1n | (BigInt(pick([1, 2, 4])) << 6n) | (2n << 2n) | address(),
    () => BigInt(2 + random(4)) << 8n | 2n,
    () => BigInt(pick(TYPES)) | (BigInt(random(4)) << 4n) | (BigInt(random(8)) << 16n) | (BigInt(random(8)) << 32n),
    () => BigInt(pick(devices).rid) << 32n | BigInt(random(2 ** 16)),
    number,
  ];
  let most = 0;
  for (let i = 0; i < ACCESSES; i++) {
    const kind = random(20);
    if (kind < 9) memory.writeU64(GROUND + random(kind < 5 ? 4096 : 0x4000) * 8, pick(structures)());
    else if (kind < 11) unit.write(pick(REGISTERS), pick([4, 8]), number());
    else if (kind < 12) unit.write(random(0x8000), pick([1, 2, 4, 8]), number());
    else if (kind < 13) {
      unit.write(Reg.RTADDR, 8, address() | (scalable && random(8) > 0 ? 0x400n : 0n));
      unit.write(Reg.IQA, 8, (address() & ~0xfffn) | (scalable ? 0x800n : 0n));
      unit.write(Reg.GCMD, 4, BigInt((Gcmd.TE | Gcmd.SRTP | Gcmd.QIE) >>> 0));
    } else if (kind < 16) unit.write(Reg.IQT, 8, BigInt(random(128) * 32));
    else if (kind < 17) unit.write(Reg.FSTS, 4, 0xffff_ffffn);
    else if (kind < 18) unit.write(Reg.CCMD, 8, (1n << 63n) | (BigInt(random(4)) << 61n) | BigInt(random(2 ** 16)));
    else if (kind < 19) dma(random(DEVICES), random(2) === 0, number() & ~7n, number(), random(3) === 0 && scalable ? random(8) : undefined);
    else unit.read(pick(REGISTERS), pick([4, 8]));
    most = Math.max(most, calls.length);
    calls.length = 0;
    if (i % 1000 === 0) {
      virtual.service();
      expect(bystander()).toBe(true);
    }
  }
  expect(bystander()).toBe(true);
  expect(most).toBeLessThanOrEqual(BUDGET);
  // It got somewhere: the host was asked.
  expect(most).toBeGreaterThan(1);
}, 3_600_000);
