/** A guest's SMMUv3 driver in front of a virtual SMMUv3, or of a unit of its own ("bare"), over the same device: for tests that compare the two. */
import { buildMachine, FrameAllocator, type IommuDevice, IommuError, InterruptController, type PagingDomain, PhysicalMemory, SimulatedClient, type TraceEvent, Tracer } from "@iommukit/core";
import { DmaTestCommand, dmaTestModel, DmaTestRegister as R } from "@iommukit/core/devices";
import { SmmuUnit } from "@iommukit/hw-smmu";
import { SmmuDriver } from "@iommukit/hw-smmu/driver";
import { smmuIommuFactory } from "@iommukit/hw-smmu/plugin";
import { Reg } from "@iommukit/hw-smmu/spec";
import { HostObjects, shownTo, VirtualSmmu, checkShown } from "@iommukit/viommu/smmu";

export const STREAM = 0x18;
const RAM = 0x200_0000;
const FRAMES = 0x10_0000;
const DATA = 0x100_0000;
const REGISTERS = 0x9000_0000;
const REGISTER_BYTES = 0x2_0000;
const PASID_VALID = 0x8000_0000;

/** The hardware of the host: one SMMU, devices behind it. */
function host(devices: number) {
  const spec = {
    name: "host", memory: { size: "64MiB" }, iommus: [{ type: "smmuv3", options: { preset: "server" } }],
    devices: Array.from({ length: devices }, (_, i) => ({ model: "dma-test", bdf: `00:0${3 + i}.0`, vfio: `vfio${i}` })),
  };
  const machine = buildMachine(spec, { iommus: [smmuIommuFactory], devices: [dmaTestModel] });
  const program = new SimulatedClient(machine.nodes);
  const iommufd = program.open("/dev/iommu");
  const opened = spec.devices.map(({ vfio }, i) => {
    const fd = program.open(`/dev/vfio/devices/${vfio}`);
    const id = Number(program.ioctl(fd, "VFIO_DEVICE_BIND_IOMMUFD", { iommufd }).out_devid);
    program.pwrite(fd, (7n << 40n) + 4n, Uint8Array.of(6, 0));
    return { fd, id, stream: STREAM + i };
  });
  return { machine, program, iommufd, devices: opened };
}

/** Puts commands into the guest's queue, past its driver, and rings. */
export function send(unit: SmmuUnit, memory: PhysicalMemory, commands: readonly (readonly [bigint, bigint])[]): void {
  const base = unit.read(Reg.CMDQ_BASE, 8);
  const size = 2 ** Number(base & 31n);
  let at = Number(unit.read(Reg.CMDQ_PROD, 4)) % (2 * size);
  for (const [low, high] of commands) {
    const slot = Number(base & 0xf_ffff_ffff_ffe0n) + (at % size) * 16;
    memory.writeU64(slot, low);
    memory.writeU64(slot + 8, high);
    at = (at + 1) % (2 * size);
  }
  unit.write(Reg.CMDQ_PROD, 4, BigInt(at));
}

/** How the guest's command queue stands: entries that wait, and the error that it stopped with. */
export function queueState(unit: SmmuUnit): { readonly waiting: number; readonly error: number; readonly stopped: boolean } {
  const span = 2 ** (Number(unit.read(Reg.CMDQ_BASE, 8) & 31n) + 1);
  const consumer = Number(unit.read(Reg.CMDQ_CONS, 4));
  const waiting = (Number(unit.read(Reg.CMDQ_PROD, 4)) - (consumer & 0xf_ffff) + span) % span;
  return { waiting, error: (consumer >>> 24) & 0x7f, stopped: ((unit.read(Reg.GERROR, 4) ^ unit.read(Reg.GERRORN, 4)) & 1n) === 1n };
}

export interface SmmuGuest {
  readonly unit: SmmuUnit;
  readonly driver: SmmuDriver;
  readonly memory: PhysicalMemory;
  readonly devices: readonly IommuDevice[];
  readonly log: readonly string[];
  readonly virtual: VirtualSmmu;
  readonly calls: readonly string[];
  readonly ram: Uint8Array;
  /** Frames of the guest for its data: `page(n)`. */
  page(index: number): number;
  domain(pasid?: boolean): PagingDomain;
  /** Makes a device read or write 8 bytes, then lets the virtual IOMMU look at what the host tells. False: refused. */
  dma(device: number, write: boolean, iova: bigint, value?: bigint, pasid?: number): boolean;
  /** What the device read last. */
  buffer(device: number): bigint;
}

