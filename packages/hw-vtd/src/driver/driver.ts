/**
 * The operating system's side of one unit. It knows the hardware by its registers
 * and by what it writes into memory, nothing else.
 */
import {
  Deferred,
  type DeviceCapabilities,
  type DeviceFault,
  type Domain,
  type DriverParts,
  type HwInfo,
  IdPool,
  type InterruptMessage,
  type IommuDevice,
  type IommuDriver,
  type NestedDomain,
  type NestedDomainOptions,
  type PageFaultResponse,
  type PageFaultSink,
  type PagingDomain,
  type PagingDomainOptions,
  refuse,
  type ReservedRegion,
  type RoutedInterrupt,
  type UserData,
} from "@iommukit/core";
import { encodeStruct } from "@iommukit/core/abi";
import { type Capabilities, readCapabilities } from "../spec/capabilities.js";
import { Gcmd, Reg } from "../spec/registers.js";
import { Attacher } from "./attacher.js";
import { DeviceTables } from "./device-tables.js";
import { type UnitSide, VtdDomain } from "./domain.js";
import { listen } from "./interrupts.js";
import { FaultLog } from "./fault-log.js";
import { InterruptRemapping } from "./interrupt-remapping.js";
import { NestedVtdDomain } from "./nested-domain.js";
import { PageRequests } from "./page-requests.js";
import { nests, PagingVtdDomain, tracksDirty } from "./paging-domain.js";
import { CommandQueue } from "./command-queue.js";
import { RegisterAccess } from "./registers.js";
import { ReservedMemories, type ReservedMemory } from "./reserved-memory.js";
import { Structures } from "./structures.js";

/** enum iommu_hw_info_type */
const HW_INFO_INTEL_VTD = 1;
/** Linux sets it on every unit (IOMMU_HW_INFO_VTD_ERRATA_772415_SPR17). */
const ERRATA_772415_SPR17 = 1;
/** 0 means "absent" to a unit with caching mode, and 1 is what Linux keeps for itself: neither is given out. */
const FIRST_DOMAIN = 2;
/** RTADDR.TTM (11.4.5). */
const SCALABLE_MODE = 0x400n;

export interface VtdDriverOptions extends DriverParts {
  /** Host address width: firmware says it in the DMAR table. */
  readonly haw: number;
  /** RMRR structures of the DMAR table. */
  readonly reservedMemory?: readonly ReservedMemory[];
}

export class VtdDriver implements IommuDriver {
  readonly name: string;
  readonly kind = "vtd";
  /** Faults that the unit recorded. */
  readonly faults: FaultLog;
  readonly routeInterrupt?: (device: IommuDevice, message: InterruptMessage) => RoutedInterrupt;
  readonly #options: VtdDriverOptions;
  readonly #caps: Capabilities;
  readonly #unit: UnitSide;
  readonly #attacher: Attacher;
  readonly #requests: PageRequests | undefined;
  readonly #reserved: ReservedMemories;

