/** Mappings of a guest's addresses in an IOAS of the program that runs it. */
import { refuse } from "@iommukit/core";
import type { Calls, GuestRam } from "./calls.js";

/** Rights of a mapping. */
export const Right = { READ: 1, WRITE: 2 } as const;

/** iommu_ioas_map.flags */
const FIXED = 1;
const WRITEABLE = 2;
const READABLE = 4;

export interface IoasMapping {
  readonly iova: bigint;
  /** Of the program's memory; of the parent, where the IOAS is a child. */
  readonly address: bigint;
  readonly length: bigint;
  /** Bits of `Right`. */
  readonly rights: number;
}

export function allocIoas(calls: Calls, iommufd: number): number {
  return Number(calls.ioctl(iommufd, "IOMMU_IOAS_ALLOC").out_ioas_id);
}

export function mapIoas(calls: Calls, iommufd: number, ioas: number, { iova, address, length, rights }: IoasMapping): void {
  const flags = FIXED | ((rights & Right.READ) !== 0 ? READABLE : 0) | ((rights & Right.WRITE) !== 0 ? WRITEABLE : 0);
  calls.ioctl(iommufd, "IOMMU_IOAS_MAP", { flags, ioas_id: ioas, user_va: address, length, iova });
}

export function unmapIoas(calls: Calls, iommufd: number, ioas: number, iova: bigint, length: bigint): void {
  calls.ioctl(iommufd, "IOMMU_IOAS_UNMAP", { ioas_id: ioas, iova, length });
}

/** Where the program has a guest-physical address, and how many bytes from there on are the same part. @throws IommuError EFAULT */
export function locate(ram: readonly GuestRam[], physical: bigint, argument: string): { readonly address: bigint; readonly left: bigint } {
  const part = ram.find(({ base, size }) => physical >= base && physical < base + size);
  if (part === undefined) return refuse("EFAULT", `the guest has no memory at 0x${physical.toString(16)}`, { argument });
  return { address: part.address + (physical - part.base), left: part.base + part.size - physical };
}
