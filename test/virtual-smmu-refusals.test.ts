/** A guest's STE that the host refuses: what the guest sees of it, and how it goes on. */
import { IommuError, Prot } from "@iommukit/core";
import { CommandError, Reg } from "@iommukit/hw-smmu/spec";
import { describe, expect, it } from "vitest";
import { type SmmuGuest, smmuGuest, STREAM } from "./guest-smmu.js";
import { CFGI_STE, queueState, send, SYNC } from "./guest-ste.js";

const IOVA = 0x40_0000n;
const RELOAD = [CFGI_STE | (BigInt(STREAM) << 32n), 1n] as const;
const COMPLETE = [SYNC, 0n] as const;

interface Refusal {
  readonly what: string;
  /** A call of the program, refused in the host's place. */
  readonly call?: string;
  /** Bits of the STE, put in on the way to the host: it refuses them itself. */
  readonly bits?: readonly [bigint, bigint];
}

const REFUSALS: readonly Refusal[] = [
  { what: "has no page table for", call: "IOMMU_HWPT_ALLOC" },
  { what: "attaches nothing to", call: "VFIO_DEVICE_ATTACH_IOMMUFD_PT" },
  { what: "takes of no guest: both stages", bits: [1n << 2n, 0n] },
  { what: "takes of no guest: split-stage ATS", bits: [0n, 1n << 29n] },
  { what: "takes of no guest: a bit that is reserved", bits: [1n << 53n, 0n] },
];

/** A guest whose device works, on a host that refuses once `refusing` says so. */
function scene({ call, bits }: Refusal) {
  const host = { refusing: false };
  const guest = smmuGuest({ refuses: (name) => (host.refusing && name === call ? new IommuError("EBUSY", { message: "not now", rule: "test" }) : undefined) });
  const { driver, devices, domain, page, dma, log, objects } = guest;
  const nested = objects.nested.bind(objects);
  objects.nested = (device, [low, high]) => nested(device, host.refusing && bits ? [low | bits[0], high | bits[1]] : [low, high]);
  const space = domain();
  driver.attach(devices[0], 0, space);
  space.map(IOVA, page(1), 4096, Prot.READ | Prot.WRITE);
  expect(dma(0, true, IOVA, 1n)).toBe(true);
  log.length = 0;
  return { host, guest };
}

/** Software has seen the error: the unit goes on with the command that it stopped at. */
function acknowledge({ unit }: SmmuGuest): void {
  unit.write(Reg.GERRORN, 4, unit.read(Reg.GERROR, 4));
}

/** Puts a CMD_SYNC in the place of the command that the queue has stopped at. */
function skip({ unit, memory }: SmmuGuest): void {
  const base = unit.read(Reg.CMDQ_BASE, 8);
  const slot = Number(unit.read(Reg.CMDQ_CONS, 4) & 0xf_ffffn) % 2 ** Number(base & 31n);
  memory.writeU64(Number(base & 0xf_ffff_ffff_ffe0n) + slot * 16, SYNC);
}

describe.each(REFUSALS.map((refusal) => [refusal.what, refusal] as const))("an STE that the host %s", (_what, refusal) => {
  it("ends CFGI_STE in CERROR_ILL, its stream stopped, what follows waiting", () => {
    const { host, guest } = scene(refusal);
    host.refusing = true;
    send(guest.unit, guest.memory, [COMPLETE, RELOAD, COMPLETE, RELOAD, COMPLETE]);
    expect(queueState(guest.unit)).toEqual({ waiting: 4, error: CommandError.ILL, stopped: true });
    expect([guest.dma(0, true, IOVA, 2n), guest.memory.readU64(guest.page(1)), guest.bystander()]).toEqual([false, 1n, true]);
    // To the guest there is nothing wrong with the access; its driver is told by the queue's error.
    expect(guest.log.filter((line) => !line.startsWith("the host refuses"))).toEqual([]);
    expect(guest.log.join("\n")).toContain("the host refuses a guest's STE of stream 0x20");
  });

  it("is tried again when the guest acknowledges the error, and refused again", () => {
    const { host, guest } = scene(refusal);
    host.refusing = true;
    send(guest.unit, guest.memory, [RELOAD, COMPLETE]);
    acknowledge(guest);
    expect(queueState(guest.unit)).toEqual({ waiting: 2, error: CommandError.ILL, stopped: true });
    host.refusing = false;
    acknowledge(guest);
    expect(queueState(guest.unit)).toMatchObject({ waiting: 0, stopped: false });
    expect([guest.dma(0, true, IOVA, 2n), guest.memory.readU64(guest.page(1))]).toEqual([true, 2n]);
  });

  it("is left when the guest puts another command in its place, until it is asked for anew", () => {
    const { host, guest } = scene(refusal);
    host.refusing = true;
    send(guest.unit, guest.memory, [RELOAD, COMPLETE]);
    expect(queueState(guest.unit)).toEqual({ waiting: 2, error: CommandError.ILL, stopped: true });
    host.refusing = false;
    skip(guest);
    acknowledge(guest);
    expect(queueState(guest.unit)).toMatchObject({ waiting: 0, stopped: false });
    expect(guest.dma(0, true, IOVA, 2n)).toBe(false);
    send(guest.unit, guest.memory, [RELOAD, COMPLETE]);
    expect([guest.dma(0, true, IOVA, 3n), guest.memory.readU64(guest.page(1))]).toEqual([true, 3n]);
  });
});
