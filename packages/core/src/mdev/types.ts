/** Mediated devices: what a vendor's package registers under `TOKENS.mdevDrivers`, and what the bus of a machine is to others. */
import type { PciDevice, PciHost } from "../devices/types.js";
import type { VfioBinding } from "../iommufd/binding.js";
import type { BindableDevice, DeviceGroup } from "../iommufd/device.js";
import type { MachineNodes } from "../machine/nodes.js";
import type { Tracer } from "../trace.js";
import type { InterruptPath } from "../vfio/irqs.js";
import type { PasidAbilities } from "../vfio/pasid-capability.js";

/** What an mdev is made with. */
export interface MdevEnvironment {
  readonly uuid: string;
  /** Of the function that clients see. */
  readonly host: PciHost;
  /** The client has turned bus mastering on in that function. */
  readonly mastering: () => boolean;
  /** Its IOMMU group, which it has alone. */
  readonly group: () => DeviceGroup;
}

/** A mediated device: a VFIO device like any other to its clients. */
export interface Mdev {
  readonly pci: PciDevice;
  /** `SoftwareBinding` for one that no IOMMU knows. */
  readonly binding: VfioBinding;
  /** What its user may do with PASIDs, for VFIO_DEVICE_GET_INFO. */
  readonly pasids?: PasidAbilities;
  /** How its message-signalled interrupts travel; unless given, `host.interrupt` signals the eventfds. */
  readonly interruptPath?: InterruptPath;
  /** Further read-only files in its folder, by their path there: "vendor/resolution". */
  readonly attributes?: Readonly<Record<string, string>>;
  /** It is gone: removed, and nobody has it open. */
  removed?(): void;
}

/** One kind of mdev that a parent offers. */
export interface MdevType {
  /** "1"; its folder is then "mtty-1". */
  readonly name: string;
  /** For people; the name itself unless given. */
  readonly prettyName?: string;
  readonly description?: string;
  /** How many more can be made; the parent counts unless given. */
  available?(): number;
  /** @throws IommuError what the write to `create` ends with, such as ENOSPC */
  create(environment: MdevEnvironment): Mdev;
}

/** Something that can be divided. */
export interface MdevParent {
  /** Prefix of the folders of its types: "mtty". */
  readonly driver: string;
  /** "vfio-pci" */
  readonly deviceApi: string;
  readonly types: readonly MdevType[];
  /** Instances of all types together that do not count for themselves. */
  readonly maxInstances: number;
}

/** Makes parents that are no devices of the machine's bus. One that is has `PciDevice.mediate`. */
export interface MdevDriver {
  /** Name in machine files. */
  readonly name: string;
  readonly about: string;
  /** `options` come from the machine file. Throws RangeError for one that it does not know. */
  createParent(options: Readonly<Record<string, unknown>>): MdevParent;
}

/** What a parent on the machine's bus may build its mdevs on. */
export interface MdevFoundation {
  /** The parent as iommufd binds it: its requester id, driver, and group. */
  readonly bindable: BindableDevice;
  /** Messages of the parent's own requester id. */
  readonly interruptPath: InterruptPath;
  /** Stands for the machine: what its parents share is kept by it. */
  readonly machine: object;
  /** Turns the parent's decoding and bus mastering on, as its driver on the host does. */
  enable(): void;
}

/** A parent that is on the bus. */
export interface MdevParentPlace {
  /** Name that is unique among parents: "0000:00:05.0". */
  readonly name: string;
  /** Its folder in /sys. */
  readonly home: string;
}

export interface MdevTypeStatus {
  readonly parent: string;
  /** "mtty-1" */
  readonly type: string;
  readonly name: string;
  readonly description?: string;
  readonly deviceApi: string;
  readonly available: number;
  readonly devices: readonly string[];
}

export interface MdevStatus {
  readonly uuid: string;
  readonly parent: string;
  readonly type: string;
  /** "vfio3"; absent once it was removed, while somebody still has it open. */
  readonly node?: string;
  readonly group: number;
}

/** The mdev bus of a machine. Refusals are those of Linux's files. */
export interface MdevBus {
  /** @throws IommuError EINVAL, EEXIST */
  register(parent: MdevParent, place: MdevParentPlace): void;
  /** Its mdevs are removed, and the last one that is released takes it along. @throws IommuError ENODEV */
  unregister(parent: string): void;
  /** @param type "mtty-1" @throws IommuError EINVAL, EEXIST, EUSERS, ENODEV, and what the type refuses */
  create(parent: string, type: string, uuid: string): void;
  /** It goes when nobody has it open any more. @throws IommuError ENODEV, EAGAIN */
  remove(uuid: string): void;
  types(): readonly MdevTypeStatus[];
  devices(): readonly MdevStatus[];
}

export interface MdevBusEnvironment {
  readonly nodes: MachineNodes;
  readonly tracer: Tracer;
}

/** Registered under `TOKENS.mdevBus`: the last one is used. */
export type MdevBusFactory = (environment: MdevBusEnvironment) => MdevBus;
