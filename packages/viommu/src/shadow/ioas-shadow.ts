/** Where a shadow's mappings go: an IOAS of /dev/iommu. */
import { refuse } from "@iommukit/core";
import type { Calls, GuestRam } from "../host/calls.js";
import { locate, mapIoas, unmapIoas } from "../host/ioas.js";
import type { GuestLeaf, ShadowTarget } from "./shadow-space.js";

export class IoasShadow implements ShadowTarget {
  readonly #calls: Calls;
  readonly #iommufd: number;
  readonly #ioas: number;
  readonly #addressOf: (leaf: GuestLeaf) => bigint;

  /**
   * @param ram the guest's memory in the program, which maps that (RFC v2, 4.2); undefined: the IOAS is a child of the guest memory's, and takes
   * guest-physical addresses (4.3; IOMMUKIT_IOAS_NEST)
   */
  constructor(calls: Calls, iommufd: number, ioas: number, ram: readonly GuestRam[] | undefined) {
    this.#calls = calls;
    this.#iommufd = iommufd;
    this.#ioas = ioas;
    this.#addressOf = ram === undefined ? ({ address }) => address : (leaf) => inProgram(ram, leaf);
  }

  map(leaf: GuestLeaf): void {
    const { iova, length, rights } = leaf;
    mapIoas(this.#calls, this.#iommufd, this.#ioas, { iova, length, rights, address: this.#addressOf(leaf) });
  }

  unmap(iova: bigint, length: bigint): void {
    unmapIoas(this.#calls, this.#iommufd, this.#ioas, iova, length);
  }
}

/** @throws IommuError EFAULT for a page that is not wholly in one part of the guest's memory */
function inProgram(ram: readonly GuestRam[], { address: physical, length }: GuestLeaf): bigint {
  const { address, left } = locate(ram, physical, "user_va");
  if (left < length) refuse("EFAULT", `0x${length.toString(16)} bytes at 0x${physical.toString(16)} reach beyond a part of the guest's memory`, { argument: "user_va" });
  return address;
}
