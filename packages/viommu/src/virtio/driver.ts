/** The driver of a virtio-iommu that is a machine's IOMMU (virtio 1.3, 5.13): domains by requests, no tables, no PASIDs. */
import {
  type DeviceCapabilities, type DeviceFault, type Domain, type ErrnoName, formatRid, type FrameAllocator, type IommuDevice, type IommuDriver, MmioRegisters, type PagingDomain,
  type PagingDomainOptions, type PhysicalMemory, refuse, type RegisterName, type ReservedRegion, type Tracer, type UserData,
} from "@iommukit/core";
import { VirtioDomain } from "./driver-domain.js";
import { DRIVER_BYTES, VirtioIommuGuestDriver } from "./guest-driver.js";
import { Config, FaultFlag, FaultReason, Feature, HEAD_BYTES, Interrupt, MmioReg, PROPERTY_RESV_MEM, REQUEST_BYTES, RequestType, RESV_MEM_MSI, Status, TAIL_BYTES } from "./spec.js";

const FEATURES = Feature.VERSION_1 | Feature.INPUT_RANGE | Feature.DOMAIN_RANGE | Feature.MAP_UNMAP | Feature.PROBE | Feature.BYPASS_CONFIG;
const REGISTERS: readonly RegisterName[] = [...Object.entries(MmioReg), ["BYPASS", MmioReg.CONFIG + Config.BYPASS] as const].map(([name, offset]) => ({ name, offset, width: 4 }));
const ERRNO: Readonly<Record<number, ErrnoName>> = {
  [Status.UNSUPP]: "EOPNOTSUPP", [Status.INVAL]: "EINVAL", [Status.RANGE]: "ERANGE", [Status.NOENT]: "ENOENT", [Status.FAULT]: "EFAULT", [Status.NOMEM]: "ENOMEM",
};
const REASONS: Readonly<Record<number, string>> = {
  [FaultReason.UNKNOWN]: "the device does not know why", [FaultReason.DOMAIN]: "it has no domain", [FaultReason.MAPPING]: "no mapping allows it",
};
/** iommu_hwpt_pgfault.perm */
const [READ, WRITE] = [1, 2];
/** Where Linux has messages translated when a device says nothing of them (drivers/iommu: MSI_IOVA_BASE, MSI_IOVA_LENGTH). */
const SOFTWARE_MSI: ReservedRegion = { start: 0x800_0000n, last: 0x80f_ffffn, kind: "sw-msi" };

export interface VirtioDriverParts {
  readonly name: string;
  readonly memory: PhysicalMemory;
  readonly frames: FrameAllocator;
  readonly registerBase: number;
  readonly tracer: Tracer | undefined;
}

interface Endpoint {
  readonly reserved: readonly ReservedRegion[];
  domain: VirtioDomain | undefined;
}

export class VirtioIommuDriver implements IommuDriver {
  readonly name: string;
  readonly #registers: MmioRegisters;
  readonly #queues: VirtioIommuGuestDriver;
  readonly #tracer: Tracer | undefined;
  readonly #limits: Pick<PagingDomain, "aperture" | "pageSizes">;
  readonly #probeBytes: number;
  readonly #lastDomain: number;
  #nextDomain: number;
  readonly #endpoints = new Map<number, Endpoint>();
  readonly #sinks = new Map<number, (fault: DeviceFault) => void>();
  #faults = 0;

  constructor({ name, memory, frames, registerBase, tracer }: VirtioDriverParts) {
    this.name = name;
    this.#tracer = tracer;
    const registers = new MmioRegisters(memory, registerBase, name, tracer, REGISTERS);
    this.#registers = registers;
    this.#queues = new VirtioIommuGuestDriver({ read: (offset) => registers.read(offset), write: (offset, _size, value) => registers.write(offset, 4, value) }, memory, frames.alloc(Math.ceil(DRIVER_BYTES / 4096)), FEATURES);
    const config = (offset: number, size: 4 | 8): bigint => registers.read(MmioReg.CONFIG + offset, size);
    this.#limits = { pageSizes: config(Config.PAGE_SIZE_MASK, 8), aperture: { start: config(Config.INPUT_START, 8), last: config(Config.INPUT_END, 8) } };
    this.#nextDomain = Number(config(Config.DOMAIN_START, 4));
    this.#lastDomain = Number(config(Config.DOMAIN_END, 4));
    this.#probeBytes = Number(config(Config.PROBE_SIZE, 4));
    // Devices are blocked until they are attached.
    memory.writeMmio(registerBase + MmioReg.CONFIG + Config.BYPASS, 1, 0n);
  }

