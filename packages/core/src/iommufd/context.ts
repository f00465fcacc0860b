/** One open of /dev/iommu: an id space with its objects. */
import { refuse } from "../errors.js";
import type { CallContext, UserMemory } from "../files/types.js";
import type { ClientWindows } from "../memory/windows.js";
import { Access, type AccessOptions } from "./access.js";
import { Account, payerOf, RlimitMode } from "./accounting.js";
import { type BindableDevice, IommufdDevice } from "./device.js";
import { Ioas } from "./ioas.js";
import { MmapRegions } from "./mmap-regions.js";
import { ObjectTable } from "./object-table.js";
import { ORIGIN_BYTES, type PageOrigin, type PageSource } from "./pages.js";

/** Origins that are kept to be shared: those of processes that are gone, and of memory that is mapped no more, make room in time. */
const ORIGIN_LIMIT = 32;

export class IommufdContext {
  readonly objects: ObjectTable = new ObjectTable();
  readonly windows: ClientWindows;
  readonly regions: MmapRegions = new MmapRegions();
  /** The kernel has IOMMU_TEST_CMD. */
  testCommands = false;
  /** Opened as /dev/vfio/vfio: type1 itself, which maps memory of devices too. */
  container = false;
  /** Who pays for pinned pages: `RlimitMode`. */
  rlimitMode: number;
  /** The IOAS that VFIO container requests use. */
  compatIoas: Ioas | undefined;
  /** Open files and mappings that keep it: /dev/iommu itself, each bound device, access, fault and event queue (2.4). */
  #holders = 1;
  /** Of user memory, the last used first. */
  #origins: PageOrigin[] = [];

  constructor(windows: ClientWindows, rlimitMode: number = RlimitMode.USER) {
    this.windows = windows;
    this.rlimitMode = rlimitMode;
  }

  /** Who pages from `address` on are pinned from, and who pays. Maps of one process's memory share it. */
  origin(call: CallContext, source: PageSource, address: bigint, prot: number): PageOrigin {
    const base = address - (address % ORIGIN_BYTES);
    const make = (): PageOrigin => ({ source, base, prot, account: new Account(call, this.rlimitMode), windows: this.windows });
    if (source.kind !== "user") return make();
    const at = this.#origins.findIndex((known) => known.base === base && isUserMemory(known.source, source.memory) && known.prot === prot && known.account.isOf(call, this.rlimitMode));
    const origin = at === -1 ? make() : this.#origins[at];
    origin.account.payer = payerOf(call);
    if (at === 0) return origin;
    if (at !== -1) this.#origins.splice(at, 1);
    this.#origins.unshift(origin);
    if (this.#origins.length > ORIGIN_LIMIT) this.#origins.pop();
    return origin;
  }

  newIoas(): Ioas {
    return new Ioas(this.objects.reserve(), (ioas) => {
      if (this.compatIoas === ioas) this.compatIoas = undefined;
    });
  }

  /** The container's IOAS, made when there is none. */
  needCompatIoas(): Ioas {
    if (this.compatIoas === undefined) {
      const ioas = this.newIoas();
      this.objects.publish(ioas);
      this.compatIoas = ioas;
    }
    return this.compatIoas;
  }

  /**
   * Takes a device in and owns its DMA, which is blocked until an attach.
   * @throws IommuError EPERM when its group belongs to another context
   */
  bind(bindable: BindableDevice): IommufdDevice {
    const { group } = bindable;
    if (group.host !== undefined) refuse("EBUSY", `${bindable.device.name} belongs to ${group.host}`, { argument: "iommufd", rule: "RFC v2: a parent is assigned, or has mediated devices" });
    if (group.owner !== undefined && group.owner !== this) {
      refuse("EPERM", `group ${group.id} of ${bindable.device.name} belongs to another open of /dev/iommu`, { argument: "iommufd" });
    }
    // As Linux: user space would get a device without the memory that firmware wants it to reach.
    const wanted = group.members.find(({ driver, device }) => driver.reservedRegions(device).some((region) => region.kind === "direct"));
    if (wanted) refuse("EINVAL", `firmware asks for memory mapped one to one for ${wanted.device.name}, which user space could take away`, { argument: "iommufd" });
    const device = new IommufdDevice(this.objects.reserve(), this, bindable);
    group.owner = this;
    group.devices.add(device);
    this.objects.publish(device);
    return device;
  }

  /** A user of IOASes inside this process. */
  newAccess(options: AccessOptions): Access {
    const access = new Access(this.objects.reserve(), options);
    this.objects.publish(access);
    return access;
  }

  removeAccess(access: Access): void {
    this.objects.remove(access);
  }

  hold(): void {
    this.#holders++;
  }

  /** One holder less; the last one takes everything with it. */
  put(): void {
    if (--this.#holders === 0) this.objects.clear();
  }

  /** For handlers that need a caller's capability. */
  static requireCapability(call: CallContext, capability: string, argument: string): void {
    if (!call.capabilities.has(capability)) refuse("EPERM", `the caller lacks CAP_${capability}`, { argument });
  }
}

function isUserMemory(source: PageSource, memory: UserMemory): boolean {
  return source.kind === "user" && source.memory === memory;
}
