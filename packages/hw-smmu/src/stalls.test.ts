/** Requests that wait: from a device through a stall to a program and back, through /dev/iommu. */
import { buildMachine, type IommuError, Sanitizer, SimulatedClient } from "@iommukit/core";
import { decodeStruct, structLayout } from "@iommukit/core/abi";
import { DmaTestCommand, dmaTestModel, DmaTestRegister as R, DmaTestStatus } from "@iommukit/core/devices";
import { afterEach, describe, expect, it } from "vitest";
import type { SmmuUnit } from "./hardware/index.js";
import { smmuIommuFactory } from "./plugin.js";
import { PRESETS } from "./presets.js";

const NEST_PARENT = 1;
const FAULT_ID_VALID = 4;
const PASID_FLAG = 8;
const ATTACH_PASID = 1;
const RECORD = structLayout("iommu_hwpt_pgfault").size;
const SUCCESS = 0;
const INVALID = 1;
const IOVA = 0x4000_0000n;
const PAGE = 4096n;

const { idr0, idr5 } = PRESETS["server-52"].identification;
const FORCED = (idr0 & ~(3 << 24)) | (2 << 24);
/** S1P. */
const withoutStage1 = (word: number): number => word & ~2;
const hex = (word: number): string => `0x${(word >>> 0).toString(16)}`;

type Options = Readonly<Record<string, unknown>>;

/** One device and what its program does with it. */
class Device {
  readonly fd: number;
  readonly id: number;
  readonly #client: SimulatedClient;

  constructor(client: SimulatedClient, iommu: number, path: string) {
    this.#client = client;
    this.fd = client.open(path);
    this.id = Number(client.ioctl(this.fd, "VFIO_DEVICE_BIND_IOMMUFD", { iommufd: iommu }).out_devid);
    client.pwrite(this.fd, (7n << 40n) + 4n, Uint8Array.of(6, 0));
  }

  put(register: number, value: bigint, size: number): void {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, value, true);
    this.#client.pwrite(this.fd, BigInt(register), bytes.subarray(0, size));
  }

  get status(): number {
    return this.#client.pread(this.fd, BigInt(R.STATUS), 4)[0];
  }

  get buffer(): Uint8Array {
    return this.#client.pread(this.fd, BigInt(R.BUFFER), 64);
  }

  dma(command: number, address: bigint, length = 64, pasid?: number): number {
    this.put(R.SOURCE, address, 8);
    this.put(R.DESTINATION, address, 8);
    this.put(R.LENGTH, BigInt(length), 4);
    this.put(R.PASID, pasid === undefined ? 0n : BigInt(pasid) | 0x8000_0000n, 4);
    this.put(R.COMMAND, BigInt(command), 4);
    return this.status;
  }

  attach(id: number, pasid?: number): void {
    this.#client.ioctl(this.fd, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", pasid === undefined ? { pt_id: id } : { flags: ATTACH_PASID, pt_id: id, pasid });
  }

  detach(pasid?: number): void {
    this.#client.ioctl(this.fd, "VFIO_DEVICE_DETACH_IOMMUFD_PT", pasid === undefined ? {} : { flags: ATTACH_PASID, pasid });
  }
}

class Rig {
  readonly client: SimulatedClient;
  readonly unit: SmmuUnit;
  readonly sanitizer: Sanitizer;
  readonly iommu: number;
  readonly ioas: number;
  readonly devices: readonly Device[];
  /** Commands of the driver that are about stalls. */
  readonly commands: string[] = [];
  readonly queue: number;
  readonly #fault: number;

  /** @param options of the unit @param devices options of each device */
  constructor(options: Options = {}, devices: readonly Options[] = [{ stalls: true }, { stalls: true }]) {
    const functions = devices.map((own, i) => ({ model: "dma-test", bdf: `00:0${3 + i}.0`, vfio: `vfio${i}`, options: own }));
    const spec = { name: "stalls", memory: { size: "256MiB" }, iommus: [{ type: "smmuv3", options: { preset: "server-52", ...options } }], devices: functions };
    const machine = buildMachine(spec, { iommus: [smmuIommuFactory], devices: [dmaTestModel] });
    this.unit = machine.units[0].hardware as SmmuUnit;
    this.sanitizer = new Sanitizer(machine);
    machine.tracer.listen((event) => {
      if (event.kind === "invalidation" && /RESUME|STALL_TERM/.test(event.descriptor)) this.commands.push(event.descriptor);
    });
    this.client = new SimulatedClient(machine.nodes);
    this.iommu = this.client.open("/dev/iommu");
    this.ioas = this.allocate();
    this.devices = functions.map(({ vfio }) => new Device(this.client, this.iommu, `/dev/vfio/devices/${vfio}`));
    const { out_fault_id, out_fault_fd } = this.client.ioctl(this.iommu, "IOMMU_FAULT_QUEUE_ALLOC");
    this.#fault = Number(out_fault_id);
    this.queue = Number(out_fault_fd);
  }

