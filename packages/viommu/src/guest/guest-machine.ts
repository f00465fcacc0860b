/**
 * A guest with an operating system of its own: a machine whose memory is a program's, whose unit a virtual IOMMU stands behind, and whose
 * devices are the host's. Its programs find /dev/iommu and VFIO files in it as on any machine, so they can run guests in turn.
 */
import { buildMachine, formatRid, type IommuDevice, type IommuDriver, type IommuFactory, type IommuHardware, type Machine, type MemoryBackend, type MmioHandler, refuse, Tracer } from "@iommukit/core";
import type { HostCalls } from "../host/host-calls.js";
import { HostObjects as SmmuHost, shownTo, VirtualSmmu } from "../smmu/index.js";
import type { GuestUnit as SmmuUnit } from "../smmu/index.js";
import { GUEST_UNITS, HostObjects as VtdHost, VirtualVtd } from "../vtd/index.js";
import type { GuestUnit as VtdUnit } from "../vtd/index.js";
import { type AssignedFunction, assignedModel } from "./assigned-device.js";
import type { GuestProgram } from "./types.js";

const PAGE = 4096;
const MEMORY_BYTES = 0x200_0000;
/** Memory that is plugged in later begins here. */
const PLUGGED_BASE = 0x1_0000_0000;
const PLUGGED_ALIGNMENT = 0x4000_0000;

export interface AssignedDevice extends AssignedFunction {
  /** Its requester id in the guest. */
  readonly rid: number;
}

export interface GuestMachineOptions {
  /** Who runs it. */
  readonly program: GuestProgram;
  readonly iommufd: number;
  /** Bound to `iommufd`; in the guest their files are vfio0, vfio1 and so on. */
  readonly devices: readonly AssignedDevice[];
  /** Kind of the guest's unit: of VT-d or SMMUv3. */
  readonly factory: IommuFactory;
  /** For VT-d: what the guest is shown of it; nested unless given. */
  readonly mode?: keyof typeof GUEST_UNITS;
  /** For VT-d whose second stages are shadowed: the kernel keeps them, as children of the IOAS that it is called with. */
  readonly childOf?: (ioas: number) => number;
  /** Puts the guest's memory into the program; its own choice of address unless given. */
  readonly share?: (bytes: Uint8Array) => bigint;
  /** The guest's events are told here, and how the virtual IOMMU fares. */
  readonly tracer?: Tracer;
}

type Hardware = IommuHardware & Partial<MmioHandler>;
const isVtd = (unit: Hardware): unit is VtdUnit => "look" in unit && "pasids" in unit;
const isSmmu = (unit: Hardware): unit is SmmuUnit => "look" in unit && "report" in unit;

export class GuestMachine {
  readonly machine: Machine;
  /** What the guest's driver has read out of its unit's fault records, or event queue. */
  readonly faults: string[] = [];
  readonly #objects: HostCalls;
  readonly #share: (bytes: Uint8Array) => bigint;
  readonly #virtual: { service(): void; readonly pollable: readonly number[] };
  #plugged = PLUGGED_BASE;

