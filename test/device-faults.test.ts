/** Faults that nobody can repair, told to the program that has the device (IOMMUKIT_DEVICE_FAULTS), on both kinds of hardware. */
import { buildMachine, SimulatedClient } from "@iommukit/core";
import { decodeStruct } from "@iommukit/core/abi";
import { DmaTestCommand, dmaTestModel, DmaTestRegister as R } from "@iommukit/core/devices";
import { smmuIommuFactory } from "@iommukit/hw-smmu/plugin";
import { vtdIommuFactory } from "@iommukit/hw-vtd/plugin";
import { describe, expect, it } from "vitest";
import { errno } from "./host-program.js";

const RECORD = 32;
const PASID_VALID = 0x8000_0000;

function program(factory: typeof vtdIommuFactory) {
  const devices = [3, 4].map((slot, i) => ({ model: "dma-test", bdf: `00:0${slot}.0`, vfio: `vfio${i}` }));
  const machine = buildMachine({ name: "host", memory: { size: "64MiB" }, iommus: [{ type: factory.name, options: factory.everything ?? {} }], devices }, { iommus: [factory], devices: [dmaTestModel] });
  const client = new SimulatedClient(machine.nodes);
  const iommufd = client.open("/dev/iommu");
  const open = (name: string): { fd: number; id: number } => {
    const fd = client.open(`/dev/vfio/devices/${name}`);
    const id = Number(client.ioctl(fd, "VFIO_DEVICE_BIND_IOMMUFD", { iommufd }).out_devid);
    client.pwrite(fd, (7n << 40n) + 4n, Uint8Array.of(6, 0));
    // Behind an SMMU that has nothing for it, a device is stopped without a record.
    client.ioctl(fd, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { pt_id: Number(client.ioctl(iommufd, "IOMMU_IOAS_ALLOC").out_ioas_id), argsz: 12 });
    return { fd, id };
  };
  const put = (fd: number, register: number, value: bigint, size: number): void => void client.pwrite(fd, BigInt(register), new Uint8Array(BigUint64Array.of(value).buffer).subarray(0, size));
  const dma = (fd: number, command: number, iova: bigint, pasid?: number): void => {
    put(fd, R.PASID, pasid === undefined ? 0n : BigInt(PASID_VALID + pasid), 4);
    put(fd, R.SOURCE, iova, 8);
    put(fd, R.DESTINATION, iova, 8);
    put(fd, R.LENGTH, 8n, 4);
    put(fd, R.COMMAND, BigInt(command), 4);
  };
  const faults = (id: number): number => Number(client.ioctl(iommufd, "IOMMUKIT_DEVICE_FAULTS", { dev_id: id }).out_faults_fd);
  const read = (fd: number, records = 4): unknown[] => {
    const bytes = client.read(fd, records * RECORD);
    return Array.from({ length: bytes.length / RECORD }, (_, i) => {
      const { dev_id, flags, pasid, perm, addr } = decodeStruct("iommukit_device_fault", bytes.subarray(i * RECORD, (i + 1) * RECORD));
      return { device: Number(dev_id), flags: Number(flags), pasid: Number(pasid), perm: Number(perm), page: BigInt(addr) >> 12n };
    });
  };
  return { client, iommufd, open, dma, faults, read };
}

describe.each([vtdIommuFactory, smmuIommuFactory])("faults of a device behind $name", (factory) => {
  it("are told to who asked, with address, direction and PASID; those of others are not", () => {
    const { open, dma, faults, read } = program(factory);
    const [a, b] = [open("vfio0"), open("vfio1")];
    const fd = faults(a.id);
    expect(read(fd)).toEqual([]);
    dma(a.fd, DmaTestCommand.READ, 0x40_0000n);
    dma(b.fd, DmaTestCommand.READ, 0x50_0000n);
    dma(a.fd, DmaTestCommand.WRITE, 0x60_0000n);
    expect(read(fd)).toEqual([{ device: a.id, flags: 0, pasid: 0, perm: 1, page: 0x400n }, { device: a.id, flags: 0, pasid: 0, perm: 2, page: 0x600n }]);
    expect(read(fd)).toEqual([]);
  });

  it("wait to be read, up to a number; what was lost is said of the next", () => {
    const { open, dma, faults, read } = program(factory);
    const { fd, id } = open("vfio0");
    const file = faults(id);
    for (let i = 0; i < 1030; i++) dma(fd, DmaTestCommand.READ, BigInt(i) << 12n);
    const records = read(file, 2000) as { flags: number; perm: number }[];
    expect([records.length, records.filter(({ flags }) => flags !== 0)]).toEqual([1024, []]);
    dma(fd, DmaTestCommand.READ, 0n);
    dma(fd, DmaTestCommand.READ, 0n);
    expect((read(file) as { flags: number }[]).map(({ flags }) => flags)).toEqual([2, 0]);
  });

  it("have one reader, who may go, as the device may", () => {
    const { client, open, dma, faults, read } = program(factory);
    const a = open("vfio0");
    const first = faults(a.id);
    expect(errno(() => faults(a.id))).toBe("EEXIST");
    client.close(first);
    const second = faults(a.id);
    client.close(a.fd);
    expect(read(second)).toEqual([]);
    const again = open("vfio0");
    const third = faults(again.id);
    client.close(second);
    dma(again.fd, DmaTestCommand.READ, 0x1000n);
    expect(read(third)).toHaveLength(1);
  });

  it("wrong calls are refused", () => {
    const { client, iommufd, open, dma, faults } = program(factory);
    const { fd, id } = open("vfio0");
    expect(errno(() => faults(99))).toBe("ENOENT");
    expect(errno(() => client.ioctl(iommufd, "IOMMUKIT_DEVICE_FAULTS", { dev_id: id, flags: 1 }))).toBe("EOPNOTSUPP");
    const file = faults(id);
    dma(fd, DmaTestCommand.READ, 0n);
    expect([0, 31, 33].map((count) => errno(() => client.read(file, count)))).toEqual(["EINVAL", "EINVAL", "EINVAL"]);
    expect(client.read(file, RECORD)).toHaveLength(RECORD);
  });
});

it("of a request with a PASID name it", () => {
  const { client, iommufd, open, dma, faults, read } = program(vtdIommuFactory);
  const { fd, id } = open("vfio0");
  const ioas = Number(client.ioctl(iommufd, "IOMMU_IOAS_ALLOC").out_ioas_id);
  const [own, other] = [0, 1].map(() => Number(client.ioctl(iommufd, "IOMMU_HWPT_ALLOC", { dev_id: id, pt_id: ioas, flags: 8 }).out_hwpt_id));
  client.ioctl(fd, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { pt_id: own, argsz: 12 });
  client.ioctl(fd, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { pt_id: other, argsz: 16, flags: 1, pasid: 5 });
  const file = faults(id);
  dma(fd, DmaTestCommand.WRITE, 0x7000n, 5);
  expect(read(file)).toEqual([{ device: id, flags: 1, pasid: 5, perm: 2, page: 7n }]);
});
