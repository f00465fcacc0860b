/** A device that is no function of the bus, bound as software, and nodes that come and go. */
import { beforeEach, describe, expect, it } from "vitest";
import type { PciDevice, PciHost } from "../devices/types.js";
import { IommuError } from "../errors.js";
import { SimulatedClient } from "../files/simulated-client.js";
import type { SysfsChange } from "../files/types.js";
import { SoftwareBinding } from "../iommufd/software-binding.js";
import type { PinnedRange, SoftwareMemory } from "../iommufd/software-memory.js";
import { MachineNodes, type VfioPresence } from "../machine/nodes.js";
import { PLATFORMS } from "../machine/platforms.js";
import type { Interval } from "../memory/interval.js";
import { PhysicalMemory } from "../memory/physical-memory.js";
import { ClientWindows } from "../memory/windows.js";
import { Tracer } from "../trace.js";
import type { VfioDevice } from "./open-device.js";
import { PciFunction } from "./pci-function.js";

const PAGE = 4096n;
const HOME = "/sys/devices/virtual/test/one";
const ALL = { start: 0n, last: 2n ** 64n - 1n };
const FLAG = { FIXED_WRITABLE_READABLE: 7, FIXED_READABLE: 5 } as const;
const IRQ = { MSI: 1, EVENTFD_TRIGGER: 0x24 } as const;

/** Pins what it is told to, and lets go when it is asked, unless it is stubborn. */
class Software {
  memory: SoftwareMemory | undefined;
  readonly asked: Interval[] = [];
  readonly pinned: PinnedRange[] = [];
  stubborn = false;
  during: (() => void) | undefined;

  pin(iova: bigint, length: bigint): void {
    if (this.memory) this.pinned.push(this.memory.pin(iova, length, true));
  }

  bound(memory: SoftwareMemory): void {
    this.memory = memory;
  }

  unmapping(range: Interval): void {
    this.asked.push({ start: range.start, last: range.last });
    this.during?.();
    if (this.stubborn) return;
    for (const range of this.pinned.splice(0)) range.unpin();
  }

  unbound(): void {
    this.memory = undefined;
  }
}

const refusal = (run: () => unknown): string => {
  try {
    run();
  } catch (error) {
    if (error instanceof IommuError) return error.errno;
    throw error;
  }
  return "none";
};

let nodes: MachineNodes;
let client: SimulatedClient;
let software: Software;
let host: PciHost;
let device: VfioDevice;
let presence: VfioPresence;
let changes: SysfsChange[];

beforeEach(() => {
  nodes = new MachineNodes(new ClientWindows(new PhysicalMemory(), 0x10_0000_0000, 2 ** 40), new Tracer());
  changes = [];
  nodes.watch((change) => changes.push(change));
  software = new Software();
  const pci = new PciFunction("one", { multiFunction: false, platform: PLATFORMS.pc }, (around): PciDevice => {
    host = around;
    return {
      identity: { vendorId: 0x1234, deviceId: 1, classCode: 0xff0000, revision: 0 },
      bars: [{ index: 0, size: 4096 }],
      pasidBits: 0,
      ats: false,
      resettable: true,
      interrupts: { intx: false, msiVectors: 1, msixVectors: 0 },
      readBar: (_bar, offset) => BigInt(offset),
      writeBar: () => undefined,
      reset: () => undefined,
    };
  });
  device = { pci, binding: new SoftwareBinding(software), group: nodes.newGroup(), exportsBars: false, mediated: true, open: undefined, holders: 0 };
  presence = nodes.addDevice(device, HOME);
  client = new SimulatedClient(nodes);
});

interface Bound {
  readonly iommufd: number;
  readonly fd: number;
  readonly devid: number;
  readonly ioas: number;
}

function bind(): Bound {
  const iommufd = client.open("/dev/iommu");
  const fd = client.open("/dev/vfio/devices/vfio0");
  const devid = Number(client.ioctl(fd, "VFIO_DEVICE_BIND_IOMMUFD", { iommufd }).out_devid);
  const ioas = Number(client.ioctl(iommufd, "IOMMU_IOAS_ALLOC").out_ioas_id);
  return { iommufd, fd, devid, ioas };
}

