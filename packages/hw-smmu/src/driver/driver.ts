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
  type DriverViommu,
  type EventSink,
  type HwInfo,
  IdPool,
  type IommuDevice,
  type IommuDriver,
  type MmapOwner,
  type PageFaultResponse,
  type PageFaultSink,
  PageRequestService,
  type PagingDomain,
  type PagingDomainOptions,
  refuse,
  type ReservedRegion,
  StructureWriter,
  type UserData,
} from "@iommukit/core";
import { structLayout } from "@iommukit/core/abi";
import { Op } from "../spec/commands.js";
import { type Capabilities, type Identification, readCapabilities, StallModel } from "../spec/identification.js";
import { Cr0, Cr2, Gerror, IrqCtrl, Reg } from "../spec/registers.js";
import { Attacher } from "./attacher.js";
import { CommandQueue } from "./command-queue.js";
import { ContextTable } from "./context-table.js";
import { SmmuDomain, type UnitSide } from "./domain.js";
import { OutputQueue } from "./output-queue.js";
import { EventLog } from "./event-log.js";
import { NestedSmmuDomain } from "./nested-domain.js";
import { PageRequestQueue } from "./page-requests.js";
import { hasStage1, nests, PagingSmmuDomain, tracksDirty } from "./paging-domain.js";
import { RegisterAccess } from "./registers.js";
import { StalledRequests } from "./stalls.js";
import { chooseGranule, outputBitsOf } from "./table-shape.js";
import { StreamTable } from "./stream-table.js";
import { SmmuViommu } from "./viommu.js";

/** enum iommu_hw_info_type, iommu_viommu_type */
const HW_INFO_ARM_SMMUV3 = 2;
const VIOMMU_ARM_SMMUV3 = 1;
/** 0 is what entries without an ASID or VMID of their own carry: it is not given out. */
const FIRST_ID = 1;
/** Inner shareable, write-back: queues and tables (6.3.11). */
const CR1 = 0xd75;
/** Where messages of devices are to be mapped; the window is software's choice (iommufd facts, 3.4). */
const MESSAGE_WINDOW: ReservedRegion = { start: 0x800_0000n, last: 0x80f_ffffn, kind: "sw-msi" };

/** Interrupt lines of a unit that sends no messages (3.18). */
export type Wire = "gerror" | "eventq" | "priq";

export interface SmmuDriverOptions extends DriverParts {
  /** Bytes of the smallest page; the unit's best for a host of 4 KiB pages unless given. */
  readonly granule?: number;
}

export class SmmuDriver implements IommuDriver {
  readonly name: string;
  readonly kind = "smmuv3";
  readonly events: EventLog;
  /** Physical addresses that its page tables can hold, in bits. */
  readonly addressWidth: number;
  readonly #options: DriverParts;
  readonly #identification: Identification;
  readonly #caps: Capabilities;
  readonly #registers: RegisterAccess;
  readonly #deferred = new Deferred();
  readonly #unit: UnitSide;
  readonly #attacher: Attacher;
  readonly #requests: PageRequestService | undefined;
  /** Of devices whose requests stall. */
  readonly #stalled: PageRequestService;

