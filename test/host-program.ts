/** A host for guests: a machine with test devices, the program that runs the guest, and another program that must not notice. */
import { Access, buildMachine, IommuError, type IommuFactory, type IommuHardware, type Machine, NO_PASID, type PhysicalMemory, SimulatedClient } from "@iommukit/core";
import { DmaTestCommand, dmaTestModel, DmaTestRegister as R, DmaTestStatus } from "@iommukit/core/devices";

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
    dma: (device, write, iova, value = 0n, pasid) => dma(program, device, write, iova, value, pasid),
    status: ({ fd }) => program.pread(fd, BigInt(R.STATUS), 4)[0],
    buffer: ({ fd }) => new DataView(program.pread(fd, BigInt(R.BUFFER), 8).buffer).getBigUint64(0, true),
  };
}

/** Opens and binds it, and lets it do DMA. */
export function openDevice(program: SimulatedClient, iommufd: number, name: string): OpenDevice {
  const fd = program.open(`/dev/vfio/devices/${name}`);
  const id = Number(program.ioctl(fd, "VFIO_DEVICE_BIND_IOMMUFD", { iommufd }).out_devid);
  program.pwrite(fd, CONFIG_COMMAND, ENABLED);
  return { fd, id };
}

function dma(program: SimulatedClient, { fd }: OpenDevice, write: boolean, iova: bigint, value: bigint, pasid: number | undefined): boolean {
  const put = (register: number, word: bigint, size: number): void => void program.pwrite(fd, BigInt(register), new Uint8Array(BigUint64Array.of(word).buffer).subarray(0, size));
  put(R.PASID, pasid === undefined ? 0n : BigInt(PASID_VALID + pasid), 4);
  if (write) put(R.BUFFER, value, 8);
  put(write ? R.DESTINATION : R.SOURCE, iova, 8);
  put(R.LENGTH, 8n, 4);
  put(R.COMMAND, BigInt(write ? DmaTestCommand.WRITE : DmaTestCommand.READ), 4);
  return new DataView(program.pread(fd, BigInt(R.STATUS), 4).buffer).getUint32(0, true) === DmaTestStatus.DONE;
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
    const wrote = dma(program, device, true, 0n, BigInt(count) * 0x0101_0101_0101_0101n, undefined);
    return asItWas && wrote && bytes.subarray(0, 8).every((byte) => byte === count);
  };
}

export type Fields = Readonly<Record<string, number | bigint>>;

/** The errno of a refusal, "none" where there is none. */
export function errno(action: () => unknown): string {
  try {
    action();
    return "none";
  } catch (error) {
    if (error instanceof IommuError) return error.errno;
    throw error;
  }
}

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

/** A device behind a unit of the guest's own, without a host. */
export function bareDevice(unit: IommuHardware, memory: PhysicalMemory, first: number) {
  const read = new Map<number, bigint>();
  return {
    dma(device: number, write: boolean, iova: bigint, value = 0n, pasid?: number): boolean {
      const page = unit.translate(first + device, pasid ?? NO_PASID, Number(iova >> 12n), write ? Access.WRITE : Access.READ, Number(iova & 0xfffn));
      if (page === -1) {
        if (unit.answersZero && !write) read.set(device, 0n);
        return unit.answersZero === true;
      }
      const at = page * 4096 + Number(iova & 0xfffn);
      if (write) return memory.writeU64(at, value);
      const found = memory.readU64(at);
      if (found !== undefined) read.set(device, found);
      return found !== undefined;
    },
    buffer: (device: number) => read.get(device) ?? 0n,
  };
}
