/**
 * What the user of a VFIO device may do with PASIDs: the eight kinds of devices of "[RFC v2] /dev/iommu uAPI proposal", 1.4 "PASID
 * virtualization". The device's driver decides which one it is, and tells it through VFIO; iommufd knows the numbers on the wire only.
 *
 * vPASID: the number that the user gives. pPASID: the one in the device's requests.
 */

/** Where the pPASIDs of vPASIDs come from. */
export type PasidPool = "none" | "rid" | "global";

export interface PasidKind {
  /** Number in the proposal's list. */
  readonly type: 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8;
  /** What tells its requests from those of others; null: the IOMMU never sees it. */
  readonly route: "rid" | "rid+pasid" | null;
  /** The user may attach more address spaces than the default one, each by a vPASID. */
  readonly offersPasids: boolean;
  /** The user owns the PASID table: one attachment stands for all PASIDs. */
  readonly delegated: boolean;
  /** The pPASID is another number than the vPASID. */
  readonly translated: boolean;
  readonly pool: PasidPool;
  /** It takes work by ENQCMD, where the CPU supplies the PASID. */
  readonly enqcmd: boolean;
  readonly about: string;
}

const NO_PASIDS = { offersPasids: false, delegated: false, translated: false, pool: "none", enqcmd: false } as const;
const OWN_NUMBERS = { offersPasids: true, delegated: false, translated: false, pool: "rid" } as const;

/** The table of 1.4. Its last two rows say "delegated"; the text says that they are like 5 and 6, which are not, and the text is followed. */
export const PASID_KINDS: readonly PasidKind[] = [
  { type: 1, route: "rid", ...NO_PASIDS, about: "function without PASIDs" },
  { type: 2, route: null, ...NO_PASIDS, about: "software mdev" },
  { type: 3, route: "rid+pasid", ...NO_PASIDS, about: "mdev with its default PASID only" },
  { type: 4, route: "rid", offersPasids: true, delegated: true, translated: false, pool: "rid", enqcmd: false, about: "function whose PASID table is the user's" },
  { type: 5, route: "rid", ...OWN_NUMBERS, enqcmd: false, about: "function whose PASID table is the kernel's" },
  { type: 6, route: "rid+pasid", ...OWN_NUMBERS, translated: true, enqcmd: false, about: "mdev that shares its parent's PASID table" },
  { type: 7, route: "rid", ...OWN_NUMBERS, enqcmd: true, about: "function with shared work queues" },
  { type: 8, route: "rid+pasid", ...OWN_NUMBERS, translated: true, pool: "global", enqcmd: true, about: "mdev with shared work queues" },
];

export function pasidKind(type: PasidKind["type"]): PasidKind {
  return PASID_KINDS[type - 1];
}

/** Flags of the PASID capability in VFIO_DEVICE_GET_INFO (RFC v2, 2.2). */
export const PasidFlag = {
  /** The user owns the PASID table. */
  DELEGATED: 1,
  /** The CPU puts PASIDs into the device's work. */
  CPU: 2,
  /** And they need the CPU's translation, per virtual machine. */
  CPU_VIRT: 4,
} as const;

/** The capability's flags; undefined: no such capability, the device has its default address space only. */
export function pasidFlags(kind: PasidKind): number | undefined {
  if (!kind.offersPasids) return undefined;
  return (kind.delegated ? PasidFlag.DELEGATED : 0) | (kind.enqcmd ? PasidFlag.CPU : 0) | (kind.enqcmd && kind.translated ? PasidFlag.CPU_VIRT : 0);
}