  /** Probes the unit, gives it empty tables and turns translation on: from then on every DMA is blocked. */
  constructor(options: VtdDriverOptions) {
    this.name = options.name;
    this.#options = options;
    const { name, memory, frames, tracer, interrupts } = options;
    const registers = new RegisterAccess(memory, options.registerBase, name, tracer);
    const caps = readCapabilities(Number(registers.read(Reg.VER, 4)), registers.read(Reg.CAP, 8), registers.read(Reg.ECAP, 8), options.haw);
    this.#caps = caps;
    registers.place(caps);
    this.#reserved = new ReservedMemories(options.reservedMemory ?? []);
    if (!caps.queuedInvalidation) refuse("ENODEV", `${name} has no queued invalidation (ECAP.QI=0), which this driver needs`, { rule: "ECAP.QI" });
    const structures = new Structures(memory, name, tracer);
    const tables = new DeviceTables(memory, frames, structures, caps);
    registers.write(Reg.RTADDR, 8, BigInt(tables.root) | (caps.scalableMode ? SCALABLE_MODE : 0n));
    registers.command(Gcmd.SRTP);
    const deferred = new Deferred();
    const queue = new CommandQueue(memory, frames, registers, caps, deferred, (rid) => this.#attacher.deviceTlbLost(rid));
    if (!caps.srtpFlushes) {
      queue.everything();
      queue.sync();
    }
    const flushWriteBuffer = (): void => (caps.writeBufferFlush ? registers.flushWriteBuffer() : undefined);
    this.#unit = { name, caps, queue, structures, flushWriteBuffer, ids: new IdPool(`domain-id of ${name}`, "CAP.ND", caps.domainIdBits, FIRST_DOMAIN) };
    this.faults = new FaultLog(registers, caps, name, tracer);
    listen(registers, Reg.FECTL, interrupts, deferred, () => this.faults.handle());
    if (caps.scalableMode && caps.pageRequests) {
      const requests = new PageRequests(memory, frames, registers, queue, caps);
      listen(registers, Reg.PECTL, interrupts, deferred, () => requests.service());
      this.#requests = requests;
    }
    if (caps.interruptRemapping) {
      const remapping = new InterruptRemapping(memory, frames, registers, queue, structures, caps);
      this.routeInterrupt = (device, message) => remapping.route(device.rid, message);
    }
    this.#attacher = new Attacher(this.#unit, tables, this.#requests, tracer);
    registers.command(Gcmd.TE);
  }

  addDevice(device: IommuDevice): void {
    const { ats, pageRequests = false } = this.capabilities(device);
    this.#attacher.addDevice(device, { pasids: this.#pasidBits(device) > 0, deviceTlb: ats, pageRequests });
    if (!this.#reserved.has(device)) return;
    const domain = this.#newPaging({});
    this.#reserved.mapInto(domain, device);
    this.#attacher.setFallback(device, domain);
  }

  removeDevice(device: IommuDevice): void {
    this.#attacher.removeDevice(device);
  }

  #pasidBits(device: IommuDevice): number {
    return this.#caps.scalableMode && this.#caps.pasid ? Math.min(device.pasidBits, this.#caps.pasidBits) : 0;
  }

  capabilities(device: IommuDevice): DeviceCapabilities {
    const caps = this.#caps;
    const bits = this.#pasidBits(device);
    const ats = caps.deviceTlb && device.ats;
    return {
      dirtyTracking: tracksDirty(caps),
      maxPasidLog2: bits,
      ats,
      pageRequests: ats && caps.scalableMode && caps.pageRequests && device.pageRequests === true,
      ...(bits > 0 ? { pasidLimit: 2 ** bits } : {}),
    };
  }

  reservedRegions(device: IommuDevice): readonly ReservedRegion[] {
    return this.#reserved.regions(device);
  }

  hwInfo(_device: IommuDevice, type: number): HwInfo {
    if (type !== 0 && type !== HW_INFO_INTEL_VTD) refuse("EOPNOTSUPP", `in_data_type ${type} is not that of ${this.name}`, { argument: "in_data_type" });
    const { cap, ecap } = this.#caps;
    return { type: HW_INFO_INTEL_VTD, data: encodeStruct("iommu_hw_info_vtd", { flags: ERRATA_772415_SPR17, cap_reg: cap, ecap_reg: ecap }) };
  }

  allocPaging(_device: IommuDevice, options: PagingDomainOptions, data?: UserData): PagingDomain {
    if (data) refuse("EOPNOTSUPP", "a page table of an IOAS takes no vendor data", { argument: "data_type" });
    return this.#newPaging(options);
  }

  /** First stage where nothing asks for the second: only that tracks dirty pages and lies below a guest's first stage. */
  #newPaging({ nestParent = false, dirtyTracking = false }: PagingDomainOptions): PagingVtdDomain {
    const caps = this.#caps;
    if (nestParent && !nests(caps)) refuse("EOPNOTSUPP", `${this.name} has no nested translation (ECAP.NEST=0)`, { argument: "flags" });
    if (dirtyTracking && !tracksDirty(caps)) refuse("EOPNOTSUPP", `${this.name} has no dirty flags in its second stage (ECAP.SSADS=0)`, { argument: "flags" });
    const firstStage = caps.scalableMode && caps.firstStage && !nestParent && !dirtyTracking;
    if (!firstStage && caps.scalableMode && !caps.secondStage) refuse("EOPNOTSUPP", `${this.name} has no second stage (ECAP.SSTS=0)`, { argument: "flags" });
    return new PagingVtdDomain(this.#options, this.#unit, { firstStage, nestParent, dirtyTracking });
  }

  allocNested(_device: IommuDevice, parent: PagingDomain, _options: NestedDomainOptions, data: UserData): NestedDomain {
    if (!nests(this.#caps)) refuse("EOPNOTSUPP", `${this.name} has no nested translation (ECAP.NEST=0)`, { argument: "data_type" });
    if (!(parent instanceof PagingVtdDomain)) return refuse("EINVAL", `the page table was made by another driver than ${this.name}`, { argument: "pt_id" });
    return new NestedVtdDomain(parent, data);
  }

  attach(device: IommuDevice, pasid: number, domain: Domain): void {
    if (!(domain instanceof VtdDomain)) return refuse("EINVAL", `the page table was made by another driver than ${this.name}`, { argument: "pt_id" });
    if (!this.#caps.scalableMode && pasid !== 0) refuse("EOPNOTSUPP", `${this.name} is in legacy mode, without PASIDs`, { argument: "pasid" });
    const bits = this.#pasidBits(device);
    if (pasid >= 2 ** bits) refuse("EINVAL", `PASID ${pasid} is wider than the ${bits} bits of ${device.name}`, { argument: "pasid" });
    this.#attacher.attach(device, pasid, domain);
  }

  detach(device: IommuDevice, pasid: number): void {
    this.#attacher.detach(device, pasid);
  }

  reportFaults(device: IommuDevice, sink: ((fault: DeviceFault) => void) | undefined): void {
    this.faults.connect(device.rid, sink);
  }

  reportPageFaults(device: IommuDevice, sink: PageFaultSink | undefined): void {
    this.#requests?.connect(device.rid, sink);
  }

  respondToPageFault(device: IommuDevice, response: PageFaultResponse): void {
    this.#requests?.respond(device, response);
  }
}
