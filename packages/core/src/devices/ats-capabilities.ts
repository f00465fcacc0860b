/** What a PCI Express function with a translation cache shows in configuration space (PCI Express 6.0, 7.5.3, 7.8.7, 7.8.8, 10.5). */
import type { DeviceTlb } from "./device-tlb.js";
import type { PciCapability, PciExtendedCapability } from "./types.js";

/** PCI Express capability, version 2: an endpoint integrated in the root complex, which has no link; with function-level reset. */
export const EXPRESS_CAPABILITY: PciCapability = { offset: 0x80, bytes: expressBytes() };

function expressBytes(): Uint8Array {
  const bytes = new Uint8Array(0x3c);
  bytes.set([0x10, 0, 0x92, 0, 0, 0, 0, 0x10]);
  return bytes;
}

/** ATS: invalidation queue of 32, page-aligned requests, one invalidation for every PASID. */
const ATS_BITS = 0x60;
const ATS_ENABLE = 0x8000;
const PRI_ENABLE = 1;
/** PRI status: nothing is under way. */
const PRI_STOPPED = 0x100;
/** Responses carry the PASID of the request. */
const PRI_PASID_REQUIRED = 0x8000;
const PRI_CAPACITY = 32;
const PASID_PRIVILEGED = 4;
const PASID_ENABLE = 1;

export class AtsCapabilities {
  readonly list: readonly PciExtendedCapability[];

  constructor(tlb: DeviceTlb, { pageRequests, pasidBits }: { readonly pageRequests: boolean; readonly pasidBits: number }) {
    const ats: PciExtendedCapability = { id: 0x0f, offset: 0x100, get body() { return words16(ATS_BITS, tlb.enabled ? ATS_ENABLE : 0); } };
    const pri: PciExtendedCapability = {
      id: 0x13,
      offset: 0x110,
      get body() {
        const { enabled, status, waiting } = tlb.pages;
        const capacity = [PRI_CAPACITY, 0];
        return words16(enabled ? PRI_ENABLE : 0, status | (enabled || waiting ? 0 : PRI_STOPPED) | PRI_PASID_REQUIRED, ...capacity, ...capacity);
      },
    };
    const pasid: PciExtendedCapability = { id: 0x1b, offset: 0x120, body: words16(PASID_PRIVILEGED | (pasidBits << 8), PASID_ENABLE) };
    this.list = pageRequests ? [ats, pri, pasid] : [ats, pasid];
  }
}

function words16(...words: readonly number[]): Uint8Array {
  return new Uint8Array(Uint16Array.from(words).buffer);
}
