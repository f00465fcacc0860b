/** What a virtual VT-d says of itself: units that a host's can stand behind. */
import { encodeFields, refuse } from "@iommukit/core";
import { CAP, ECAP, readCapabilities } from "@iommukit/hw-vtd/spec";

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
export const GUEST_UNITS: Readonly<Record<"nested" | "shadowed" | "legacy", GuestWords>> = {
  /** Scalable mode with first stages, which the host's hardware walks, and page requests. */
  nested: {
    version: 0x70, haw: 48,
    cap: encodeFields(CAP, { ...COMMON_CAP, SAGAW: 4n, MGAW: 47n })[0],
    ecap: encodeFields(ECAP, { ...COMMON_ECAP, PSS: 19n, PASID: 1n, SMTS: 1n, FSTS: 1n, RPS: 1n, DT: 1n, PRS: 1n, PDS: 1n })[0],
  },
  /** Scalable mode with second stages, which are shadowed. */
  shadowed: {
    version: 0x70, haw: 48,
    cap: encodeFields(CAP, { ...COMMON_CAP, SAGAW: 4n, MGAW: 47n })[0],
    ecap: encodeFields(ECAP, { ...COMMON_ECAP, PSS: 19n, PASID: 1n, SMTS: 1n, SSTS: 1n, RPS: 1n })[0],
  },
  /** Legacy mode, shadowed. */
  legacy: {
    version: 0x10, haw: 48,
    cap: encodeFields(CAP, { ...COMMON_CAP, SAGAW: 4n, MGAW: 47n })[0],
    ecap: encodeFields(ECAP, COMMON_ECAP)[0],
  },
};

/** @throws IommuError EINVAL naming what a host that walks the guest's first stages has not */
export function checkShown(guest: GuestWords, host: { readonly cap: bigint; readonly ecap: bigint }): void {
  const [shown, own] = [readCapabilities(guest.version, guest.cap, guest.ecap, guest.haw), readCapabilities(guest.version, host.cap, host.ecap, guest.haw)];
  const limits: readonly (readonly [name: string, broken: boolean])[] = [
    ["CAP.CM", !shown.cachingMode],
    ["ECAP.NEST", shown.nesting],
    ["ECAP.NEST of the host", shown.firstStage && !own.nesting],
    ["ECAP.FSTS", shown.firstStage && !own.firstStage],
    ["CAP.FS1GP", shown.firstStage1G && !own.firstStage1G],
    ["CAP.FS5LP", shown.firstStage5Level && !own.firstStage5Level],
    ["ECAP.PSS", shown.pasid && (!own.pasid || shown.pasidBits > own.pasidBits)],
    ["ECAP.PRS", shown.pageRequests && !own.pageRequests],
    ["ECAP.DT", shown.deviceTlb && !own.deviceTlb],
    ["ECAP.SRS", shown.supervisor && !own.supervisor],
    ["ECAP.EAFS", shown.extendedAccessed && !own.extendedAccessed],
  ];
  const broken = limits.filter(([, is]) => is).map(([name]) => name);
  if (broken.length > 0) refuse("EINVAL", `the guest's unit says more than the host's can do: ${broken.join(", ")}`, { argument: "unit", rule: "IOMMU_HW_INFO_TYPE_INTEL_VTD" });
}
