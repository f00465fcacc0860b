/** The program of the stories: a VMM with the guest's memory, and devices that it moves bytes with. */
import { IommuError, type IommuSpec, type Machine, type MachineSpec, SimulatedClient, type StoryTeller, type Tracer } from "@iommukit/core";
import { DmaTestCommand, DmaTestRegister as R, DmaTestStatus } from "@iommukit/core/devices";

/** As RFC v2 has it: the guest's address 0 is here in the VMM. The RFC's guest has 1 GiB, this one 1 MiB. */
export const HVA = 0x4000_0000n;
export const RAM = 0x10_0000n;
export const PAGE = 0x1000n;
/** READABLE, WRITEABLE, FIXED_IOVA */
const MAP_FLAGS = 7;
const COPY_FLAGS = 7;
const NEST_DUMMY = 1;
const CONFIG_COMMAND = (7n << 40n) + 4n;
const MEMORY_AND_MASTER = 6;
const MESSAGE = 8;
/** In the device's register. */
const PASID_VALID = 0x8000_0000;

export interface Assigned {
  readonly fd: number;
  readonly id: number;
}

export const hex = (value: bigint): string => `0x${value.toString(16)}`;

export function machineOf(name: string, iommu: IommuSpec, options: Readonly<Record<string, boolean>> = {}): MachineSpec {
  const devices = ["00:03.0", "00:04.0"].map((bdf, i) => ({ model: "dma-test", bdf, vfio: `vfio${i}`, options }));
  return { name, memory: { size: "64MiB" }, iommus: [iommu], devices };
}

/** "success", or why not. Anything but a refusal is thrown. */
export function outcome(run: () => unknown): string {
  try {
    run();
    return "success";
  } catch (error) {
    if (!(error instanceof IommuError)) throw error;
    return error.errno;
  }
}

export class Vmm {
  readonly client: SimulatedClient;
  readonly iommufd: number;
  readonly #tracer: Tracer;
  #ram: Uint8Array = new Uint8Array(0);

  /** @param size bytes of the guest's memory; 0: it is somebody's already, who shares it */
  constructor(machine: Machine, size: number = Number(RAM)) {
    this.#tracer = machine.tracer;
    this.client = new SimulatedClient(machine.nodes);
    this.iommufd = this.client.open("/dev/iommu");
    if (size > 0) this.share(new Uint8Array(size));
  }

  /** The guest's memory. */
  get ram(): Uint8Array {
    return this.#ram;
  }

