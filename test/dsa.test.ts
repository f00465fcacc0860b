/** A program with a DSA device behind a VT-d unit, through /dev/iommu and the device's file: PASIDs, pages on demand, nested translation. */
import { buildMachine, type Machine, SimulatedClient } from "@iommukit/core";
import { decodeStruct, structLayout } from "@iommukit/core/abi";
import { vtdIommuFactory } from "@iommukit/hw-vtd/plugin";
import { DsaCommand, DsaCommandError, DsaField, DsaFlag, dsaModel, DsaOpcode, DsaRegister, DsaStatus, DsaTable, GrpWord, WqWord } from "@iommukit/mdev/dsa";
import { beforeEach, describe, expect, it } from "vitest";

const FAULT_ID_VALID = 4;
const PASID_FLAG = 8;
const NEST_PARENT = 1;
const ATTACH_PASID = 1;
const RECORD = structLayout("iommu_hwpt_pgfault").size;
const IOVA = 0x4000_0000n;
const PAGE = 4096n;
const PASID = 5;
const COMPLETION = IOVA;
const BAR0 = 0n;
const CONFIG = 7n << 40n;

let machine: Machine;
let client: SimulatedClient;
let iommu: number;
let device: number;
let dev_id: number;

beforeEach(() => {
  machine = buildMachine(
    { name: "dsa", memory: { size: "64MiB" }, iommus: [{ type: "vtd", options: { preset: "full" } }], devices: [{ model: "dsa", bdf: "00:03.0", vfio: "vfio0" }] },
    { iommus: [vtdIommuFactory], devices: [dsaModel] },
  );
  client = new SimulatedClient(machine.nodes);
  iommu = client.open("/dev/iommu");
  device = client.open("/dev/vfio/devices/vfio0");
  dev_id = Number(client.ioctl(device, "VFIO_DEVICE_BIND_IOMMUFD", { iommufd: iommu }).out_devid);
});

const write = (offset: number, value: number): void => void client.pwrite(device, BAR0 + BigInt(offset), new Uint8Array(Uint32Array.of(value).buffer));
const read = (offset: number): number => new DataView(client.pread(device, BAR0 + BigInt(offset), 4).slice().buffer).getUint32(0, true);
const command = (number: number, operand = 0): number => {
  write(DsaRegister.CMD, (number << 20) | operand);
  return read(DsaRegister.CMDSTS) & 0xff;
};

/** One dedicated queue that may block, with a PASID or without. */
function start(pasid?: number): void {
  client.pwrite(device, CONFIG + 4n, Uint8Array.of(6, 0));
  write(DsaTable.WQCFG + 4 * WqWord.SIZE, 16);
  write(DsaTable.WQCFG + 4 * WqWord.MODE, 0x13 | (pasid === undefined ? 0 : 0x1000_0000 | (pasid << 8)));
  write(DsaTable.GRPCFG + 4 * GrpWord.QUEUES, 1);
  write(DsaTable.GRPCFG + 4 * GrpWord.ENGINES, 3);
  expect(command(DsaCommand.ENABLE_DEVICE)).toBe(0);
  expect(command(DsaCommand.ENABLE_WQ)).toBe(0);
}

function move(source: bigint, destination: bigint, size: number, flags = 0, completion = COMPLETION): void {
  const bytes = new Uint8Array(64);
  const view = new DataView(bytes.buffer);
  view.setUint32(DsaField.FLAGS, DsaFlag.COMPLETION_VALID | DsaFlag.REQUEST_COMPLETION | flags, true);
  bytes[DsaField.OPCODE] = DsaOpcode.MEMMOVE;
  view.setBigUint64(DsaField.COMPLETION, completion, true);
  view.setBigUint64(DsaField.SOURCE, source, true);
  view.setBigUint64(DsaField.DESTINATION, destination, true);
  view.setUint32(DsaField.SIZE, size, true);
  machine.devices[0].pci.writeBlock(2, 0, bytes, false);
}

const ioasOf = (): number => Number(client.ioctl(iommu, "IOMMU_IOAS_ALLOC").out_ioas_id);
const map = (ioas_id: number, iova: bigint, user_va: bigint, length: bigint, flags = 7): unknown => client.ioctl(iommu, "IOMMU_IOAS_MAP", { flags, ioas_id, user_va, length, iova });

it("cannot be enabled before its user lets it master the bus", () => {
  expect(command(DsaCommand.ENABLE_DEVICE)).toBe(DsaCommandError.BUS_MASTER);
});

it("moves between pages of an IOAS, and stops where there are none", () => {
  const ioas = ioasOf();
  const { address, bytes } = client.memory.map(8 * 4096);
  map(ioas, IOVA, address, 8n * PAGE);
  client.ioctl(device, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { pt_id: ioas });
  start();
  bytes.fill(0x5a, 4096, 3 * 4096);
  move(IOVA + PAGE, IOVA + 4n * PAGE + 100n, 8192);
  expect(bytes[0]).toBe(DsaStatus.SUCCESS);
  expect(bytes.subarray(4 * 4096 + 100, 6 * 4096 + 100).every((byte) => byte === 0x5a)).toBe(true);
  bytes[0] = 0;
  move(IOVA + PAGE, IOVA + 7n * PAGE, 8192);
  expect([bytes[0], new DataView(bytes.buffer, bytes.byteOffset).getUint32(4, true)]).toEqual([DsaStatus.PAGE_FAULT | 0x80, 4096]);
  expect(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(8, true)).toBe(IOVA + 8n * PAGE);
});

