/** A guest's virtio-iommu in front of a device of the host: guest driver, virtual IOMMU, iommufd, host driver, host hardware, memory. */
import { buildMachine, PhysicalMemory, SimulatedClient } from "@iommukit/core";
import { DmaTestCommand, dmaTestModel, DmaTestRegister as R, DmaTestStatus } from "@iommukit/core/devices";
import { smmuIommuFactory } from "@iommukit/hw-smmu/plugin";
import { vtdIommuFactory } from "@iommukit/hw-vtd/plugin";
import { Feature, IommufdHost, MapFlag, RequestType, Status, VirtioIommu, VirtioIommuGuestDriver, VirtioMmio } from "@iommukit/viommu/virtio";
import { describe, expect, it } from "vitest";

const ENDPOINT = 0x18;
const RAM = 0x10_0000n;
const HALF = 0x8_0000n;

const u32 = (value: number): number[] => [...new Uint8Array(Uint32Array.of(value).buffer)];
const u64 = (value: bigint): number[] => [...new Uint8Array(BigUint64Array.of(value).buffer)];

function guest(factory: typeof vtdIommuFactory) {
  const spec = { name: "host", memory: { size: "64MiB" }, iommus: [{ type: factory.name }], devices: [{ model: "dma-test", bdf: "00:03.0", vfio: "vfio0" }] };
  const machine = buildMachine(spec, { iommus: [factory], devices: [dmaTestModel] });
  const program = new SimulatedClient(machine.nodes);
  const [iommufd, fd] = [program.open("/dev/iommu"), program.open("/dev/vfio/devices/vfio0")];
  program.ioctl(fd, "VFIO_DEVICE_BIND_IOMMUFD", { iommufd });
  program.pwrite(fd, (7n << 40n) + 4n, Uint8Array.of(6, 0));
  // Two parts of the guest's memory, which are neighbours to the guest alone.
  const ram = [0n, HALF].map((base) => ({ base, size: HALF, ...program.memory.map(Number(HALF)) }));
  const queues = new PhysicalMemory();
  queues.addRam(0, 2 ** 20);
  const device = new VirtioIommu(queues, { endpoints: [ENDPOINT], host: new IommufdHost(program, iommufd, ram, new Map([[ENDPOINT, fd]])) });
  const registers = new VirtioMmio(device.transport);
  const driver = new VirtioIommuGuestDriver(registers, queues, 0x1000, Feature.VERSION_1 | Feature.MAP_UNMAP | Feature.BYPASS_CONFIG);
  const send = (...bytes: number[]): number => driver.request(Uint8Array.from(bytes), 4)?.[0] ?? -1;
  const attach = (domain: number, flags = 0): number => send(RequestType.ATTACH, 0, 0, 0, ...u32(domain), ...u32(ENDPOINT), ...u32(flags), ...u32(0));
  const detach = (domain: number): number => send(RequestType.DETACH, 0, 0, 0, ...u32(domain), ...u32(ENDPOINT), ...u64(0n));
  const map = (domain: number, start: bigint, length: bigint, physical: bigint, flags: number): number =>
    send(RequestType.MAP, 0, 0, 0, ...u32(domain), ...u64(start), ...u64(start + length - 1n), ...u64(physical), ...u32(flags));
  const unmap = (domain: number, start: bigint, length: bigint): number => send(RequestType.UNMAP, 0, 0, 0, ...u32(domain), ...u64(start), ...u64(start + length - 1n), ...u32(0));
  const put = (register: number, value: bigint, size: number): void => void program.pwrite(fd, BigInt(register), new Uint8Array(BigUint64Array.of(value).buffer).subarray(0, size));
  /** The device writes 8 bytes; its status. */
  const write = (iova: bigint, value: bigint): number => {
    put(R.BUFFER, value, 8);
    put(R.DESTINATION, iova, 8);
    put(R.LENGTH, 8n, 4);
    put(R.COMMAND, BigInt(DmaTestCommand.WRITE), 4);
    return new DataView(program.pread(fd, BigInt(R.STATUS), 4).buffer).getUint32(0, true);
  };
  const load = (physical: bigint): bigint => {
    const { bytes, base } = ram[physical < HALF ? 0 : 1];
    return new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(Number(physical - base), true);
  };
  return { device, registers, attach, detach, map, unmap, write, load };
}

describe.each([vtdIommuFactory, smmuIommuFactory])("a virtio-iommu on a host with $name", (factory) => {
  it("passes, stops and translates what the device does, as the guest says", () => {
    const { registers, attach, detach, map, unmap, write, load } = guest(factory);
    expect([write(0x3000n, 1n), load(0x3000n)]).toEqual([DmaTestStatus.DONE, 1n]);
    registers.write(0x100 + 36, 1, 0n);
    expect(write(0x3000n, 2n)).toBe(DmaTestStatus.REFUSED);
    expect([attach(1), map(1, 0x40_0000n, 0x1000n, 0x5000n, MapFlag.READ | MapFlag.WRITE)]).toEqual([Status.OK, Status.OK]);
    expect([write(0x40_0008n, 3n), load(0x5008n), write(0x3000n, 4n)]).toEqual([DmaTestStatus.DONE, 3n, DmaTestStatus.REFUSED]);
    expect([unmap(1, 0x40_0000n, 0x1000n), write(0x40_0008n, 5n)]).toEqual([Status.OK, DmaTestStatus.REFUSED]);
    expect([attach(2, 1), write(0x3000n, 6n), load(0x3000n)]).toEqual([Status.OK, DmaTestStatus.DONE, 6n]);
    expect([detach(2), write(0x3000n, 7n)]).toEqual([Status.OK, DmaTestStatus.REFUSED]);
  });

  it("keeps to the mapping's rights", () => {
    const { attach, map, write } = guest(factory);
    attach(1);
    expect([map(1, 0x40_0000n, 0x1000n, 0x5000n, MapFlag.READ), write(0x40_0000n, 1n)]).toEqual([Status.OK, DmaTestStatus.REFUSED]);
  });

  it("maps across parts of the guest's memory; where it ends, the whole request is undone", () => {
    const { attach, map, write, load } = guest(factory);
    attach(1);
    expect(map(1, 0x40_0000n, 0x2000n, HALF - 0x1000n, MapFlag.WRITE)).toBe(Status.OK);
    expect([write(0x40_0ff8n, 1n), write(0x40_1000n, 2n), load(HALF - 8n), load(HALF)]).toEqual([DmaTestStatus.DONE, DmaTestStatus.DONE, 1n, 2n]);
    expect(map(1, 0x50_0000n, 0x2000n, RAM - 0x1000n, MapFlag.WRITE)).toBe(Status.FAULT);
    expect(write(0x50_0000n, 3n)).toBe(DmaTestStatus.REFUSED);
    expect(map(1, 0x50_0000n, 0x1000n, RAM - 0x1000n, MapFlag.WRITE)).toBe(Status.OK);
  });
});
