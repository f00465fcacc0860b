/** A small machine around one vendor's IOMMU, as its checks use it: a client, two devices that do DMA on command, the driver's frames. */
import { DmaTestCommand, DmaTestRegister as R, DmaTestStatus, dmaTestModel } from "../devices/dma-test.js";
import { SimulatedClient } from "../files/simulated-client.js";
import { buildMachine, type Machine } from "../machine/machine.js";
import type { IommuFactory } from "../machine/types.js";
import type { FrameAllocator } from "../memory/frame-allocator.js";
import { Sanitizer } from "../sanitize/sanitizer.js";
import { findingLines } from "../sanitize/lines.js";
import { expect } from "./format-bench.js";

export const PAGE = 4096n;
const CONFIG_REGION = 7n << 40n;
const COMMAND_MEMORY_AND_MASTER = 6;
/** IOMMU_IOAS_MAP_FIXED_IOVA and the permissions. */
const FIXED = 1;
const WRITABLE = 2;
const READABLE = 4;
/** IOMMU_HWPT_ALLOC_* */
export const HwptFlag = { NEST_PARENT: 1, DIRTY_TRACKING: 2, PASID: 8 } as const;
/** VFIO_DEVICE_ATTACH_PASID, VFIO_DEVICE_DETACH_PASID */
const WITH_PASID = 1;
/** Bytes that one DMA moves. */
const MOVED = 64;

export interface IommuSuiteOptions {
  /** Options of the unit, as a machine file gives them. */
  readonly unit?: Readonly<Record<string, unknown>>;
}

export interface Buffer {
  readonly address: bigint;
  readonly bytes: Uint8Array;
}

/** One of the machine's devices, bound. */
export interface RigDevice {
  readonly fd: number;
  readonly rid: number;
  /** Its object in the context. */
  readonly id: number;
}

export class IommuRig {
  readonly machine: Machine;
  readonly client: SimulatedClient;
  readonly iommu: number;
  readonly devices: readonly RigDevice[];
  readonly frames: FrameAllocator;
  readonly #sanitizer: Sanitizer;

  constructor(factory: IommuFactory, { unit = {} }: IommuSuiteOptions) {
    let frames: FrameAllocator | undefined;
    const watched: IommuFactory = {
      ...factory,
      create(environment, options) {
        frames = environment.frames;
        return factory.create(environment, options);
      },
    };
    const spec = {
      name: "suite",
      memory: { size: "256MiB" },
      iommus: [{ type: factory.name, options: unit }],
      devices: [3, 4].map((number, i) => ({ model: dmaTestModel.name, bdf: `00:0${number}.0`, vfio: `vfio${i}` })),
    };
    this.machine = buildMachine(spec, { iommus: [watched], devices: [dmaTestModel] });
    if (frames === undefined) throw new Error(`${factory.name} was not asked for a unit`);
    this.frames = frames;
    this.#sanitizer = new Sanitizer(this.machine);
    this.client = new SimulatedClient(this.machine.nodes);
    this.iommu = this.client.open("/dev/iommu");
    this.devices = this.machine.devices.map(({ rid }, i) => this.#bind(`/dev/vfio/devices/vfio${i}`, rid));
  }

  #bind(path: string, rid: number): RigDevice {
    const fd = this.client.open(path);
    const id = Number(this.client.ioctl(fd, "VFIO_DEVICE_BIND_IOMMUFD", { iommufd: this.iommu }).out_devid);
    this.client.pwrite(fd, CONFIG_REGION + 4n, Uint8Array.of(COMMAND_MEMORY_AND_MASTER, 0));
    return { fd, rid, id };
  }

  /** No translation that a cache served may have differed from what memory said; nothing may be left stale. */
  expectFresh(): void {
    const [finding] = this.#sanitizer.findings;
    expect(finding === undefined, finding ? findingLines(finding).join("\n") : "");
  }

  allocate(): number {
    return Number(this.client.ioctl(this.iommu, "IOMMU_IOAS_ALLOC").out_ioas_id);
  }

