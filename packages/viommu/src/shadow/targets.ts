/** Where a shadow's mappings go: an IOAS of /dev/iommu, in either of two ways. */
import { refuse } from "@iommukit/core";
import type { Calls, GuestRam } from "../host/calls.js";
import { type GuestLeaf, ShadowRight, type ShadowTarget } from "./shadow-space.js";

/** iommu_ioas_map.flags */
const FIXED = 1;
const WRITEABLE = 2;
const READABLE = 4;

function flagsOf({ rights }: GuestLeaf): number {
  return FIXED | ((rights & ShadowRight.READ) !== 0 ? READABLE : 0) | ((rights & ShadowRight.WRITE) !== 0 ? WRITEABLE : 0);
}

/** The program finds the guest's memory in its own, and maps that (RFC v2, 4.2). */
export class UserShadow implements ShadowTarget {
  readonly ioas: number;
  readonly #calls: Calls;
  readonly #iommufd: number;
  readonly #ram: readonly GuestRam[];

  constructor(calls: Calls, iommufd: number, ram: readonly GuestRam[], ioas: number) {
    this.#calls = calls;
    this.#iommufd = iommufd;
    this.#ram = ram;
    this.ioas = ioas;
  }

  map(leaf: GuestLeaf): void {
    const part = this.#ram.find(({ base, size }) => leaf.address >= base && leaf.address + leaf.length <= base + size);
    if (part === undefined) refuse("EFAULT", `the guest has no memory at 0x${leaf.address.toString(16)} for 0x${leaf.length.toString(16)} bytes`, { argument: "user_va", rule: "the guest's memory" });
    const address = part.address + (leaf.address - part.base);
    this.#calls.ioctl(this.#iommufd, "IOMMU_IOAS_MAP", { flags: flagsOf(leaf), ioas_id: this.ioas, user_va: address, length: leaf.length, iova: leaf.iova });
  }

  unmap(iova: bigint, length: bigint): void {
    this.#calls.ioctl(this.#iommufd, "IOMMU_IOAS_UNMAP", { ioas_id: this.ioas, iova, length });
  }
}

/** The kernel composes: the IOAS is a child of the guest memory's, and takes guest-physical addresses (RFC v2, 4.3; IOMMUKIT_IOAS_NEST). */
export class ChildShadow implements ShadowTarget {
  readonly ioas: number;
  readonly #calls: Calls;
  readonly #iommufd: number;

  constructor(calls: Calls, iommufd: number, ioas: number) {
    this.#calls = calls;
    this.#iommufd = iommufd;
    this.ioas = ioas;
  }

  map(leaf: GuestLeaf): void {
    this.#calls.ioctl(this.#iommufd, "IOMMU_IOAS_MAP", { flags: flagsOf(leaf), ioas_id: this.ioas, user_va: leaf.address, length: leaf.length, iova: leaf.iova });
  }

  unmap(iova: bigint, length: bigint): void {
    this.#calls.ioctl(this.#iommufd, "IOMMU_IOAS_UNMAP", { ioas_id: this.ioas, iova, length });
  }
}