const attach = (fd: number, ptId: number, flags = 0): unknown => client.ioctl(fd, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { flags, pt_id: ptId }).pt_id;

function map({ iommufd, ioas }: Bound, iova: bigint, length: bigint, flags: number = FLAG.FIXED_WRITABLE_READABLE): void {
  client.ioctl(iommufd, "IOMMU_IOAS_MAP", { flags, ioas_id: ioas, user_va: client.memory.map(Number(length)).address, length, iova });
}

describe("a software device", () => {
  it("is bound as an access, which is no device to iommufd", () => {
    const { iommufd, devid } = bind();
    expect(refusal(() => client.ioctl(iommufd, "IOMMU_GET_HW_INFO", { dev_id: devid }))).toBe("ENOENT");
    expect(refusal(() => client.ioctl(iommufd, "IOMMU_DESTROY", { id: devid }))).toBe("EBUSY");
    expect(device.group.owner).toBeUndefined();
  });

  it("attaches to IOASes alone, without PASID; a second attach replaces", () => {
    const { iommufd, fd, devid, ioas } = bind();
    const other = Number(client.ioctl(iommufd, "IOMMU_IOAS_ALLOC").out_ioas_id);
    expect(refusal(() => attach(fd, devid))).toBe("ENOENT");
    expect(refusal(() => attach(fd, 77))).toBe("ENOENT");
    expect(refusal(() => attach(fd, ioas, 1))).toBe("EOPNOTSUPP");
    expect(refusal(() => client.ioctl(fd, "VFIO_DEVICE_DETACH_IOMMUFD_PT", { flags: 1, pasid: 3 }))).toBe("EOPNOTSUPP");
    expect(attach(fd, ioas)).toBe(ioas);
    expect(attach(fd, other)).toBe(other);
    expect(software.asked).toEqual([ALL]);
    expect(attach(fd, other)).toBe(other);
    expect(software.asked.length).toBe(1);
    client.ioctl(iommufd, "IOMMU_DESTROY", { id: ioas });
    expect(refusal(() => client.ioctl(iommufd, "IOMMU_DESTROY", { id: other }))).toBe("EBUSY");
    client.ioctl(fd, "VFIO_DEVICE_DETACH_IOMMUFD_PT");
    client.ioctl(iommufd, "IOMMU_DESTROY", { id: other });
  });

  it("reads and writes memory by IOVA, as far as it was mapped for that", () => {
    const bound = bind();
    const bytes = Uint8Array.of(1, 2, 3);
    const copy = (iova: bigint, write: boolean): void => (write ? software.memory?.write(iova, bytes) : software.memory?.read(iova, bytes));
    expect(refusal(() => copy(0n, false))).toBe("ENOENT");
    attach(bound.fd, bound.ioas);
    map(bound, 0x1000n, PAGE);
    map(bound, 0x2000n, PAGE, FLAG.FIXED_READABLE);
    copy(0x1001n, true);
    bytes.fill(0);
    copy(0x1001n, false);
    expect([...bytes]).toEqual([1, 2, 3]);
    expect(refusal(() => copy(0x2000n, true))).toBe("EPERM");
    expect(refusal(() => copy(0x1fffn, true))).toBe("EPERM");
    expect(refusal(() => copy(0x2fffn, false))).toBe("ENOENT");
    expect(refusal(() => software.pin(0x2000n, PAGE))).toBe("EPERM");
    expect(refusal(() => software.pin(0x1000n, 2n * PAGE))).toBe("EPERM");
    software.pin(0x1ff0n, 16n);
    expect(software.pinned[0]).toMatchObject({ iova: 0x1000n, length: PAGE });
    software.pinned[0].read(1, bytes.fill(0));
    expect([...bytes]).toEqual([1, 2, 3]);
    software.pinned[0].write(2, Uint8Array.of(9));
    software.memory?.read(0x1001n, bytes);
    expect([...bytes]).toEqual([1, 9, 3]);
  });

  it("is asked for its pins before UNMAP, by the whole area", () => {
    const bound = bind();
    attach(bound.fd, bound.ioas);
    map(bound, 0x10000n, 4n * PAGE);
    software.pin(0x11000n, PAGE);
    software.during = () => expect(refusal(() => software.memory?.pin(0x10000n, PAGE, true))).toBe("EINVAL");
    client.ioctl(bound.iommufd, "IOMMU_IOAS_UNMAP", { ioas_id: bound.ioas, iova: 0x10000n, length: 4n * PAGE });
    expect(software.asked).toEqual([{ start: 0x10000n, last: 0x13fffn }]);
  });

  it("that keeps its pins makes UNMAP give up, and pins nothing more there", () => {
    const bound = bind();
    attach(bound.fd, bound.ioas);
    map(bound, 0x10000n, 2n * PAGE);
    software.pin(0x10000n, PAGE);
    software.stubborn = true;
    const unmap = (): unknown => client.ioctl(bound.iommufd, "IOMMU_IOAS_UNMAP", { ioas_id: bound.ioas, iova: 0x10000n, length: 2n * PAGE });
    expect(refusal(unmap)).toBe("EDEADLK");
    expect(software.asked.length).toBe(101);
    expect(refusal(() => software.pin(0x11000n, PAGE))).toBe("EINVAL");
    expect(refusal(() => software.memory?.read(0x11000n, new Uint8Array(1)))).toBe("EINVAL");
    software.stubborn = false;
    unmap();
    map(bound, 0x10000n, 2n * PAGE);
    software.pin(0x11000n, PAGE);
  });

  it("loses its pins with the last close, and cannot pin while it loses them", () => {
    const bound = bind();
    attach(bound.fd, bound.ioas);
    map(bound, 0x1000n, PAGE);
    software.pin(0x1000n, PAGE);
    software.during = () => expect(refusal(() => software.memory?.pin(0x1000n, PAGE, true))).toBe("ENOENT");
    client.close(bound.fd);
    expect(software.asked).toEqual([ALL]);
    expect(software.memory).toBeUndefined();
    expect(refusal(() => client.ioctl(bound.iommufd, "IOMMU_DESTROY", { id: bound.devid }))).toBe("ENOENT");
    client.ioctl(bound.iommufd, "IOMMU_IOAS_UNMAP", { ioas_id: bound.ioas, iova: 0x1000n, length: PAGE });
  });

  it("interrupts without bus mastering, and knows none of vfio-pci's own requests", () => {
    const { fd } = bind();
    const event = client.eventfd();
    const request = new Uint8Array(24);
    new Uint32Array(request.buffer).set([24, IRQ.EVENTFD_TRIGGER, IRQ.MSI, 0, 1, event]);
    client.rawIoctl(fd, 0x3b6e, request);
    host.interrupt(0);
    expect(client.eventCount(event)).toBe(1);
    for (const name of ["VFIO_DEVICE_GET_PCI_HOT_RESET_INFO", "VFIO_DEVICE_PCI_HOT_RESET", "VFIO_DEVICE_IOEVENTFD"]) {
      expect(refusal(() => client.ioctl(fd, name))).toBe("ENOTTY");
    }
    expect(refusal(() => client.ioctl(fd, "VFIO_DEVICE_FEATURE", { flags: 0x4_0003 }))).toBe("ENOTTY");
    client.ioctl(fd, "VFIO_DEVICE_RESET");
    expect([...client.pread(fd, 0n, 4)]).toEqual([0, 0, 0, 0]);
  });

  it("opens through its group, attached to the container's IOAS", () => {
    const iommufd = client.open("/dev/iommu");
    const group = client.open("/dev/vfio/0");
    const number = new Uint8Array(4);
    new Int32Array(number.buffer)[0] = iommufd;
    client.rawIoctl(group, 0x3b68, number);
    const name = Uint8Array.from([..."one\0"].map((c) => c.charCodeAt(0)));
    const fd = client.rawIoctl(group, 0x3b6a, name);
    expect(refusal(() => software.memory?.read(0n, new Uint8Array(1)))).toBe("ENOENT");
    const dma = new Uint8Array(32);
    new BigUint64Array(dma.buffer, 8).set([client.memory.map(4096).address, 0n, PAGE]);
    new Uint32Array(dma.buffer).set([32, 3]);
    client.rawIoctl(iommufd, 0x3b71, dma);
    software.memory?.read(0n, new Uint8Array(1));
    client.close(fd);
    expect(software.memory).toBeUndefined();
  });
});

