/** Registers that a client maps: what is offered, and writes of 64 bytes at once. */
import { buildMachine, type DeviceModel, IommuError, type MmapRegion, type PciDevice, SimulatedClient } from "@iommukit/core";
import { beforeEach, describe, expect, it } from "vitest";
import { vtdIommuFactory } from "./plugin.js";

const PAGE = 4096;
const REGISTERS = 0;
const PORTAL = 2;
const MSIX = 4;
const CONFIG = 7n << 40n;
const READ_WRITE = 3;
const MMAP = 4;
const CAPS = 8;
const SPARSE_MMAP = 1;
const MSIX_MAPPABLE = 3;

let log: string[];
let accepts: boolean;

const base = {
  identity: { vendorId: 0x1d1d, deviceId: 0x0040, classCode: 0xff0000, revision: 1 },
  bars: [
    { index: REGISTERS, size: 4 * PAGE },
    { index: PORTAL, size: 4 * PAGE, mappable: [{ offset: PAGE, size: 2 * PAGE }], msixTable: { start: 0, end: 16 } },
    { index: MSIX, size: 2 * PAGE, mappable: [] },
  ],
  pasidBits: 0,
  ats: false,
  resettable: true,
  readBar: () => 0n,
  writeBar: (bar: number, offset: number, size: number, value: bigint) => void log.push(`${bar}:${offset.toString(16)}/${size}=${value.toString(16)}`),
  reset: () => {},
};
const plain: DeviceModel = { name: "plain", about: "takes no blocks", create: (): PciDevice => base };
const portal: DeviceModel = {
  name: "portal",
  about: "takes blocks",
  create: (): PciDevice => ({
    ...base,
    writeBlock: (bar, offset, bytes, deferrable) => {
      log.push(`${bar}:${offset.toString(16)} block of ${bytes.length}${deferrable ? ", deferrable" : ""}`);
      return accepts;
    },
  }),
};

let client: SimulatedClient;
let device: number;

function open(model: string): void {
  const machine = buildMachine({ name: "test", memory: { size: "64MiB" }, iommus: [{ type: "vtd" }], devices: [{ model, bdf: "00:03.0", vfio: "vfio0" }] }, { iommus: [vtdIommuFactory], devices: [plain, portal] });
  client = new SimulatedClient(machine.nodes);
  const iommu = client.open("/dev/iommu");
  device = client.open("/dev/vfio/devices/vfio0");
  client.ioctl(device, "VFIO_DEVICE_BIND_IOMMUFD", { iommufd: iommu });
}

function map(bar: number, offset: number, length: number): MmapRegion {
  const file = client.file(device);
  if (file?.kind !== undefined || file?.mmap === undefined) throw new Error("not a device");
  return file.mmap(client, { position: (BigInt(bar) << 40n) + BigInt(offset), length, shared: true, executable: false });
}

function errno(run: () => unknown): string {
  try {
    run();
    return "success";
  } catch (error) {
    if (!(error instanceof IommuError)) throw error;
    return error.errno;
  }
}

function regionInfo(index: number, argsz = 32): { flags: number; argsz: number; capOffset: number; rest: DataView } {
  const { address, bytes } = client.memory.map(PAGE);
  new Uint32Array(bytes.buffer, bytes.byteOffset, 4).set([argsz, 0, index, 0]);
  client.rawIoctl(device, 0x3b6c, address);
  const view = new DataView(bytes.buffer, bytes.byteOffset, PAGE);
  return { argsz: view.getUint32(0, true), flags: view.getUint32(4, true), capOffset: view.getUint32(12, true), rest: view };
}

describe("registers that a client maps", () => {
  beforeEach(() => {
    log = [];
    accepts = true;
    open("portal");
  });

  it("are offered whole, in parts or not at all, as the device says", () => {
    expect(regionInfo(REGISTERS).flags).toBe(READ_WRITE | MMAP);
    expect(regionInfo(MSIX).flags).toBe(READ_WRITE);
    const whole = 32 + 16 + 16 + 8;
    expect(regionInfo(PORTAL)).toMatchObject({ flags: READ_WRITE | MMAP | CAPS, argsz: whole, capOffset: 0 });
    const { capOffset, rest } = regionInfo(PORTAL, whole);
    expect(capOffset).toBe(32);
    expect([rest.getUint16(32, true), rest.getUint16(34, true), rest.getUint32(36, true), rest.getUint32(40, true)]).toEqual([SPARSE_MMAP, 1, 64, 1]);
    expect([rest.getBigUint64(48, true), rest.getBigUint64(56, true)]).toEqual([BigInt(PAGE), BigInt(2 * PAGE)]);
    expect([rest.getUint16(64, true), rest.getUint16(66, true), rest.getUint32(68, true)]).toEqual([MSIX_MAPPABLE, 1, 0]);
  });

  it("are mapped where that is offered alone", () => {
    expect(errno(() => map(REGISTERS, 0, 4 * PAGE))).toBe("success");
    expect(errno(() => map(PORTAL, PAGE, 2 * PAGE))).toBe("success");
    expect(errno(() => map(PORTAL, 2 * PAGE, 2 * PAGE))).toBe("EINVAL");
    expect(errno(() => map(PORTAL, 0, PAGE))).toBe("EINVAL");
    expect(errno(() => map(MSIX, 0, PAGE))).toBe("EINVAL");
  });

  it("take 64 bytes at once, which the device may turn away when they can wait", () => {
    const { writeBlock } = map(PORTAL, PAGE, PAGE);
    const bytes = new Uint8Array(64);
    expect(writeBlock?.(64, bytes, false)).toBe(true);
    accepts = false;
    expect(writeBlock?.(128, bytes, true)).toBe(false);
    expect(log).toEqual(["2:1040 block of 64", "2:1080 block of 64, deferrable"]);
  });

  it("take none while memory decoding is off", () => {
    const region = map(PORTAL, PAGE, PAGE);
    client.pwrite(device, CONFIG + 4n, Uint8Array.of(0, 0));
    expect(errno(() => region.writeBlock?.(0, new Uint8Array(64), true))).toBe("EFAULT");
    expect(log).toEqual([]);
  });

  it("take them in eights, or not, from a device that knows no blocks", () => {
    open("plain");
    const { writeBlock } = map(REGISTERS, 0, PAGE);
    const bytes = new Uint8Array(BigUint64Array.from({ length: 8 }, (_, i) => BigInt(i + 1)).buffer);
    expect(writeBlock?.(0x40, bytes, true)).toBe(false);
    expect(log).toEqual([]);
    expect(writeBlock?.(0x40, bytes, false)).toBe(true);
    expect(log).toEqual(["0:40/8=1", "0:48/8=2", "0:50/8=3", "0:58/8=4", "0:60/8=5", "0:68/8=6", "0:70/8=7", "0:78/8=8"]);
  });
});