  /** A page table of its own. */
  hwpt(device: RigDevice, ioas: number, flags = 0): number {
    return Number(this.client.ioctl(this.iommu, "IOMMU_HWPT_ALLOC", { dev_id: device.id, pt_id: ioas, flags }).out_hwpt_id);
  }

  destroy(id: number): void {
    this.client.ioctl(this.iommu, "IOMMU_DESTROY", { id });
  }

  /** Attaches in place of what was attached. */
  attach(device: RigDevice, table: number, pasid?: number): void {
    const flags = pasid === undefined ? {} : { flags: WITH_PASID, pasid };
    this.client.ioctl(device.fd, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { pt_id: table, ...flags });
  }

  detach(device: RigDevice, pasid?: number): void {
    this.client.ioctl(device.fd, "VFIO_DEVICE_DETACH_IOMMUFD_PT", pasid === undefined ? {} : { flags: WITH_PASID, pasid });
  }

  map(ioas: number, address: bigint, iova: bigint, length: bigint, writable = true): void {
    const flags = FIXED | READABLE | (writable ? WRITABLE : 0);
    this.client.ioctl(this.iommu, "IOMMU_IOAS_MAP", { flags, ioas_id: ioas, user_va: address, length, iova });
  }

  unmap(ioas: number, iova: bigint, length: bigint): void {
    this.client.ioctl(this.iommu, "IOMMU_IOAS_UNMAP", { ioas_id: ioas, iova, length });
  }

  /** Ranges that an IOAS takes now, inclusive. */
  ranges(ioas: number): { readonly start: bigint; readonly last: bigint }[] {
    const room = 64;
    const list = this.client.memory.map(room * 16);
    const { num_iovas: count } = this.client.ioctl(this.iommu, "IOMMU_IOAS_IOVA_RANGES", { ioas_id: ioas, num_iovas: room, allowed_iovas: list.address });
    const words = new BigUint64Array(list.bytes.buffer, list.bytes.byteOffset, 2 * Number(count));
    return Array.from({ length: Number(count) }, (_, i) => ({ start: words[2 * i], last: words[2 * i + 1] }));
  }

  buffer(pages: number): Buffer {
    return this.client.memory.map(pages * Number(PAGE));
  }

  /** The device reads 64 bytes at `iova`; undefined when it was refused. */
  read(device: RigDevice, iova: bigint, pasid?: number): Uint8Array | undefined {
    if (!this.#command(device, DmaTestCommand.READ, R.SOURCE, iova, pasid)) return undefined;
    return this.client.pread(device.fd, BigInt(R.BUFFER), MOVED);
  }

  /** The device fills 64 bytes at `iova` with `value`. False when it was refused. */
  write(device: RigDevice, iova: bigint, value: number, pasid?: number): boolean {
    this.client.pwrite(device.fd, BigInt(R.BUFFER), new Uint8Array(MOVED).fill(value));
    return this.#command(device, DmaTestCommand.WRITE, R.DESTINATION, iova, pasid);
  }

  #command(device: RigDevice, command: number, register: number, address: bigint, pasid: number | undefined): boolean {
    this.#poke(device, register, address, 8);
    this.#poke(device, R.LENGTH, BigInt(MOVED), 4);
    this.#poke(device, R.PASID, pasid === undefined ? 0n : 0x8000_0000n | BigInt(pasid), 4);
    this.#poke(device, R.COMMAND, BigInt(command), 4);
    return new DataView(this.client.pread(device.fd, BigInt(R.STATUS), 4).buffer).getUint32(0, true) === DmaTestStatus.DONE;
  }

  #poke(device: RigDevice, register: number, value: bigint, size: number): void {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, value, true);
    this.client.pwrite(device.fd, BigInt(register), bytes.subarray(0, size));
  }

  /** What the driver announces for a device. */
  capabilities(device: RigDevice): ReturnType<Machine["units"][number]["driver"]["capabilities"]> {
    const found = this.machine.devices.find(({ rid }) => rid === device.rid);
    if (found === undefined) throw new Error("the device is not one of the machine's");
    const { bindable } = found.binding;
    return bindable.driver.capabilities(bindable.device);
  }
}
