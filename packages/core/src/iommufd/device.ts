/** Bound devices and their groups: attach, replace, detach (iommufd facts, section 5). */
import type { IommuDevice, IommuDriver, PageFault, PageFaultResponse, PageFaultSink } from "../driver/types.js";
import { IommuError, refuse } from "../errors.js";
import type { IommufdContext } from "./context.js";
import type { DeviceFaultFile } from "./device-faults.js";
import type { FaultSource } from "./fault-queue.js";
import { type AnyHwpt, HwptNested, HwptPaging } from "./hwpt.js";
import { Ioas } from "./ioas.js";
import type { TableObject } from "./object-table.js";
import { PageRequests } from "./page-requests.js";
import type { Vdevice } from "./viommu.js";

/** Devices that the IOMMU cannot tell apart: one owner, one page table for each PASID. */
export class DeviceGroup {
  readonly id: number;
  owner: IommufdContext | undefined;
  /** Its device is the host's: a driver shares it out. */
  host: string | undefined;
  /** Every function of the group, bound or not. */
  readonly members: BindableDevice[] = [];
  readonly devices: Set<IommufdDevice> = new Set<IommufdDevice>();
  /** By PASID: who attached the group's page table. Fault records name it, whoever of the group asks (R30; Linux's attach handle). */
  readonly representatives: Map<number, IommufdDevice> = new Map<number, IommufdDevice>();
  readonly #requests = new Map<IommuDevice, PageRequests>();

  constructor(id: number) {
    this.id = id;
  }

  /** The page table that the group uses for `pasid`. */
  attachment(pasid: number): AnyHwpt | undefined {
    for (const device of this.devices) {
      const hwpt = device.attachments.get(pasid);
      if (hwpt) return hwpt;
    }
    return undefined;
  }

  attached(pasid: number): IommufdDevice[] {
    return [...this.devices].filter((device) => device.attachments.has(pasid));
  }

  /** Where page requests of a member go: several bound devices may share its requester id. */
  requestsOf({ driver, device }: BindableDevice): PageRequests {
    const known = this.#requests.get(device) ?? new PageRequests(driver, device);
    this.#requests.set(device, known);
    return known;
  }

  get usesPasids(): boolean {
    return [...this.devices].some((device) => [...device.attachments.keys()].some((pasid) => pasid !== 0));
  }
}

/** A device that can be bound: what a machine hands to `IommufdContext.bind`. */
export interface BindableDevice {
  readonly device: IommuDevice;
  readonly driver: IommuDriver;
  readonly group: DeviceGroup;
}

type Change = (pasid: number, hwpt: AnyHwpt) => void;

/** Requests that wait for the last one of their group: a device that never sends it loses the oldest group. */
const PARTIAL_LIMIT = 4096;

export class IommufdDevice implements TableObject, FaultSource, PageFaultSink {
  readonly type = "DEVICE";
  readonly id: number;
  /** Its driver holds it: DESTROY of a device is always EBUSY (2.3). */
  users = 1;
  readonly bindable: BindableDevice;
  /** PASID, 0 for the RID itself, to page table. */
  readonly attachments: Map<number, AnyHwpt> = new Map<number, AnyHwpt>();
  vdevice: Vdevice | undefined;
  readonly context: IommufdContext;
  /** Requests of groups whose last one has not come. */
  readonly #partial = new Map<string, PageFault[]>();
  #partialCount = 0;
  /** The device may make page requests. */
  #requestsPages = false;
  #faultFile: DeviceFaultFile | undefined;

  constructor(id: number, context: IommufdContext, bindable: BindableDevice) {
    this.id = id;
    this.context = context;
    this.bindable = bindable;
  }

