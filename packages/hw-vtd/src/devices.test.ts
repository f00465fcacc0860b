/** Devices with a translation cache in whole machines: from the program's ioctls through driver, unit and device, and back. */
import { buildMachine, IommuError, type Machine, type OpenFile, SimulatedClient, type TraceEvent } from "@iommukit/core";
import { decodeStruct, encodeStruct, IOCTLS, structLayout } from "@iommukit/core/abi";
import { DmaTestCommand, dmaTestModel, DmaTestRegister as R, DmaTestStatus } from "@iommukit/core/devices";
import fc from "fast-check";
import { beforeEach, describe, expect, it } from "vitest";
import { vtdIommuFactory } from "./plugin.js";

const parts = { iommus: [vtdIommuFactory], devices: [dmaTestModel] };
const EVENTFD = 99;
/** iommu_hwpt_alloc.flags */
const FAULT_ID_VALID = 4;
const PASID = 8;
const RECORD = structLayout("iommu_hwpt_pgfault").size;

class Client extends SimulatedClient {
  signals = 0;

  override file(fd: number): OpenFile | undefined {
    return fd === EVENTFD ? { kind: "event", signal: () => void this.signals++ } : super.file(fd);
  }
}

function machineOf(iommus: readonly object[], devices: readonly object[]): Machine {
  return buildMachine({ name: "test", memory: { size: "64MiB" }, iommus, devices }, parts);
}

class Device {
  readonly fd: number;
  readonly id: number;
  readonly #client: Client;

  constructor(client: Client, node: string, iommu: number) {
    this.#client = client;
    this.fd = client.open(`/dev/vfio/devices/${node}`);
    this.id = Number(client.ioctl(this.fd, "VFIO_DEVICE_BIND_IOMMUFD", { iommufd: iommu }).out_devid);
    client.pwrite(this.fd, (7n << 40n) + 4n, Uint8Array.of(6, 0));
  }

  attach(pt: number): void {
    this.#client.ioctl(this.fd, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { pt_id: pt });
  }

