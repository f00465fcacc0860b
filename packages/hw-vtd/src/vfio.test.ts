/** VFIO device files and groups, with a real unit behind them: what the rules of the uAPI say beyond the recorded transcripts. */
import { buildMachine, IommuError, SimulatedClient } from "@iommukit/core";
import { DmaTestCommand, DmaTestRegister as R, DmaTestStatus, dmaTestModel, eduModel } from "@iommukit/core/devices";
import { beforeEach, describe, expect, it } from "vitest";
import { vtdIommuFactory } from "./plugin.js";

const CONFIG = 7n << 40n;
const BAR2 = 2n << 40n;
const SET_IRQS = 0x3b6e;
const FEATURE = 0x3b75;
const IOEVENTFD = 0x3b74;
const ATTACH = 0x3b77;
const GET_DEVICE_FD = 0x3b6a;
const SET_CONTAINER = 0x3b68;
const UNSET_CONTAINER = 0x3b69;
const EDU_RAISE = 0x60n;
const EDU_ACK = 0x64n;

const words = (...list: number[]): Uint8Array => new Uint8Array(Uint32Array.from(list).buffer);

function errno(run: () => unknown): string {
  try {
    run();
    return "success";
  } catch (error) {
    if (!(error instanceof IommuError)) throw error;
    return error.errno;
  }
}

let client: SimulatedClient;
let iommu: number;

beforeEach(() => {
  const devices = [
    { model: "dma-test", bdf: "00:03.0", vfio: "vfio0" },
    { model: "dma-test", bdf: "00:04.0", vfio: "vfio1" },
    { model: "edu", bdf: "00:05.0", vfio: "vfio2" },
  ];
  const machine = buildMachine({ name: "vfio", memory: { size: "256MiB" }, iommus: [{ type: "vtd" }], devices }, { iommus: [vtdIommuFactory], devices: [dmaTestModel, eduModel] });
  client = new SimulatedClient(machine.nodes);
  iommu = client.open("/dev/iommu");
});

function bound(name: string): number {
  const device = client.open(`/dev/vfio/devices/${name}`);
  client.ioctl(device, "VFIO_DEVICE_BIND_IOMMUFD", { iommufd: iommu });
  client.pwrite(device, CONFIG + 4n, Uint8Array.of(6, 0));
  return device;
}

const newIoas = (): number => Number(client.ioctl(iommu, "IOMMU_IOAS_ALLOC").out_ioas_id);
const put = (device: number, register: number, value: bigint, size = 8): void => {
  client.pwrite(device, BigInt(register), new Uint8Array(BigUint64Array.of(value).buffer).subarray(0, size));
};

function dmaWrite(device: number, iova: bigint, value: number): number {
  put(device, R.BUFFER, BigInt(value), 1);
  put(device, R.DESTINATION, iova);
  put(device, R.LENGTH, 1n, 4);
  put(device, R.COMMAND, BigInt(DmaTestCommand.WRITE), 4);
  return client.pread(device, BigInt(R.STATUS), 4)[0];
}

