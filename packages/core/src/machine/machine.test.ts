/** Machines with units that translate nothing: what core itself does about interrupts, and about several units. */
import { beforeEach, describe, expect, it } from "vitest";
import { IOCTLS } from "../abi/index.js";
import type { IommuHardware } from "../bus/types.js";
import { DmaTestCommand, dmaTestModel, DmaTestRegister as R, DmaTestStatus } from "../devices/dma-test.js";
import type { IommuDevice, IommuDriver, PagingDomain, RoutedInterrupt } from "../driver/types.js";
import { IommuError } from "../errors.js";
import { SimulatedClient } from "../files/simulated-client.js";
import type { EventFile, KernelFile, OpenFile } from "../files/types.js";
import type { InterruptMessage } from "./interrupts.js";
import { buildMachine, type Machine } from "./machine.js";
import type { IommuFactory } from "./types.js";

const EVENTFD = 99;
/** Where the units here remap messages to: handle in the data. */
const REMAPPED = 0xfee0_0010n;

/** Passes every request, and remaps messages as its driver says. */
class PlainUnit implements IommuHardware {
  readonly writes: { rid: number; address: bigint; data: number; length: number }[] = [];
  readonly routes = new Map<number, InterruptMessage>();
  readonly #deliver: (address: bigint, data: number) => boolean;
  readonly name: string;

  constructor(name: string, deliver: (address: bigint, data: number) => boolean) {
    this.name = name;
    this.#deliver = deliver;
  }

  translate(_rid: number, _pasid: number, page: number): number {
    return page;
  }

  interrupt(rid: number, address: bigint, data: number, length = 4): boolean {
    this.writes.push({ rid, address, data, length });
    const routed = address === REMAPPED && length === 4 ? this.routes.get(data) : undefined;
    return routed !== undefined && this.#deliver(routed.address, routed.data);
  }
}

class PlainDriver implements IommuDriver {
  readonly name = "plain";
  readonly devices: IommuDevice[] = [];
  readonly #unit: PlainUnit;
  full = false;

  constructor(unit: PlainUnit) {
    this.#unit = unit;
  }

  addDevice(device: IommuDevice): void {
    this.devices.push(device);
  }

  removeDevice(): void {}
  attach(): void {}
  detach(): void {}

  capabilities(): ReturnType<IommuDriver["capabilities"]> {
    return { dirtyTracking: false, maxPasidLog2: 0, ats: false };
  }

  reservedRegions(): readonly never[] {
    return [];
  }

  allocPaging(): PagingDomain {
    return { aperture: { start: 0n, last: 2n ** 48n - 1n }, pageSizes: 4096n, map: () => {}, unmap: () => {}, iovaToPa: () => undefined, free: () => {} };
  }

  routeInterrupt(_device: IommuDevice, message: InterruptMessage): RoutedInterrupt {
    if (this.full) throw new IommuError("ENOSPC", { message: "the table is full", rule: "a test" });
    const handle = this.#unit.routes.size;
    this.#unit.routes.set(handle, message);
    return { address: REMAPPED, data: handle, free: () => void this.#unit.routes.delete(handle) };
  }
}

const units: PlainUnit[] = [];
const drivers: PlainDriver[] = [];
const factory: IommuFactory = {
  name: "plain",
  about: "",
  create({ name, interrupts }) {
    const hardware = new PlainUnit(name, (address, data) => interrupts.deliver(address, data));
    const driver = new PlainDriver(hardware);
    units.push(hardware);
    drivers.push(driver);
    return { hardware, driver, hostAddressWidth: 40, sysfs: { name, files: { version: `${units.length}\n` } } };
  },
};

class Client extends SimulatedClient {
  readonly signals: number[] = [0];

