/**
 * A guest with an operating system of its own: a machine whose memory is a program's, whose unit a virtual IOMMU stands behind, and whose
 * devices are the host's. Its programs find /dev/iommu and VFIO files in it as on any machine, so they can run guests in turn.
 */
import { buildMachine, formatRid, type IommuDevice, type IommuDriver, type IommuFactory, type Machine, type MemoryBackend, refuse, Tracer } from "@iommukit/core";
import type { GUEST_UNITS } from "../vtd/index.js";
import { type AssignedFunction, assignedModel } from "./assigned-device.js";
import { type Behind, type Kind, kindOf } from "./kinds.js";
import type { GuestProgram } from "./types.js";

const PAGE = 4096;
const MEMORY_BYTES = 0x200_0000;
/** Memory that is plugged in later begins here. */
const PLUGGED_BASE = 0x1_0000_0000;
/** So that large pages fit. */
const PLUGGED_ALIGNMENT = 0x20_0000;

export interface AssignedDevice extends AssignedFunction {
  /** Its requester id in the guest. */
  readonly rid: number;
  /** For VT-d: id of its PASID number space, as VFIO_DEVICE_GET_INFO tells it of mediated devices. */
  readonly pasidSpace?: number;
}

export interface GuestMachineOptions {
  /** Who runs it. */
  readonly program: GuestProgram;
  readonly iommufd: number;
  /** Bound to `iommufd`; in the guest their files are vfio0, vfio1 and so on. */
  readonly devices: readonly AssignedDevice[];
  /** Kind of the guest's unit: VT-d, SMMUv3 or virtio-iommu. */
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

export class GuestMachine {
  readonly machine: Machine;
  /** What the guest's driver has read out of its unit's fault records, or event queue. */
  readonly faults: string[] = [];
  readonly #kind: Kind;
  readonly #share: (bytes: Uint8Array) => bigint;
  readonly #behind: Behind;
  #plugged = PLUGGED_BASE;

  /**
   * Boots it: its driver has programmed its unit when this returns.
   * @throws IommuError what the host refuses; EINVAL for a unit that nothing here stands behind
   */
  constructor(options: GuestMachineOptions) {
    const { program, devices, tracer = new Tracer() } = options;
    this.#share = options.share ?? ((bytes) => program.memory.map(bytes.length, { bytes }).address);
    const kind = kindOf({ ...options, tracer });
    this.#kind = kind;
    const { name } = kind.factory;
    tracer.listen((event) => {
      if (event.kind === "report" && event.unit === `${name}0`) this.faults.push(event.text);
    });
    const spec = {
      name: "guest",
      memory: { size: `${MEMORY_BYTES / 2 ** 20}MiB` },
      iommus: [{ type: name, options: kind.options }],
      devices: devices.map(({ rid }, i) => ({ model: "assigned", bdf: formatRid(rid), vfio: `vfio${i}`, options: { function: i } })),
    };
    this.machine = buildMachine(spec, { iommus: [kind.factory], devices: [assignedModel(program, devices)] }, tracer);
    this.#add(0, new Uint8Array(this.machine.memory.words.buffer, 0, MEMORY_BYTES));
    this.#behind = kind.follow(this.machine);
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
    return this.#behind.pollable;
  }

  /** Takes what the host tells of faults and page requests to the guest. */
  service(): void {
    this.#behind.service();
  }

  /**
   * Memory that is there already becomes the guest's, too: so a program of the guest can share its own with a guest that it runs.
   * @param bytes whole pages
   * @returns where the guest's machine has them
   * @throws IommuError EINVAL, or what the host refuses: the guest has none of it then
   */
  plug(bytes: Uint8Array): number {
    if (bytes.length === 0 || bytes.length % PAGE !== 0) refuse("EINVAL", `${bytes.length} bytes are not whole pages`, { argument: "bytes" });
    const base = this.#plugged;
    this.#add(base, bytes);
    this.machine.memory.addWindow(base, bytes.length, windowOnto(bytes));
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
    this.#kind.host.addRam({ base: BigInt(base), size: BigInt(bytes.length), address: this.#share(bytes) });
  }
}

function windowOnto(bytes: Uint8Array): MemoryBackend {
  return {
    read: (offset, target) => target.set(bytes.subarray(offset, offset + target.length)),
    write: (offset, source) => bytes.set(source, offset),
  };
}