  put(register: number, value: bigint, size = 4): void {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, value, true);
    this.#client.pwrite(this.fd, BigInt(register), bytes.subarray(0, size));
  }

  get(register: number): number {
    return new DataView(this.#client.pread(this.fd, BigInt(register), 4).buffer).getUint32(0, true);
  }

  dma(command: number, address: bigint, length = 64): number {
    this.put(R.SOURCE, address, 8);
    this.put(R.DESTINATION, address, 8);
    this.put(R.LENGTH, BigInt(length));
    this.put(R.COMMAND, BigInt(command));
    return this.get(R.STATUS);
  }

  /** MSI-X with one vector. */
  irqs(): void {
    const { address, bytes } = this.#client.memory.map(4096);
    new Uint32Array(bytes.buffer, bytes.byteOffset, 6).set([24, 4 | 32, 2, 0, 1, EVENTFD]);
    const file = this.#client.file(this.fd);
    if (file?.kind !== undefined) throw new Error("not a device file");
    file?.ioctl(this.#client, IOCTLS.find((row) => row.name === "VFIO_DEVICE_SET_IRQS")!.request, address);
  }

  config(offset: number): number {
    return new DataView(this.#client.pread(this.fd, (7n << 40n) + BigInt(offset), 4).buffer).getUint32(0, true);
  }
}

describe("a device with ATS and PRI behind a full unit", () => {
  let client: Client;
  let iommu: number;
  let device: Device;
  let events: TraceEvent[];

  beforeEach(() => {
    const machine = machineOf([{ type: "vtd", options: { preset: "full" } }], [{ model: "dma-test", bdf: "00:03.0", vfio: "vfio0", options: { ats: true, pri: true } }]);
    events = [];
    machine.tracer.listen((event) => events.push(event));
    client = new Client(machine.nodes);
    iommu = client.open("/dev/iommu");
    device = new Device(client, "vfio0", iommu);
  });
  const ioas = (): number => Number(client.ioctl(iommu, "IOMMU_IOAS_ALLOC").out_ioas_id);
  const map = (id: number, va: bigint, iova: bigint, length = 4096n): void => void client.ioctl(iommu, "IOMMU_IOAS_MAP", { flags: 7, ioas_id: id, user_va: va, length, iova });

  it("caches translations, and holds none after an unmap", () => {
    const id = ioas();
    device.attach(id);
    const { address } = client.memory.map(0x4000);
    map(id, address, 0x1_0000n, 0x4000n);
    const before = device.get(R.INVALIDATIONS);
    expect(device.dma(DmaTestCommand.WRITE, 0x1_0ff0n)).toBe(DmaTestStatus.DONE);
    expect(device.get(R.CACHED)).toBe(2);
    client.ioctl(iommu, "IOMMU_IOAS_UNMAP", { ioas_id: id, iova: 0x1_0000n, length: 0x4000n });
    expect([device.get(R.CACHED), device.get(R.INVALIDATIONS) > before]).toEqual([0, true]);
    // Nothing takes its page requests: it is refused.
    expect(device.dma(DmaTestCommand.WRITE, 0x1_0000n)).toBe(DmaTestStatus.REFUSED);
  });

  it("asks for nothing while bus mastering is off, and keeps ATS on", () => {
    device.attach(ioas());
    client.pwrite(device.fd, (7n << 40n) + 4n, Uint8Array.of(2, 0));
    expect([device.dma(DmaTestCommand.WRITE, 0x5000n), device.get(R.PAGE_REQUESTS), device.get(R.CONTROL)]).toEqual([DmaTestStatus.REFUSED, 0, 3]);
  });

  it("waits for a page that the program maps when it reads the fault, and then goes on and interrupts", () => {
    const id = ioas();
    const queue = client.ioctl(iommu, "IOMMU_FAULT_QUEUE_ALLOC");
    const fd = Number(queue.out_fault_fd);
    const hwpt = client.ioctl(iommu, "IOMMU_HWPT_ALLOC", { flags: FAULT_ID_VALID, dev_id: device.id, pt_id: id, fault_id: queue.out_fault_id as number });
    device.attach(Number(hwpt.out_hwpt_id));
    device.irqs();
    device.put(R.INTERRUPT, 0x8000_0000n);
    expect(device.dma(DmaTestCommand.WRITE, 0x5000n)).toBe(DmaTestStatus.WAITING);
    expect([device.get(R.PAGE_REQUESTS), client.signals]).toEqual([1, 0]);
    // A command meanwhile is ignored.
    expect(device.dma(DmaTestCommand.WRITE, 0x9000n)).toBe(DmaTestStatus.WAITING);
    const fault = decodeStruct("iommu_hwpt_pgfault", client.read(fd, RECORD));
    expect(fault).toMatchObject({ addr: 0x5000n, perm: 2, flags: 2 });
    const { address, bytes } = client.memory.map(4096);
    map(id, address, 0x5000n);
    device.put(R.BUFFER, 0x1234n);
    client.write(fd, encodeStruct("iommu_hwpt_page_response", { cookie: fault.cookie, code: 0 }));
    expect([device.get(R.STATUS), client.signals, bytes[0]]).toEqual([DmaTestStatus.DONE, 1, 0x34]);
    expect(events.filter(({ kind }) => kind === "page-request" || kind === "interrupt")).toMatchObject([
      { kind: "page-request", rid: 0x18, address: 0x5000n, access: "write", result: "queued" }, { kind: "interrupt", rid: 0x18, result: "remapped" },
    ]);
    expect(device.dma(DmaTestCommand.WRITE, 0x7000n)).toBe(DmaTestStatus.WAITING);
    const second = decodeStruct("iommu_hwpt_pgfault", client.read(fd, RECORD));
    client.write(fd, encodeStruct("iommu_hwpt_page_response", { cookie: second.cookie, code: 1 }));
    expect([device.get(R.STATUS), client.signals]).toEqual([DmaTestStatus.REFUSED, 2]);
  });

  it("waits for pages of a PASID, in an address space of its own", () => {
    const id = ioas();
    const queue = client.ioctl(iommu, "IOMMU_FAULT_QUEUE_ALLOC");
    const hwpt = client.ioctl(iommu, "IOMMU_HWPT_ALLOC", { flags: FAULT_ID_VALID | PASID, dev_id: device.id, pt_id: id, fault_id: queue.out_fault_id as number });
    const own = client.ioctl(iommu, "IOMMU_HWPT_ALLOC", { flags: PASID, dev_id: device.id, pt_id: ioas() });
    device.attach(Number(own.out_hwpt_id));
    client.ioctl(device.fd, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { flags: 1, pt_id: Number(hwpt.out_hwpt_id), pasid: 5 });
    expect(device.dma(DmaTestCommand.WRITE, 0x5000n)).toBe(DmaTestStatus.REFUSED);
    device.put(R.PASID, 0x8000_0005n);
    expect(device.dma(DmaTestCommand.WRITE, 0x5000n)).toBe(DmaTestStatus.WAITING);
    const fd = Number(queue.out_fault_fd);
    const fault = decodeStruct("iommu_hwpt_pgfault", client.read(fd, RECORD));
    expect(fault).toMatchObject({ addr: 0x5000n, pasid: 5, flags: 3 });
    map(id, client.memory.map(4096).address, 0x5000n);
    client.write(fd, encodeStruct("iommu_hwpt_page_response", { cookie: fault.cookie, code: 0 }));
    expect(device.get(R.STATUS)).toBe(DmaTestStatus.DONE);
    device.put(R.PASID, 0n);
    expect(device.dma(DmaTestCommand.WRITE, 0x5000n)).toBe(DmaTestStatus.REFUSED);
  });

  it("pages on demand: what was taken away is asked for again, and nothing is lost or reached without asking", () => {
    const id = ioas();
    const queue = client.ioctl(iommu, "IOMMU_FAULT_QUEUE_ALLOC");
    const fd = Number(queue.out_fault_fd);
    const hwpt = client.ioctl(iommu, "IOMMU_HWPT_ALLOC", { flags: FAULT_ID_VALID, dev_id: device.id, pt_id: id, fault_id: queue.out_fault_id as number });
    device.attach(Number(hwpt.out_hwpt_id));
    const PAGES = 16;
    const { address, bytes } = client.memory.map(PAGES * 4096);
    const resident = new Set<number>();
    /** The pager: maps what the device waits for. Returns the page. */
    const serve = (): number => {
      const fault = decodeStruct("iommu_hwpt_pgfault", client.read(fd, RECORD));
      const page = Number(BigInt(fault.addr as bigint) >> 12n);
      map(id, address + BigInt(page * 4096), BigInt(page * 4096));
      resident.add(page);
      client.write(fd, encodeStruct("iommu_hwpt_page_response", { cookie: fault.cookie, code: 0 }));
      return page;
    };
    const step = fc.record({ kind: fc.constantFrom("write", "write", "read", "evict"), page: fc.nat(PAGES - 1), offset: fc.nat(4095), value: fc.integer({ min: 1, max: 255 }) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
        for (const { kind, page, offset, value } of steps) {
          if (kind === "evict") {
            if (resident.delete(page)) client.ioctl(iommu, "IOMMU_IOAS_UNMAP", { ioas_id: id, iova: BigInt(page * 4096), length: 4096n });
            continue;
          }
          const length = Math.min(8, PAGES * 4096 - (page * 4096 + offset));
          device.put(R.BUFFER, BigInt(value) * 0x0101_0101_0101_0101n, 8);
          const wanted = [page, ...(offset + length > 4096 ? [page + 1] : [])].filter((one) => !resident.has(one));
          let status = device.dma(kind === "write" ? DmaTestCommand.WRITE : DmaTestCommand.READ, BigInt(page * 4096 + offset), length);
          for (const expected of wanted) {
            expect(status).toBe(DmaTestStatus.WAITING);
            expect(serve()).toBe(expected);
            status = device.get(R.STATUS);
          }
          expect(status).toBe(DmaTestStatus.DONE);
          const memory = bytes.subarray(page * 4096 + offset, page * 4096 + offset + length);
          if (kind === "write") expect(memory.every((byte) => byte === value)).toBe(true);
          else expect(client.pread(device.fd, BigInt(R.BUFFER), length)).toEqual(memory);
        }
      }),
      { numRuns: 40 },
    );
  });

  it("is let go while it waits: detached, reset and closed, without an answer", () => {
    const id = ioas();
    const queue = client.ioctl(iommu, "IOMMU_FAULT_QUEUE_ALLOC");
    const hwpt = client.ioctl(iommu, "IOMMU_HWPT_ALLOC", { flags: FAULT_ID_VALID, dev_id: device.id, pt_id: id, fault_id: queue.out_fault_id as number });
    device.attach(Number(hwpt.out_hwpt_id));
    expect(device.dma(DmaTestCommand.READ, 0x5000n)).toBe(DmaTestStatus.WAITING);
    client.ioctl(device.fd, "VFIO_DEVICE_DETACH_IOMMUFD_PT");
    expect(device.get(R.STATUS)).toBe(DmaTestStatus.REFUSED);
    device.attach(Number(hwpt.out_hwpt_id));
    device.put(R.CONTROL, 3n);
    expect(device.dma(DmaTestCommand.READ, 0x5000n)).toBe(DmaTestStatus.WAITING);
    client.ioctl(device.fd, "VFIO_DEVICE_RESET");
    expect(device.get(R.STATUS)).toBe(DmaTestStatus.IDLE);
    expect(device.dma(DmaTestCommand.READ, 0x6000n)).toBe(DmaTestStatus.WAITING);
    client.close(device.fd);
  });

  it("goes untranslated while ATS is off by CONTROL, which configuration space shows", () => {
    expect([device.config(0x100) & 0xffff, device.config(0x104) >>> 31, device.get(R.CONTROL)]).toEqual([0x0f, 1, 3]);
    const id = ioas();
    device.attach(id);
    const { address } = client.memory.map(4096);
    map(id, address, 0x1000n);
    device.put(R.CONTROL, 2n);
    expect([device.config(0x104) >>> 31, device.dma(DmaTestCommand.WRITE, 0x1000n), device.get(R.CACHED)]).toEqual([0, DmaTestStatus.DONE, 0]);
    expect(device.dma(DmaTestCommand.WRITE, 0x2000n)).toBe(DmaTestStatus.REFUSED);
    device.put(R.CONTROL, 3n);
    expect([device.dma(DmaTestCommand.WRITE, 0x1000n), device.get(R.CACHED)]).toEqual([DmaTestStatus.DONE, 1]);
  });

  it("is a PCI Express function: capabilities in a chain, 4096 bytes of configuration space, an error interrupt", () => {
    const region = client.ioctl(device.fd, "VFIO_DEVICE_GET_REGION_INFO", { index: 7 });
    expect(region.size).toBe(4096n);
    const chain: number[][] = [];
    for (let at = 0x100; at !== 0; at = device.config(at) >>> 20) chain.push([at, device.config(at) & 0xffff, (device.config(at) >>> 16) & 15]);
    expect(chain).toEqual([[0x100, 0x0f, 1], [0x110, 0x13, 1], [0x120, 0x1b, 1]]);
    const standard: number[] = [];
    for (let at = device.config(0x34) & 0xff; at !== 0; at = (device.config(at) >> 8) & 0xff) standard.push(device.config(at) & 0xff);
    expect(standard).toEqual([0x05, 0x11, 0x10]);
    expect(client.ioctl(device.fd, "VFIO_DEVICE_GET_IRQ_INFO", { index: 3 }).count).toBe(1);
  });

});

describe.each(["full", "legacy"])("writes of a device into 0xFEExxxxx behind a %s unit (corner 58)", (preset) => {
  it("are interrupts when they are one word, and a fault (29h) else", () => {
    const machine = machineOf([{ type: "vtd", options: { preset } }], [{ model: "dma-test", bdf: "00:03.0", vfio: "vfio0" }]);
    const faults: unknown[] = [];
    machine.tracer.listen((event) => event.kind === "fault" && faults.push(event.fields.reason));
    const client = new Client(machine.nodes);
    const iommu = client.open("/dev/iommu");
    const device = new Device(client, "vfio0", iommu);
    device.attach(Number(client.ioctl(iommu, "IOMMU_IOAS_ALLOC").out_ioas_id));
    device.irqs();
    const message = machine.devices[0].pci.messages?.get(0)?.message;
    expect((message?.address ?? 0n) & 0x10n).toBe(preset === "full" ? 0x10n : 0n);
    device.put(R.BUFFER, BigInt(message?.data ?? 0));
    expect(device.dma(DmaTestCommand.WRITE, message?.address ?? 0n, 4)).toBe(DmaTestStatus.DONE);
    expect([client.signals, faults]).toEqual([1, []]);
    expect(device.dma(DmaTestCommand.WRITE, message?.address ?? 0n, 8)).toBe(DmaTestStatus.REFUSED);
    expect(device.dma(DmaTestCommand.READ, message?.address ?? 0n, 4)).toBe(DmaTestStatus.REFUSED);
    expect([client.signals, faults]).toEqual([1, [0x29, 0x29]]);
    // With PASID it is an address like any other, and nothing is mapped there.
    device.put(R.PASID, 0x8000_0001n);
    expect(device.dma(DmaTestCommand.WRITE, message?.address ?? 0n, 4)).toBe(DmaTestStatus.REFUSED);
    expect([client.signals, faults.length, faults.at(-1) === 0x29]).toEqual([1, 3, false]);
  });
});

it.each([["full", DmaTestStatus.REFUSED, 0], ["legacy", DmaTestStatus.DONE, 1]])("behind a %s unit, a device that writes another's message ends with status %i: %i interrupts", (preset, status, signals) => {
  const devices = [3, 4].map((slot, i) => ({ model: "dma-test", bdf: `00:0${slot}.0`, vfio: `vfio${i}` }));
  const machine = machineOf([{ type: "vtd", options: { preset } }], devices);
  const client = new Client(machine.nodes);
  const iommu = client.open("/dev/iommu");
  const [victim, other] = ["vfio0", "vfio1"].map((node) => new Device(client, node, iommu));
  victim.irqs();
  const message = machine.devices[0].pci.messages?.get(0)?.message;
  other.put(R.BUFFER, BigInt(message?.data ?? 0));
  expect([other.dma(DmaTestCommand.WRITE, message?.address ?? 0n, 4), client.signals]).toEqual([status, signals]);
});

describe("machines with several VT-d units", () => {
  it("translate for each device by its own unit, under one address space", () => {
    const devices = [0, 1, 2].map((i) => ({ model: "dma-test", bdf: `00:0${i + 3}.0`, vfio: `vfio${i}`, iommu: i }));
    const machine = machineOf([{ type: "vtd", options: { preset: "full" } }, { type: "vtd", options: { preset: "legacy" } }, { type: "vtd" }], devices);
    const client = new Client(machine.nodes);
    const iommu = client.open("/dev/iommu");
    const id = Number(client.ioctl(iommu, "IOMMU_IOAS_ALLOC").out_ioas_id);
    const opened = devices.map(({ vfio }) => new Device(client, vfio, iommu));
    const { address, bytes } = client.memory.map(4096);
    for (const device of opened) device.attach(id);
    client.ioctl(iommu, "IOMMU_IOAS_MAP", { flags: 7, ioas_id: id, user_va: address, length: 4096n, iova: 0x8000n });
    for (const [i, device] of opened.entries()) {
      device.put(R.BUFFER, BigInt(0x10 + i), 8);
      expect(device.dma(DmaTestCommand.WRITE, 0x8000n + BigInt(64 * i), 8)).toBe(DmaTestStatus.DONE);
    }
    expect([0, 64, 128].map((at) => bytes[at])).toEqual([0x10, 0x11, 0x12]);
    client.ioctl(iommu, "IOMMU_IOAS_UNMAP", { ioas_id: id, iova: 0x8000n, length: 4096n });
    for (const device of opened) expect(device.dma(DmaTestCommand.WRITE, 0x8000n)).toBe(DmaTestStatus.REFUSED);
    const entry = machine.nodes.sysfs?.find(({ path }) => path === "/sys/devices/virtual/iommu/dmar1/intel-iommu/cap");
    expect(entry).toMatchObject({ kind: "file" });
  });

  it("go up to 64 units", () => {
    const iommus = Array.from({ length: 64 }, () => ({ type: "vtd", options: { preset: "second-stage", iotlbSets: 4 } }));
    const machine = machineOf(iommus, [{ model: "dma-test", bdf: "00:03.0", vfio: "vfio0", iommu: 63 }]);
    const client = new Client(machine.nodes);
    const device = new Device(client, "vfio0", client.open("/dev/iommu"));
    expect(device.dma(DmaTestCommand.READ, 0x1000n)).toBe(DmaTestStatus.REFUSED);
    expect(machine.units.map(({ hardware }) => hardware.name).at(-1)).toBe("vtd63");
  });

  it("refuse options that make no unit or device, with their place in the file", () => {
    const device = (options: object): object => ({ model: "dma-test", bdf: "00:03.0", vfio: "vfio0", options });
    for (const [iommu, options, place] of [
      [{ interruptEntries: 3 }, {}, "iommus[0].options"], [{ compressFaults: 1 }, {}, "compressFaults"], [{}, { ats: 1 }, "devices[0].options"], [{}, { prI: true }, "devices[0].options"],
    ] as const) {
      expect(() => machineOf([{ type: "vtd", options: iommu }], [device(options)])).toThrow(place);
      expect(() => machineOf([{ type: "vtd", options: iommu }], [device(options)])).toThrow(IommuError);
    }
  });
});