/**
 * @param devices of the host, which the guest has at `STREAM` and up
 * @param refuses commands that the host takes from no guest: as Linux, it then has done none of the block
 */
export function smmuGuest(devices = 1, refuses: (low: bigint) => boolean = () => false): SmmuGuest {
  const { program, iommufd, devices: opened } = host(devices);
  const { address, bytes: ram } = program.memory.map(RAM);
  const calls: string[] = [];
  const traced = {
    memory: program.memory,
    read: (fd: number, length: number) => program.read(fd, length),
    write: (fd: number, bytes: Uint8Array) => program.write(fd, bytes),
    ioctl(fd: number, name: string, fields?: Readonly<Record<string, number | bigint>>) {
      if (name === "IOMMU_HWPT_INVALIDATE") {
        const bytes = new Uint8Array(16 * Number(fields?.entry_num));
        program.memory.read(BigInt(fields?.data_uptr ?? 0), bytes);
        if (new BigUint64Array(bytes.buffer).some((low, i) => i % 2 === 0 && refuses(low))) throw new IommuError("EIO", { message: "the host takes no such command", rule: "test" });
      }
      calls.push(name === "IOMMU_HWPT_INVALIDATE" ? `${name} ${fields?.entry_num}` : name);
      return program.ioctl(fd, name, fields);
    },
  };
  const ioas = Number(program.ioctl(iommufd, "IOMMU_IOAS_ALLOC").out_ioas_id);
  program.ioctl(iommufd, "IOMMU_IOAS_MAP", { flags: 7, ioas_id: ioas, user_va: address, length: RAM, iova: 0 });
  const memory = new PhysicalMemory();
  memory.addWindow(0, RAM, { read: (offset, target) => target.set(ram.subarray(offset, offset + target.length)), write: (offset, source) => ram.set(source, offset) });
  const objects = new HostObjects(traced, iommufd, ioas, opened);
  const identification = shownTo(objects.identification);
  checkShown(identification, objects.identification);
  const tracer = new Tracer();
  const log: string[] = [];
  tracer.listen((event: TraceEvent) => {
    if (event.kind === "report") log.push(event.text);
  });
  const interrupts = new InterruptController();
  let driver: SmmuDriver | undefined;
  const unit = new SmmuUnit(memory, { name: "guest", identification, tracer, onMessage: (to, data) => interrupts.deliver(to, data), onWire: (line) => (line === "sync" ? undefined : driver?.wire(line)) });
  const virtual = new VirtualSmmu(unit, { program: traced, objects, devices: opened, tracer });
  memory.addMmio(REGISTERS, REGISTER_BYTES, unit);
  const frames = new FrameAllocator(memory, FRAMES, DATA);
  driver = new SmmuDriver({ name: "guest", memory, frames, registerBase: REGISTERS, interrupts, tracer });
  const guestDriver = driver;
  const known = opened.map(({ stream }, i) => ({ rid: stream, name: `guest device ${i}`, pasidBits: 8, ats: false }));
  for (const device of known) guestDriver.addDevice(device);
  const put = (fd: number, register: number, value: bigint, size: number): void => void program.pwrite(fd, BigInt(register), new Uint8Array(BigUint64Array.of(value).buffer).subarray(0, size));
  return {
    unit, driver: guestDriver, memory, devices: known, log, virtual, calls, ram,
    page: (index) => DATA + index * 4096,
    domain: (pasid = false) => guestDriver.allocPaging(known[0], { pasid }),
    dma(device, write, iova, value = 0n, pasid) {
      const { fd } = opened[device];
      put(fd, R.PASID, pasid === undefined ? 0n : BigInt(PASID_VALID + pasid), 4);
      if (write) put(fd, R.BUFFER, value, 8);
      put(fd, write ? R.DESTINATION : R.SOURCE, iova, 8);
      put(fd, R.LENGTH, 8n, 4);
      put(fd, R.COMMAND, BigInt(write ? DmaTestCommand.WRITE : DmaTestCommand.READ), 4);
      const status = new DataView(program.pread(fd, BigInt(R.STATUS), 4).buffer).getUint32(0, true);
      virtual.service();
      return status === 1;
    },
    buffer: (device) => new DataView(program.pread(opened[device].fd, BigInt(R.BUFFER), 8).buffer).getBigUint64(0, true),
  };
}