describe("nodes that come and go", () => {
  it("have the first free numbers", () => {
    const second = nodes.addDevice({ ...device, group: nodes.newGroup() }, `${HOME}2`);
    expect([presence.node, second.node, nodes.paths]).toEqual(["vfio0", "vfio1", ["/dev/iommu", "/dev/vfio/vfio", "/dev/vfio/0", "/dev/vfio/1", "/dev/vfio/devices/vfio0", "/dev/vfio/devices/vfio1"]]);
    presence.remove();
    expect(nodes.newGroup().id).toBe(0);
    expect(nodes.addDevice({ ...device, group: nodes.newGroup() }, `${HOME}3`).node).toBe("vfio0");
  });

  it("leave nothing behind in /sys", () => {
    const paths = changes.flatMap(({ added }) => added.map(({ path }) => path));
    expect(paths).toContain(`${HOME}/vfio-dev/vfio0/dev`);
    expect(paths).toContain("/sys/kernel/iommu_groups/0/devices/one");
    changes = [];
    presence.remove();
    presence.remove();
    expect(changes.flatMap(({ removed }) => removed)).toContain(`${HOME}/vfio-dev`);
    expect(nodes.sysfs.map(({ path }) => path)).toEqual(["/dev/vfio/vfio"]);
    expect(refusal(() => client.open("/dev/vfio/devices/vfio0"))).toBe("ENOENT");
    expect(refusal(() => client.open("/dev/vfio/0"))).toBe("ENOENT");
  });

  it("stay for who has them open, and tell when nobody has", () => {
    let idle = 0;
    device.idle = () => idle++;
    const { fd, iommufd } = bind();
    presence.remove();
    expect(client.pread(fd, 4n, 1)).toEqual(Uint8Array.of(4));
    expect(idle).toBe(0);
    client.close(iommufd);
    client.close(fd);
    expect([idle, device.holders]).toEqual([1, 0]);
  });

  it("have attributes that take writes, along any path that leads there", () => {
    const texts: string[] = [];
    nodes.tree.add([
      { path: `${HOME}/create`, kind: "attribute", store: (text) => void texts.push(text) },
      { path: "/sys/class/test/one", kind: "link", target: "../../devices/virtual/test/one" },
      { path: "/sys/loop", kind: "link", target: "loop" },
    ]);
    const write = (path: string): number => client.write(client.open(path), new TextEncoder().encode("hello\n"));
    expect(write(`${HOME}/create`)).toBe(6);
    expect(write("/sys/class/test/one/create")).toBe(6);
    expect(write("/sys/class/test/../test/./one//create")).toBe(6);
    expect(texts).toEqual(["hello\n", "hello\n", "hello\n"]);
    const stale = client.open(`${HOME}/create`);
    nodes.tree.add([{ path: `${HOME}/create`, kind: "attribute", store: () => undefined }]);
    expect(refusal(() => client.write(stale, new Uint8Array(1)))).toBe("ENODEV");
    for (const path of ["/sys/loop", "/sys/class/test/one", `${HOME}/vfio-dev/vfio0/dev`, "/sys/../../../x"]) expect(refusal(() => client.open(path))).toBe("ENOENT");
  });
});
