/** What a virtual VT-d says of itself: units that a host's can stand behind. */
import { encodeFields, refuse } from "@iommukit/core";
import { CAP, type Capabilities, ECAP, readCapabilities } from "@iommukit/hw-vtd/spec";
import type { HostWords } from "./host-objects.js";

/** Words of a guest's unit. */
export interface GuestWords {
  readonly version: number;
  readonly cap: bigint;
  readonly ecap: bigint;
  readonly haw: number;
}

const COMMON_CAP = { ND: 6n, CM: 1n, ZLR: 1n, SSLPS: 3n, PSI: 1n, MAMV: 18n, DWD: 1n, DRD: 1n, ESRTPS: 1n, FRO: 0x22n, NFR: 7n };
const COMMON_ECAP = { C: 1n, QI: 1n, PT: 1n, IRO: 0xfn };

/** By what the guest sees; all have caching mode, without which nothing of a guest's tables would be told (6.1). */
export const GUEST_UNITS: Readonly<Record<"nested" | "nesting" | "shadowed" | "legacy", GuestWords>> = {
  /** Scalable mode with first stages, which the host's hardware walks, and page requests. */
  nested: {
    version: 0x70, haw: 48,
    cap: encodeFields(CAP, { ...COMMON_CAP, SAGAW: 4n, MGAW: 47n })[0],
    ecap: encodeFields(ECAP, { ...COMMON_ECAP, PSS: 19n, PASID: 1n, SMTS: 1n, FSTS: 1n, RPS: 1n, DT: 1n, PRS: 1n, PDS: 1n })[0],
  },
  /** The same with second stages, which are shadowed, alone and below first stages: the guest can give guests of its own what it has itself. */
  nesting: {
    version: 0x70, haw: 48,
    cap: encodeFields(CAP, { ...COMMON_CAP, SAGAW: 4n, MGAW: 47n })[0],
    ecap: encodeFields(ECAP, { ...COMMON_ECAP, PSS: 19n, PASID: 1n, SMTS: 1n, FSTS: 1n, SSTS: 1n, NEST: 1n, RPS: 1n, DT: 1n, PRS: 1n, PDS: 1n })[0],
  },
  /** Scalable mode with second stages, which are shadowed, and page requests. */
  shadowed: {
    version: 0x70, haw: 48,
    cap: encodeFields(CAP, { ...COMMON_CAP, SAGAW: 4n, MGAW: 47n })[0],
    ecap: encodeFields(ECAP, { ...COMMON_ECAP, PSS: 19n, PASID: 1n, SMTS: 1n, SSTS: 1n, RPS: 1n, DT: 1n, PRS: 1n, PDS: 1n })[0],
  },
  /** Legacy mode, shadowed. */
  legacy: {
    version: 0x10, haw: 48,
    cap: encodeFields(CAP, { ...COMMON_CAP, SAGAW: 4n, MGAW: 47n })[0],
    ecap: encodeFields(ECAP, COMMON_ECAP)[0],
  },
};

/** A capability that a guest may not be shown. */
interface Limit {
  readonly name: string;
  readonly broken: (guest: Capabilities, host: Capabilities) => boolean;
}

/** On any host. */
const LIMITS: readonly Limit[] = [
  // A guest would not tell what it makes present (6.1).
  { name: "CAP.CM=0", broken: (guest) => !guest.cachingMode },
  { name: "ECAP.NEST", broken: (guest) => guest.nesting && !(guest.firstStage && guest.secondStage) },
  { name: "ECAP.IR", broken: (guest) => guest.interruptRemapping },
  { name: "ECAP.SSIRWS", broken: (guest) => guest.secondStageIoRights },
];
/** What the host's hardware has to do when it walks the guest's first stages. */
const FIRST_STAGE_LIMITS: readonly Limit[] = [
  { name: "ECAP.FSTS", broken: (_, host) => !host.nesting || !host.firstStage },
  { name: "CAP.FS1GP", broken: (guest, host) => guest.firstStage1G && !host.firstStage1G },
  { name: "CAP.FS5LP", broken: (guest, host) => guest.firstStage5Level && !host.firstStage5Level },
  { name: "ECAP.PSS", broken: (guest, host) => guest.pasid && (!host.pasid || guest.pasidBits > host.pasidBits) },
  { name: "ECAP.PRS", broken: (guest, host) => guest.pageRequests && !host.pageRequests },
  { name: "ECAP.DT", broken: (guest, host) => guest.deviceTlb && !host.deviceTlb },
  { name: "ECAP.SRS", broken: (guest, host) => guest.supervisor && !host.supervisor },
  { name: "ECAP.EAFS", broken: (guest, host) => guest.extendedAccessed && !host.extendedAccessed },
];

/**
 * @param host undefined: one that walks no first stages
 * @throws IommuError EINVAL naming what a guest may not be shown on this host
 */
export function checkShown(guest: Capabilities, host: HostWords | undefined): void {
  const own = readCapabilities(guest.version, host?.cap ?? 0n, host?.ecap ?? 0n, guest.haw);
  const limits = guest.scalableMode && guest.firstStage ? [...LIMITS, ...FIRST_STAGE_LIMITS] : LIMITS;
  const broken = limits.filter((limit) => limit.broken(guest, own)).map(({ name }) => name);
  if (broken.length > 0) refuse("EINVAL", `the guest's unit may not say what it says on this host: ${broken.join(", ")}`, { argument: "unit", rule: "IOMMU_HW_INFO_TYPE_INTEL_VTD" });
}
