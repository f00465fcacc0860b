/** The bus: a device's accesses go, page by page, through the IOMMU that owns its requester id. */
import type { PhysicalMemory } from "../memory/physical-memory.js";
import { formatRid } from "./rid.js";
import type { AtsHardware, AtsPort } from "./ats.js";
import { PageAccess, type StallHardware, type WaitingPort, WaitingRequests } from "./stalls.js";
import { Access, type DmaOptions, type DmaPort, type DmaResult, type IommuHardware, NO_PASID } from "./types.js";

const PAGE = 4096;

/** Takes messages that no IOMMU remaps. False when nobody waits for one. */
export type MessageSink = (address: bigint, data: number) => boolean;

export class Bus {
  readonly #memory: PhysicalMemory;
  readonly #messages: MessageSink;
  readonly #owners = new Map<number, IommuHardware>();

  constructor(memory: PhysicalMemory, messages: MessageSink = () => false) {
    this.#memory = memory;
    this.#messages = messages;
  }

  /** Puts a requester id under an IOMMU and returns its port. Throws RangeError when it is taken. */
  connect(rid: number, iommu: IommuHardware): DmaPort {
    if (this.#owners.has(rid)) throw new RangeError(`requester ${formatRid(rid)} is on the bus already`);
    this.#owners.set(rid, iommu);
    return {
      rid,
      read: (address, target, options) => this.#transfer(iommu, rid, address, target, Access.READ, options),
      write: (address, source, options) => this.#transfer(iommu, rid, address, source, Access.WRITE, options),
      interrupt: (address, data) => iommu.interrupt?.(rid, address, data) ?? this.#messages(address, data),
      ...(iommu.ats ? { ats: this.#atsPort(iommu.ats, rid) } : {}),
      ...(iommu.stalling ? { openWaiting: this.#waitingPorts(iommu, iommu.stalling, rid) } : {}),
    };
  }

  #waitingPorts(iommu: IommuHardware, stalls: StallHardware, rid: number): () => WaitingPort {
    return () => {
      const requests = new WaitingRequests(stalls, rid);
      return {
        access: (direction, address, bytes, options, done) => {
          const { pasid = NO_PASID } = options;
          const kind = direction === "read" ? Access.READ : Access.WRITE;
          const [page, offset, access] = [pageOf(address), Number(address & 0xfffn), accessOf(kind, options)];
          return requests.request(() => this.#page(iommu, rid, pasid, page, offset, access, bytes), direction === "read" ? bytes : undefined, done);
        },
      };
    };
  }

  /** A write that reaches no memory may be a message: the unit, or who takes messages, knows. */
  #message(iommu: IommuHardware, rid: number, pa: number, bytes: Uint8Array): boolean {
    const data = bytes.length === 4 ? new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true) : 0;
    if (iommu.interrupt) return iommu.interrupt(rid, BigInt(pa), data, bytes.length);
    return bytes.length === 4 && this.#messages(BigInt(pa), data);
  }

  #atsPort(ats: AtsHardware, rid: number): AtsPort {
    return {
      translate: (pasid, page, access, out) => ats.requestTranslation(rid, pasid, page, access, out),
      access: (pasid, address, bytes, access) => this.#translated(ats, rid, pasid, address, bytes, access),
      requestPage: (request) => ats.requestPage({ ...request, rid }),
      completeInvalidation: (tags, count) => ats.completeInvalidation(rid, tags, count),
      connect: (endpoint) => ats.connectEndpoint(rid, endpoint),
    };
  }

  #translated(ats: AtsHardware, rid: number, pasid: number, address: number, bytes: Uint8Array, access: number): boolean {
    for (let moved = 0; moved < bytes.length; ) {
      const at = address + moved;
      const part = bytes.subarray(moved, moved + Math.min(bytes.length - moved, PAGE - (at % PAGE)));
      if (ats.translated(rid, pasid, Math.floor(at / PAGE), access) === -1) return false;
      const done = (access & Access.WRITE) !== 0 ? this.#memory.write(at, part) : this.#memory.read(at, part);
      if (!done) return false;
      moved += part.length;
    }
    return true;
  }

  /** Accesses never cross 4 KiB: each part is translated, and refused, on its own. */
  #transfer(iommu: IommuHardware, rid: number, address: bigint, bytes: Uint8Array, kind: number, options: DmaOptions = {}): DmaResult {
    const { pasid = NO_PASID } = options;
    const access = accessOf(kind, options);
    let page = pageOf(address);
    let offset = Number(address & 0xfffn);
    if (bytes.length === 0 && kind === Access.READ) return { ok: iommu.translate(rid, pasid, page, access | Access.ZERO_LENGTH, offset) !== -1, moved: 0 };
    for (let moved = 0; moved < bytes.length; ) {
      const part = bytes.subarray(moved, moved + Math.min(bytes.length - moved, PAGE - offset));
      if (this.#page(iommu, rid, pasid, page, offset, access, part) !== PageAccess.MOVED) return { ok: false, moved };
      moved += part.length;
      page = page === 2 ** 52 - 1 ? 0 : page + 1;
      offset = 0;
    }
    return { ok: true, moved: bytes.length };
  }

  /** @param bytes inside the page @returns `PageAccess` */
  #page(iommu: IommuHardware, rid: number, pasid: number, page: number, offset: number, access: number, bytes: Uint8Array): number {
    const out = iommu.translate(rid, pasid, page, access, offset);
    if (out === -1) {
      if (iommu.answersZero !== true) return PageAccess.BLOCKED;
      if ((access & Access.WRITE) === 0) bytes.fill(0);
      return PageAccess.MOVED;
    }
    const pa = out * PAGE + offset;
    const done = (access & Access.WRITE) !== 0 ? this.#memory.write(pa, bytes) || this.#message(iommu, rid, pa, bytes) : this.#memory.read(pa, bytes);
    return done ? PageAccess.MOVED : PageAccess.NOWHERE;
  }
}

function pageOf(address: bigint): number {
  return Number((address >> 12n) & 0xf_ffff_ffff_ffffn);
}

function accessOf(kind: number, { privileged = false, execute = false }: DmaOptions): number {
  return kind | (privileged ? Access.PRIVILEGED : 0) | (execute ? Access.EXECUTE : 0);
}
