/** Configuration space of a virtual DSA: MSI-X, and PASID, ATS and page requests as the parent has them. */
import type { PciCapability, PciExtendedCapability } from "@iommukit/core";
import { EXPRESS_CAPABILITY } from "@iommukit/core/devices";
import { Table } from "../dsa/spec/registers.js";

const MSIX = 0x11;
const PASID_CAPABILITY = 0x1b;
const ATS_CAPABILITY = 0x0f;
const PRI_CAPABILITY = 0x13;
/** Max PASID Width in bits 12:8, privileged mode (PCI Express 6.0, 7.8.9). */
const PASID_WORD = (20 << 8) | 4;
const ENABLED = 1;

/** With its table and pending bits in BAR 0. */
export function msixCapability(vectors: number): readonly PciCapability[] {
  const bytes = new Uint8Array(12);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, MSIX);
  view.setUint16(2, vectors - 1, true);
  view.setUint32(4, Table.MSIX, true);
  view.setUint32(8, Table.PENDING, true);
  return [{ offset: 0x60, bytes }, EXPRESS_CAPABILITY];
}

/** The parent's enables: on, and not the guest's to change. */
export function extendedCapabilities({ ats, pageRequests }: { ats: boolean; pageRequests: boolean }): readonly PciExtendedCapability[] {
  const words = (...list: number[]): Uint8Array => new Uint8Array(Uint32Array.from(list).buffer);
  return [
    ...(ats ? [{ id: ATS_CAPABILITY, offset: 0x100, body: words(ENABLED * 2 ** 31) }] : []),
    ...(pageRequests ? [{ id: PRI_CAPABILITY, offset: 0x110, body: words(ENABLED, 512, 512) }] : []),
    { id: PASID_CAPABILITY, offset: 0x120, body: words(PASID_WORD | (ENABLED << 16)) },
  ];
}