  get #driver(): IommuDriver {
    return this.bindable.driver;
  }

  get #group(): DeviceGroup {
    return this.bindable.group;
  }

  /**
   * Attaches an IOAS or page table; returns the id of the page table in use.
   * @throws IommuError ENOENT, EBUSY, EINVAL, EADDRINUSE and what pinning or the driver refuses
   */
  attach(pasid: number, ptId: number): number {
    return this.#change(pasid, ptId, (id, hwpt) => this.#attach(id, hwpt), true);
  }

  /** The same in place of what is attached. @throws IommuError EINVAL when nothing is */
  replace(pasid: number, ptId: number): number {
    return this.#change(pasid, ptId, (id, hwpt) => this.#replace(id, hwpt), false);
  }

  #change(pasid: number, ptId: number, change: Change, immediately: boolean): number {
    const target = this.context.objects.get(ptId);
    if (target === undefined) return refuse("ENOENT", `pt_id ${ptId}: no object has this id`, { argument: "pt_id" });
    if (target instanceof HwptPaging || target instanceof HwptNested) {
      change(pasid, target);
      return target.id;
    }
    if (target instanceof Ioas) return this.#changeToIoas(pasid, target, change, immediately);
    return refuse("EINVAL", `pt_id ${ptId} is a ${target.type}, neither an IOAS nor a page table`, { argument: "pt_id" });
  }

  /** Automatic page tables of the IOAS in creation order; EINVAL means "try the next" (5.2). */
  #changeToIoas(pasid: number, ioas: Ioas, change: Change, immediately: boolean): number {
    for (const hwpt of ioas.hwpts) {
      if (!hwpt.automatic) continue;
      try {
        change(pasid, hwpt);
        return hwpt.id;
      } catch (error) {
        if (!(error instanceof IommuError) || error.errno !== "EINVAL") throw error;
      }
    }
    const id = this.context.objects.reserve();
    try {
      const domain = this.#driver.allocPaging(this.bindable.device, {});
      const hwpt = new HwptPaging(id, ioas, this.#driver, domain, { automatic: true });
      try {
        this.#fillAndChange(pasid, hwpt, change, immediately);
      } catch (error) {
        domain.free();
        throw error;
      }
      this.context.objects.publish(hwpt);
      return id;
    } catch (error) {
      this.context.objects.abandon(id);
      throw error;
    }
  }

  /** A device that had nothing is attached before the page table is filled, as in Linux; a replacement is filled first. */
  #fillAndChange(pasid: number, hwpt: HwptPaging, change: Change, immediately: boolean): void {
    if (!immediately) hwpt.ioas.addHwpt(hwpt);
    try {
      change(pasid, hwpt);
    } catch (error) {
      if (!immediately) hwpt.ioas.removeHwpt(hwpt);
      throw error;
    }
    if (!immediately) return;
    try {
      hwpt.ioas.addHwpt(hwpt);
    } catch (error) {
      this.#leave(pasid, hwpt);
      throw error;
    }
  }

  #attach(pasid: number, hwpt: AnyHwpt): void {
    if (this.attachments.has(pasid)) {
      refuse("EBUSY", `${this.bindable.device.name} uses page table ${this.attachments.get(pasid)?.id}${pasid === 0 ? "" : ` for PASID ${pasid}`} already`, { argument: "pt_id" });
    }
    const used = this.#group.attachment(pasid);
    if (used !== undefined && used !== hwpt) {
      refuse("EINVAL", `group ${this.#group.id} uses page table ${used.id}, not ${hwpt.id}`, { argument: "pt_id" });
    }
    if (pasid === 0) this.#reserve(hwpt.ioas);
    try {
      if (used === undefined) this.#checkCompatible(pasid, hwpt);
      this.#updatePageRequests(hwpt);
      if (used === undefined) this.#program(pasid, hwpt);
    } catch (error) {
      this.#updatePageRequests();
      if (pasid === 0) hwpt.ioas.unreserve(this);
      throw error;
    }
    if (used === undefined) this.#group.representatives.set(pasid, this);
    this.attachments.set(pasid, hwpt);
    hwpt.users++;
  }

  /** All devices of the group move together (5.3). */
  #replace(pasid: number, hwpt: AnyHwpt): void {
    const old = this.attachments.get(pasid);
    if (old === undefined) return refuse("EINVAL", `nothing is attached${pasid === 0 ? "" : ` for PASID ${pasid}`}`, { argument: "pt_id" });
    if (old === hwpt) return;
    const devices = this.#group.attached(pasid);
    const moves = pasid === 0 && old.ioas !== hwpt.ioas;
    try {
      if (moves) for (const device of devices) device.#reserve(hwpt.ioas);
      this.#checkCompatible(pasid, hwpt);
      for (const device of devices) device.#updatePageRequests(hwpt);
      this.#program(pasid, hwpt);
    } catch (error) {
      for (const device of devices) device.#updatePageRequests();
      // As Linux: undone whether it was done or not, so a failed replace inside one IOAS loses the device's ranges.
      if (pasid === 0) for (const device of devices) hwpt.ioas.unreserve(device);
      throw error;
    }
    this.#group.representatives.set(pasid, this);
    for (const device of devices) {
      if (moves) old.ioas.unreserve(device);
      device.#dropFaults(pasid, old);
      device.attachments.set(pasid, hwpt);
      device.#updatePageRequests();
      hwpt.users++;
      old.users--;
    }
    this.#collect(old);
  }

  /** The device may make page requests while one of its page tables, or the one that it is about to use, has a fault queue. */
  #updatePageRequests(next?: AnyHwpt): void {
    const wanted = next?.faults !== undefined || [...this.attachments.values()].some((hwpt) => hwpt.faults !== undefined);
    if (wanted === this.#requestsPages) return;
    if (wanted && this.#driver.capabilities(this.bindable.device).pageRequests === false) {
      refuse("ENODEV", `${this.bindable.device.name} makes no page requests`, { argument: "pt_id", rule: "IOMMU_HWPT_FAULT_ID_VALID" });
    }
    this.#group.requestsOf(this.bindable).send(undefined, wanted ? this : undefined);
    this.#requestsPages = wanted;
  }

  /** Every function of the group is programmed: the IOMMU may not tell them apart. */
  #program(pasid: number, hwpt: AnyHwpt): void {
    const old = this.#group.attachment(pasid);
    const done: BindableDevice[] = [];
    try {
      for (const member of this.#programmed(pasid)) {
        member.driver.attach(member.device, pasid, hwpt.domain);
        done.push(member);
      }
    } catch (error) {
      for (const { driver, device } of done) {
        if (old) driver.attach(device, pasid, old.domain);
        else driver.detach(device, pasid);
      }
      throw error;
    }
  }

  /** PASID 0 is the RID. Mixing needs page tables allocated for it on both sides (5.4). */
  #checkCompatible(pasid: number, hwpt: AnyHwpt): void {
    const rule = "IOMMU_HWPT_ALLOC_PASID";
    if (pasid === 0 ? this.#group.usesPasids && !hwpt.pasidCompatible : !hwpt.pasidCompatible) {
      refuse("EINVAL", `page table ${hwpt.id} was not allocated for use with PASIDs`, { argument: "pt_id", rule });
    }
    if (pasid === 0) return;
    const rid = this.#group.attachment(0);
    if (rid && !rid.pasidCompatible) {
      refuse("EINVAL", `the device itself uses page table ${rid.id}, which was not allocated for use with PASIDs`, { argument: "pt_id", rule });
    }
    for (const { driver, device } of this.#group.members) {
      const { pasidLimit } = driver.capabilities(device);
      if (pasidLimit !== undefined && pasid >= pasidLimit) refuse("EINVAL", `PASID ${pasid} is not below ${device.name}'s limit ${pasidLimit}`, { argument: "pasid" });
    }
  }

  #reserve(ioas: Ioas): void {
    ioas.unreserve(this);
    try {
      for (const region of this.#driver.reservedRegions(this.bindable.device)) {
        if (region.kind === "direct-relaxable") continue;
        ioas.reserve(region, this, `${region.kind} of ${this.bindable.device.name}`);
      }
    } catch (error) {
      ioas.unreserve(this);
      throw error;
    }
  }

  /** Blocks the device; no-op when nothing is attached (5.3). */
  detach(pasid: number): void {
    const hwpt = this.attachments.get(pasid);
    if (hwpt === undefined) return;
    this.#leave(pasid, hwpt);
    this.#collect(hwpt);
  }

  #leave(pasid: number, hwpt: AnyHwpt): void {
    this.attachments.delete(pasid);
    if (this.#group.attached(pasid).length === 0) {
      this.#group.representatives.delete(pasid);
      for (const { driver, device } of this.#programmed(pasid)) driver.detach(device, pasid);
    }
    this.#dropFaults(pasid, hwpt);
    this.#updatePageRequests();
    if (pasid === 0) hwpt.ioas.unreserve(this);
    hwpt.users--;
  }

  /** Every function of the group, but for a PASID those that know none: they take an attach for one, and nothing happens (5.4). */
  #programmed(pasid: number): readonly BindableDevice[] {
    const { members } = this.#group;
    return pasid === 0 ? members : members.filter(({ driver, device }) => driver.capabilities(device).pasidLimit !== undefined);
  }

  #collect(hwpt: AnyHwpt): void {
    if (hwpt instanceof HwptPaging && hwpt.automatic && hwpt.users === 0) this.context.objects.remove(hwpt);
  }

  /** A page request. Without a page table for its PASID it goes to the RID's nested one (5.4); with no queue it is answered INVALID. */
  report(fault: PageFault): void {
    const attachment = this.attachments.has(fault.pasid ?? 0) ? (fault.pasid ?? 0) : 0;
    const hwpt = this.attachments.get(attachment);
    const queue = attachment === (fault.pasid ?? 0) || hwpt instanceof HwptNested ? hwpt?.faults : undefined;
    if (queue === undefined) {
      if (fault.last) this.respond({ pasid: fault.pasid, group: fault.group, code: "invalid" });
      return;
    }
    const key = `${fault.pasid ?? "-"} ${fault.group}`;
    const faults = this.#takePartial(key);
    faults.push(fault);
    if (fault.last) queue.deliver(this, attachment, faults, this.#group.representatives.get(attachment)?.id ?? this.id);
    else this.#keepPartial(key, faults);
  }

  /**
   * Faults that nobody can repair go to a file; undefined: nowhere any more.
   * @throws IommuError EEXIST when they have one, EOPNOTSUPP when the driver tells of none
   */
  reportFaultsTo(file: DeviceFaultFile | undefined): void {
    const { device } = this.bindable;
    if (file !== undefined) {
      if (this.#faultFile) refuse("EEXIST", `faults of ${device.name} are reported already`, { argument: "dev_id" });
      if (this.#driver.reportFaults === undefined) refuse("EOPNOTSUPP", `the driver of ${device.name} tells of no faults`, { argument: "dev_id" });
    }
    if (this.#faultFile !== file) this.#driver.reportFaults?.(device, file && ((fault) => file.add(fault)));
    this.#faultFile = file;
  }

  /** The file was closed. */
  stopFaultsTo(file: DeviceFaultFile): void {
    if (this.#faultFile === file) this.reportFaultsTo(undefined);
  }

  /** A page request group is answered. */
  respond(response: PageFaultResponse): void {
    this.#driver.respondToPageFault?.(this.bindable.device, response);
  }

  discardPartial(): void {
    this.#partial.clear();
    this.#partialCount = 0;
  }

  #takePartial(key: string): PageFault[] {
    const faults = this.#partial.get(key) ?? [];
    this.#partial.delete(key);
    this.#partialCount -= faults.length;
    return faults;
  }

  #keepPartial(key: string, faults: PageFault[]): void {
    this.#partial.set(key, faults);
    this.#partialCount += faults.length;
    for (const oldest of this.#partial.keys()) {
      if (this.#partialCount <= PARTIAL_LIMIT) return;
      this.#takePartial(oldest);
    }
  }

  #dropFaults(pasid: number, hwpt: AnyHwpt): void {
    hwpt.faults?.drop(this, pasid);
    for (const [key, [first]] of this.#partial) if ((first.pasid ?? 0) === pasid) this.#takePartial(key);
  }

  /** Close of the device file: detaches everything, the id goes; that of its vdevice stays out of use. */
  unbind(): void {
    for (const pasid of [...this.attachments.keys()]) this.detach(pasid);
    this.reportFaultsTo(undefined);
    if (this.vdevice) this.context.objects.entomb(this.vdevice);
    this.#group.devices.delete(this);
    if (this.#group.devices.size === 0) this.#group.owner = undefined;
    this.context.objects.remove(this);
  }

  destroy(): void {
    // Everything was given back by `unbind`.
  }
}
