/** The virtio-iommu device (virtio 1.3, 5.13): configuration, requests, accesses of endpoints, fault events. */
import { Access, type IommuHardware, NO_PASID, type Tracer } from "@iommukit/core";
import { describeFault, describeRequest, describeStatus } from "./describe.js";
import { Domains, type HostDomains } from "./domains.js";
import { type Limits, type Mode, type RequestContext, REQUESTS, type ReservedMemory } from "./requests.js";
import { Config, CONFIG_BYTES, DEVICE_ID, EVENT_BYTES, EVENT_QUEUE, FaultFlag, FaultReason, Feature, HEAD_BYTES, Interrupt, REQUEST_BYTES, REQUEST_QUEUE, RequestType, Status, TAIL_BYTES } from "./spec.js";
import { BrokenDevice, VirtioTransport, type VirtioDevice } from "./transport.js";
import { BrokenQueue, type GuestMemory } from "./virtqueue.js";

export interface VirtioIommuOptions {
  readonly name?: string;
  /** Endpoint IDs that exist: for PCI, requester ids. All of these exist unless given. */
  readonly endpoints?: readonly number[];
  readonly limits?: Partial<Limits>;
  /** The manual's rules, or QEMU 11.1's where they differ; "strict" unless given. */
  readonly mode?: Mode;
  /** Accesses pass before a driver says otherwise; true unless given. */
  readonly bootBypass?: boolean;
  readonly reserved?: (endpoint: number) => readonly ReservedMemory[];
  /** Of endpoints that stand for devices of the host. */
  readonly host?: HostDomains;
  readonly onInterrupt?: () => void;
  readonly tracer?: Tracer;
}

export const DEFAULT_LIMITS: Limits = {
  pageSizeMask: 0xffff_ffff_ffff_f000n,
  inputRange: { start: 0n, last: 2n ** 48n - 1n },
  domainRange: { start: 0, last: 2 ** 32 - 1 },
  probeSize: 512,
  mappings: 2 ** 20,
};

const FEATURES = Feature.INPUT_RANGE | Feature.DOMAIN_RANGE | Feature.MAP_UNMAP | Feature.PROBE | Feature.MMIO | Feature.BYPASS_CONFIG;
const LONGEST_REQUEST = 72;
const HIDDEN_BYTES = 3;

export class VirtioIommu implements IommuHardware, VirtioDevice {
  readonly name: string;
  readonly deviceId: number = DEVICE_ID;
  readonly features: bigint = FEATURES;
  readonly queueCount = 2;
  readonly config: Uint8Array = new Uint8Array(CONFIG_BYTES);
  readonly transport: VirtioTransport;
  /** Fault events for which the driver had no buffer. */
  lostEvents = 0;
  readonly #limits: Limits;
  readonly #mode: Mode;
  readonly #bootBypass: number;
  readonly #domains: Domains;
  readonly #reserved: (endpoint: number) => readonly ReservedMemory[];
  readonly #tracer: Tracer | undefined;
  /** Taken by the driver; undefined before it has. */
  #taken: bigint | undefined;

  constructor(memory: GuestMemory, options: VirtioIommuOptions) {
    this.name = options.name ?? "virtio-iommu";
    this.#limits = { ...DEFAULT_LIMITS, ...options.limits };
    this.#mode = options.mode ?? "strict";
    this.#bootBypass = Number(options.bootBypass ?? true);
    this.#domains = new Domains(options.endpoints, () => this.#bypasses, options.host);
    this.#reserved = options.reserved ?? (() => []);
    this.#tracer = options.tracer;
    this.#fillConfig();
    this.transport = new VirtioTransport(this, memory, options.onInterrupt ?? (() => undefined));
    this.#domains.settle();
  }

