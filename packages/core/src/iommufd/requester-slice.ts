/**
 * What a mediated device sees of its parent's IOMMU: the PASIDs of the parent's requester id that it occupies. To iommufd it is a device behind an IOMMU like any other; that IOMMU is the parent's, seen through the
 * PASIDs that this device occupies. Each of a requester's PASIDs has one occupant: a second attach is refused here, and the first does
 * not notice (RFC v2, requirements R4 and R5).
 */
import type {
  DeviceCapabilities,
  DeviceFault,
  Domain,
  HwInfo,
  IommuDevice,
  IommuDriver,
  NestedDomain,
  NestedDomainOptions,
  PageFault,
  PageFaultResponse,
  PageFaultSink,
  PagingDomain,
  PagingDomainOptions,
  ReservedRegion,
  UserData,
} from "../driver/types.js";
import { refuse } from "../errors.js";
import type { BindableDevice } from "./device.js";

/** PASIDs that a VFIO user may name. */
const PASID_LIMIT = 2 ** 20;

/** The PASIDs of a requester that its driver gives out in parts, and who sits at each. */
export class RequesterSlots {
  readonly parent: BindableDevice;
  readonly #occupants = new Map<number, string>();
  /** Its devices that want to hear of faults. */
  readonly #faultSinks = new Set<(fault: DeviceFault) => void>();

  /** @throws IommuError EBUSY while somebody has the parent itself: to own it and to share it exclude each other (R25) */
  constructor(parent: BindableDevice) {
    const { group, device } = parent;
    if (group.owner) refuse("EBUSY", `${device.name} is bound itself`, { argument: "parent", rule: "RFC v2: a parent is assigned, or has mediated devices" });
    this.parent = parent;
    group.host = `the driver that shares ${device.name} out`;
  }

  /** @throws IommuError EBUSY */
  claim(pasid: number, occupant: string): void {
    const other = this.#occupants.get(pasid);
    if (other !== undefined) refuse("EBUSY", `${occupant}: PASID ${pasid} of ${this.parent.device.name} is ${other}'s`, { argument: "pasid", rule: "RFC v2: one device for each (RID, PASID)" });
    this.#occupants.set(pasid, occupant);
  }

  release(pasid: number): void {
    this.#occupants.delete(pasid);
  }

  /** Who sits at a PASID. */
  occupant(pasid: number): string | undefined {
    return this.#occupants.get(pasid);
  }

  /** Faults of the parent go to `sink` too: it knows its own by their PASIDs. Returned: ends it. @throws IommuError EOPNOTSUPP */
  hear(sink: (fault: DeviceFault) => void): () => void {
    const { device, driver } = this.parent;
    if (driver.reportFaults === undefined) return refuse("EOPNOTSUPP", `the driver of ${device.name} tells of no faults`, { argument: "dev_id" });
    const sinks = this.#faultSinks;
    if (sinks.size === 0) driver.reportFaults(device, (fault) => sinks.forEach((each) => each(fault)));
    sinks.add(sink);
    return () => {
      sinks.delete(sink);
      if (sinks.size === 0) driver.reportFaults?.(device, undefined);
    };
  }

  /** The parent is its driver's alone again, and can be bound. */
  close(): void {
    this.parent.group.host = undefined;
  }
}

/** The numbers that a device's user gives, and what they are on the wire. */
export interface UserPasids {
  toWire(user: number): number | undefined;
  toUser(wire: number): number | undefined;
  /** @throws IommuError what the kind of device refuses, and what `attach` does: then the number is not used */
  attach<T>(user: number, attach: (wire: number) => T): T;
  detach(user: number, detach: (wire: number) => void): void;
  /** A detach may follow. @throws IommuError why it may not */
  mayDetach?(user: number): void;
  /** Its user is gone: everything will be detached, and nothing is in the way of it. */
  close?(): void;
}

export interface SliceOptions {
  /** "83b8f4f2-…": who sits at its PASIDs. */
  readonly name: string;
  /** Of requests that name no PASID of the user. */
  readonly defaultPasid: number;
  /** The device finishes, or gives up, all that it does by this PASID: before the IOMMU forgets it. */
  readonly drain?: (wire: number) => void;
}

export class RequesterSlice implements IommuDriver {
  readonly name: string;
  readonly kind?: string;
  readonly #slots: RequesterSlots;
  readonly #options: SliceOptions;
  /** Of who has it bound. */
  pasids: UserPasids | undefined;
  #sink: PageFaultSink | undefined;
  #deafen: (() => void) | undefined;
  /** PASIDs on the wire that it occupies. */
  readonly #occupied = new Set<number>();
  /** Page request groups without an answer: where each came from, by how its user knows it. */
  readonly #asked = new Map<string, number>();