describe.each([["without PASID", undefined], ["with PASID", PASID]])("%s, a page on demand", (_name, pasid) => {
  let ioas: number;
  let queue: number;
  let bytes: Uint8Array;
  let address: bigint;

  beforeEach(() => {
    ioas = ioasOf();
    const { out_fault_id: fault_id, out_fault_fd } = client.ioctl(iommu, "IOMMU_FAULT_QUEUE_ALLOC");
    queue = Number(out_fault_fd);
    const pt_id = Number(client.ioctl(iommu, "IOMMU_HWPT_ALLOC", { dev_id, pt_id: ioas, flags: FAULT_ID_VALID | PASID_FLAG, fault_id }).out_hwpt_id);
    client.ioctl(device, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", pasid === undefined ? { pt_id } : { flags: ATTACH_PASID, pt_id, pasid });
    ({ address, bytes } = client.memory.map(4 * 4096));
    map(ioas, IOVA, address, PAGE);
    start(pasid);
    bytes.fill(0x77, 4096, 8192);
    move(IOVA + PAGE, IOVA + 2n * PAGE, 4096, DsaFlag.BLOCK_ON_FAULT);
  });

  const question = (): ReturnType<typeof decodeStruct> => {
    const raw = client.read(queue, RECORD);
    expect(raw).toHaveLength(RECORD);
    return decodeStruct("iommu_hwpt_pgfault", raw);
  };
  const reply = (cookie: unknown, code: number): unknown => client.write(queue, new Uint8Array(Uint32Array.of(Number(cookie), code).buffer));

  it("is asked for, mapped and answered, at each end, and the move goes on", () => {
    for (const [page, perm] of [[1n, 1], [2n, 2]] as const) {
      expect(bytes[0]).toBe(0);
      const asked = question();
      expect(asked).toMatchObject({ addr: IOVA + page * PAGE, perm, pasid: pasid ?? 0 });
      map(ioas, IOVA + page * PAGE, address + page * PAGE, PAGE);
      reply(asked.cookie, 0);
    }
    expect(bytes[0]).toBe(DsaStatus.SUCCESS);
    expect(bytes.subarray(8192, 12288).every((byte) => byte === 0x77)).toBe(true);
  });

  it("may be refused: status 4, and the page in the record", () => {
    reply(question().cookie, 1);
    expect(bytes[0]).toBe(DsaStatus.PAGE_RESPONSE);
    expect(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(8, true)).toBe(IOVA + PAGE);
  });

  it("holds up a drain until it is answered", () => {
    command(DsaCommand.DRAIN_WQ, 1);
    expect(read(DsaRegister.CMDSTS)).toBe(0x8000_0000);
    reply(question().cookie, 1);
    expect(read(DsaRegister.CMDSTS)).toBe(0);
  });

  it("leaves nothing waiting when the program takes the tables away", () => {
    client.ioctl(device, "VFIO_DEVICE_DETACH_IOMMUFD_PT", pasid === undefined ? {} : { flags: ATTACH_PASID, pasid });
    expect(read(DsaRegister.CMDSTS)).toBe(0);
    expect(command(DsaCommand.DRAIN_ALL)).toBe(0);
    expect(read(DsaRegister.CMDSTS)).toBe(0);
  });
});

it("goes through a guest's tables and the host's: nested translation with a PASID", () => {
  const ioas = ioasOf();
  const { address, bytes } = client.memory.map(16 * 4096);
  // The guest's memory lies at 0: its tables in pages 8 to 11, its data in 0 to 7.
  map(ioas, 0n, address, 16n * PAGE);
  const parent = Number(client.ioctl(iommu, "IOMMU_HWPT_ALLOC", { dev_id, pt_id: ioas, flags: NEST_PARENT }).out_hwpt_id);
  const table = new DataView(bytes.buffer, bytes.byteOffset);
  for (const level of [8, 9, 10]) table.setBigUint64(level * 4096, BigInt((level + 1) * 4096) | 7n, true);
  for (let page = 0; page < 8; page++) table.setBigUint64(11 * 4096 + 8 * page, BigInt((7 - page) * 4096) | 7n, true);
  const data = client.memory.map(4096);
  const blob = new DataView(data.bytes.buffer, data.bytes.byteOffset);
  blob.setBigUint64(8, 8n * PAGE, true);
  blob.setUint32(16, 48, true);
  const pt_id = Number(client.ioctl(iommu, "IOMMU_HWPT_ALLOC", { dev_id, pt_id: parent, data_type: 1, data_len: 24, data_uptr: data.address, flags: PASID_FLAG }).out_hwpt_id);
  client.ioctl(device, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { flags: ATTACH_PASID, pt_id, pasid: PASID });
  start(PASID);
  bytes.fill(0x31, 6 * 4096, 7 * 4096);
  // Guest page n is its page 7 - n.
  move(PAGE, 3n * PAGE, 4096, 0, 0n);
  expect(bytes[7 * 4096]).toBe(DsaStatus.SUCCESS);
  expect(bytes.subarray(4 * 4096, 5 * 4096).every((byte) => byte === 0x31)).toBe(true);
});