  override file(fd: number): OpenFile | undefined {
    const event: EventFile = { kind: "event", signal: () => void this.signals[0]++ };
    return fd === EVENTFD ? event : super.file(fd);
  }
}

function machineOf(count: number, devices: readonly object[]): Machine {
  units.length = 0;
  drivers.length = 0;
  const iommus = Array.from({ length: count }, () => ({ type: "plain" }));
  return buildMachine({ name: "test", memory: { size: "64MiB" }, iommus, devices }, { iommus: [factory], devices: [dmaTestModel] });
}

describe("interrupts of a VFIO device", () => {
  let client: Client;
  let device: KernelFile;
  let number: number;

  beforeEach(() => {
    const machine = machineOf(1, [{ model: "dma-test", bdf: "00:03.0", vfio: "vfio0" }]);
    client = new Client(machine.nodes);
    const iommu = client.open("/dev/iommu");
    device = machine.nodes.open(client, "/dev/vfio/devices/vfio0");
    number = client.install(device);
    client.ioctl(number, "VFIO_DEVICE_BIND_IOMMUFD", { iommufd: iommu });
    command(6);
    put(R.INTERRUPT, 0x8000_0002n);
  });

  const command = (value: number): number => client.pwrite(number, (7n << 40n) + 4n, Uint8Array.of(value, 0));
  const put = (register: number, value: bigint, size = 4): void => {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, value, true);
    client.pwrite(number, BigInt(register), bytes.subarray(0, size));
  };
  const status = (): number => new DataView(client.pread(number, BigInt(R.STATUS), 4).buffer).getUint32(0, true);
  /** VFIO_DEVICE_SET_IRQS */
  const irqs = (index: number, flags: number, start: number, fds: readonly number[]): void => {
    const { address, bytes } = client.memory.map(4096);
    new Uint32Array(bytes.buffer, bytes.byteOffset, 5).set([20 + 4 * fds.length, flags, index, start, fds.length]);
    new Int32Array(bytes.buffer, bytes.byteOffset + 20, fds.length).set(fds);
    device.ioctl(client, IOCTLS.find((row) => row.name === "VFIO_DEVICE_SET_IRQS")!.request, address);
  };
  const EVENTFDS = 4 | 32;
  const MSI = 1;
  const MSIX = 2;

  it.each([["MSI", MSI], ["MSI-X", MSIX]])("%s: the function writes the routed message, and the eventfd is signalled", (_name, index) => {
    put(R.COMMAND, 9n);
    expect(client.signals).toEqual([0]);
    irqs(index, EVENTFDS, 0, [EVENTFD, -1, EVENTFD]);
    put(R.COMMAND, 9n);
    expect(client.signals).toEqual([1]);
    expect(units[0].writes).toEqual([{ rid: 0x18, address: REMAPPED, data: 1, length: 4 }]);
    put(R.INTERRUPT, 0x8000_0001n);
    put(R.COMMAND, 9n);
    expect(client.signals).toEqual([1]);
  });

  it("sends nothing while bus mastering is off, after a vector was taken away, and after everything was", () => {
    irqs(MSIX, EVENTFDS, 0, [EVENTFD, EVENTFD, EVENTFD]);
    command(2);
    put(R.COMMAND, 9n);
    expect(client.signals).toEqual([0]);
    command(6);
    irqs(MSIX, EVENTFDS, 2, [-1]);
    put(R.COMMAND, 9n);
    expect(client.signals).toEqual([0]);
    expect(units[0].routes.size).toBe(2);
    irqs(MSIX, 1 | 32, 0, []);
    expect(units[0].routes.size).toBe(0);
    put(R.COMMAND, 9n);
    expect(client.signals).toEqual([0]);
    expect(units[0].writes).toEqual([]);
  });

  it("gives everything back when the device is closed, or when no entry is left", () => {
    drivers[0].full = true;
    expect(() => irqs(MSIX, EVENTFDS, 0, [EVENTFD])).toThrow(IommuError);
    expect(units[0].routes.size).toBe(0);
    drivers[0].full = false;
    irqs(MSIX, EVENTFDS, 0, [EVENTFD]);
    expect(units[0].routes.size).toBe(1);
    client.close(number);
    expect(units[0].routes.size).toBe(0);
  });

  it("reach it by an ordinary DMA write of one word, too; other lengths are for the unit to judge", () => {
    irqs(MSIX, EVENTFDS, 0, [EVENTFD]);
    put(R.INTERRUPT, 0n);
    put(R.DESTINATION, REMAPPED, 8);
    put(R.LENGTH, 4n);
    put(R.COMMAND, BigInt(DmaTestCommand.WRITE));
    expect(status()).toBe(DmaTestStatus.DONE);
    expect(client.signals).toEqual([1]);
    put(R.LENGTH, 8n);
    put(R.COMMAND, BigInt(DmaTestCommand.WRITE));
    expect(status()).toBe(DmaTestStatus.REFUSED);
    expect(units[0].writes.map(({ length }) => length)).toEqual([4, 8]);
    expect(client.signals).toEqual([1]);
  });
});

describe("a machine with several units", () => {
  it("puts each device behind the one that it names, up to 64", () => {
    const devices = Array.from({ length: 32 }, (_, i) => ({ model: "dma-test", bdf: `00:${i.toString(16)}.0`, vfio: `vfio${i}`, iommu: 2 * i }));
    const machine = machineOf(64, devices);
    expect(drivers.map((driver) => driver.devices.map(({ rid }) => rid >> 3))).toEqual(Array.from({ length: 64 }, (_, i) => (i % 2 === 0 ? [i / 2] : [])));
    const at = (path: string): unknown => machine.nodes.sysfs?.find((entry) => entry.path === path);
    expect(at("/sys/devices/virtual/iommu/plain63/version")).toMatchObject({ content: "64\n" });
    expect(at("/sys/class/iommu/plain17")).toMatchObject({ kind: "link" });
    expect(at("/sys/devices/pci0000:00/0000:00:05.0/iommu")).toMatchObject({ target: "../../virtual/iommu/plain10" });
  });

  it("refuses a unit that is not there, none at all, too many, and a group across units", () => {
    const device = (more: object, i = 0): object => ({ model: "dma-test", bdf: `00:0${i}.0`, vfio: `vfio${i}`, ...more });
    expect(() => machineOf(2, [device({ iommu: 2 })])).toThrow("devices[0].iommu");
    expect(() => machineOf(2, [device({ iommu: -1 })])).toThrow("devices[0].iommu");
    expect(() => machineOf(0, [])).toThrow("1 to 64");
    expect(() => machineOf(65, [])).toThrow("1 to 64");
    expect(() => machineOf(2, [device({ group: 1 }), device({ group: 1, iommu: 1 }, 1)])).toThrow("devices[1].group");
  });
});
