/** The bus: a device's accesses go, page by page, through the IOMMU that owns its requester id. */
import type { PhysicalMemory } from "../memory/physical-memory.js";
import { formatRid } from "./rid.js";
import type { AtsHardware, AtsPort } from "./ats.js";
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
    const { pasid = NO_PASID, privileged = false, execute = false } = options;
    const access = kind | (privileged ? Access.PRIVILEGED : 0) | (execute ? Access.EXECUTE : 0);
    let page = Number((address >> 12n) & 0xf_ffff_ffff_ffffn);
    let offset = Number(address & 0xfffn);
    if (bytes.length === 0 && kind === Access.READ) return { ok: iommu.translate(rid, pasid, page, access | Access.ZERO_LENGTH, offset) !== -1, moved: 0 };
    for (let moved = 0; moved < bytes.length; ) {
      const length = Math.min(bytes.length - moved, PAGE - offset);
      const out = iommu.translate(rid, pasid, page, access, offset);
      if (out === -1) return { ok: false, moved };
      const part = bytes.subarray(moved, moved + length);
      const pa = out * PAGE + offset;
      const done = kind === Access.WRITE ? this.#memory.write(pa, part) || this.#message(iommu, rid, pa, part) : this.#memory.read(pa, part);
      if (!done) return { ok: false, moved };
      moved += length;
      page = page === 2 ** 52 - 1 ? 0 : page + 1;
      offset = 0;
    }
    return { ok: true, moved: bytes.length };
  }
}
