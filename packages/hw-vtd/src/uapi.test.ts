/** Dirty tracking and nested page tables as a program uses them: through /dev/iommu, on a unit that has everything. */
import { buildMachine, IommuError, SimulatedClient } from "@iommukit/core";
import { decodeStruct, encodeStruct } from "@iommukit/core/abi";
import { DmaTestCommand, dmaTestModel, DmaTestRegister as R, DmaTestStatus } from "@iommukit/core/devices";
import { beforeEach, describe, expect, it } from "vitest";
import { vtdIommuFactory } from "./plugin.js";

const NEST_PARENT = 1;
const DIRTY_TRACKING = 2;
const PASID = 8;
const ATTACH_PASID = 1;
const IOVA = 0x4000_0000n;
const { DONE, REFUSED } = DmaTestStatus;

function errno(run: () => unknown): string {
  try {
    run();
    return "success";
  } catch (error) {
    if (!(error instanceof IommuError)) throw error;
    return error.errno;
  }
}

describe.each([["without", {}], ["with", { ats: true }]])("a device %s a translation cache", (_name, options) => {
  let client: SimulatedClient;
  let iommu: number;
  let device: number;
  let dev_id: number;
  let ioas: number;
  let buffer: { readonly address: bigint; readonly bytes: Uint8Array };

  beforeEach(() => {
    const devices = [{ model: "dma-test", bdf: "00:03.0", vfio: "vfio0", options }];
    const spec = { name: "uapi", memory: { size: "64MiB" }, iommus: [{ type: "vtd", options: { preset: "full" } }], devices };
    client = new SimulatedClient(buildMachine(spec, { iommus: [vtdIommuFactory], devices: [dmaTestModel] }).nodes);
    iommu = client.open("/dev/iommu");
    device = client.open("/dev/vfio/devices/vfio0");
    dev_id = Number(client.ioctl(device, "VFIO_DEVICE_BIND_IOMMUFD", { iommufd: iommu }).out_devid);
    client.pwrite(device, (7n << 40n) + 4n, Uint8Array.of(6, 0));
    ioas = Number(client.ioctl(iommu, "IOMMU_IOAS_ALLOC").out_ioas_id);
    buffer = client.memory.map(64 * 4096);
    client.ioctl(iommu, "IOMMU_IOAS_MAP", { flags: 7, ioas_id: ioas, user_va: buffer.address, length: buffer.bytes.length, iova: IOVA });
  });

  const alloc = (flags: number, more: Readonly<Record<string, number | bigint>> = {}): number =>
    Number(client.ioctl(iommu, "IOMMU_HWPT_ALLOC", { dev_id, pt_id: ioas, flags, ...more }).out_hwpt_id);
  const attach = (pt_id: number, pasid?: number): unknown =>
    client.ioctl(device, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", pasid === undefined ? { pt_id } : { flags: ATTACH_PASID, pt_id, pasid });
  const put = (register: number, value: bigint, size: number): void => {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, value, true);
    client.pwrite(device, BigInt(register), bytes.subarray(0, size));
  };
  const dma = (command: number, address: bigint, pasid?: number): number => {
    put(R.SOURCE, address, 8);
    put(R.DESTINATION, address, 8);
    put(R.LENGTH, 4n, 4);
    put(R.PASID, pasid === undefined ? 0n : BigInt(pasid) | 0x8000_0000n, 4);
    put(R.COMMAND, BigInt(command), 4);
    return client.pread(device, BigInt(R.STATUS), 4)[0];
  };

  it("shows the pages that it wrote", () => {
    const hwpt = alloc(DIRTY_TRACKING | PASID);
    attach(hwpt);
    attach(hwpt, 3);
    const bitmap = client.memory.map(4096);
    const dirty = (flags = 0): number[] => {
      bitmap.bytes.fill(0);
      client.ioctl(iommu, "IOMMU_HWPT_GET_DIRTY_BITMAP", { hwpt_id: hwpt, flags, iova: IOVA, length: 64n * 4096n, page_size: 4096n, data: bitmap.address });
      return Array.from({ length: 64 }, (_, page) => page).filter((page) => (bitmap.bytes[page >> 3] >> (page & 7)) & 1);
    };
    const track = (flags: number): unknown => client.ioctl(iommu, "IOMMU_HWPT_SET_DIRTY_TRACKING", { hwpt_id: hwpt, flags });
    dma(DmaTestCommand.WRITE, IOVA);
    track(1);
    expect(dirty()).toEqual([]);
    for (let round = 0; round < 2; round++) {
      expect([dma(DmaTestCommand.WRITE, IOVA + 5n * 4096n), dma(DmaTestCommand.WRITE, IOVA + 63n * 4096n, 3), dma(DmaTestCommand.READ, IOVA + 9n * 4096n)]).toEqual([DONE, DONE, DONE]);
      expect([dirty(1), dirty(), dirty()]).toEqual([[5, 63], [5, 63], []]);
    }
    dma(DmaTestCommand.WRITE, IOVA + 5n * 4096n);
    // Turning it on anew forgets what was.
    track(0);
    track(1);
    expect(dirty()).toEqual([]);
    expect(errno(() => client.ioctl(iommu, "IOMMU_HWPT_SET_DIRTY_TRACKING", { hwpt_id: alloc(0), flags: 1 }))).toBe("EOPNOTSUPP");
  });

  it("walks a guest's tables in the guest's memory, and forgets what the guest says", () => {
    const parent = alloc(NEST_PARENT);
    const words = new DataView(buffer.bytes.buffer, buffer.bytes.byteOffset);
    // One table of each level in the first four pages; the guest's address 0x5000 is its page 8.
    for (const [page, index, next] of [[0, 0, 1], [1, 0, 2], [2, 0, 3], [3, 5, 8]]) {
      words.setBigUint64(page * 4096 + index * 8, (IOVA + BigInt(next) * 4096n) | 7n, true);
    }
    buffer.bytes.set([1, 2, 3, 4], 8 * 4096);
    const data = client.memory.map(4096);
    data.bytes.set(encodeStruct("iommu_hwpt_vtd_s1", { pgtbl_addr: IOVA, addr_width: 48 }));
    const nested = alloc(PASID, { pt_id: parent, data_type: 1, data_len: 24, data_uptr: data.address });
    attach(nested);
    attach(nested, 9);
    const read = (): number[] => [dma(DmaTestCommand.READ, 0x5000n), dma(DmaTestCommand.READ, 0x5000n, 9)];
    expect(read()).toEqual([DONE, DONE]);
    expect([...client.pread(device, BigInt(R.BUFFER), 4)]).toEqual([1, 2, 3, 4]);
    // The guest takes the page away, and says so too late.
    words.setBigUint64(3 * 4096 + 5 * 8, 0n, true);
    expect(read()).toEqual([DONE, DONE]);
    const entries = client.memory.map(4096);
    const invalidate = (list: readonly Readonly<Record<string, number | bigint>>[]): { errno: string; done: number } => {
      for (const [i, entry] of list.entries()) entries.bytes.set(encodeStruct("iommu_hwpt_vtd_s1_invalidate", entry), i * 24);
      const argument = client.memory.map(4096);
      argument.bytes.set(encodeStruct("iommu_hwpt_invalidate", { size: 32, hwpt_id: nested, data_uptr: entries.address, entry_len: 24, entry_num: list.length }));
      const file = client.file(iommu);
      const result = errno(() => file !== undefined && "ioctl" in file && file.ioctl(client, 0x3b8d, argument.address));
      return { errno: result, done: Number(decodeStruct("iommu_hwpt_invalidate", argument.bytes.subarray(0, 32)).entry_num) };
    };
    expect(invalidate([{ addr: 0x5000n, npages: 1n, flags: 1 }, { addr: 1n, npages: 1n }, { addr: 0n, npages: 1n }])).toEqual({ errno: "EINVAL", done: 1 });
    expect(read()).toEqual([REFUSED, REFUSED]);
    expect(errno(() => client.ioctl(iommu, "IOMMU_DESTROY", { id: parent }))).toBe("EBUSY");
  });
});
