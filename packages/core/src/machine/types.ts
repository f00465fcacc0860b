/** What a simulated machine is made of, and who makes its parts. */
import type { IommuHardware } from "../bus/types.js";
import type { WalkReport, WalkRequest, WalkStep } from "../decode/types.js";
import type { IommuDriver } from "../driver/types.js";
import type { MmioHandler } from "../memory/types.js";
import type { PhysicalMemory } from "../memory/physical-memory.js";
import type { FrameAllocator } from "../memory/frame-allocator.js";
import type { Tracer } from "../trace.js";
import type { ChangedStructure, DueInvalidation } from "../sanitize/types.js";
import type { InterruptController } from "./interrupts.js";

/** A machine file. Sizes are bytes, or strings like "256MiB". */
export interface MachineSpec {
  readonly name: string;
  readonly memory: { readonly size: number | string };
  readonly iommus: readonly IommuSpec[];
  readonly devices: readonly DeviceSpec[];
  /** Name of a row of `PLATFORMS`; "pc" unless given. */
  readonly platform?: string;
  readonly mdev?: MdevSpec;
}

/** Parents that are no devices of the bus, and mdevs that are there from the beginning. */
export interface MdevSpec {
  readonly parents: readonly MdevParentSpec[];
  readonly devices: readonly MdevDeviceSpec[];
}

export interface MdevParentSpec {
  /** Name of a registered `MdevDriver`. */
  readonly driver: string;
  /** The driver's unless given; its folder is /sys/devices/virtual/mdev/NAME. */
  readonly name: string;
  readonly options?: Readonly<Record<string, unknown>>;
}

export interface MdevDeviceSpec {
  readonly uuid: string;
  /** "mtty-1" */
  readonly type: string;
  /** Name of a parent: "mtty", or the address of a device. */
  readonly parent: string;
}

export interface IommuSpec {
  /** Name of a registered `IommuFactory`: "vtd". */
  readonly type: string;
  /** Factory-specific: preset name, capability words, knobs. */
  readonly options?: Readonly<Record<string, unknown>>;
}

export interface DeviceSpec {
  /** Name of a registered `DeviceModel`. */
  readonly model: string;
  /** "00:03.0" */
  readonly bdf: string;
  /** Node under /dev/vfio/devices: "vfio0". */
  readonly vfio: string;
  /** Which of `iommus` the device is behind: the first unless given. */
  readonly iommu?: number;
  /** Devices with the same number share an IOMMU group; by default each has its own. */
  readonly group?: number;
  readonly options?: Readonly<Record<string, unknown>>;
}

/** What a factory may build on. */
export interface IommuEnvironment {
  /** "vtd0". */
  readonly name: string;
  readonly memory: PhysicalMemory;
  /** Frames for the driver's tables and queues. */
  readonly frames: FrameAllocator;
  /** Where the unit's registers are to appear. */
  readonly registerBase: number;
  readonly interrupts: InterruptController;
  readonly tracer: Tracer;
}

/** A unit and the driver that programs it through memory and registers. */
export interface IommuUnit {
  readonly hardware: IommuHardware;
  readonly driver: IommuDriver;
  /** Input address width that DMA windows must stay below: host address width in bits. */
  readonly hostAddressWidth: number;
  /** Name under /sys/class/iommu, and the files in it by their path there; the unit's own name and none unless given. */
  readonly sysfs?: { readonly name: string; readonly files: Readonly<Record<string, string>> };
  /** Decodes a DMA step by step without side effects, for humans. */
  explain?(request: WalkRequest): WalkReport;
  /** The invalidation that a changed structure calls for. */
  dueInvalidation?(change: ChangedStructure, request: Pick<WalkRequest, "rid" | "pasid" | "iova">): DueInvalidation;
  /** Bits of a structure's first word that the unit sets itself: accessed and dirty flags. */
  ownFlags?(step: WalkStep): bigint;
}

/** A unit by name, for option `preset` of machine files. */
export interface UnitPreset {
  readonly name: string;
  readonly about: string;
  /** Its identification registers. */
  readonly registers: Readonly<Record<string, bigint>>;
  /** What they say, in words. */
  readonly announces: readonly string[];
}

export interface IommuFactory {
  /** Name in machine files. */
  readonly name: string;
  readonly about: string;
  readonly presets?: readonly UnitPreset[];
  /** Makes the hardware, maps its registers at `registerBase`, starts the driver. Throws on options it does not know. */
  create(environment: IommuEnvironment, options: Readonly<Record<string, unknown>>): IommuUnit;
  /** Options for a unit with all that is modelled: PASIDs, nesting, page requests. */
  readonly everything?: Readonly<Record<string, unknown>>;
  /** Machine used when none is named: `--machine vtd`. */
  defaultMachine?(): MachineSpec;
}

/** Register-level view of a unit for replaying recorded behaviour (`iommu-vectors/1`). */
export interface ReplayUnit extends MmioHandler {
  readonly hardware: IommuHardware;
  /** Decoded record of the fault that the last request left, or undefined. Reads registers and memory only. */
  takeFault(): Readonly<Record<string, string | boolean | number>> | undefined;
  /** Clears fault records by register writes, as software does after handling them. */
  clearFaults(): void;
  /** Of a unit that is asked through a queue: the answer of `room` bytes, undefined when it does not answer. */
  request?(bytes: Uint8Array, room: number): Uint8Array | undefined;
}

export interface ReplayUnitFactory {
  /** "vtd", as in a vector file's header. */
  readonly iommu: string;
  /** Builds a unit from the identification registers of a header. */
  create(memory: PhysicalMemory, header: { readonly registers: Readonly<Record<string, string>>; readonly haw?: number; readonly endpoints?: readonly number[] }): ReplayUnit;
}
