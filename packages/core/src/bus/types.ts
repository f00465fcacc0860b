/** Requesters and their way to memory. */
import type { AtsHardware, AtsPort } from "./ats.js";
import type { StallHardware, WaitingPort } from "./stalls.js";

/** How a DMA ended. `moved` counts bytes that reached their end before the first one that did not. */
export interface DmaResult {
  readonly ok: boolean;
  readonly moved: number;
}

export interface DmaOptions {
  /** PASID prefix of the request. */
  readonly pasid?: number;
  readonly privileged?: boolean;
  readonly execute?: boolean;
}

/** A device's port on the bus: every access is made as its requester id and goes through the IOMMU that owns it. */
export interface DmaPort {
  readonly rid: number;
  /** With an empty target it is a zero-length read: it asks whether the page is there. */
  read(address: bigint, target: Uint8Array, options?: DmaOptions): DmaResult;
  write(address: bigint, source: Uint8Array, options?: DmaOptions): DmaResult;
  /** Sends a message-signalled interrupt: a write of one word. False when the IOMMU blocked it or nobody waits for it. */
  interrupt(address: bigint, data: number): boolean;
  /** Absent when the IOMMU has no ATS. */
  readonly ats?: AtsPort;
  /** From now on the IOMMU may hold back this device's requests. Absent when it never does. */
  openWaiting?(): WaitingPort;
}

/** Access bits of a request, as `translate` takes them. */
export const Access = {
  READ: 1,
  WRITE: 2,
  EXECUTE: 4,
  PRIVILEGED: 8,
  /** A read of no bytes: with READ, it asks whether the page is there at all (PCI Express 2.2.5). */
  ZERO_LENGTH: 16,
} as const;

/** No PASID on the request. */
export const NO_PASID = -1;

/**
 * What the bus asks of an IOMMU. One call translates one 4 KiB page's worth.
 * The result is left in the unit's own fields, so that nothing is allocated
 * per request (ARCHITECTURE.md, "Speed").
 */
export interface IommuHardware {
  readonly name: string;
  /**
   * @param page input address >> 12, up to 52 bits
   * @param pasid PASID, or `NO_PASID`
   * @param access bits of `Access`
   * @param offset bits 11:0 of the input address, for units whose fault records hold them; 0 unless given
   * @returns the output page number (PA >> 12), or -1 when the request was blocked
   */
  translate(rid: number, pasid: number, page: number, access: number, offset?: number): number;
  /** Right after `translate` gave -1: the request is not aborted, but a read gets zeros and a write goes nowhere. Absent: it is aborted. */
  readonly answersZero?: boolean;
  /** Absent: a unit without ATS and page requests. */
  readonly ats?: AtsHardware;
  /** Absent: a unit that refuses at once. */
  readonly stalling?: StallHardware;
  /**
   * A device's message-signalled interrupt passes the unit, which may remap it.
   * Absent: messages pass as they are. Returns false when it was blocked, or nobody waits for it.
   * @param length bytes of the write, 4 unless given: a device's ordinary write can land where messages go, with any length
   */
  interrupt?(rid: number, address: bigint, data: number, length?: number): boolean;
  /** What the unit's translation cache holds, and what devices' do where it knows, for those who check it. */
  cached?(): Iterable<CachedTranslation>;
}

/** One cached translation, by its first page. */
export interface CachedTranslation {
  readonly rid: number;
  /** Absent: of requests without PASID. */
  readonly pasid?: number;
  readonly page: number;
  readonly outPage: number;
  /** READ and WRITE, as far as granted. */
  readonly rights: number;
  /** Only privileged requests have them. */
  readonly privileged?: boolean;
}
