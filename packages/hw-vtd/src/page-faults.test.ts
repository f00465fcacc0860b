/** Page requests from a device to a program and back, through /dev/iommu. */
import { buildMachine, SimulatedClient } from "@iommukit/core";
import { decodeStruct, structLayout } from "@iommukit/core/abi";
import { DmaTestCommand, dmaTestModel, DmaTestRegister as R, DmaTestStatus } from "@iommukit/core/devices";
import { beforeEach, describe, expect, it } from "vitest";
import { vtdIommuFactory } from "./plugin.js";

const FAULT_ID_VALID = 4;
const PASID_FLAG = 8;
const ATTACH_PASID = 1;
const RECORD = structLayout("iommu_hwpt_pgfault").size;
const POLLIN = 1;
const IOVA = 0x4000_0000n;

describe("a program that pages for its device", () => {
  let client: SimulatedClient;
  let iommu: number;
  let device: number;
  let ioas: number;
  let queue: number;
  let hwpt: number;

  beforeEach(() => {
    const devices = [{ model: "dma-test", bdf: "00:03.0", vfio: "vfio0", options: { ats: true, pri: true } }, { model: "dma-test", bdf: "00:04.0", vfio: "vfio1" }];
    const machine = buildMachine({ name: "pri", memory: { size: "64MiB" }, iommus: [{ type: "vtd", options: { preset: "full" } }], devices }, { iommus: [vtdIommuFactory], devices: [dmaTestModel] });
    client = new SimulatedClient(machine.nodes);
    iommu = client.open("/dev/iommu");
    device = client.open("/dev/vfio/devices/vfio0");
    const dev_id = Number(client.ioctl(device, "VFIO_DEVICE_BIND_IOMMUFD", { iommufd: iommu }).out_devid);
    client.pwrite(device, (7n << 40n) + 4n, Uint8Array.of(6, 0));
    ioas = Number(client.ioctl(iommu, "IOMMU_IOAS_ALLOC").out_ioas_id);
    const { out_fault_id: fault_id, out_fault_fd } = client.ioctl(iommu, "IOMMU_FAULT_QUEUE_ALLOC");
    queue = Number(out_fault_fd);
    hwpt = Number(client.ioctl(iommu, "IOMMU_HWPT_ALLOC", { dev_id, pt_id: ioas, flags: FAULT_ID_VALID | PASID_FLAG, fault_id }).out_hwpt_id);
  });

  const put = (register: number, value: bigint, size: number): void => {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, value, true);
    client.pwrite(device, BigInt(register), bytes.subarray(0, size));
  };
  const status = (): number => client.pread(device, BigInt(R.STATUS), 4)[0];
  const dma = (command: number, address: bigint, length: number, pasid?: number): number => {
    put(R.SOURCE, address, 8);
    put(R.DESTINATION, address, 8);
    put(R.LENGTH, BigInt(length), 4);
    put(R.PASID, pasid === undefined ? 0n : BigInt(pasid) | 0x8000_0000n, 4);
    put(R.COMMAND, BigInt(command), 4);
    return status();
  };
  const records = (): ReturnType<typeof decodeStruct>[] => {
    const bytes = client.read(queue, 8 * RECORD);
    return Array.from({ length: bytes.length / RECORD }, (_, i) => decodeStruct("iommu_hwpt_pgfault", bytes.subarray(i * RECORD, (i + 1) * RECORD)));
  };
  const reply = (cookie: number | bigint, code: number): unknown => client.write(queue, new Uint8Array(Uint32Array.of(Number(cookie), code).buffer));
  const readable = (): boolean => {
    const file = client.file(queue);
    return file !== undefined && "poll" in file && ((file.poll?.() ?? 0) & POLLIN) !== 0;
  };

  it.each([["without PASID", undefined], ["with PASID", 5]])("gets the request, maps the page, answers, and the transfer goes on: %s", (_name, pasid) => {
    client.ioctl(device, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", pasid === undefined ? { pt_id: hwpt } : { flags: ATTACH_PASID, pt_id: hwpt, pasid });
    const { address, bytes } = client.memory.map(8192);
    bytes.fill(0x5a);
    expect(readable()).toBe(false);
    // 64 bytes across two pages: the second is asked for when the first is there.
    expect(dma(DmaTestCommand.READ, IOVA + 4064n, 64, pasid)).toBe(DmaTestStatus.WAITING);
    for (const page of [0n, 4096n]) {
      expect(readable()).toBe(true);
      const [record] = records();
      expect(record).toMatchObject({ dev_id: 1, perm: 1, addr: IOVA + page, pasid: pasid ?? 0, flags: pasid === undefined ? 2 : 3 });
      client.ioctl(iommu, "IOMMU_IOAS_MAP", { flags: 7, ioas_id: ioas, user_va: address + page, length: 4096n, iova: IOVA + page });
      expect(status()).toBe(DmaTestStatus.WAITING);
      reply(record.cookie as number, 0);
    }
    expect(status()).toBe(DmaTestStatus.DONE);
    expect(client.pread(device, BigInt(R.BUFFER), 64).every((byte) => byte === 0x5a)).toBe(true);
    // What was cached is given up with the mapping, and asked for anew.
    client.ioctl(iommu, "IOMMU_IOAS_UNMAP", { ioas_id: ioas, iova: IOVA, length: 8192n });
    expect(dma(DmaTestCommand.READ, IOVA, 4, pasid)).toBe(DmaTestStatus.WAITING);
  });

  it("may refuse it", () => {
    client.ioctl(device, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { pt_id: hwpt });
    expect(dma(DmaTestCommand.WRITE, IOVA, 4)).toBe(DmaTestStatus.WAITING);
    const [record] = records();
    expect(record).toMatchObject({ perm: 2 });
    reply(record.cookie as number, 1);
    expect(status()).toBe(DmaTestStatus.REFUSED);
  });

  it("may upgrade a page that is read-only", () => {
    client.ioctl(device, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { pt_id: hwpt });
    const { address, bytes } = client.memory.map(4096);
    const map = (flags: number): unknown => client.ioctl(iommu, "IOMMU_IOAS_MAP", { flags, ioas_id: ioas, user_va: address, length: 4096n, iova: IOVA });
    map(5);
    expect(dma(DmaTestCommand.READ, IOVA, 4)).toBe(DmaTestStatus.DONE);
    client.pwrite(device, BigInt(R.BUFFER), Uint8Array.of(1, 2, 3, 4));
    expect(dma(DmaTestCommand.WRITE, IOVA, 4)).toBe(DmaTestStatus.WAITING);
    client.ioctl(iommu, "IOMMU_IOAS_UNMAP", { ioas_id: ioas, iova: IOVA, length: 4096n });
    map(7);
    reply(records()[0].cookie as number, 0);
    expect(status()).toBe(DmaTestStatus.DONE);
    expect([...bytes.subarray(0, 4)]).toEqual([1, 2, 3, 4]);
  });

  it("that goes away leaves no transfer waiting", () => {
    client.ioctl(device, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { pt_id: hwpt });
    expect(dma(DmaTestCommand.READ, IOVA, 4)).toBe(DmaTestStatus.WAITING);
    client.ioctl(device, "VFIO_DEVICE_DETACH_IOMMUFD_PT");
    expect(status()).toBe(DmaTestStatus.REFUSED);
    expect(records()).toEqual([]);
    client.ioctl(device, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { pt_id: hwpt });
    expect(dma(DmaTestCommand.READ, IOVA, 4)).toBe(DmaTestStatus.WAITING);
    expect(records()).toHaveLength(1);
    client.ioctl(device, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { pt_id: ioas });
    expect(status()).toBe(DmaTestStatus.REFUSED);
  });

  it("cannot ask for it behind a device without page requests", () => {
    const plain = client.open("/dev/vfio/devices/vfio1");
    client.ioctl(plain, "VFIO_DEVICE_BIND_IOMMUFD", { iommufd: iommu });
    expect(() => client.ioctl(plain, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { pt_id: hwpt })).toThrow(expect.objectContaining({ errno: "ENODEV" }));
  });
});