  constructor(slots: RequesterSlots, options: SliceOptions) {
    const { driver } = slots.parent;
    this.name = driver.name;
    if (driver.kind !== undefined) this.kind = driver.kind;
    this.#slots = slots;
    this.#options = options;
  }

  get #driver(): IommuDriver {
    return this.#slots.parent.driver;
  }

  get #parent(): IommuDevice {
    return this.#slots.parent.device;
  }

  addDevice(): void {
    // The parent is there.
  }

  removeDevice(): void {
    // The parent stays.
  }

  capabilities(): DeviceCapabilities {
    return { ...this.#driver.capabilities(this.#parent), pasidLimit: PASID_LIMIT };
  }

  reservedRegions(): readonly ReservedRegion[] {
    return this.#driver.reservedRegions(this.#parent);
  }

  hwInfo(_device: IommuDevice, type: number): HwInfo {
    return this.#driver.hwInfo?.(this.#parent, type) ?? { type: 0, data: new Uint8Array(0) };
  }

  /** All its page tables are for PASIDs. */
  allocPaging(_device: IommuDevice, options: PagingDomainOptions, data?: UserData): PagingDomain {
    return this.#driver.allocPaging(this.#parent, { ...options, pasid: true }, data);
  }

  allocNested(_device: IommuDevice, parent: PagingDomain, _options: NestedDomainOptions, data: UserData): NestedDomain {
    const { allocNested } = this.#driver;
    if (allocNested === undefined) return refuse("EOPNOTSUPP", `${this.name} does not nest`, { argument: "data_type" });
    return allocNested.call(this.#driver, this.#parent, parent, { pasid: true }, data);
  }

  attach(_device: IommuDevice, user: number, domain: Domain): void {
    const wire = user === 0 ? this.#options.defaultPasid : this.pasids?.toWire(user);
    if (wire === undefined) this.pasids?.attach(user, (free) => this.#occupy(free, domain));
    else this.#occupy(wire, domain);
  }

  /** Sits down at a PASID, or changes the page table there. */
  #occupy(wire: number, domain: Domain): void {
    const fresh = !this.#occupied.has(wire);
    if (fresh) this.#slots.claim(wire, this.#options.name);
    try {
      this.#driver.attach(this.#parent, wire, domain);
    } catch (error) {
      if (fresh) this.#slots.release(wire);
      throw error;
    }
    this.#occupied.add(wire);
    this.#listen(wire);
  }

  detach(_device: IommuDevice, user: number): void {
    if (user === 0) this.#leave(this.#options.defaultPasid);
    else this.pasids?.detach(user, (wire) => this.#leave(wire));
  }

  #leave(wire: number): void {
    if (!this.#occupied.has(wire)) return;
    this.#options.drain?.(wire);
    this.#driver.detach(this.#parent, wire);
    this.#occupied.delete(wire);
    this.#slots.release(wire);
    this.#listen(wire);
  }

  reportFaults(_device: IommuDevice, sink: ((fault: DeviceFault) => void) | undefined): void {
    this.#deafen?.();
    this.#deafen = sink && this.#slots.hear((fault) => {
      const { pasid } = fault;
      if (pasid !== undefined && (pasid === this.#options.defaultPasid || this.#occupied.has(pasid))) sink({ ...fault, pasid: this.#userOf(pasid) });
    });
  }

  reportPageFaults(_device: IommuDevice, sink: PageFaultSink | undefined): void {
    this.#sink = sink;
    for (const wire of this.#occupied) this.#listen(wire);
  }

  /** Page requests of an occupied PASID come here while somebody takes them. */
  #listen(wire: number): void {
    const { parent } = this.#slots;
    const wanted = this.#sink !== undefined && this.#occupied.has(wire);
    parent.group.requestsOf(parent).send(wire, wanted ? { report: (fault) => this.#report(wire, fault), discardPartial: () => this.#sink?.discardPartial() } : undefined);
  }

  /** What its user calls a PASID of the wire; undefined: the device itself. */
  #userOf(wire: number): number | undefined {
    return wire === this.#options.defaultPasid ? undefined : this.pasids?.toUser(wire);
  }

  #report(wire: number, fault: PageFault): void {
    const user = this.#userOf(wire);
    if (fault.last) this.#asked.set(`${user ?? "-"} ${fault.group}`, wire);
    this.#sink?.report({ ...fault, pasid: user });
  }

  /** An answer goes to where the question came from, and nowhere else (R26). */
  respondToPageFault(_device: IommuDevice, { pasid, group, code }: PageFaultResponse): void {
    const key = `${pasid ?? "-"} ${group}`;
    const wire = this.#asked.get(key);
    if (wire === undefined) return;
    this.#asked.delete(key);
    this.#driver.respondToPageFault?.(this.#parent, { pasid: wire, group, code });
  }
}