describe("a VFIO device", () => {
  it("reads no more of a struct than it needs, whatever argsz says", () => {
    const device = bound("vfio0");
    const ioas = newIoas();
    const page = client.memory.map(4096);
    const end = page.address + 4096n;
    client.memory.write(end - 12n, words(0xffff, 0, ioas));
    expect(errno(() => client.rawIoctl(device, ATTACH, end - 12n))).toBe("success");
  });

  it("keeps attachments with a PASID, 0 among them, apart from that of the function itself", () => {
    const device = bound("vfio0");
    const [first, second] = [newIoas(), newIoas()];
    const attach = (flags: number, pt_id: number): string => errno(() => client.ioctl(device, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { flags, pt_id, pasid: 0 }));
    const detach = (flags: number): string => errno(() => client.ioctl(device, "VFIO_DEVICE_DETACH_IOMMUFD_PT", { flags, pasid: 0 }));
    expect(attach(1, first)).toBe("success");
    expect(attach(1, second)).toBe("success");
    expect(attach(0, first)).toBe("EBUSY");
    expect(detach(0)).toBe("success");
    expect(errno(() => client.ioctl(iommu, "IOMMU_DESTROY", { id: second }))).toBe("EBUSY");
    expect(detach(1)).toBe("success");
    expect(errno(() => client.ioctl(iommu, "IOMMU_DESTROY", { id: second }))).toBe("success");
    expect(attach(0, first)).toBe("success");
    expect(detach(1)).toBe("success");
    expect(errno(() => client.ioctl(iommu, "IOMMU_DESTROY", { id: first }))).toBe("EBUSY");
  });

  it("refuses an access across the end of configuration space, and takes one of no bytes anywhere", () => {
    const device = bound("vfio0");
    expect(client.pread(device, CONFIG + 252n, 4)).toHaveLength(4);
    expect(errno(() => client.pread(device, CONFIG + 254n, 4))).toBe("EFAULT");
    expect(client.pread(device, 99n << 40n, 0)).toHaveLength(0);
  });

  it("takes a VF token for a bad pointer or a wrong argument", () => {
    const device = client.open("/dev/vfio/devices/vfio0");
    const bind = (token_uuid_ptr: bigint): string => errno(() => client.ioctl(device, "VFIO_DEVICE_BIND_IOMMUFD", { iommufd: iommu, flags: 1, token_uuid_ptr }));
    expect(bind(0x10n)).toBe("EFAULT");
    expect(bind(client.memory.map(4096).address)).toBe("EINVAL");
  });

  it("leaves its mapped registers in low power until it is woken", () => {
    const device = bound("vfio0");
    const file = client.file(device);
    if (file === undefined || file.kind !== undefined) throw new Error("not a device");
    const region = file.mmap?.(client, { position: BAR2, length: 4096, shared: true, executable: false });
    const read = (): string => errno(() => region?.backend.read(0, new Uint8Array(4)));
    const feature = (index: number): string => errno(() => client.rawIoctl(device, FEATURE, words(8, index | (1 << 17))));
    expect(read()).toBe("success");
    expect(feature(3)).toBe("success");
    expect(feature(3)).toBe("EINVAL");
    expect(read()).toBe("EFAULT");
    expect(errno(() => client.pread(device, BAR2, 4))).toBe("success");
    expect(feature(5)).toBe("success");
    expect(read()).toBe("success");
    const wakeup = client.eventfd();
    expect(errno(() => client.rawIoctl(device, FEATURE, words(16, 4 | (1 << 17), 999, 0)))).toBe("EBADF");
    expect(errno(() => client.rawIoctl(device, FEATURE, words(16, 4 | (1 << 17), wakeup, 1)))).toBe("EINVAL");
    expect(errno(() => client.rawIoctl(device, FEATURE, words(16, 4 | (1 << 17), wakeup, 0)))).toBe("success");
    expect(read()).toBe("EFAULT");
  });

  it("writes a register whenever an eventfd is signalled", () => {
    const device = bound("vfio0");
    const event = client.eventfd();
    const request = (fd: number, width = 4): string => errno(() => client.rawIoctl(device, IOEVENTFD, words(32, width, R.SOURCE, 0, 0x1234, 0, fd, 0)));
    expect(request(-1 >>> 0)).toBe("ENODEV");
    expect(request(event, 8)).toBe("EINVAL");
    expect(request(event)).toBe("success");
    expect(request(event)).toBe("EEXIST");
    client.signal(event);
    expect([...client.pread(device, BigInt(R.SOURCE), 4)]).toEqual([0x34, 0x12, 0, 0]);
    put(device, R.SOURCE, 0n);
    expect(request(-1 >>> 0)).toBe("success");
    client.signal(event);
    expect([...client.pread(device, BigInt(R.SOURCE), 4)]).toEqual([0, 0, 0, 0]);
    expect(client.eventCount(event)).toBe(1);
  });
});

