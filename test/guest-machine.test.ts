/** A guest's machine as its own programs see it: devices of the host behind VFIO files of the guest's. */
import { Prot, SimulatedClient } from "@iommukit/core";
import { DmaTestRegister as R } from "@iommukit/core/devices";
import { smmuIommuFactory } from "@iommukit/hw-smmu/plugin";
import { vtdIommuFactory } from "@iommukit/hw-vtd/plugin";
import { GuestMachine } from "@iommukit/viommu/guest";
import { virtioIommuFactory } from "@iommukit/viommu/virtio";
import { describe, expect, it } from "vitest";
import { deviceDma, errno, host, type OpenDevice, openDevice } from "./host-program.js";

const CONFIG = 7n << 40n;
const COMMAND = CONFIG + 4n;
const IOVA = 0x7000_0000n;
/** In the device's register. */
const INTERRUPT_VALID = 0x8000_0000;

/** @param shown unit of the guest; of the host's kind unless given */
function boot(factory = vtdIommuFactory, shown = factory) {
  const below = host(factory, 1);
  const guest = new GuestMachine({ factory: shown, program: below.program, iommufd: below.iommufd, devices: below.devices.map((device) => ({ ...device, rid: 0x40 })) });
  const program = new SimulatedClient(guest.machine.nodes);
  const iommufd = program.open("/dev/iommu");
  return { below, guest, program, iommufd, device: openDevice(program, iommufd, "vfio0") };
}

/** The program's device writes 8 bytes of 1. False: refused. */
const write = (program: SimulatedClient, device: OpenDevice, address: bigint): boolean => deviceDma(program, device, true, address, 0x0101_0101_0101_0101n);

describe.each([
  ["a VT-d, on VT-d", vtdIommuFactory, vtdIommuFactory],
  ["an SMMUv3, on SMMUv3", smmuIommuFactory, smmuIommuFactory],
  ["a virtio-iommu, on VT-d", virtioIommuFactory, vtdIommuFactory],
  ["a virtio-iommu, on SMMUv3", virtioIommuFactory, smmuIommuFactory],
  ["a virtio-iommu, on a virtio-iommu", virtioIommuFactory, virtioIommuFactory],
])("a guest's machine with %s", (_name, shown, factory) => {
  it("runs programs on its own /dev/iommu, whose devices reach what they map of the guest's memory, and nothing else", () => {
    const { guest, program, iommufd, device } = boot(factory, shown);
    const own = guest.allocate(program, 2);
    const ioas = Number(program.ioctl(iommufd, "IOMMU_IOAS_ALLOC").out_ioas_id);
    program.ioctl(device.fd, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { pt_id: ioas, argsz: 12 });
    program.ioctl(iommufd, "IOMMU_IOAS_MAP", { flags: 7, ioas_id: ioas, user_va: own.address, length: 4096, iova: IOVA });
    expect([write(program, device, IOVA + 8n), own.bytes[8]]).toEqual([true, 1]);
    expect(write(program, device, IOVA + 4096n)).toBe(false);
    program.ioctl(iommufd, "IOMMU_IOAS_UNMAP", { ioas_id: ioas, iova: IOVA, length: 4096 });
    expect(write(program, device, IOVA + 8n)).toBe(false);
    guest.service();
    expect(guest.faults).toHaveLength(2);
  });
});

describe("a device of the host in a guest", () => {
  it("says what it is, and has its registers", () => {
    const { below, program, device } = boot();
    const header = (client: SimulatedClient, fd: number): Uint8Array => client.pread(fd, CONFIG, 4);
    expect(header(program, device.fd)).toEqual(header(below.program, below.devices[0].fd));
    expect(new TextDecoder().decode(program.pread(device.fd, BigInt(R.MAGIC), 4))).toBe("DMAT");
    program.pwrite(device.fd, BigInt(R.SOURCE), Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8));
    expect([...below.program.pread(below.devices[0].fd, BigInt(R.SOURCE), 8)]).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
  });

  it("masters the bus only while the guest lets it", () => {
    const { below, guest, program, device } = boot();
    const [known] = guest.devices;
    const domain = guest.driver.allocPaging(known, {});
    guest.driver.attach(known, 0, domain);
    domain.map(IOVA, 0x180_0000, 4096, Prot.READ | Prot.WRITE);
    const passes = (command: number): boolean => {
      program.pwrite(device.fd, COMMAND, Uint8Array.of(command, 0));
      return write(program, device, IOVA);
    };
    expect([passes(2), passes(6), passes(2)]).toEqual([false, true, false]);
    expect(below.bystander()).toBe(true);
  });

  it("interrupts the guest's program, by the messages that it has asked for", () => {
    const { program, device } = boot();
    const [first, second] = [program.eventfd(), program.eventfd()];
    const finish = (vector: number): readonly number[] => {
      program.pwrite(device.fd, BigInt(R.INTERRUPT), new Uint8Array(Uint32Array.of(INTERRUPT_VALID + vector).buffer));
      write(program, device, IOVA);
      return [first, second].map((fd) => program.eventCount(fd));
    };
    expect(finish(2)).toEqual([0, 0]);
    // VFIO_DEVICE_SET_IRQS: eventfds of MSI-X 2 and 3.
    program.rawIoctl(device.fd, 0x3b6e, new Uint8Array(Int32Array.of(28, 4 | 32, 2, 2, 2, first, second).buffer));
    expect([finish(2), finish(3), finish(1)]).toEqual([[1, 0], [0, 1], [0, 0]]);
    program.rawIoctl(device.fd, 0x3b6e, new Uint8Array(Int32Array.of(20, 1 | 32, 2, 0, 0).buffer));
    expect(finish(2)).toEqual([0, 0]);
  });

  it("is reset by the guest's VFIO, and then works again", () => {
    const { below, program, device } = boot();
    write(program, device, IOVA);
    const count = (): number => below.program.pread(below.devices[0].fd, BigInt(R.COUNT), 4)[0];
    expect(count()).toBe(1);
    program.ioctl(device.fd, "VFIO_DEVICE_RESET");
    expect(count()).toBe(0);
    expect([write(program, device, IOVA), count()]).toEqual([false, 1]);
  });
});

it("memory that is plugged in is whole pages", () => {
  const { guest } = boot();
  expect(errno(() => guest.plug(new Uint8Array(100)))).toBe("EINVAL");
  expect(guest.plug(new Uint8Array(4096))).toBe(guest.plug(new Uint8Array(4096)) - 0x20_0000);
});

it("devices that share PASIDs on the host are one requester in the guest (R19)", () => {
  const below = host(vtdIommuFactory, 2);
  const boots = (): unknown => new GuestMachine({ factory: vtdIommuFactory, program: below.program, iommufd: below.iommufd, devices: below.devices.map((device, i) => ({ ...device, rid: 0x40 + i, pasidSpace: 1 })) });
  expect(boots).toThrow("PASID number space 1");
});

it("what no virtual IOMMU stands behind is refused", () => {
  const below = host(vtdIommuFactory, 1);
  const boots = (factory = vtdIommuFactory, devices = below.devices): unknown => new GuestMachine({ factory, program: below.program, iommufd: below.iommufd, devices: devices.map((device) => ({ ...device, rid: 0x40 })) });
  expect([errno(() => boots(smmuIommuFactory)), errno(() => boots(vtdIommuFactory, []))]).toEqual(["EINVAL", "EINVAL"]);
});