  /** Puts the guest's memory where the stories have it; what is plugged in later, anywhere. */
  share(bytes: Uint8Array): bigint {
    if (this.#ram.length > 0) return this.client.memory.map(bytes.length, { bytes }).address;
    this.#ram = bytes;
    return this.client.memory.map(bytes.length, { address: HVA, bytes }).address;
  }

  /** Pages that are pinned for DMA, each as often as somebody is charged for it. */
  get pinned(): number {
    return this.client.memory.counters.pinned;
  }

  open(node: number): number {
    return this.client.open(`/dev/vfio/devices/vfio${node}`);
  }

  bind(fd: number): Assigned {
    const id = Number(this.client.ioctl(fd, "VFIO_DEVICE_BIND_IOMMUFD", { iommufd: this.iommufd }).out_devid);
    this.client.pwrite(fd, CONFIG_COMMAND, Uint8Array.of(MEMORY_AND_MASTER, 0));
    return { fd, id };
  }

  ioas(): number {
    return Number(this.client.ioctl(this.iommufd, "IOMMU_IOAS_ALLOC").out_ioas_id);
  }

  /** A page table. */
  hwpt({ id }: Assigned, pt_id: number, fields: Readonly<Record<string, number | bigint>>): number {
    return Number(this.client.ioctl(this.iommufd, "IOMMU_HWPT_ALLOC", { dev_id: id, pt_id, ...fields }).out_hwpt_id);
  }

  /** Calls that are made on /dev/iommu while something runs. */
  callsOf(run: () => void): readonly string[] {
    const names: string[] = [];
    const stop = this.#tracer.listen((event) => {
      if (event.kind === "call" && event.file === "/dev/iommu") names.push(event.name);
    });
    run();
    stop();
    return names;
  }

  /** A child: its mappings are of `parent_ioas_id`'s addresses. */
  nest(parent_ioas_id: number): number {
    return Number(this.client.ioctl(this.iommufd, "IOMMUKIT_IOAS_NEST", { parent_ioas_id }).out_ioas_id);
  }

  /** The program's own memory as a parent. */
  dummyRoot(): number {
    return Number(this.client.ioctl(this.iommufd, "IOMMUKIT_IOAS_NEST", { flags: NEST_DUMMY }).out_ioas_id);
  }

  destroy(id: number): void {
    this.client.ioctl(this.iommufd, "IOMMU_DESTROY", { id });
  }

  attach(fd: number, pt_id: number): void {
    this.client.ioctl(fd, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { pt_id });
  }

  detach(fd: number): void {
    this.client.ioctl(fd, "VFIO_DEVICE_DETACH_IOMMUFD_PT");
  }

  map(ioas_id: number, iova: bigint, user_va: bigint, length: bigint): void {
    this.client.ioctl(this.iommufd, "IOMMU_IOAS_MAP", { flags: MAP_FLAGS, ioas_id, user_va, length, iova });
  }

  unmap(ioas_id: number, iova: bigint, length: bigint): void {
    this.client.ioctl(this.iommufd, "IOMMU_IOAS_UNMAP", { ioas_id, iova, length });
  }

  copy(from: number, source: bigint, to: number, iova: bigint, length: bigint): void {
    this.client.ioctl(this.iommufd, "IOMMU_IOAS_COPY", { flags: COPY_FLAGS, dst_ioas_id: to, src_ioas_id: from, length, dst_iova: iova, src_iova: source });
  }

  #put(fd: number, register: number, value: bigint, size: number): void {
    this.client.pwrite(fd, BigInt(register), new Uint8Array(BigUint64Array.of(value).buffer).subarray(0, size));
  }

  /** A DMA of 8 bytes at `address`; the device's STATUS. */
  #run({ fd }: Assigned, command: number, address: bigint): number {
    this.#put(fd, R.SOURCE, address, 8);
    this.#put(fd, R.DESTINATION, address, 8);
    this.#put(fd, R.LENGTH, BigInt(MESSAGE), 4);
    this.#put(fd, R.COMMAND, BigInt(command), 4);
    return this.status({ fd });
  }

  status({ fd }: Pick<Assigned, "fd">): number {
    return this.client.pread(fd, BigInt(R.STATUS), 4)[0];
  }

  /** The device writes `value` by DMA; its STATUS. */
  write(device: Assigned, address: bigint, value: bigint, pasid?: number): number {
    this.#put(device.fd, R.PASID, pasid === undefined ? 0n : BigInt(PASID_VALID + pasid), 4);
    this.#put(device.fd, R.BUFFER, value, MESSAGE);
    return this.#run(device, DmaTestCommand.WRITE, address);
  }

  /** What the device reads by DMA; undefined: refused. */
  read(device: Assigned, address: bigint, pasid?: number): bigint | undefined {
    this.#put(device.fd, R.PASID, pasid === undefined ? 0n : BigInt(PASID_VALID + pasid), 4);
    if (this.#run(device, DmaTestCommand.READ, address) !== DmaTestStatus.DONE) return undefined;
    return new DataView(this.client.pread(device.fd, BigInt(R.BUFFER), MESSAGE).slice().buffer).getBigUint64(0, true);
  }

  /** The device is refused, in both directions. */
  isBlocked(device: Assigned, address: bigint): boolean {
    return this.read(device, address) === undefined && this.write(device, address, 0xbadn) === DmaTestStatus.REFUSED;
  }

  /** What the guest has at one of its addresses. */
  load(gpa: bigint): bigint {
    return new DataView(this.ram.buffer, this.ram.byteOffset).getBigUint64(Number(gpa), true);
  }

  store(gpa: bigint, value: bigint): void {
    new DataView(this.ram.buffer, this.ram.byteOffset).setBigUint64(Number(gpa), value, true);
  }
}

/** Two devices that begin in the guest's memory, as 4.2 and 4.3 do. */
export interface Beginning {
  /** IOAS of the guest's memory. */
  readonly guest: number;
  readonly first: Assigned;
  readonly second: Assigned;
}

/** @param words of the guest's memory, by address; both devices read the first */
export function begin(vmm: Vmm, teller: StoryTeller, words: readonly (readonly [gpa: bigint, value: bigint])[]): Beginning {
  return teller.step("1. Both devices begin in the guest's memory", (step) => {
    const guest = vmm.ioas();
    const [first, second] = [0, 1].map((node) => vmm.bind(vmm.open(node)));
    for (const { fd } of [first, second]) vmm.attach(fd, guest);
    vmm.map(guest, 0n, HVA, RAM);
    for (const [gpa, value] of words) vmm.store(gpa, value);
    const [[gpa, value]] = words;
    step.check(`both read GPA ${hex(gpa)}`, [first, second].every((device) => vmm.read(device, gpa) === value));
    return { guest, first, second };
  });
}