  addDevice({ rid }: IommuDevice): void {
    this.#endpoints.set(rid, { reserved: this.#probe(rid), domain: undefined });
  }

  removeDevice(device: IommuDevice): void {
    this.detach(device, 0);
    this.#endpoints.delete(device.rid);
  }

  capabilities(): DeviceCapabilities {
    return { dirtyTracking: false, maxPasidLog2: 0, ats: false };
  }

  reservedRegions({ rid }: IommuDevice): readonly ReservedRegion[] {
    const { reserved } = this.#endpoint(rid);
    return reserved.some(({ kind }) => kind === "msi") ? reserved : [...reserved, SOFTWARE_MSI];
  }

  allocPaging(_device: IommuDevice, { nestParent = false, dirtyTracking = false, pasid = false }: PagingDomainOptions, data?: UserData): PagingDomain {
    if (data) refuse("EOPNOTSUPP", "a page table of an IOAS takes no vendor data", { argument: "data_type" });
    const asked = nestParent ? "nested translation" : dirtyTracking ? "dirty tracking" : pasid ? "PASIDs" : undefined;
    if (asked) refuse("EOPNOTSUPP", `${this.name} has no ${asked}: the protocol knows none`, { argument: "flags", rule: "virtio 1.3, 5.13" });
    if (this.#nextDomain > this.#lastDomain) refuse("ENOMEM", `every domain of ${this.name} is taken`, { rule: "domain_range" });
    return new VirtioDomain(this.#nextDomain++, this, this.#limits);
  }

  attach({ rid, name }: IommuDevice, pasid: number, domain: Domain): void {
    if (!(domain instanceof VirtioDomain)) return refuse("EINVAL", `the page table was made by another driver than ${this.name}`, { argument: "pt_id" });
    if (pasid !== 0) refuse("EOPNOTSUPP", `${this.name} has no PASIDs: the protocol knows none`, { argument: "pasid", rule: "virtio 1.3, 5.13" });
    const endpoint = this.#endpoint(rid);
    const old = endpoint.domain;
    if (old === domain) return;
    try {
      this.#enter(rid, name, endpoint, domain);
    } catch (error) {
      // Whether the device has still the old one is its business (5.13.6.3.2): it is attached anew.
      this.#leave(rid, endpoint);
      if (old) this.#enter(rid, name, endpoint, old);
      throw error;
    }
  }

  #enter(rid: number, name: string, endpoint: Endpoint, domain: VirtioDomain): void {
    this.#ask(RequestType.ATTACH, `attach ${name}`, ofEndpoint(domain, rid));
    endpoint.domain?.leave(rid);
    endpoint.domain = domain;
    domain.join(rid);
  }

  detach({ rid }: IommuDevice, pasid: number): void {
    const endpoint = this.#endpoints.get(rid);
    if (pasid === 0 && endpoint) this.#leave(rid, endpoint);
  }

  /** Afterwards it is in no domain; a device that had it in none already says so. */
  #leave(rid: number, endpoint: Endpoint): void {
    const { domain } = endpoint;
    if (domain === undefined) return;
    domain.leave(rid);
    endpoint.domain = undefined;
    this.#send(RequestType.DETACH, ofEndpoint(domain, rid));
  }