  /** Probes the unit, gives it empty tables and turns it on, in the order of 6.3.9: from then on every DMA is blocked. */
  constructor(options: SmmuDriverOptions) {
    this.name = options.name;
    this.#options = options;
    const { name, memory, frames, tracer } = options;
    const registers = new RegisterAccess(memory, options.registerBase, name, tracer);
    this.#registers = registers;
    this.#identification = identify(registers);
    const caps = readCapabilities(this.#identification);
    this.#caps = caps;
    const granule = chooseGranule(caps, name, options.granule);
    this.addressWidth = outputBitsOf(caps, granule);
    registers.control(Reg.CR0, Reg.CR0ACK, 0);
    registers.control(Reg.IRQ_CTRL, Reg.IRQ_CTRLACK, 0);
    registers.write32(Reg.CR1, CR1);
    registers.write32(Reg.CR2, Cr2.PTM | Cr2.RECINVSID);
    const structures = new StructureWriter(memory, name, tracer);
    const streams = new StreamTable(memory, frames, structures, registers, caps);
    const queue = new CommandQueue(memory, frames, registers, caps, this.#deferred, () => this.#attacher.atsLost());
    this.#unit = { name, caps, granule, queue, structures, asids: new IdPool(`ASID of ${name}`, "IDR0.ASID16", caps.asid16 ? 16 : 8, FIRST_ID), vmids: new IdPool(`VMID of ${name}`, "IDR0.VMID16", caps.vmid16 ? 16 : 8, FIRST_ID) };
    this.#attacher = new Attacher(this.#unit, streams, (device) => this.#contexts(device, structures), tracer);
    let enabled: number = Cr0.CMDQEN;
    registers.control(Reg.CR0, Reg.CR0ACK, enabled);
    this.#forgetEverything(queue);
    const events = { base: Reg.EVENTQ_BASE, producer: Reg.EVENTQ_PROD, consumer: Reg.EVENTQ_CONS };
    const stalled = new StalledRequests(queue);
    this.#stalled = new PageRequestService(stalled);
    this.events = new EventLog(new OutputQueue(memory, frames, registers, events, 4, caps.eventqBits), stalled, name, tracer, (stream) => this.#guestOf(stream));
    registers.control(Reg.CR0, Reg.CR0ACK, (enabled |= Cr0.EVENTQEN));
    if (caps.pri) {
      const requests = { base: Reg.PRIQ_BASE, producer: Reg.PRIQ_PROD, consumer: Reg.PRIQ_CONS };
      this.#requests = new PageRequestService(new PageRequestQueue(new OutputQueue(memory, frames, registers, requests, 2, caps.priqBits), queue));
      registers.control(Reg.CR0, Reg.CR0ACK, (enabled |= Cr0.PRIQEN));
    }
    if (caps.ats) registers.control(Reg.CR0, Reg.CR0ACK, (enabled |= Cr0.ATSCHK));
    this.#listen();
    registers.control(Reg.CR0, Reg.CR0ACK, enabled | Cr0.SMMUEN);
  }

  /** Configuration before translations, so that no walk with an old one fills a cache again (facts 12.3). */
  #forgetEverything(queue: CommandQueue): void {
    const all = 31n;
    queue.add(Op.CFGI_STE_RANGE, { Range: all });
    queue.sync();
    if (this.#caps.hyp && this.#caps.stage1) queue.add(Op.TLBI_EL2_ALL, {});
    queue.add(Op.TLBI_NSNH_ALL, {});
    queue.sync();
  }

  /** Messages where the unit has them; else whoever wired it calls `wire`. */
  #listen(): void {
    const { pri, msi } = this.#caps;
    if (msi) {
      const places = [[Reg.EVENTQ_IRQ_CFG0, "eventq"], [Reg.GERROR_IRQ_CFG0, "gerror"], ...(pri ? [[Reg.PRIQ_IRQ_CFG0, "priq"] as const] : [])] as const;
      for (const [register, wire] of places) {
        const { address, data } = this.#options.interrupts.allocate(() => this.wire(wire));
        this.#registers.write(register, 8, address);
        this.#registers.write32(register + 8, data);
      }
    }
    this.#registers.control(Reg.IRQ_CTRL, Reg.IRQ_CTRLACK, IrqCtrl.EVENTQ | IrqCtrl.GERROR | (pri ? IrqCtrl.PRIQ : 0));
  }

  /** An interrupt of the unit. */
  wire(line: Wire): void {
    this.#deferred.interrupt(this.#handlers[line]);
  }

  readonly #handlers: Readonly<Record<Wire, () => void>> = {
    eventq: () => {
      this.events.handle();
      this.#stalled.service();
    },
    priq: () => this.#requests?.service(),
    gerror: () => this.#acknowledge(),
  };

  /** The command queue looks after its own error; the others are told of by what was lost. */
  #acknowledge(): void {
    const active = this.#registers.read32(Reg.GERROR) ^ this.#registers.read32(Reg.GERRORN);
    const others = active & ~Gerror.CMDQ_ERR;
    if (others !== 0) this.#registers.write32(Reg.GERRORN, this.#registers.read32(Reg.GERRORN) ^ others);
  }

  #contexts(device: IommuDevice, structures: StructureWriter): ContextTable | undefined {
    return hasStage1(this.#caps) ? new ContextTable(this.#options.frames, structures, this.#caps, this.#pasidBits(device)) : undefined;
  }

