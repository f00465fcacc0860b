/**
 * A virtual VT-d: a unit over the guest's memory takes registers, queues and tables; what they say of a device of the host is done there. A
 * write to a table of the guest cannot fail: what the host refuses surfaces with the invalidation that follows, as a fault of the guest's unit,
 * and the request is blocked until the guest invalidates again (RFC v2's list, R16 to R18).
 */
import { type IommuHardware, IommuError, type MmioHandler, NO_PASID, type Tracer } from "@iommukit/core";
import { type Capabilities, Granularity, PasidGranularity, secondStageFormat, type TranslationView, type UnitObserver, type UnitOrder } from "@iommukit/hw-vtd/spec";
import { HostFaults } from "../host/host-faults.js";
import { checkTopology } from "../host/topology.js";
import { AddressSpaces, keyOf } from "./address-spaces.js";
import { checkShown } from "./capabilities.js";
import type { HostDevice, HostObjects } from "./host-objects.js";
import type { GuestTables } from "./second-stage.js";
import { PageRequestBridge } from "./page-requests.js";
import type { Space } from "./spaces.js";

/** What a virtual VT-d needs of the unit in front of the guest; hw-vtd's `VtdUnit` has it. */
export interface GuestUnit extends IommuHardware, MmioHandler {
  readonly capabilities: Capabilities;
  observer: UnitObserver | undefined;
  look(rid: number, pasid: number): TranslationView;
  pasids(rid: number, limit: number): Iterable<number>;
  recordRefusal(rid: number, pasid: number): void;
}

export interface VirtualVtdOptions {
  readonly objects: HostObjects;
  readonly devices: readonly HostDevice[];
  /** Of the guest. */
  readonly memory: GuestTables;
  /**
   * Who keeps shadows of second stages: this program, which maps its own memory, or the kernel, as children of the guest memory's IOAS
   * (`childOf` makes one). The former unless given.
   */
  readonly childOf?: (ioas: number) => number;
  /** PASIDs of a device that the guest may use: below this; 4,096 unless given. */
  readonly pasidLimit?: number;
  readonly tracer?: Tracer;
}

/** A guest can have all of its PASIDs looked at with one descriptor, and each may be a page table of the host. */
const DEFAULT_PASID_LIMIT = 2 ** 12;
/** Who uses an address space: what it is known by. */
interface Use {
  readonly key: string;
  readonly space: Space | undefined;
  /** By which invalidations know it: RID_PASID for the requester itself. */
  readonly pasid: number;
}
const BLOCKED: Use = { key: "blocked", space: undefined, pasid: 0 };
/** Before the first look: the host stops the device, but may do so silently. */
const UNKNOWN: Use = { key: "unknown", space: undefined, pasid: 0 };
/** The host has not let go of the PASID: there is nothing behind it. */
const EMPTIED: Use = { key: "emptied", space: undefined, pasid: 0 };

interface Device {
  readonly host: HostDevice;
  /** By PASID, NO_PASID of the requester itself: what the host does for it now. */
  readonly uses: Map<number, Use>;
}

/** What the guest's tables say now. */
interface Entry {
  readonly device: Device;
  readonly pasid: number;
  readonly view: TranslationView;
}

export class VirtualVtd {
  readonly #unit: GuestUnit;
  readonly #options: VirtualVtdOptions;
  readonly #devices: readonly Device[];
  readonly #faults: HostFaults;
  readonly #limit: number;
  readonly #addressSpaces: AddressSpaces;
  /** Absent: the guest's unit was not shown with page requests. */
  readonly #requests: PageRequestBridge | undefined;

  /**
   * From now on the host follows the guest, whose driver may have begun already.
   * @throws IommuError EINVAL when the guest's unit says more of itself than this host can do, or shows one requester of the host as two
   */
  constructor(unit: GuestUnit, options: VirtualVtdOptions) {
    checkShown(unit.capabilities, options.objects.words);
    if (unit.capabilities.pasid) checkTopology(options.devices);
    this.#unit = unit;
    this.#options = options;
    this.#limit = Math.min(options.pasidLimit ?? DEFAULT_PASID_LIMIT, 2 ** unit.capabilities.pasidBits);
    const { objects, memory, childOf, tracer } = options;
    this.#addressSpaces = new AddressSpaces({ objects, memory, format: secondStageFormat(unit.capabilities), childOf, tracer });
    this.#devices = options.devices.map((host) => ({ host, uses: new Map([[NO_PASID, UNKNOWN]]) }));
    this.#faults = new HostFaults(objects.program, unit, new Map(options.devices.map((device) => [objects.faults(device), device.rid])));
    if (unit.ats) this.#requests = new PageRequestBridge(options.objects, unit.ats, options.devices);
    unit.observer = (order) => this.#order(order);
    this.#followAll();
  }

  /** Descriptors that become readable when `service` has something to do. */
  get pollable(): readonly number[] {
    return [...this.#faults.pollable, ...(this.#requests ? [this.#requests.fd] : [])];
  }

  /** Page requests, and faults of the host's hardware, go to the guest. */
  service(): void {
    this.#requests?.service();
    this.#faults.service();
  }

  #order(order: UnitOrder): void {
    switch (order.kind) {
      case "root-table":
      case "translation":
        return this.#followAll();
      case "contexts":
        return this.#followContexts(order);
      case "pasids":
        return this.#followPasids(order);
      case "translations":
        return this.#forget(order);
      default:
        return this.#settle();
    }
  }