  /** For domains that an endpoint is in. @throws IommuError */
  map(domain: number, start: bigint, last: bigint, physical: bigint, flags: number): void {
    this.#ask(RequestType.MAP, `map 0x${start.toString(16)}`, (view) => {
      view.setUint32(4, domain, true);
      view.setBigUint64(8, start, true);
      view.setBigUint64(16, last, true);
      view.setBigUint64(24, physical, true);
      view.setUint32(32, flags, true);
    });
  }

  unmap(domain: number, start: bigint, last: bigint): void {
    this.#ask(RequestType.UNMAP, `unmap 0x${start.toString(16)}`, (view) => {
      view.setUint32(4, domain, true);
      view.setBigUint64(8, start, true);
      view.setBigUint64(16, last, true);
    });
  }

  reportFaults({ rid }: IommuDevice, sink: ((fault: DeviceFault) => void) | undefined): void {
    if (sink) this.#sinks.set(rid, sink);
    else this.#sinks.delete(rid);
  }

  /** The device's interrupt. */
  interrupt(): void {
    const status = this.#registers.read32(MmioReg.INTERRUPT_STATUS);
    this.#registers.write32(MmioReg.INTERRUPT_ACK, status);
    if ((status & Interrupt.USED) === 0) return;
    for (let event = this.#queues.event(); event !== undefined; event = this.#queues.event()) this.#takeFault(event);
  }

  /** A fault report (5.13.6.9). */
  #takeFault(event: DataView): void {
    const flags = event.getUint32(4, true);
    const rid = event.getUint32(8, true);
    const address = (flags & FaultFlag.ADDRESS) !== 0 ? event.getBigUint64(16, true) : 0n;
    const write = (flags & FaultFlag.WRITE) !== 0;
    this.#sinks.get(rid)?.({ pasid: undefined, permissions: ((flags & FaultFlag.READ) !== 0 ? READ : 0) | (write ? WRITE : 0), address });
    this.#faults++;
    const text = `${write ? "write" : "read"} of 0x${address.toString(16)} by ${formatRid(rid)} was blocked: ${REASONS[event.getUint8(0)] ?? `reason ${event.getUint8(0)}`}`;
    this.#tracer?.listener?.({ kind: "report", unit: this.name, text, count: this.#faults });
  }

  #endpoint(rid: number): Endpoint {
    return this.#endpoints.get(rid) ?? refuse("ENODEV", `${formatRid(rid)} is not behind ${this.name}`, { argument: "device" });
  }

  /** Ranges that the endpoint does not translate (RESV_MEM, 5.13.6.7). */
  #probe(rid: number): ReservedRegion[] {
    const answer = this.#ask(RequestType.PROBE, `probe ${formatRid(rid)}`, (view) => view.setUint32(HEAD_BYTES, rid, true), this.#probeBytes);
    const regions: ReservedRegion[] = [];
    for (let at = 0; at + 4 <= answer.byteLength; ) {
      const [type, length] = [answer.getUint16(at, true) & 0xfff, answer.getUint16(at + 2, true)];
      if (type === 0) break;
      if (type === PROPERTY_RESV_MEM && length >= 20 && at + 24 <= answer.byteLength) {
        regions.push({ start: answer.getBigUint64(at + 8, true), last: answer.getBigUint64(at + 16, true), kind: answer.getUint8(at + 4) === RESV_MEM_MSI ? "msi" : "reserved" });
      }
      at += 4 + length;
    }
    return regions;
  }

  /** @returns what the device wrote before the tail @throws IommuError the status as an errno; EIO when the device does not answer */
  #ask(type: number, what: string, fill: (view: DataView) => void, room = 0): DataView {
    const answer = this.#send(type, fill, room);
    if (answer === undefined) return refuse("EIO", `${this.name} does not answer: ${what}`, { rule: "virtio 1.3, 2.1.2" });
    const status = answer[room];
    if (status !== Status.OK) refuse(ERRNO[status] ?? "EIO", `${this.name} does not ${what}: status ${status}`, { rule: "virtio 1.3, 5.13.6.2" });
    return new DataView(answer.buffer, answer.byteOffset, room);
  }

  /** undefined: the device does not answer. */
  #send(type: number, fill: (view: DataView) => void, room = 0): Uint8Array | undefined {
    const request = new DataView(new ArrayBuffer(REQUEST_BYTES[type]));
    request.setUint8(0, type);
    fill(request);
    return this.#queues.request(new Uint8Array(request.buffer), room + TAIL_BYTES);
  }
}

/** What ATTACH and DETACH say. */
function ofEndpoint(domain: VirtioDomain, rid: number): (view: DataView) => void {
  return (view) => {
    view.setUint32(4, domain.id, true);
    view.setUint32(8, rid, true);
  };
}