  #fillConfig(): void {
    const view = new DataView(this.config.buffer);
    const { pageSizeMask, inputRange, domainRange, probeSize } = this.#limits;
    view.setBigUint64(Config.PAGE_SIZE_MASK, pageSizeMask, true);
    view.setBigUint64(Config.INPUT_START, inputRange.start, true);
    view.setBigUint64(Config.INPUT_END, inputRange.last, true);
    view.setUint32(Config.DOMAIN_START, domainRange.start, true);
    view.setUint32(Config.DOMAIN_END, domainRange.last, true);
    view.setUint32(Config.PROBE_SIZE, probeSize, true);
    view.setUint8(Config.BYPASS, this.#bootBypass);
  }

  /** Only `bypass` can be written, with BYPASS_CONFIG taken, and only to 0 or 1 (5.13.4.1). */
  writeConfig(offset: number, bytes: Uint8Array): void {
    if (offset !== Config.BYPASS || bytes.length !== 1) return;
    if (((this.#taken ?? 0n) & Feature.BYPASS_CONFIG) === 0n) throw new BrokenDevice("bypass was written without VIRTIO_IOMMU_F_BYPASS_CONFIG (5.13.4.1)");
    if (bytes[0] > 1) throw new BrokenDevice(`bypass was set to ${bytes[0]}, which is neither 0 nor 1 (5.13.4.1)`);
    this.config[Config.BYPASS] = bytes[0];
    this.#domains.settle();
  }

  negotiated(features: bigint): void {
    this.#taken = features;
    this.#domains.settle();
  }

  /** A device reset: `bypass` stays as the driver left it (5.13.4.2). */
  reset(): void {
    this.#taken = undefined;
    this.#domains.reset();
    this.#domains.settle();
  }

  /** A reset of the system: everything as it was at the start. */
  resetSystem(): void {
    this.transport.status = 0;
    this.config[Config.BYPASS] = this.#bootBypass;
    this.#domains.settle();
  }

  /** Answers what is on the request queue, at most as much as it has room for: then it is the driver's turn to ring again. */
  notify(queue: number): void {
    if (queue !== REQUEST_QUEUE) return;
    const requests = this.transport.queues[REQUEST_QUEUE];
    let told = false;
    for (let left = requests.size; left > 0; left--) {
      const chain = requests.pop(LONGEST_REQUEST);
      if (chain === undefined) break;
      if (chain.request.length < HEAD_BYTES || chain.room < TAIL_BYTES) throw new BrokenQueue(`a request of ${chain.request.length} bytes with ${chain.room} for the answer holds no head or tail (5.13.6)`);
      const answer = this.#answer(chain.request, chain.room);
      requests.write(chain, 0, answer);
      told = requests.push(chain, answer.length) || told;
    }
    if (told) this.transport.raise(Interrupt.USED);
  }

  /** The device-writable part of a request: properties of a PROBE, then the tail. */
  #answer(request: Uint8Array, room: number): Uint8Array {
    const type = request[0];
    const before = type === RequestType.PROBE ? Math.min(this.#limits.probeSize, room - TAIL_BYTES) : 0;
    const answer = new Uint8Array(before + TAIL_BYTES);
    const context: RequestContext = {
      domains: this.#domains,
      limits: this.#limits,
      mode: this.#mode,
      features: this.#taken ?? 0n,
      reserved: this.#reserved,
      room: before,
      properties: new Uint8Array(0),
    };
    answer[before] = this.#status(context, type, request);
    if (this.#tracer?.listener) this.#tracer.listener({ kind: "request", unit: this.name, request: describeRequest(request), status: describeStatus(answer[before]) });
    answer.set(context.properties);
    return answer;
  }

  #status(context: RequestContext, type: number, request: Uint8Array): number {
    const handler = REQUESTS[type];
    if (handler === undefined) return Status.UNSUPP;
    if (request.length < REQUEST_BYTES[type]) return Status.INVAL;
    if (this.#mode === "strict" && request.subarray(1, 1 + HIDDEN_BYTES).some((byte) => byte !== 0)) return Status.INVAL;
    return handler(context, new DataView(request.buffer, request.byteOffset, request.length));
  }

  /** Accesses of endpoints without a domain pass (5.13.6.1). A driver that does not know the field has them stopped. */
  get #bypasses(): boolean {
    return (this.#taken === undefined || (this.#taken & Feature.BYPASS_CONFIG) !== 0n) && this.config[Config.BYPASS] === 1;
  }

  translate(rid: number, pasid: number, page: number, access: number, offset = 0): number {
    const out = this.#resolve(rid, pasid, page, access, offset);
    if (this.#tracer?.listener) this.#trace(rid, page, access, out);
    return out;
  }

  #resolve(rid: number, pasid: number, page: number, access: number, offset: number): number {
    const endpoint = this.#domains.endpoint(rid);
    // The protocol knows no PASIDs.
    if (pasid !== NO_PASID) return this.#report(FaultReason.UNKNOWN, rid, page, access, offset);
    const domain = endpoint?.domain;
    if (endpoint === undefined || domain === undefined) {
      if (this.#bypasses) return page;
      const unknown = endpoint === undefined || (this.#mode === "qemu" && !endpoint.seen);
      return this.#report(unknown ? FaultReason.UNKNOWN : FaultReason.DOMAIN, rid, page, access, offset);
    }
    if (domain.bypass) return page;
    for (const { start, last, msi } of this.#reserved(rid)) {
      const iova = BigInt(page) << 12n;
      if (iova < start || iova > last) continue;
      return msi ? page : this.#report(FaultReason.MAPPING, rid, page, access, offset);
    }
    const out = this.#domains.translate(domain, page, access);
    return out === -1 ? this.#report(FaultReason.MAPPING, rid, page, access, offset) : out;
  }

  /** Puts a fault event on the event queue; without a buffer there it is lost (5.13.6.9). */
  #report(reason: number, endpoint: number, page: number, access: number, offset: number): -1 {
    if (this.#tracer?.listener) this.#traceFault(reason, endpoint, page, access, offset);
    if (!this.transport.running) return -1;
    const view = new DataView(new ArrayBuffer(EVENT_BYTES));
    const kind = ((access & Access.READ) !== 0 ? FaultFlag.READ : 0) | ((access & Access.WRITE) !== 0 ? FaultFlag.WRITE : 0);
    view.setUint8(0, reason);
    view.setUint32(4, kind | FaultFlag.ADDRESS, true);
    view.setUint32(8, endpoint, true);
    view.setBigUint64(16, (BigInt(page) << 12n) | BigInt(offset), true);
    const queue = this.transport.queues[EVENT_QUEUE];
    try {
      const chain = queue.pop(0);
      if (chain === undefined) {
        this.lostEvents++;
        return -1;
      }
      if (chain.room < EVENT_BYTES) throw new BrokenQueue(`an event buffer of ${chain.room} bytes (5.13.6.9.1)`);
      queue.write(chain, 0, new Uint8Array(view.buffer));
      if (queue.push(chain, EVENT_BYTES)) this.transport.raise(Interrupt.USED);
    } catch (error) {
      if (!(error instanceof BrokenQueue)) throw error;
      this.transport.fail(error.message);
    }
    return -1;
  }

  #traceFault(reason: number, rid: number, page: number, access: number, offset: number): void {
    const address = (BigInt(page) << 12n) | BigInt(offset);
    this.#tracer?.listener?.({ kind: "fault", unit: this.name, record: describeFault(reason, rid, nameOf(access), address), fields: { reason, rid, address: `0x${address.toString(16)}`, operation: nameOf(access) } });
  }

  #trace(rid: number, page: number, access: number, out: number): void {
    this.#tracer?.listener?.({
      kind: "translation",
      unit: this.name,
      rid,
      iova: BigInt(page) << 12n,
      access: nameOf(access),
      source: "walk",
      ...(out === -1 ? {} : { pa: out * 4096 }),
    });
  }
}

function nameOf(access: number): string {
  return (access & Access.WRITE) === 0 ? "read" : (access & Access.READ) === 0 ? "write" : "atomic";
}
