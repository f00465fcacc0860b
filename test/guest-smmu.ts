/** A guest's SMMUv3 driver in front of a virtual SMMUv3, or of a unit of its own ("bare"), over the same device: for tests that compare the two. */
import { FrameAllocator, type IommuDevice, IommuError, InterruptController, type PagingDomain, PhysicalMemory, type SimulatedClient, type TraceEvent, Tracer } from "@iommukit/core";
import { SmmuUnit } from "@iommukit/hw-smmu";
import { SmmuDriver } from "@iommukit/hw-smmu/driver";
import { smmuIommuFactory } from "@iommukit/hw-smmu/plugin";
import type { Identification } from "@iommukit/hw-smmu/spec";
import { HostObjects, shownTo, VirtualSmmu } from "@iommukit/viommu/smmu";
import { bareDevices, type Fields, type Host, host, noted } from "./host-program.js";

/** The guest's first StreamID: none of its devices has the host's, and this one is the host's of another device. */
export const STREAM = 0x20;
/** Bytes of the guest's memory. */
export const RAM = 0x200_0000;
const FRAMES = 0x10_0000;
const DATA = 0x100_0000;
const REGISTERS = 0x9000_0000;
const REGISTER_BYTES = 0x2_0000;

export interface SmmuGuest extends Guest {
  readonly virtual: VirtualSmmu;
  readonly objects: HostObjects;
  readonly identification: Identification;
  /** Another program's device still works, and nothing has touched its memory. */
  readonly bystander: () => boolean;
  readonly host: Host;
  readonly calls: readonly string[];
}

/** A guest, wherever its unit leads. */
export interface Guest {
  readonly unit: SmmuUnit;
  readonly driver: SmmuDriver;
  readonly memory: PhysicalMemory;
  readonly devices: readonly IommuDevice[];
  readonly log: string[];
  readonly ram: Uint8Array;
  /** Frames of the guest for its data: `page(n)`. */
  page(index: number): number;
  domain(pasid?: boolean): PagingDomain;
  /** Makes a device read or write 8 bytes, then lets the virtual IOMMU look at what the host tells. False: refused. */
  dma(device: number, write: boolean, iova: bigint, value?: bigint, pasid?: number): boolean;
  /** What the device read last. */
  buffer(device: number): bigint;
  /** Its translation cache is on: it turns it off itself where its unit has none for it. */
  turnOnCache(device: number): void;
}

interface GuestMemory {
  readonly memory: PhysicalMemory;
  /** The same, as bytes. */
  readonly ram: Uint8Array;
}

function guestMemory(): GuestMemory {
  const memory = new PhysicalMemory();
  memory.addRam(0, RAM);
  return { memory, ram: new Uint8Array(memory.words.buffer, 0, RAM) };
}

/** The guest's unit and operating system; `boot` starts the latter. */
function system({ memory, ram }: GuestMemory, identification: Identification, devices: number, ats = false) {
  const tracer = new Tracer();
  const log: string[] = [];
  tracer.listen((event: TraceEvent) => {
    if (event.kind === "report") log.push(event.text);
  });
  const interrupts = new InterruptController();
  let driver: SmmuDriver | undefined;
  const unit = new SmmuUnit(memory, { name: "guest", identification, tracer, onMessage: (to, data) => interrupts.deliver(to, data), onWire: (line) => (line === "sync" ? undefined : driver?.wire(line)) });
  memory.addMmio(REGISTERS, REGISTER_BYTES, unit);
  const known = Array.from({ length: devices }, (_, i) => ({ rid: STREAM + i, name: `guest device ${i}`, pasidBits: 8, ats }));
  return {
    unit, tracer,
    boot() {
      const started = new SmmuDriver({ name: "guest", memory, frames: new FrameAllocator(memory, FRAMES, DATA), registerBase: REGISTERS, interrupts, tracer });
      driver = started;
      for (const device of known) started.addDevice(device);
      return {
        unit, memory, log, ram, devices: known, driver: started,
        page: (index: number) => DATA + index * 4096,
        domain: (pasid = false) => started.allocPaging(known[0], { pasid }),
      };
    },
  };
}

/** The same guest on hardware of its own. */
export function bareGuest(identification: Identification, devices = 1, ats = false): Guest {
  const guest = system(guestMemory(), identification, devices, ats).boot();
  return { ...guest, ...bareDevices(guest.unit, guest.memory, STREAM, devices, { ats }) };
}

/** First words of the commands of an invalidation. */
function entries({ memory }: SimulatedClient, fields: Fields): bigint[] {
  const bytes = new Uint8Array(16 * Number(fields.entry_num));
  memory.read(BigInt(fields.data_uptr), bytes);
  return [...new BigUint64Array(bytes.buffer)].filter((_, i) => i % 2 === 0);
}

export interface GuestOptions {
  /** Of the host, which the guest has at `STREAM` and up. */
  readonly devices?: number;
  /** They have a translation cache. */
  readonly ats?: boolean;
  /** Of the host's unit. */
  readonly preset?: string;
  /** Commands, by their first word, that the host takes from no guest: as Linux, it then has done none of the block. */
  readonly refusesCommand?: (low: bigint) => boolean;
  /** Thrown in place of a call of the program. */
  readonly refuses?: (name: string, fields: Fields) => Error | undefined;
}

export function smmuGuest({ devices = 1, ats = false, preset = "server", refusesCommand = () => false, refuses = () => undefined }: GuestOptions = {}): SmmuGuest {
  const machine = host(smmuIommuFactory, devices, { preset }, { ats });
  const { program, iommufd, bystander } = machine;
  const opened = machine.devices.map((device, i) => ({ ...device, stream: STREAM + i }));
  const own = guestMemory();
  const { address } = program.memory.map(RAM, { bytes: own.ram });
  const calls: string[] = [];
  const traced = noted(program, calls, (name, fields) => (name === "IOMMU_HWPT_INVALIDATE" && entries(program, fields).some(refusesCommand) ? new IommuError("EIO", { message: "the host takes no such command", rule: "test" }) : refuses(name, fields)));
  const objects = new HostObjects(traced, iommufd, [{ base: 0n, size: BigInt(RAM), address }], opened);
  const identification = shownTo(objects.identification);
  const { unit, tracer, boot } = system(own, identification, opened.length, ats);
  const virtual = new VirtualSmmu(unit, { objects, devices: opened, tracer });
  const guest = boot();
  return {
    ...guest, virtual, objects, calls, identification, bystander, host: machine,
    dma(device, write, iova, value = 0n, pasid) {
      const passed = machine.dma(opened[device], write, iova, value, pasid);
      virtual.service();
      return passed;
    },
    buffer: (device) => machine.buffer(opened[device]),
    turnOnCache: (device) => { machine.turnOnCache(opened[device]); },
  };
}