  /**
   * Boots it: its driver has programmed its unit when this returns.
   * @throws IommuError what the host refuses; EINVAL for a unit that nothing here stands behind
   */
  constructor(options: GuestMachineOptions) {
    const { program, iommufd, devices, factory, mode = "nested" } = options;
    this.#share = options.share ?? ((bytes) => program.memory.map(bytes.length, { bytes }).address);
    const tracer = options.tracer ?? new Tracer();
    const vtd = factory.name === "vtd";
    const objects = vtd ? new VtdHost(program, iommufd, [], first(devices), mode === "nested" || mode === "nesting") : new SmmuHost(program, iommufd, [], devices.map(({ fd, id, rid }) => ({ fd, id, stream: rid })));
    this.#objects = objects;
    const spec = {
      name: "guest",
      memory: { size: `${MEMORY_BYTES / 2 ** 20}MiB` },
      iommus: [{ type: factory.name, options: objects instanceof SmmuHost ? smmuWords(objects) : vtdWords(mode) }],
      devices: devices.map(({ rid }, i) => ({ model: "assigned", bdf: formatRid(rid), vfio: `vfio${i}`, options: { function: i } })),
    };
    tracer.listen((event) => {
      if (event.kind === "report" && event.unit === `${factory.name}0`) this.faults.push(event.text);
    });
    this.machine = buildMachine(spec, { iommus: [factory], devices: [assignedModel(program, devices)] }, tracer);
    const { memory, units } = this.machine;
    this.#add(0, new Uint8Array(memory.words.buffer, 0, MEMORY_BYTES));
    const [{ hardware }] = units;
    if (objects instanceof VtdHost && isVtd(hardware)) this.#virtual = new VirtualVtd(hardware, { objects, devices, memory, tracer, ...(options.childOf ? { childOf: options.childOf } : {}) });
    else if (objects instanceof SmmuHost && isSmmu(hardware)) this.#virtual = new VirtualSmmu(hardware, { objects, devices: devices.map(({ fd, id, rid }) => ({ fd, id, stream: rid })), tracer });
    else this.#virtual = refuse("EINVAL", `no virtual IOMMU here stands behind a unit of ${factory.name}`, { argument: "factory" });
  }

  /** Of the guest's operating system. */
  get driver(): IommuDriver {
    return this.machine.units[0].driver;
  }

  /** As its driver knows them. */
  get devices(): readonly IommuDevice[] {
    return this.machine.devices.map(({ binding }) => binding.bindable.device);
  }

  /** Descriptors of the program that become readable when `service` has something to do. */
  get pollable(): readonly number[] {
    return this.#virtual.pollable;
  }

  /** Takes what the host tells of faults and page requests to the guest. */
  service(): void {
    this.#virtual.service();
  }

  /**
   * Memory that is there already becomes the guest's, too: so a program of the guest can share its own with a guest that it runs.
   * @param bytes whole pages
   * @returns where the guest's machine has them
   */
  plug(bytes: Uint8Array): number {
    const base = this.#plugged;
    this.machine.memory.addWindow(base, bytes.length, windowOnto(bytes));
    this.#add(base, bytes);
    this.#plugged += Math.ceil(bytes.length / PLUGGED_ALIGNMENT) * PLUGGED_ALIGNMENT;
    return base;
  }

  /**
   * Memory for a program of the guest, in RAM of its machine, where devices reach it: what else the program has they do not.
   * @throws IommuError ENOMEM
   */
  allocate(program: GuestProgram, pages: number): { readonly address: bigint; readonly bytes: Uint8Array } {
    const { memory, frames } = this.machine;
    const physical = frames.alloc(pages);
    const bytes = new Uint8Array(memory.words.buffer, physical, pages * PAGE);
    return { address: program.memory.map(bytes.length, { bytes, physical }).address, bytes };
  }

  #add(base: number, bytes: Uint8Array): void {
    this.#objects.addRam({ base: BigInt(base), size: BigInt(bytes.length), address: this.#share(bytes) });
  }
}

function first<T>([one]: readonly T[]): T {
  return one ?? refuse("EINVAL", "a virtual IOMMU on a host needs a device of the host", { argument: "devices" });
}

function vtdWords(mode: keyof typeof GUEST_UNITS): Readonly<Record<string, unknown>> {
  const { version, cap, ecap, haw } = GUEST_UNITS[mode];
  return { version, cap: `0x${cap.toString(16)}`, ecap: `0x${ecap.toString(16)}`, haw };
}

function smmuWords(objects: SmmuHost): Readonly<Record<string, unknown>> {
  return Object.fromEntries(Object.entries(shownTo(objects.identification)).map(([name, word]) => [name, `0x${(Number(word) >>> 0).toString(16)}`]));
}

function windowOnto(bytes: Uint8Array): MemoryBackend {
  return {
    read: (offset, target) => target.set(bytes.subarray(offset, offset + target.length)),
    write: (offset, source) => bytes.set(source, offset),
  };
}