  allocate(): number {
    return Number(this.client.ioctl(this.iommu, "IOMMU_IOAS_ALLOC").out_ioas_id);
  }

  hwpt(flags = PASID_FLAG, device = this.devices[0]): number {
    return Number(this.client.ioctl(this.iommu, "IOMMU_HWPT_ALLOC", { dev_id: device.id, pt_id: this.ioas, flags: flags | FAULT_ID_VALID, fault_id: this.#fault }).out_hwpt_id);
  }

  /** On a guest's stream table entry. */
  nested(viommu: number, entry: bigint, device = this.devices[0]): number {
    const data = { data_type: 2, data_len: 16, data_uptr: entry };
    return Number(this.client.ioctl(this.iommu, "IOMMU_HWPT_ALLOC", { dev_id: device.id, pt_id: viommu, flags: FAULT_ID_VALID, fault_id: this.#fault, ...data }).out_hwpt_id);
  }

  /** A page of one value, mapped. */
  map(iova: bigint, value = 0x5a, flags = 7): Uint8Array {
    const { address, bytes } = this.client.memory.map(4096);
    bytes.fill(value);
    this.client.ioctl(this.iommu, "IOMMU_IOAS_MAP", { flags, ioas_id: this.ioas, user_va: address, length: PAGE, iova });
    return bytes;
  }

  unmap(iova: bigint): void {
    this.client.ioctl(this.iommu, "IOMMU_IOAS_UNMAP", { ioas_id: this.ioas, iova, length: PAGE });
  }

  records(): ReturnType<typeof decodeStruct>[] {
    const bytes = this.client.read(this.queue, 8 * RECORD);
    return Array.from({ length: bytes.length / RECORD }, (_, i) => decodeStruct("iommu_hwpt_pgfault", bytes.subarray(i * RECORD, (i + 1) * RECORD)));
  }

  reply({ cookie }: ReturnType<typeof decodeStruct>, code: number): void {
    this.client.write(this.queue, new Uint8Array(Uint32Array.of(Number(cookie), code).buffer));
  }
}

let rig: Rig;

/** Nothing here is a stale translation. */
afterEach(() => expect(rig.sanitizer.findings).toEqual([]));

describe("a program that pages for a device that can wait", () => {
  it.each([["without PASID", undefined], ["with PASID", 5]])("gets the stall, maps the page, answers, and the transfer goes on: %s", (_name, pasid) => {
    rig = new Rig();
    const [device] = rig.devices;
    device.attach(rig.hwpt(), pasid);
    // 64 bytes across two pages: the second stalls when the first is there.
    expect(device.dma(DmaTestCommand.READ, IOVA + 4064n, 64, pasid)).toBe(DmaTestStatus.WAITING);
    for (const [page, at] of [[0n, IOVA + 4064n], [PAGE, IOVA + PAGE]]) {
      const [record, ...more] = rig.records();
      expect(more).toEqual([]);
      expect(record).toMatchObject({ dev_id: device.id, perm: 1, addr: at, pasid: pasid ?? 0, flags: pasid === undefined ? 2 : 3 });
      rig.map(IOVA + page, page === 0n ? 0x11 : 0x22);
      expect(device.status).toBe(DmaTestStatus.WAITING);
      rig.reply(record, SUCCESS);
    }
    expect(device.status).toBe(DmaTestStatus.DONE);
    expect([...device.buffer]).toEqual([...Array<number>(32).fill(0x11), ...Array<number>(32).fill(0x22)]);
    expect(rig.unit.stalls.size).toBe(0);
    rig.unmap(IOVA);
    expect(device.dma(DmaTestCommand.WRITE, IOVA, 4, pasid)).toBe(DmaTestStatus.WAITING);
    expect(rig.records()).toMatchObject([{ perm: 2, addr: IOVA }]);
  });

  it("may refuse it, and what was moved before is told", () => {
    rig = new Rig();
    const [device] = rig.devices;
    device.attach(rig.hwpt());
    rig.map(IOVA);
    expect(device.dma(DmaTestCommand.WRITE, IOVA + 4064n)).toBe(DmaTestStatus.WAITING);
    rig.reply(rig.records()[0], INVALID);
    expect(device.status).toBe(DmaTestStatus.REFUSED);
    expect(new DataView(rig.client.pread(device.fd, BigInt(R.MOVED), 4).buffer).getUint32(0, true)).toBe(32);
    expect(device.dma(DmaTestCommand.READ, IOVA)).toBe(DmaTestStatus.DONE);
  });

  it("is asked again when it answers and has mapped nothing", () => {
    rig = new Rig();
    const [device] = rig.devices;
    device.attach(rig.hwpt());
    expect(device.dma(DmaTestCommand.READ, IOVA)).toBe(DmaTestStatus.WAITING);
    const groups = Array.from({ length: 3 }, () => {
      const [record] = rig.records();
      rig.reply(record, SUCCESS);
      return record.grpid;
    });
    expect(new Set(groups).size).toBe(3);
    expect(device.status).toBe(DmaTestStatus.WAITING);
  });

  it("may upgrade a page that is read-only", () => {
    rig = new Rig();
    const [device] = rig.devices;
    device.attach(rig.hwpt());
    rig.map(IOVA, 1, 5);
    expect(device.dma(DmaTestCommand.READ, IOVA)).toBe(DmaTestStatus.DONE);
    expect(device.dma(DmaTestCommand.WRITE, IOVA)).toBe(DmaTestStatus.WAITING);
    rig.unmap(IOVA);
    const bytes = rig.map(IOVA, 2);
    rig.reply(rig.records()[0], SUCCESS);
    expect(device.status).toBe(DmaTestStatus.DONE);
    expect([bytes[0], bytes[64]]).toEqual([1, 2]);
  });

  it("does the same with a second stage", () => {
    rig = new Rig({ idr0: hex(withoutStage1(idr0)) });
    const [device] = rig.devices;
    device.attach(rig.hwpt(0));
    expect(device.dma(DmaTestCommand.READ, IOVA)).toBe(DmaTestStatus.WAITING);
    const [record] = rig.records();
    expect(record).toMatchObject({ perm: 1, addr: IOVA });
    rig.map(IOVA, 0x33);
    rig.reply(record, SUCCESS);
    expect(device.status).toBe(DmaTestStatus.DONE);
    expect(device.buffer[0]).toBe(0x33);
  });

  it("takes care of two devices at once, in any order", () => {
    rig = new Rig();
    const [one, two] = rig.devices;
    const hwpt = rig.hwpt();
    for (const device of [one, two]) device.attach(hwpt);
    expect(one.dma(DmaTestCommand.READ, IOVA)).toBe(DmaTestStatus.WAITING);
    expect(two.dma(DmaTestCommand.READ, IOVA + PAGE)).toBe(DmaTestStatus.WAITING);
    const [first, second] = rig.records();
    expect([first, second]).toMatchObject([{ dev_id: one.id, addr: IOVA }, { dev_id: two.id, addr: IOVA + PAGE }]);
    rig.map(IOVA + PAGE, 2);
    rig.reply(second, SUCCESS);
    expect([one.status, two.status, two.buffer[0]]).toEqual([DmaTestStatus.WAITING, DmaTestStatus.DONE, 2]);
    rig.reply(first, INVALID);
    expect(one.status).toBe(DmaTestStatus.REFUSED);
  });

  it("hears of no more stalls than the unit has room for: others wait until one has ended", () => {
    rig = new Rig({ idr5: hex((idr5 & 0xffff) | (1 << 16)) }, [{ stalls: true }, { stalls: true }, { stalls: true }]);
    const hwpt = rig.hwpt();
    for (const device of rig.devices) device.attach(hwpt);
    for (const [i, device] of rig.devices.entries()) expect(device.dma(DmaTestCommand.READ, IOVA + BigInt(i) * PAGE)).toBe(DmaTestStatus.WAITING);
    for (const [i, device] of rig.devices.entries()) {
      const records = rig.records();
      expect(records).toMatchObject([{ dev_id: device.id, addr: IOVA + BigInt(i) * PAGE }]);
      rig.map(IOVA + BigInt(i) * PAGE, i);
      rig.reply(records[0], SUCCESS);
      expect([device.status, device.buffer[0]]).toEqual([DmaTestStatus.DONE, i]);
    }
    expect(rig.records()).toEqual([]);
  });
});

it("a guest's device waits for its guest's tables, and for the second stage below them", () => {
  rig = new Rig();
  const [device] = rig.devices;
  const { client, iommu, ioas } = rig;
  const TABLES = 0x4001_0000n;
  const DATA = 0x4010_0000n;
  const INPUT = 0x80_8060_4000n;
  const { address, bytes } = client.memory.map(0x1_0000);
  client.ioctl(iommu, "IOMMU_IOAS_MAP", { flags: 7, ioas_id: ioas, user_va: address, length: 0x1_0000n, iova: TABLES });
  const view = new DataView(bytes.buffer);
  const poke = (ipa: bigint, word: bigint): void => view.setBigUint64(Number(ipa - TABLES), word, true);
  // A context descriptor of 48 bits with S, and four tables, the last of which is empty.
  poke(TABLES, 0x001e_7204_c000_0010n);
  poke(TABLES + 8n, TABLES + PAGE);
  for (let level = 0n; level < 3n; level++) poke(TABLES + (level + 1n) * PAGE + (level + 1n) * 8n, (TABLES + (level + 2n) * PAGE) | 3n);
  const parent = Number(client.ioctl(iommu, "IOMMU_HWPT_ALLOC", { flags: NEST_PARENT, dev_id: device.id, pt_id: ioas }).out_hwpt_id);
  const viommu = Number(client.ioctl(iommu, "IOMMU_VIOMMU_ALLOC", { type: 1, dev_id: device.id, hwpt_id: parent }).out_viommu_id);
  client.ioctl(iommu, "IOMMU_VDEVICE_ALLOC", { viommu_id: viommu, dev_id: device.id, virt_id: 0x42n });
  const entry = client.memory.map(16);
  new DataView(entry.bytes.buffer).setBigUint64(0, TABLES | 0b1011n, true);
  device.attach(rig.nested(viommu, entry.address));
  expect(device.dma(DmaTestCommand.READ, INPUT)).toBe(DmaTestStatus.WAITING);
  const [first] = rig.records();
  expect(first).toMatchObject({ dev_id: device.id, perm: 1, addr: INPUT });
  poke(TABLES + 4n * PAGE + 4n * 8n, DATA | 0xf43n);
  rig.reply(first, SUCCESS);
  expect(device.status).toBe(DmaTestStatus.WAITING);
  const [second] = rig.records();
  expect(second).toMatchObject({ perm: 1, addr: INPUT });
  rig.map(DATA, 0x44);
  rig.reply(second, SUCCESS);
  expect([device.status, device.buffer[0]]).toEqual([DmaTestStatus.DONE, 0x44]);
});

describe("what becomes of a request that waits", () => {
  it("when its page table goes before its turn has come", () => {
    rig = new Rig({ idr5: hex((idr5 & 0xffff) | (1 << 16)) });
    const [one, two] = rig.devices;
    const hwpt = rig.hwpt();
    for (const device of [one, two]) device.attach(hwpt);
    for (const device of [one, two]) expect(device.dma(DmaTestCommand.READ, IOVA)).toBe(DmaTestStatus.WAITING);
    two.detach();
    expect([one.status, two.status]).toEqual([DmaTestStatus.WAITING, DmaTestStatus.REFUSED]);
    rig.map(IOVA);
    rig.reply(rig.records()[0], SUCCESS);
    expect(one.status).toBe(DmaTestStatus.DONE);
  });

  it.each([["without PASID", undefined], ["with PASID", 5]])("when its page table goes: it is refused, and the record is gone: %s", (_name, pasid) => {
    rig = new Rig();
    const [device] = rig.devices;
    const hwpt = rig.hwpt();
    device.attach(hwpt, pasid);
    for (const end of [() => device.detach(pasid), () => device.attach(rig.hwpt(), pasid)]) {
      expect(device.dma(DmaTestCommand.READ, IOVA, 4, pasid)).toBe(DmaTestStatus.WAITING);
      end();
      expect(device.status).toBe(DmaTestStatus.REFUSED);
      expect(rig.records()).toEqual([]);
      expect(rig.unit.stalls.size).toBe(0);
      if (end.toString().includes("detach")) device.attach(hwpt, pasid);
    }
    // One that was read and is answered too late.
    expect(device.dma(DmaTestCommand.READ, IOVA, 4, pasid)).toBe(DmaTestStatus.WAITING);
    const [record] = rig.records();
    rig.commands.length = 0;
    device.detach(pasid);
    expect(device.status).toBe(DmaTestStatus.REFUSED);
    // The unit first: what it has not told yet goes as well.
    expect(rig.commands).toEqual(["CMD_STALL_TERM: StreamID=0x18", expect.stringContaining("CMD_RESUME: Ab=0x1 StreamID=0x18")]);
    expect(() => rig.reply(record, SUCCESS)).toThrow(expect.objectContaining({ errno: "EINVAL" }) as IommuError);
  });

  it("when a PASID's page table goes, the RID's stays where it is", () => {
    rig = new Rig();
    const [device] = rig.devices;
    const hwpt = rig.hwpt();
    device.attach(hwpt);
    device.attach(hwpt, 5);
    expect(device.dma(DmaTestCommand.READ, IOVA)).toBe(DmaTestStatus.WAITING);
    device.detach(5);
    expect(device.status).toBe(DmaTestStatus.WAITING);
    rig.map(IOVA);
    rig.reply(rig.records()[0], SUCCESS);
    expect(device.status).toBe(DmaTestStatus.DONE);
  });

  it("when its device is reset: nothing moves any more", () => {
    rig = new Rig();
    const [device] = rig.devices;
    device.attach(rig.hwpt());
    expect(device.dma(DmaTestCommand.WRITE, IOVA)).toBe(DmaTestStatus.WAITING);
    rig.client.ioctl(device.fd, "VFIO_DEVICE_RESET");
    expect(device.status).toBe(DmaTestStatus.IDLE);
    const bytes = rig.map(IOVA, 7);
    for (const record of rig.records()) rig.reply(record, SUCCESS);
    expect(device.status).toBe(DmaTestStatus.IDLE);
    expect(bytes[0]).toBe(7);
    expect(rig.unit.stalls.size).toBe(0);
  });

  it("when its program closes everything: nothing waits in the unit", () => {
    rig = new Rig();
    const [device] = rig.devices;
    device.attach(rig.hwpt());
    expect(device.dma(DmaTestCommand.READ, IOVA)).toBe(DmaTestStatus.WAITING);
    for (const fd of [rig.queue, device.fd, rig.iommu]) rig.client.close(fd);
    expect(rig.unit.stalls.size).toBe(0);
  });
});

describe("who does not wait", () => {
  it.each<[string, Options, Options, boolean]>([
    ["a device that cannot", {}, {}, true],
    ["a device without a fault queue", {}, { stalls: true }, false],
    ["a device behind a unit without stalls", { preset: "server" }, { stalls: true }, true],
    ["a device that cannot, where the unit has it no other way", { idr0: hex(FORCED) }, {}, true],
  ])("%s", (_name, unit, options, faults) => {
    rig = new Rig(unit, [options]);
    const [device] = rig.devices;
    device.attach(faults ? rig.hwpt() : rig.ioas);
    expect(device.dma(DmaTestCommand.READ, IOVA)).toBe(DmaTestStatus.REFUSED);
    rig.map(IOVA);
    expect(device.dma(DmaTestCommand.READ, IOVA)).toBe(DmaTestStatus.DONE);
    expect(rig.records()).toEqual([]);
    // It was not that it waited for a moment.
    expect(rig.commands).toEqual([]);
  });

  it.each([["a first stage", FORCED], ["a second stage", withoutStage1(FORCED)]])("a unit that stalls whatever faults lets those wait that can: %s", (_name, word) => {
    rig = new Rig({ idr0: hex(word) });
    const [device] = rig.devices;
    device.attach(rig.hwpt(0));
    expect(device.dma(DmaTestCommand.READ, IOVA)).toBe(DmaTestStatus.WAITING);
    rig.map(IOVA);
    const [record] = rig.records();
    expect(record).toMatchObject({ perm: 1, addr: IOVA });
    rig.reply(record, SUCCESS);
    expect(device.status).toBe(DmaTestStatus.DONE);
    // Nobody answers here: the driver does.
    device.attach(rig.ioas);
    expect(device.dma(DmaTestCommand.READ, IOVA + PAGE)).toBe(DmaTestStatus.REFUSED);
    expect(rig.unit.stalls.size).toBe(0);
  });

  it("a device with a translation cache: it makes page requests", () => {
    expect(() => new Rig({}, [{ stalls: true, ats: true }])).toThrow(expect.objectContaining({ errno: "EINVAL" }) as IommuError);
  });
});
