/** A host for guests: a machine with test devices, the program that runs the guest, and another program that must not notice. */
import { buildMachine, Bus, type IommuFactory, type IommuHardware, type Machine, type PhysicalMemory, SimulatedClient } from "@iommukit/core";
import { DmaTestCommand, dmaTestModel, DmaTestRegister as R, DmaTestStatus } from "@iommukit/core/devices";
import { errnoOf } from "@iommukit/core/testing";

const PASID_VALID = 0x8000_0000;
const CONFIG_COMMAND = (7n << 40n) + 4n;
const ENABLED = Uint8Array.of(6, 0);

export interface OpenDevice {
  readonly fd: number;
  readonly id: number;
}

export interface Host {
  readonly machine: Machine;
  readonly program: SimulatedClient;
  readonly iommufd: number;
  readonly devices: readonly OpenDevice[];
  /** Another program's device still works, and nothing has touched its memory. */
  readonly bystander: () => boolean;
  /** Makes a device read or write 8 bytes. False: refused. */
  dma(device: OpenDevice, write: boolean, iova: bigint, value?: bigint, pasid?: number): boolean;
  /** What the device read last. */
  buffer(device: OpenDevice): bigint;
  /** `DmaTestStatus` */
  status(device: OpenDevice): number;
  /** Translations that it holds. */
  cached(device: OpenDevice): number;
  /** Its translation cache is on: it turns it off itself where its unit has none for it. */
  turnOnCache(device: OpenDevice): void;
}

export function host(factory: IommuFactory, devices: number, options: Readonly<Record<string, unknown>> = factory.everything ?? {}, device: Readonly<Record<string, unknown>> = {}): Host {
  const spec = {
    name: "host", memory: { size: "64MiB" }, iommus: [{ type: factory.name, options }],
    devices: Array.from({ length: devices + 1 }, (_, i) => ({ model: "dma-test", bdf: `00:0${3 + i}.0`, vfio: `vfio${i}`, options: device })),
  };
  const machine = buildMachine(spec, { iommus: [factory], devices: [dmaTestModel] });
  const program = new SimulatedClient(machine.nodes);
  const iommufd = program.open("/dev/iommu");
  const opened = spec.devices.slice(0, devices).map(({ vfio }) => openDevice(program, iommufd, vfio));
  return {
    machine, program, iommufd, devices: opened,
    bystander: bystander(new SimulatedClient(machine.nodes), `vfio${devices}`),
    dma: (device, write, iova, value, pasid) => deviceDma(program, device, write, iova, value, pasid),
    status: (device) => numberAt(registersOf(program, device), R.STATUS),
    cached: (device) => numberAt(registersOf(program, device), R.CACHED),
    buffer: (device) => bufferOf(registersOf(program, device)),
    turnOnCache: (device) => { turnOnCache(registersOf(program, device)); },
  };
}

/** Opens and binds it, and lets it do DMA. */
export function openDevice(program: SimulatedClient, iommufd: number, name: string): OpenDevice {
  const fd = program.open(`/dev/vfio/devices/${name}`);
  const id = Number(program.ioctl(fd, "VFIO_DEVICE_BIND_IOMMUFD", { iommufd }).out_devid);
  program.pwrite(fd, CONFIG_COMMAND, ENABLED);
  return { fd, id };
}

/** Makes a program's device read or write 8 bytes. False: refused. */
export function deviceDma(program: SimulatedClient, device: OpenDevice, write: boolean, iova: bigint, value = 0n, pasid?: number): boolean {
  return dma(registersOf(program, device), write, iova, value, pasid);
}

/** A device's BAR 0. */
interface Registers {
  read(offset: number, length: number): Uint8Array;
  write(offset: number, bytes: Uint8Array): void;
}

function registersOf(program: SimulatedClient, { fd }: OpenDevice): Registers {
  return { read: (offset, length) => program.pread(fd, BigInt(offset), length), write: (offset, bytes) => void program.pwrite(fd, BigInt(offset), bytes) };
}

