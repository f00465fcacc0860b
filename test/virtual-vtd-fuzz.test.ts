/** Hostile guests of a virtual VT-d. */
import { DescriptorType, Fsts, Reg } from "@iommukit/hw-vtd/spec";
import { expect, it } from "vitest";
import { adiMachine } from "../packages/mdev/src/rig/adi-rig.js";
import { MdevGuest, neighbour } from "./guest-mdevs.js";
import { type Mode, RID, vtdGuest } from "./guest-vtd.js";
import { DEVICES } from "./guest-history.js";
import { type HostileGuest, type Hostility, type Random, runHostile } from "./hostile-guest.js";

/** `FUZZ=1000000` for a long run; `SEED` for another one. */
const ACCESSES = Number(process.env.FUZZ ?? 6_000);
const SEED = Number(process.env.SEED ?? 20_261_125);
/** Calls of the host that one register access may cost: a page of descriptors, each of which may move every PASID that the guest has. */
const BUDGET = 128 * DEVICES * 16;
const TYPES = Object.values(DescriptorType);

/** A descriptor with fields that mean something, behind the guest's own. */
function order({ unit, memory }: HostileGuest, random: Random): void {
  const address = unit.read(Reg.IQA, 8);
  const wide = (address & 0x800n) !== 0n;
  const bytes = 2 ** (12 + Number(address & 7n));
  const tail = Number(unit.read(Reg.IQT, 8)) % bytes;
  const at = Number(address >> 12n) * 4096 + tail;
  const low = BigInt(TYPES[random(TYPES.length)]) | (BigInt(random(4)) << 4n) | (BigInt(random(6)) << 16n) | (BigInt(random(2) === 0 ? random(4) : RID + random(DEVICES)) << 32n);
  for (const [i, word] of [low, 0x40_0000n | BigInt(random(8) * 4096 + random(4)), 0n, 0n].entries()) if (wide || i < 2) memory.writeU64(at + i * 8, word);
  unit.write(Reg.IQT, 8, BigInt((tail + (wide ? 32 : 16)) % bytes));
}

function recover({ unit }: HostileGuest): void {
  unit.write(Reg.FSTS, 4, BigInt(Fsts.IQE | Fsts.ITE | Fsts.ICE | Fsts.PFO));
}

/** Devices that share PASIDs on the wire, at places of the guest where they should not be: the host refuses much of what is asked for. */
function mdevs(refuses: (name: string) => Error | undefined): HostileGuest {
  const machine = adiMachine(1, { pri: false });
  const guest = new MdevGuest(machine, "idxd-1swq-v1", { rids: Array.from({ length: DEVICES }, (_, i) => RID + i), refuses });
  const bystander = neighbour(machine);
  return {
    ...guest.system, calls: guest.calls, bystander,
    dma: (device, _write, _iova, _value, pasid = 1) => guest.submit(device, pasid),
    buffer: () => 0n,
  };
}

const functions = (mode: Mode) => (refuses: (name: string) => Error | undefined): HostileGuest => vtdGuest(mode, { devices: DEVICES, refuses });

const MODES: readonly (readonly [string, Hostility["boot"], number, readonly string[]])[] = [
  ["nested", functions("nested"), 3, ["IOMMU_HWPT_ALLOC", "IOMMU_HWPT_INVALIDATE", "VFIO_DEVICE_DETACH_IOMMUFD_PT", "IOMMU_DESTROY"]],
  ["nesting", functions("nesting"), 3, ["IOMMU_HWPT_ALLOC", "IOMMU_HWPT_INVALIDATE", "VFIO_DEVICE_DETACH_IOMMUFD_PT", "IOMMU_DESTROY"]],
  ["shadowed", functions("shadowed"), 3, ["IOMMU_IOAS_ALLOC", "IOMMU_IOAS_MAP", "IOMMU_IOAS_UNMAP", "IOMMU_DESTROY"]],
  ["legacy", functions("legacy"), 1, ["IOMMU_IOAS_ALLOC", "IOMMU_IOAS_MAP", "IOMMU_IOAS_UNMAP", "IOMMU_DESTROY"]],
  ["mediated devices", mdevs, 3, ["IOMMU_HWPT_ALLOC", "IOMMU_HWPT_INVALIDATE", "VFIO_DEVICE_DETACH_IOMMUFD_PT", "IOMMU_DESTROY"]],
];

it.each(MODES)(`${ACCESSES} accesses of hostile guests, %s: no exception, no work without bound, nothing outside of the guest`, (_name, boot, pasids, reached) => {
  const { thrown, most, calls, undisturbed } = runHostile({ boot, pasids, registers: Object.values(Reg), order, recover }, ACCESSES, SEED);
  expect(thrown).toEqual([]);
  expect(undisturbed).toBe(true);
  expect(most).toBeLessThanOrEqual(BUDGET);
  // They got somewhere: the host was asked for all that it can be asked for.
  for (const name of reached) expect(calls.get(name) ?? 0, name).toBeGreaterThan(ACCESSES / 500);
}, 3_600_000);