describe("interrupts of a VFIO device", () => {
  const trigger = (device: number, index: number, ...fds: number[]): string => errno(() => client.rawIoctl(device, SET_IRQS, words(20 + 4 * fds.length, 0x24, index, 0, fds.length, ...fds)));

  it("of INTx are unmasked by an eventfd", () => {
    const device = bound("vfio2");
    const [pin, unmask, memory] = [client.eventfd(), client.eventfd(), client.memfd(4096)];
    const unmaskBy = (fd: number): string => errno(() => client.rawIoctl(device, SET_IRQS, words(24, 0x14, 0, 0, 1, fd)));
    expect(unmaskBy(unmask)).toBe("EINVAL");
    expect(trigger(device, 0, pin)).toBe("success");
    expect(unmaskBy(memory)).toBe("EINVAL");
    expect(unmaskBy(unmask)).toBe("success");
    expect(unmaskBy(unmask)).toBe("EBUSY");
    client.pwrite(device, EDU_RAISE, words(1));
    client.pwrite(device, EDU_RAISE, words(2));
    expect(client.eventCount(pin)).toBe(1);
    client.signal(unmask);
    expect(client.eventCount(unmask)).toBe(0);
    expect(client.eventCount(pin)).toBe(1);
    client.pwrite(device, EDU_ACK, words(3));
    client.signal(unmask);
    client.pwrite(device, EDU_RAISE, words(1));
    expect(client.eventCount(pin)).toBe(1);
    expect(unmaskBy(-1 >>> 0)).toBe("success");
    client.signal(unmask);
    expect(client.eventCount(pin)).toBe(0);
    expect(unmaskBy(unmask)).toBe("success");
    expect(client.eventCount(pin)).toBe(1);
  });

  it("of INTx wait while the command register disables them", () => {
    const device = bound("vfio2");
    const pin = client.eventfd();
    trigger(device, 0, pin);
    client.pwrite(device, CONFIG + 4n, Uint8Array.of(6, 4));
    client.pwrite(device, EDU_RAISE, words(1));
    expect(client.eventCount(pin)).toBe(0);
    client.pwrite(device, CONFIG + 4n, Uint8Array.of(6, 0));
    expect(client.eventCount(pin)).toBe(1);
  });

  it("keep those vectors that come behind the one that was refused", () => {
    const device = bound("vfio0");
    const events = [client.eventfd(), client.eventfd(), client.eventfd()];
    const raise = (vector: number): void => {
      put(device, R.INTERRUPT, 0x8000_0000n | BigInt(vector), 4);
      put(device, R.COMMAND, BigInt(DmaTestCommand.READ), 4);
    };
    expect(trigger(device, 1, ...events)).toBe("success");
    expect(trigger(device, 1, events[0], 999, events[2])).toBe("EBADF");
    for (const vector of [0, 1, 2]) raise(vector);
    expect(events.map((event) => client.eventCount(event))).toEqual([0, 0, 1]);
  });
});