function dma(registers: Registers, write: boolean, iova: bigint, value: bigint, pasid: number | undefined): boolean {
  const put = (register: number, word: bigint, size: number): void => { registers.write(register, new Uint8Array(BigUint64Array.of(word).buffer).subarray(0, size)); };
  put(R.PASID, pasid === undefined ? 0n : BigInt(PASID_VALID + pasid), 4);
  if (write) put(R.BUFFER, value, 8);
  put(write ? R.DESTINATION : R.SOURCE, iova, 8);
  put(R.LENGTH, 8n, 4);
  put(R.COMMAND, BigInt(write ? DmaTestCommand.WRITE : DmaTestCommand.READ), 4);
  return numberAt(registers, R.STATUS) === DmaTestStatus.DONE;
}

function numberAt(registers: Registers, register: number): number {
  return new DataView(registers.read(register, 4).buffer).getUint32(0, true);
}

function bufferOf(registers: Registers): bigint {
  return new DataView(registers.read(R.BUFFER, 8).buffer).getBigUint64(0, true);
}

/** The device's translation cache is on. */
function turnOnCache(registers: Registers): void {
  registers.write(R.CONTROL, Uint8Array.of(1, 0, 0, 0));
}

/** Whether a program's device still works, and its memory is as it left it. */
function bystander(program: SimulatedClient, name: string): () => boolean {
  const iommufd = program.open("/dev/iommu");
  const device = openDevice(program, iommufd, name);
  const ioas = Number(program.ioctl(iommufd, "IOMMU_IOAS_ALLOC").out_ioas_id);
  const { address, bytes } = program.memory.map(0x1_0000);
  program.ioctl(iommufd, "IOMMU_IOAS_MAP", { flags: 7, ioas_id: ioas, user_va: address, length: bytes.length, iova: 0 });
  program.ioctl(device.fd, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { pt_id: ioas, argsz: 12 });
  let count = 0;
  return () => {
    const asItWas = bytes.every((byte, i) => byte === (i < 8 ? count : 0));
    count = (count + 1) % 256;
    const wrote = deviceDma(program, device, true, 0n, BigInt(count) * 0x0101_0101_0101_0101n);
    return asItWas && wrote && bytes.subarray(0, 8).every((byte) => byte === count);
  };
}

export type Fields = Readonly<Record<string, number | bigint>>;

export { errnoOf as errno };

/** A program whose calls are noted by name, with the entries of an invalidation, and may be refused before they are made. */
export function noted(program: SimulatedClient, calls: string[], refuses: (name: string, fields: Fields) => Error | undefined) {
  return {
    memory: program.memory,
    read: (fd: number, length: number) => program.read(fd, length),
    write: (fd: number, bytes: Uint8Array) => program.write(fd, bytes),
    ioctl(fd: number, name: string, fields: Fields = {}) {
      calls.push(name === "IOMMU_HWPT_INVALIDATE" ? `${name} ${fields.entry_num}` : name);
      const refusal = refuses(name, fields);
      if (refusal) throw refusal;
      return program.ioctl(fd, name, fields);
    },
  };
}

/** The same devices behind a unit of the guest's own, without a host. */
export function bareDevices(unit: IommuHardware, memory: PhysicalMemory, first: number, count: number, options: Readonly<Record<string, unknown>> = {}) {
  const bus = new Bus(memory);
  const devices = Array.from({ length: count }, (_, i): Registers => {
    const device = dmaTestModel.create(bus.connect(first + i, unit), options, { interrupt: () => undefined });
    return {
      read: (offset, length) => new Uint8Array(BigUint64Array.of(device.readBar(0, offset, length)).buffer).slice(0, length),
      write: (offset, bytes) => { device.writeBar(0, offset, bytes.length, bytes.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n)); },
    };
  });
  return {
    dma: (device: number, write: boolean, iova: bigint, value = 0n, pasid?: number): boolean => dma(devices[device], write, iova, value, pasid),
    buffer: (device: number): bigint => bufferOf(devices[device]),
    turnOnCache: (device: number): void => { turnOnCache(devices[device]); },
  };
}