  #guestOf(stream: number): NestedSmmuDomain | undefined {
    const own = this.#attacher.find(stream)?.attachments.get(0);
    return own instanceof NestedSmmuDomain ? own : undefined;
  }

  addDevice(device: IommuDevice): void {
    this.#attacher.addDevice(device, { ats: this.#caps.ats && device.ats, canStall: this.#canStall(device) });
  }

  #canStall(device: IommuDevice): boolean {
    return this.#caps.stallModel !== StallModel.NONE && device.stalls === true;
  }

  removeDevice(device: IommuDevice): void {
    this.#attacher.removeDevice(device);
  }

  #pasidBits(device: IommuDevice): number {
    return hasStage1(this.#caps) ? Math.min(device.pasidBits, this.#caps.ssidBits, this.#caps.twoLevelCd ? 20 : 10) : 0;
  }

  capabilities(device: IommuDevice): DeviceCapabilities {
    const bits = this.#pasidBits(device);
    const ats = this.#caps.ats && device.ats;
    return {
      dirtyTracking: tracksDirty(this.#caps),
      maxPasidLog2: bits,
      ats,
      ...((ats && this.#caps.pri && device.pageRequests) || this.#canStall(device) ? { pageRequests: true } : {}),
      coherent: true,
      ...(bits > 0 ? { pasidLimit: 2 ** bits } : {}),
    };
  }

  reservedRegions(): readonly ReservedRegion[] {
    return [MESSAGE_WINDOW];
  }

  hwInfo(_device: IommuDevice, type: number): HwInfo {
    if (type !== 0 && type !== HW_INFO_ARM_SMMUV3) refuse("EOPNOTSUPP", `in_data_type ${type} is not that of ${this.name}`, { argument: "in_data_type" });
    const { idr0, idr1, idr2 = 0, idr3, idr4 = 0, idr5, iidr = 0, aidr } = this.#identification;
    const words = Uint32Array.of(0, 0, idr0, idr1, idr2, idr3, idr4, idr5, iidr, aidr);
    return { type: HW_INFO_ARM_SMMUV3, data: new Uint8Array(words.buffer).slice(0, structLayout("iommu_hw_info_arm_smmuv3").size) };
  }

  /** Stage 1 where the unit has it: only a second stage can lie below a guest's first. */
  allocPaging(_device: IommuDevice, options: PagingDomainOptions, data?: UserData): PagingDomain {
    const caps = this.#caps;
    const { nestParent = false, dirtyTracking = false, pasid = false } = options;
    const lacks = (why: string, argument = "flags"): never => refuse("EOPNOTSUPP", why, { argument });
    if (data) lacks("a page table of an IOAS takes no vendor data", "data_type");
    if (nestParent && !nests(caps)) lacks(`${this.name} has no nested translation (IDR0.S1P, IDR0.S2P)`);
    if (nestParent && (pasid || dirtyTracking)) lacks("a nest parent is a second stage, which has neither PASIDs nor dirty tracking here");
    if (dirtyTracking && !tracksDirty(caps)) lacks(`${this.name} does not keep dirty state (IDR0.HTTU)`);
    return new PagingSmmuDomain(this.#options, this.#unit, { stage1: hasStage1(caps) && !nestParent, nestParent, dirtyTracking });
  }

  checkViommu(_device: IommuDevice, type: number): void {
    if (type !== VIOMMU_ARM_SMMUV3 || !nests(this.#caps)) refuse("EOPNOTSUPP", `type ${type} is not a virtual IOMMU of ${this.name}`, { argument: "type" });
  }

  allocViommu(_device: IommuDevice, _type: number, parent: PagingDomain, _data: UserData | undefined, _mmap: MmapOwner, events: EventSink): DriverViommu {
    if (!(parent instanceof PagingSmmuDomain) || parent.unit !== this.#unit) return refuse("EINVAL", `the page table was made for another unit than ${this.name}`, { argument: "hwpt_id" });
    return new SmmuViommu(this.#unit, parent, events);
  }

  attach(device: IommuDevice, pasid: number, domain: Domain): void {
    if (!(domain instanceof SmmuDomain) || domain.unit !== this.#unit) return refuse("EINVAL", `the page table was made for another unit than ${this.name}`, { argument: "pt_id" });
    this.#attacher.attach(device, pasid, domain);
  }

  detach(device: IommuDevice, pasid: number): void {
    this.#attacher.detach(device, pasid);
  }

  reportFaults(device: IommuDevice, sink: ((fault: DeviceFault) => void) | undefined): void {
    this.events.connect(device.rid, sink);
  }

  reportPageFaults(device: IommuDevice, sink: PageFaultSink | undefined): void {
    this.#attacher.takeFaults(device, sink !== undefined);
    this.#faultsOf(device)?.connect(device.rid, sink);
  }

  respondToPageFault(device: IommuDevice, response: PageFaultResponse): void {
    this.#faultsOf(device)?.respond(device, response);
  }

  #faultsOf(device: IommuDevice): PageRequestService | undefined {
    return this.#canStall(device) ? this.#stalled : this.#requests;
  }
}

function identify(registers: RegisterAccess): Identification {
  const read = (offset: number): number => registers.read32(offset);
  return {
    idr0: read(Reg.IDR0), idr1: read(Reg.IDR1), idr2: read(Reg.IDR2), idr3: read(Reg.IDR3), idr4: read(Reg.IDR4), idr5: read(Reg.IDR5),
    iidr: read(Reg.IIDR), aidr: read(Reg.AIDR),
  };
}
