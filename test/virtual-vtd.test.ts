/** A guest's VT-d in front of a device of the host: guest driver, virtual unit, iommufd, host driver, host hardware, memory. */
import { buildMachine, encodeFields, FrameAllocator, InterruptController, PhysicalMemory, Prot, SimulatedClient } from "@iommukit/core";
import { DmaTestCommand, dmaTestModel, DmaTestRegister as R, DmaTestStatus } from "@iommukit/core/devices";
import { VtdDriver } from "@iommukit/hw-vtd/driver";
import { REGISTER_BYTES, VtdUnit } from "@iommukit/hw-vtd/hardware";
import { vtdIommuFactory } from "@iommukit/hw-vtd/plugin";
import { CAP, ECAP } from "@iommukit/hw-vtd/spec";
import { VirtualVtd } from "@iommukit/viommu/vtd";
import { expect, it } from "vitest";

const RAM = 0x100_0000;
const REGISTERS = 0xfed9_0000;
const RID = 0x18;
const { DONE, REFUSED } = DmaTestStatus;

function guest(refuses: (name: string) => boolean = () => false) {
  const spec = { name: "host", memory: { size: "64MiB" }, iommus: [{ type: "vtd", options: { preset: "full" } }], devices: [{ model: "dma-test", bdf: "00:03.0", vfio: "vfio0" }] };
  const program = new SimulatedClient(buildMachine(spec, { iommus: [vtdIommuFactory], devices: [dmaTestModel] }).nodes);
  const [iommufd, fd] = [program.open("/dev/iommu"), program.open("/dev/vfio/devices/vfio0")];
  const devId = Number(program.ioctl(fd, "VFIO_DEVICE_BIND_IOMMUFD", { iommufd }).out_devid);
  program.pwrite(fd, (7n << 40n) + 4n, Uint8Array.of(6, 0));
  const { address, bytes } = program.memory.map(RAM);
  const memory = new PhysicalMemory();
  memory.addWindow(0, RAM, {
    read: (offset, target) => void target.set(bytes.subarray(offset, offset + target.length)),
    write: (offset, source) => void bytes.set(source, offset),
  });
  const cap = encodeFields(CAP, { ND: 6n, CM: 1n, SAGAW: 4n, MGAW: 47n, ZLR: 1n, FRO: 0x22n, NFR: 7n, PSI: 1n, MAMV: 18n, FS1GP: 1n, ESRTPS: 1n })[0];
  const ecap = encodeFields(ECAP, { C: 1n, QI: 1n, PT: 1n, IRO: 0xfn, PSS: 15n, PASID: 1n, SMTS: 1n, FSTS: 1n, SMPWC: 1n, RPS: 1n })[0];
  const interrupts = new InterruptController();
  const unit = new VtdUnit(memory, { version: 0x70, haw: 48, cap, ecap, onMessage: (at, data) => interrupts.deliver(at, data) });
  memory.addMmio(REGISTERS, REGISTER_BYTES, unit);
  const calls = { read: program.read.bind(program), write: program.write.bind(program), memory: program.memory, ioctl: (...call: Parameters<typeof program.ioctl>) => {
    if (refuses(call[1])) program.ioctl(iommufd, "IOMMU_DESTROY", { id: 9999 });
    return program.ioctl(...call);
  } };
  const vtd = new VirtualVtd(unit, calls, iommufd, [{ base: 0n, size: BigInt(RAM), address }], [{ rid: RID, fd, devId, pasidBits: 16 }]);
  const put = (register: number, value: bigint, size: number): void => void program.pwrite(fd, BigInt(register), new Uint8Array(BigUint64Array.of(value).buffer).subarray(0, size));
  const write = (iova: bigint, value: bigint, pasid?: number): number => {
    put(R.BUFFER, value, 8);
    put(R.DESTINATION, iova, 8);
    put(R.LENGTH, 8n, 4);
    put(R.PASID, pasid === undefined ? 0n : BigInt(pasid) | 0x8000_0000n, 4);
    put(R.COMMAND, BigInt(DmaTestCommand.WRITE), 4);
    return program.pread(fd, BigInt(R.STATUS), 4)[0];
  };
  const load = (at: number): bigint => new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(at, true);
  const boot = (): VtdDriver => new VtdDriver({ name: "guest", memory, frames: new FrameAllocator(memory, RAM / 2, RAM), registerBase: REGISTERS, interrupts, haw: 48 });
  return { vtd, boot, write, load };
}

const device = { rid: RID, name: "00:03.0", pasidBits: 16, ats: false };

it("a guest's tables translate for the host's device: before, with and without them, and by PASID", () => {
  const { boot, write, load } = guest();
  expect([write(0x3000n, 1n), load(0x3000)]).toEqual([DONE, 1n]);
  const driver = boot();
  driver.addDevice(device);
  expect(write(0x3000n, 2n)).toBe(REFUSED);
  const domain = driver.allocPaging(device, {});
  driver.attach(device, 0, domain);
  domain.map(0x40_0000n, 0x5000, 0x1000, Prot.READ | Prot.WRITE);
  expect([write(0x40_0008n, 3n), load(0x5008), write(0x3000n, 4n)]).toEqual([DONE, 3n, REFUSED]);
  driver.attach(device, 5, domain);
  expect([write(0x40_0010n, 5n, 5), load(0x5010), write(0x40_0010n, 6n, 6)]).toEqual([DONE, 5n, REFUSED]);
  domain.unmap(0x40_0000n, 0x1000);
  expect([write(0x40_0008n, 7n), write(0x40_0008n, 7n, 5), load(0x5008)]).toEqual([REFUSED, REFUSED, 3n]);
  domain.map(0x40_0000n, 0x6000, 0x1000, Prot.READ | Prot.WRITE);
  expect([write(0x40_0008n, 8n), load(0x6008)]).toEqual([DONE, 8n]);
  driver.detach(device, 5);
  expect([write(0x40_0008n, 9n, 5), write(0x40_0008n, 9n)]).toEqual([REFUSED, DONE]);
});

it("what the host refuses is a fault of the guest, and the PASID stays blocked; another one works", () => {
  let refusing = false;
  const { boot, write } = guest((name) => refusing && name === "IOMMU_HWPT_ALLOC");
  const driver = boot();
  driver.addDevice(device);
  const domain = driver.allocPaging(device, {});
  domain.map(0x40_0000n, 0x5000, 0x1000, Prot.READ | Prot.WRITE);
  refusing = true;
  driver.attach(device, 7, domain);
  expect([driver.faults.count, write(0x40_0000n, 1n, 7)]).toEqual([1, REFUSED]);
  refusing = false;
  driver.attach(device, 8, domain);
  expect([driver.faults.count, write(0x40_0000n, 1n, 8)]).toEqual([1, DONE]);
});