describe("a BAR as a dma-buf", () => {
  const exported = (device: number, offset: number, length: number, index = 2, flags = 0): number =>
    client.rawIoctl(device, FEATURE, words(8 + 16 + 16, 11 | (1 << 16), index, 0, flags, 1, offset, 0, length, 0));
  const mapFile = (ioas: number, fd: number, length: bigint): string =>
    errno(() => client.ioctl(iommu, "IOMMU_IOAS_MAP_FILE", { flags: 7, ioas_id: ioas, fd, start: 0, length, iova: 0x10_0000 }));

  it("is what another device reaches by DMA, until memory decoding goes off", () => {
    const [owner, other] = [bound("vfio0"), bound("vfio1")];
    const ioas = newIoas();
    client.ioctl(other, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { pt_id: ioas });
    const buffer = exported(owner, 0x1000, 0x2000);
    expect(mapFile(ioas, buffer, 0x3000n)).toBe("EINVAL");
    expect(mapFile(ioas, buffer, 0x2000n)).toBe("success");
    client.close(buffer);
    expect(dmaWrite(other, 0x10_0004n, 0x5a)).toBe(DmaTestStatus.DONE);
    expect(client.pread(owner, BAR2 + 0x1004n, 1)[0]).toBe(0x5a);
    client.pwrite(owner, CONFIG + 4n, Uint8Array.of(4, 0));
    expect(dmaWrite(other, 0x10_0004n, 0x77)).toBe(DmaTestStatus.REFUSED);
    client.pwrite(owner, CONFIG + 4n, Uint8Array.of(6, 0));
    expect(dmaWrite(other, 0x10_0004n, 0x77)).toBe(DmaTestStatus.REFUSED);
    expect(errno(() => client.ioctl(iommu, "IOMMU_IOAS_UNMAP", { ioas_id: ioas, iova: 0x10_0000, length: 0x2000 }))).toBe("success");
  });

  it("is revoked by a reset, by low power and by the last close of the device", () => {
    const [owner, other] = [bound("vfio0"), bound("vfio1")];
    const ioas = newIoas();
    client.ioctl(other, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { pt_id: ioas });
    const buffer = exported(owner, 0, 0x1000);
    const remap = (): string => {
      expect(errno(() => client.ioctl(iommu, "IOMMU_IOAS_UNMAP", { ioas_id: ioas, iova: 0, length: 2n ** 64n - 1n }))).toBe("success");
      return mapFile(ioas, buffer, 0x1000n);
    };
    expect(remap()).toBe("success");
    client.ioctl(owner, "VFIO_DEVICE_RESET");
    expect(dmaWrite(other, 0x10_0000n, 1)).toBe(DmaTestStatus.REFUSED);
    expect(remap()).toBe("success");
    client.rawIoctl(owner, FEATURE, words(8, 3 | (1 << 17)));
    expect(dmaWrite(other, 0x10_0000n, 1)).toBe(DmaTestStatus.REFUSED);
    expect(remap()).toBe("ENODEV");
    client.rawIoctl(owner, FEATURE, words(8, 5 | (1 << 17)));
    expect(remap()).toBe("success");
    client.close(owner);
    expect(dmaWrite(other, 0x10_0000n, 1)).toBe(DmaTestStatus.REFUSED);
    expect(remap()).toBe("ENODEV");
  });

  it("has to be a range of whole pages inside a BAR", () => {
    const device = bound("vfio0");
    expect(errno(() => exported(device, 0x10, 0x1000))).toBe("EINVAL");
    expect(errno(() => exported(device, 0, 0x2_0000))).toBe("EINVAL");
    expect(errno(() => exported(device, 0, 0x1000, 6))).toBe("ENODEV");
    expect(errno(() => exported(device, 0, 0x1000, 2, 1))).toBe("EINVAL");
    expect(errno(() => client.rawIoctl(device, FEATURE, words(8 + 16, 11 | (1 << 16), 2, 0, 0, 0)))).toBe("EINVAL");
    const several = client.rawIoctl(device, FEATURE, words(8 + 16 + 32, 11 | (1 << 16), 2, 0, 0, 2, 0, 0, 0x1000, 0, 0x4000, 0, 0x1000, 0));
    expect(mapFile(newIoas(), several, 0x2000n)).toBe("EOPNOTSUPP");
  });
});

describe("a VFIO group", () => {
  const NAME = "0000:00:03.0";
  const openGroup = (): number => client.open("/dev/vfio/0");
  const nameAt = (name: string): bigint => {
    const { address } = client.memory.map(4096);
    client.memory.write(address, new TextEncoder().encode(`${name}\0`));
    return address;
  };
  const deviceFd = (group: number, name = NAME): number => client.rawIoctl(group, GET_DEVICE_FD, nameAt(name));

  it("gives its device out many times, and stays open as long as one is", () => {
    const group = openGroup();
    client.rawIoctl(group, SET_CONTAINER, words(iommu));
    const [first, second] = [deviceFd(group), deviceFd(group)];
    client.close(group);
    expect(errno(openGroup)).toBe("EBUSY");
    put(first, R.SOURCE, 7n);
    client.close(first);
    expect(client.pread(second, BigInt(R.SOURCE), 1)[0]).toBe(7);
    expect(errno(() => client.ioctl(client.open("/dev/vfio/devices/vfio0"), "VFIO_DEVICE_BIND_IOMMUFD", { iommufd: iommu }))).toBe("EBUSY");
    client.close(second);
    expect(errno(openGroup)).toBe("success");
  });

  it("wants a container for a device, and a name that ends with it", () => {
    const group = openGroup();
    expect(errno(() => deviceFd(group))).toBe("EINVAL");
    client.rawIoctl(group, SET_CONTAINER, words(iommu));
    expect(errno(() => deviceFd(group, "0000:00:04.0"))).toBe("ENODEV");
    expect(errno(() => deviceFd(group, `${NAME} vf_token=x`))).toBe("EINVAL");
    expect(errno(() => deviceFd(group, "x".repeat(1000)))).toBe("ENODEV");
    expect(errno(() => deviceFd(group, `${NAME}  `))).toBe("success");
    client.rawIoctl(group, UNSET_CONTAINER, 0n);
    expect(errno(() => deviceFd(group))).toBe("EINVAL");
  });
});
