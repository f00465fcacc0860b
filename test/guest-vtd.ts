/** A guest's VT-d driver in front of a virtual VT-d, or of a unit of its own ("bare"), over the same device: for tests that compare the two. */
import { FrameAllocator, type IommuDevice, type IommuFactory, InterruptController, type PagingDomain, PhysicalMemory, type TraceEvent, Tracer } from "@iommukit/core";
import { VtdUnit } from "@iommukit/hw-vtd";
import { VtdDriver } from "@iommukit/hw-vtd/driver";
import { vtdIommuFactory } from "@iommukit/hw-vtd/plugin";
import { GUEST_UNITS, type GuestWords, HostObjects, VirtualVtd } from "@iommukit/viommu/vtd";
import { bareDevice, type Fields, type Host, host, noted } from "./host-program.js";

export const RID = 0x18;
const RAM = 0x200_0000;
const FRAMES = 0x10_0000;
const DATA = 0x100_0000;
const REGISTERS = 0x9000_0000;
const REGISTER_BYTES = 0x8000;
const PASID_BITS = 8;

export type Mode = keyof typeof GUEST_UNITS;

/** A guest, wherever its unit leads. */
export interface Guest {
  readonly unit: VtdUnit;
  readonly driver: VtdDriver;
  readonly memory: PhysicalMemory;
  readonly devices: readonly IommuDevice[];
  /** What its driver reads of faults. */
  readonly log: string[];
  readonly ram: Uint8Array;
  page(index: number): number;
  domain(): PagingDomain;
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

function system(words: GuestWords, devices: number, pageRequests = false) {
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
  memory.addMmio(REGISTERS, REGISTER_BYTES, unit);
  const known = Array.from({ length: devices }, (_, i) => ({ rid: RID + i, name: `guest device ${i}`, pasidBits: PASID_BITS, ats: pageRequests, pageRequests }));
  return {
    unit, tracer, memory, ram,
    boot() {
      const driver = new VtdDriver({ name: "guest", memory, frames: new FrameAllocator(memory, FRAMES, DATA), registerBase: REGISTERS, interrupts, haw: words.haw, tracer });
      for (const device of known) driver.addDevice(device);
      return { unit, memory, log, ram, devices: known, driver, page: (index: number) => DATA + index * 4096, domain: () => driver.allocPaging(known[0], { pasid: true }) };
    },
  };
}

/** The same guest on hardware of its own. */
export function bareGuest(mode: Mode, devices = 1): Guest {
  const guest = system(GUEST_UNITS[mode], devices).boot();
  return { ...guest, ...bareDevice(guest.unit, guest.memory, RID) };
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
  const opened = machine.devices.map((device, i) => ({ ...device, rid: RID + i, pageRequests }));
  const { unit, tracer, memory, ram, boot } = system(GUEST_UNITS[mode], devices, pageRequests);
  const { address } = program.memory.map(RAM, { bytes: ram });
  const calls: string[] = [];
  const traced = noted(program, calls, refuses);
  const objects = new HostObjects(traced, iommufd, [{ base: 0n, size: BigInt(RAM), address }], opened[0], mode === "nested");
  const childOf = (parent: number): number => Number(program.ioctl(iommufd, "IOMMUKIT_IOAS_NEST", { parent_ioas_id: parent }).out_ioas_id);
  const virtual = new VirtualVtd(unit, { objects, devices: opened, memory, tracer, pasidLimit: 2 ** PASID_BITS, ...(children ? { childOf } : {}) });
  const guest = boot();
  return {
    ...guest, virtual, calls, bystander, host: machine,
    dma(device, write, iova, value = 0n, pasid) {
      const passed = machine.dma(opened[device], write, iova, value, pasid);
      virtual.service();
      return passed;
    },
    buffer: (device) => machine.buffer(opened[device]),
  };
}
