/** Hostile guests of a virtual SMMUv3. */
import { COMMANDS, Op, Reg } from "@iommukit/hw-smmu/spec";
import { expect, it } from "vitest";
import { DEVICES } from "./guest-history.js";
import { smmuGuest, STREAM } from "./guest-smmu.js";
import { send } from "./guest-ste.js";
import { type HostileGuest, type Random, runHostile } from "./hostile-guest.js";

/** `FUZZ=1000000` for a long run; `SEED` for another one. */
const ACCESSES = Number(process.env.FUZZ ?? 6_000);
const SEED = Number(process.env.SEED ?? 20_261_125);
/** Calls of the host that one register access may cost: a queue of commands, each of which may move every stream. */
const BUDGET = 1024 * (DEVICES * 4 + 1);
const OPCODES = [...COMMANDS.map(({ opcode }) => opcode), 0xff];

/** Commands with fields that mean something, behind the guest's own; the last is a CMD_SYNC. */
function order({ unit, memory }: HostileGuest, random: Random): void {
  const command = (): readonly [bigint, bigint] => [
    BigInt(OPCODES[random(OPCODES.length)]) | (BigInt(random(3)) << 12n) | (BigInt(STREAM + random(DEVICES + 1)) << 32n) | (BigInt(random(4)) << 48n),
    0x40_0000n | BigInt(random(8) * 4096 + random(2)) | BigInt(random(32)),
  ];
  send(unit, memory, [...Array.from({ length: 1 + random(4) }, command), [BigInt(Op.SYNC), 0n]]);
}

function recover({ unit }: HostileGuest): void {
  unit.write(Reg.GERRORN, 4, unit.read(Reg.GERROR, 4));
}

it(`${ACCESSES} accesses of hostile guests: no exception, no work without bound, nothing outside of the guest`, () => {
  // Every other guest's devices have translation caches.
  let guests = 0;
  const { thrown, most, calls, undisturbed } = runHostile({ boot: (refuses) => smmuGuest({ devices: DEVICES, ats: guests++ % 2 === 1, refuses }), pasids: 3, registers: Object.values(Reg), order, recover }, ACCESSES, SEED);
  expect(thrown).toEqual([]);
  expect(undisturbed).toBe(true);
  expect(most).toBeLessThanOrEqual(BUDGET);
  // They got somewhere: the host was asked for all that it can be asked for.
  for (const name of ["IOMMU_HWPT_ALLOC", "IOMMU_HWPT_INVALIDATE", "VFIO_DEVICE_ATTACH_IOMMUFD_PT", "IOMMU_DESTROY"]) expect(calls.get(name) ?? 0, name).toBeGreaterThan(ACCESSES / 500);
}, 3_600_000);