  #followAll(): void {
    this.#follow(this.#devices.flatMap((device) => this.#entries(device)));
  }

  /** By device or its functions (6.5.2.1: FM masks bits of the function number); everything else is taken as everything. */
  #followContexts({ granularity, source, functionMask }: UnitOrder & { readonly kind: "contexts" }): void {
    const ignored = [0, 4, 6, 7][functionMask & 3];
    const meant = this.#devices.filter(({ host }) => granularity !== Granularity.SELECTIVE || ((host.rid ^ source) & ~ignored & 0xffff) === 0);
    this.#follow(meant.flatMap((device) => this.#entries(device)));
  }

  #followPasids({ granularity, pasid }: UnitOrder & { readonly kind: "pasids" }): void {
    if (granularity !== PasidGranularity.PASID) return this.#followAll();
    const entries = this.#devices.flatMap((device) => {
      const own = this.#entry(device, NO_PASID);
      const other = pasid < this.#limit && pasid !== 0 ? [this.#entry(device, pasid)] : [];
      return !("pasid" in own.view) || own.view.pasid === pasid ? [own, ...other] : other;
    });
    this.#follow(entries);
  }

  #entry(device: Device, pasid: number): Entry {
    return { device, pasid, view: this.#unit.look(device.host.rid, pasid) };
  }

  /** All that the guest says of a device, and all that it no longer says. */
  #entries(device: Device): Entry[] {
    const said = new Set([NO_PASID, ...device.uses.keys()]);
    for (const pasid of this.#unit.pasids(device.host.rid, this.#limit)) if (pasid !== 0) said.add(pasid);
    return [...said].map((pasid) => this.#entry(device, pasid));
  }

  /** First what is given up: of mediated devices, others may want its place. */
  #follow(entries: readonly Entry[]): void {
    for (const entry of entries) if (entry.view.kind === "blocked") this.#followOne(entry);
    for (const entry of entries) if (entry.view.kind !== "blocked") this.#followOne(entry);
  }

  #followOne({ device, pasid, view }: Entry): void {
    const old = device.uses.get(pasid) ?? BLOCKED;
    const faultId = "pageRequests" in view && view.pageRequests && device.host.pageRequests ? this.#requests?.faultId : undefined;
    const key = keyOf(view, faultId !== undefined);
    if (key === old.key) return;
    if (view.kind === "blocked") this.#stop(device, pasid);
    else this.#attach({ device, pasid, view }, key, faultId);
    old.space?.free();
  }

  #attach({ device, pasid, view }: Entry, key: string, faultId: number | undefined): void {
    const { objects } = this.#options;
    let space: Space | undefined;
    try {
      space = this.#addressSpaces.make(device.host, view, faultId);
      objects.attach(device.host, space?.hwpt ?? objects.whole, named(pasid));
      device.uses.set(pasid, { key, space, pasid: "pasid" in view ? view.pasid : 0 });
    } catch (error) {
      this.#tell(error, `entry of PASID ${pasid}`);
      space?.free();
      // Not what the guest asked for, so that its next invalidation tries again.
      this.#stop(device, pasid);
      this.#unit.recordRefusal(device.host.rid, pasid);
    }
  }

  #stop(device: Device, pasid: number): void {
    const gone = this.#options.objects.block(device.host, named(pasid));
    if (gone && pasid !== NO_PASID) device.uses.delete(pasid);
    else device.uses.set(pasid, gone ? BLOCKED : EMPTIED);
  }

  #forget({ granularity, domain, pasid, page, addressMask, leavesOnly }: UnitOrder & { readonly kind: "translations" }): void {
    const range = granularity === Granularity.SELECTIVE ? { page, count: 2 ** addressMask, leavesOnly } : undefined;
    for (const space of this.#spaces(pasid)) if (granularity === Granularity.GLOBAL || space.domain === domain) this.#try(space, () => space.forget(range, pasid !== undefined));
  }

  /** Each once. @param pasid of first stages; undefined: of any */
  #spaces(pasid?: number): Set<Space> {
    const found = new Set<Space>();
    for (const { uses } of this.#devices) {
      for (const use of uses.values()) if (use.space && (pasid === undefined || pasid === use.pasid)) found.add(use.space);
    }
    return found;
  }

  #settle(): void {
    for (const space of this.#spaces()) this.#try(space, () => space.settle());
  }

  /** What the host does not let go of ends with nobody using it. */
  #try(space: Space, action: () => void): void {
    try {
      action();
    } catch (error) {
      this.#tell(error, `invalidation of domain ${space.domain}`);
      this.#block(space);
    }
  }

  /** The host may still hold what the guest has made void: nobody uses it any more. */
  #block(space: Space): void {
    for (const device of this.#devices) {
      for (const [pasid, use] of [...device.uses]) {
        if (use.space !== space) continue;
        this.#stop(device, pasid);
        this.#unit.recordRefusal(device.host.rid, pasid);
        space.free();
      }
    }
  }

  /** @throws what is no refusal of the host */
  #tell(error: unknown, what: string): void {
    if (!(error instanceof IommuError)) throw error;
    this.#options.tracer?.listener?.({ kind: "report", unit: this.#unit.name, text: `the host refuses a guest's ${what}: ${error.reason.message}`, count: 1 });
  }
}

function named(pasid: number): number | undefined {
  return pasid === NO_PASID ? undefined : pasid;
}
