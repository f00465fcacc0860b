/** A guest's VT-d driver in front of a virtual VT-d, or of a unit of its own ("bare"), over the same device: for tests that compare the two. */
import { FrameAllocator, type IommuDevice, type IommuFactory, InterruptController, type PagingDomain, PhysicalMemory, type TraceEvent, Tracer } from "@iommukit/core";
import { VtdUnit } from "@iommukit/hw-vtd";
import { VtdDriver } from "@iommukit/hw-vtd/driver";
import { vtdIommuFactory } from "@iommukit/hw-vtd/plugin";
import { GUEST_UNITS, type GuestPasids, type GuestWords, type HostDevice, HostObjects, VirtualCommands, VirtualVtd } from "@iommukit/viommu/vtd";
import { bareDevices, type Fields, type Host, host, noted } from "./host-program.js";

export const RID = 0x18;
const RAM = 0x200_0000;
const FRAMES = 0x10_0000;
const DATA = 0x100_0000;
export const REGISTERS = 0x9000_0000;
const REGISTER_BYTES = 0x8000;
const PASID_BITS = 8;

export type Mode = keyof typeof GUEST_UNITS;

/** A guest and its driver, wherever its unit leads. */
export interface System {
  readonly unit: VtdUnit;
  readonly driver: VtdDriver;
  readonly memory: PhysicalMemory;
  readonly devices: readonly IommuDevice[];
  /** What its driver reads of faults. */
  readonly log: string[];
  readonly ram: Uint8Array;
  page(index: number): number;
  domain(): PagingDomain;
}

export interface Guest extends System {
  dma(device: number, write: boolean, iova: bigint, value?: bigint, pasid?: number): boolean;
  buffer(device: number): bigint;
}

export interface VtdGuest extends Guest {
  readonly virtual: VirtualVtd;
  /** Calls of the program that runs it. */
  readonly calls: string[];
  readonly bystander: () => boolean;
  readonly host: Host;
}

interface SystemParts {
  /** Of its devices. */
  readonly rids: readonly number[];
  readonly pageRequests?: boolean;
  /** Its PASIDs come from virtual commands. */
  readonly pasids?: GuestPasids | undefined;
}

function system(words: GuestWords, { rids, pageRequests = false, pasids }: SystemParts) {
  const memory = new PhysicalMemory();
  memory.addRam(0, RAM);
  const ram = new Uint8Array(memory.words.buffer, 0, RAM);
  const tracer = new Tracer();
  const log: string[] = [];
  tracer.listen((event: TraceEvent) => {
    if (event.kind === "report" && event.unit === "guest") log.push(event.text);
  });
  const interrupts = new InterruptController();
  const unit = new VtdUnit(memory, { name: "guest", ...words, tracer, onMessage: (to, data) => interrupts.deliver(to, data) });
  memory.addMmio(REGISTERS, REGISTER_BYTES, pasids ? new VirtualCommands(unit, pasids) : unit);
  const known = rids.map((rid, i) => ({ rid, name: `guest device ${i}`, pasidBits: PASID_BITS, ats: pageRequests, pageRequests }));
  return {
    unit, tracer, memory, ram,
    boot(): System {
      const driver = new VtdDriver({ name: "guest", memory, frames: new FrameAllocator(memory, FRAMES, DATA), registerBase: REGISTERS, interrupts, haw: words.haw, tracer });
      for (const device of known) driver.addDevice(device);
      return { unit, memory, log, ram, devices: known, driver, page: (index) => DATA + index * 4096, domain: () => driver.allocPaging(known[0], { pasid: true }) };
    },
  };
}

const ridsOf = (devices: number): number[] => Array.from({ length: devices }, (_, i) => RID + i);

/** The same guest on hardware of its own. */
export function bareGuest(mode: Mode, devices = 1): Guest {
  const guest = system(GUEST_UNITS[mode], { rids: ridsOf(devices) }).boot();
  return { ...guest, ...bareDevices(guest.unit, guest.memory, RID, devices) };
}

export interface GuestOptions {
  readonly devices?: number;
  readonly factory?: IommuFactory;
  /** The kernel keeps shadows, as children of the guest memory's IOAS. */
  readonly children?: boolean;
  /** Devices with a translation cache, that ask for pages. */
  readonly pageRequests?: boolean;
  /** Thrown in place of a call of the program. */
  readonly refuses?: (name: string, fields: Fields) => Error | undefined;
}

export function vtdGuest(mode: Mode, { devices = 1, factory = vtdIommuFactory, children = false, pageRequests = false, refuses = () => undefined }: GuestOptions = {}): VtdGuest {
  const machine = host(factory, devices, undefined, pageRequests ? { ats: true, pri: true } : {});
  const { program, iommufd, bystander } = machine;
  const opened = ridsOf(devices).map((rid, i) => ({ ...machine.devices[i], rid, pageRequests }));
  const calls: string[] = [];
  const childOf = (parent: number): number => Number(program.ioctl(iommufd, "IOMMUKIT_IOAS_NEST", { parent_ioas_id: parent }).out_ioas_id);
  const guest = guestOf(mode, { program: noted(program, calls, refuses), iommufd, devices: opened, pageRequests, ...(children ? { childOf } : {}) });
  return {
    ...guest, calls, bystander, host: machine,
    dma(device, write, iova, value = 0n, pasid) {
      const passed = machine.dma(opened[device], write, iova, value, pasid);
      guest.virtual.service();
      return passed;
    },
    buffer: (device) => machine.buffer(opened[device]),
  };
}

export interface GuestParts {
  /** Who runs the guest. */
  readonly program: ReturnType<typeof noted>;
  readonly iommufd: number;
  readonly devices: readonly HostDevice[];
  readonly childOf?: (ioas: number) => number;
  readonly pageRequests?: boolean;
  readonly pasids?: GuestPasids;
}

/** A guest with devices of the host that a program has bound. Requesters of several devices are one device to it. */
export function guestOf(mode: Mode, { program, iommufd, devices, childOf, pageRequests = false, pasids }: GuestParts): System & { readonly virtual: VirtualVtd } {
  const { unit, tracer, memory, ram, boot } = system(GUEST_UNITS[mode], { rids: [...new Set(devices.map(({ rid }) => rid))], pageRequests, pasids });
  const { address } = program.memory.map(RAM, { bytes: ram });
  const objects = new HostObjects(program, iommufd, [{ base: 0n, size: BigInt(RAM), address }], devices[0], mode === "nested" || mode === "nesting");
  const virtual = new VirtualVtd(unit, { objects, devices, memory, tracer, pasidLimit: 2 ** PASID_BITS, ...(childOf ? { childOf } : {}) });
  return { ...boot(), virtual };
}
