/** A guest's guest: its driver, a virtual IOMMU, the guest's /dev/iommu and driver, another virtual IOMMU, the host's /dev/iommu, driver and hardware. */
import { type IommuFactory, Prot, SimulatedClient } from "@iommukit/core";
import { smmuIommuFactory } from "@iommukit/hw-smmu/plugin";
import { vtdIommuFactory } from "@iommukit/hw-vtd/plugin";
import { virtioIommuFactory } from "@iommukit/viommu/virtio";
import { GuestMachine, type GuestMachineOptions } from "@iommukit/viommu/guest";
import { describe, expect, it } from "vitest";
import { compareHistories, DEVICES, type HostedGuest } from "./guest-history.js";
import { bareGuest, type Mode, RID } from "./guest-vtd.js";
import { host, openDevice } from "./host-program.js";

/** `HISTORIES=20000` for a long run; `SEED` for others. */
const HISTORIES = Number(process.env.HISTORIES ?? 20);
const SEED = Number(process.env.SEED ?? 20_261_125);
const IOVA = 0x40_0000n;
/** Of the innermost guest, behind its tables. */
const DATA = 0x180_0000;
const READ_WRITE = Prot.READ | Prot.WRITE;

/** What a guest is shown. */
interface How extends Pick<GuestMachineOptions, "factory" | "mode"> {
  /** The kernel of who runs it keeps shadows. */
  readonly children?: boolean;
}

interface Stack extends HostedGuest {
  readonly innermost: GuestMachine;
}

/** @param hows of each guest, the outermost first */
function stack(factory: IommuFactory, hows: readonly How[], devices: number): Stack {
  const below = host(factory, devices);
  const guests: GuestMachine[] = [];
  let { program, iommufd } = below;
  let opened = below.devices;
  for (const { children = false, ...how } of hows) {
    const outer = guests.at(-1);
    if (outer) {
      program = new SimulatedClient(outer.machine.nodes);
      iommufd = program.open("/dev/iommu");
      opened = below.devices.map((_, i) => openDevice(program, iommufd, `vfio${i}`));
    }
    const [own, fd] = [program, iommufd];
    guests.push(new GuestMachine({
      ...how, program, iommufd,
      // Requesters are others in each.
      devices: opened.map((device, i) => ({ ...device, rid: RID + 8 * (hows.length - 1 - guests.length) + i })),
      share: (bytes) => own.memory.map(bytes.length, { bytes, ...(outer ? { physical: outer.plug(bytes) } : {}) }).address,
      ...(children ? { childOf: (parent: number) => Number(own.ioctl(fd, "IOMMUKIT_IOAS_NEST", { parent_ioas_id: parent }).out_ioas_id) } : {}),
    }));
  }
  const innermost = guests[guests.length - 1];
  return {
    innermost,
    host: below, bystander: below.bystander,
    driver: innermost.driver, devices: innermost.devices, log: innermost.faults,
    ram: new Uint8Array(innermost.machine.memory.words.buffer),
    page: (index) => DATA + index * 4096,
    domain: () => innermost.driver.allocPaging(innermost.devices[0], { pasid: true }),
    dma(device, write, iova, value = 0n, pasid) {
      const passed = below.dma(below.devices[device], write, iova, value, pasid);
      for (const guest of guests) guest.service();
      return passed;
    },
    buffer: (device) => below.buffer(below.devices[device]),
  };
}

const vtd = (mode: Mode, children = false): How => ({ factory: vtdIommuFactory, mode, children });
const SMMU: How = { factory: smmuIommuFactory };
const VIRTIO: How = { factory: virtioIommuFactory };

/** By what each guest is shown, the outermost first; the innermost has a VT-d. */
const STACKS: readonly (readonly [name: string, host: IommuFactory, hows: readonly How[], innermost: Mode, pasids: number])[] = [
  ["nested, shadowed", vtdIommuFactory, [vtd("nested"), vtd("shadowed")], "shadowed", 3],
  ["nested, shadowed by the guest's kernel", vtdIommuFactory, [vtd("nested"), vtd("shadowed", true)], "shadowed", 3],
  ["nesting, nested", vtdIommuFactory, [vtd("nesting"), vtd("nested")], "nested", 3],
  ["nesting, nested, on what the host's kernel keeps", vtdIommuFactory, [vtd("nesting", true), vtd("nested")], "nested", 3],
  ["nesting, shadowed", vtdIommuFactory, [vtd("nesting"), vtd("shadowed")], "shadowed", 3],
  ["nested, legacy", vtdIommuFactory, [vtd("nested"), vtd("legacy")], "legacy", 1],
  ["shadowed, shadowed", vtdIommuFactory, [vtd("shadowed"), vtd("shadowed")], "shadowed", 3],
  ["legacy, legacy", vtdIommuFactory, [vtd("legacy"), vtd("legacy")], "legacy", 1],
  ["legacy, legacy on an SMMUv3", smmuIommuFactory, [vtd("legacy"), vtd("legacy")], "legacy", 1],
  ["a nested SMMUv3, legacy", smmuIommuFactory, [SMMU, vtd("legacy")], "legacy", 1],
  ["a nested SMMUv3, shadowed", smmuIommuFactory, [SMMU, vtd("shadowed")], "shadowed", 1],
  ["virtio, legacy", vtdIommuFactory, [VIRTIO, vtd("legacy")], "legacy", 1],
  ["virtio, shadowed, on an SMMUv3", smmuIommuFactory, [VIRTIO, vtd("shadowed")], "shadowed", 1],
  ["nested, virtio, legacy", vtdIommuFactory, [vtd("nested"), VIRTIO, vtd("legacy")], "legacy", 1],
  ["three deep: nesting, nesting, nested", vtdIommuFactory, [vtd("nesting"), vtd("nesting"), vtd("nested")], "nested", 3],
  ["three deep: nested, shadowed, shadowed by the kernel", vtdIommuFactory, [vtd("nested"), vtd("shadowed"), vtd("shadowed", true)], "shadowed", 3],
];

describe.each(STACKS)("a guest's guest: %s", (_name, factory, hows, mode, pasids) => {
  it("translates by all the tables, and stops what it unmaps", () => {
    const { driver, devices, domain, page, dma, innermost: { machine }, log } = stack(factory, hows, 1);
    const space = domain();
    driver.attach(devices[0], 0, space);
    space.map(IOVA, page(1), 4096, READ_WRITE);
    expect([dma(0, true, IOVA + 8n, 7n), machine.memory.readU64(page(1) + 8)]).toEqual([true, 7n]);
    space.unmap(IOVA, 4096);
    expect([dma(0, true, IOVA + 8n, 8n), machine.memory.readU64(page(1) + 8)]).toEqual([false, 7n]);
    expect(log.join("\n")).toMatch(/^write of 0x400000 by 00:03\.0 was blocked/);
  });

  it(`${HISTORIES} histories are the same to it as on hardware of its own`, () => {
    compareHistories(stack(factory, hows, DEVICES), bareGuest(mode, DEVICES), pasids, HISTORIES, SEED);
  }, 3_600_000);
});

it.each([
  ["a first stage on a virtual VT-d", vtdIommuFactory, [vtd("nested"), vtd("nested")], "ECAP.NEST=0"],
  ["an SMMUv3 on a virtual SMMUv3", smmuIommuFactory, [SMMU, SMMU], "smmuv30 has no nested translation"],
] as const)("what a virtual IOMMU does not nest is refused, saying so: %s", (_what, factory, hows, said) => {
  expect(() => stack(factory, hows, 1)).toThrow(said);
});
