/** A hostile guest of a virtual SMMUv3: it writes what it likes, where it likes. */
import { COMMANDS, Cr0, Op, Reg } from "@iommukit/hw-smmu/spec";
import { expect, it } from "vitest";
import { smmuGuest } from "./guest-smmu.js";

/** `FUZZ=1000000` for a long run; `SEED` for another one. */
const ACCESSES = Number(process.env.FUZZ ?? 20_000);
const SEED = Number(process.env.SEED ?? 20_261_125);
const DEVICES = 2;
/** Entries of the largest command queue that a guest has, and ioctls that one command may cost for each device. */
const BUDGET = 1024 * (DEVICES * 4 + 1);
/** The guest's playground: queues, stream table, context descriptors, page tables, all in each other's way. */
const GROUND = 0x20_0000;
const REGISTERS = Object.values(Reg);
const OPCODES = [...COMMANDS.map(({ opcode }) => opcode), 0, 0xff];

function generator(seed: number): (n: number) => number {
  let state = seed >>> 0;
  return (n) => {
    state = (Math.imul(state ^ (state >>> 15), 0x2c1b_3c6d) + 0x9e37_79b9) >>> 0;
    state = (state ^ (state >>> 12)) >>> 0;
    return state % n;
  };
}

it(`${ACCESSES} accesses: no exception, no work without bound, nothing outside of the guest`, () => {
  const random = generator(SEED);
  const { unit, memory, calls, virtual, bystander, devices, dma } = smmuGuest(DEVICES);
  const pick = <T>(list: readonly T[]): T => list[random(list.length)];
  const address = (): bigint => pick([BigInt(GROUND + random(16) * 64), BigInt(GROUND + random(64) * 4096), 0xffff_ffff_f000n, BigInt(random(2 ** 31))]);
  const number = (): bigint => pick([0n, 1n, BigInt(random(64)), BigInt(random(2 ** 31)), address(), (BigInt(random(2 ** 31)) << 32n) | BigInt(random(2 ** 31)), 2n ** 64n - 1n]);
  const structures: (() => bigint)[] = [
    // An STE or CD that says something, a descriptor of a table, a command.
    () => 1n | (BigInt(random(8)) << 1n) | (address() & 0xf_ffff_ffff_ffc0n) | (BigInt(random(9)) << 59n),
    () => (address() & ~0xfffn) | BigInt(random(4)) | 0x400n,
    () => BigInt(pick(OPCODES)) | (BigInt(pick(devices).rid) << 32n) | (BigInt(random(2)) << 63n),
    () => BigInt(Op.SYNC) | (BigInt(random(4)) << 12n),
    number,
  ];
  let most = 0;
  for (let i = 0; i < ACCESSES; i++) {
    const kind = random(20);
    if (kind < 8) memory.writeU64(GROUND + random(kind < 4 ? 128 : 0x4000) * 8, pick(structures)());
    else if (kind < 12) unit.write(pick(REGISTERS), pick([4, 8]), number());
    else if (kind < 13) unit.write(random(0x2_0000), pick([1, 2, 4, 8]), number());
    else if (kind < 14) {
      // Off, so that what is guarded can be written, and on again.
      unit.write(Reg.CR0, 4, 0n);
      for (const [register, size] of [[Reg.STRTAB_BASE, 8], [Reg.STRTAB_BASE_CFG, 4], [Reg.CMDQ_BASE, 8], [Reg.EVENTQ_BASE, 8]] as const) unit.write(register, size, size === 8 ? address() | BigInt(random(12)) : BigInt(random(12)) | (BigInt(pick([0, 0, 1])) << 16n));
      unit.write(Reg.CR0, 4, BigInt(Cr0.SMMUEN | Cr0.CMDQEN | Cr0.EVENTQEN));
    } else if (kind < 17) unit.write(Reg.CMDQ_PROD, 4, BigInt(random(2048)));
    else if (kind < 18) unit.write(Reg.GERRORN, 4, unit.read(Reg.GERROR, 4));
    else if (kind < 19) dma(random(DEVICES), random(2) === 0, number() & ~7n, number());
    else unit.read(pick(REGISTERS), pick([4, 8]));
    most = Math.max(most, calls.length);
    (calls as string[]).length = 0;
    if (i % 1000 === 0) {
      virtual.service();
      expect(bystander()).toBe(true);
    }
  }
  expect(bystander()).toBe(true);
  expect(most).toBeLessThanOrEqual(BUDGET);
  // It got somewhere: the host was asked.
  expect(most).toBeGreaterThan(4);
}, 3_600_000);
