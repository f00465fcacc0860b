/**
 * Devices of the host behind a virtio-iommu: each domain of the guest is an IOAS, each mapping a mapping of the guest's memory there. What
 * the host refuses undoes what was done of the request before, and is thrown: the device makes a status of it.
 */
import type { Calls, GuestRam } from "../host/calls.js";
import { allocIoas, locate, mapIoas, unmapIoas } from "../host/ioas.js";
import type { HostDomain, HostDomains } from "./domains.js";
import { MapFlag } from "./spec.js";

/** A piece of a mapping that lies in one part of memory. */
interface Piece {
  readonly iova: bigint;
  readonly address: bigint;
  readonly length: bigint;
}

export class IommufdHost implements HostDomains {
  readonly #calls: Calls;
  readonly #iommufd: number;
  readonly #ram: GuestRam[] = [];
  readonly #devices: ReadonlyMap<number, number>;
  /** All of the guest's memory at its own addresses, for accesses that pass; nothing, for those that are stopped. */
  readonly #whole: number;
  readonly #empty: number;

  /**
   * @param devices descriptors of VFIO devices that are bound to `iommufd`, by endpoint; others are not the host's
   * @throws IommuError when the guest's memory cannot be mapped, or a device cannot be attached to it: later, `rest` may not fail
   */
  constructor(calls: Calls, iommufd: number, ram: readonly GuestRam[], devices: ReadonlyMap<number, number>) {
    this.#calls = calls;
    this.#iommufd = iommufd;
    this.#devices = devices;
    this.#whole = this.#allocate();
    this.#empty = this.#allocate();
    for (const part of ram) this.addRam(part);
    for (const endpoint of devices.keys()) for (const ioas of [this.#whole, this.#empty]) this.#attach(endpoint, ioas);
  }

  /** From now on it is the guest's memory, too. @throws IommuError what the host refuses */
  addRam(part: GuestRam): void {
    const { base, size } = part;
    this.#ram.push(part);
    try {
      this.#map(this.#whole, base, base + size - 1n, base, MapFlag.READ | MapFlag.WRITE);
    } catch (error) {
      this.#ram.pop();
      throw error;
    }
  }

  create(_domain: number, bypass: boolean): HostDomain {
    const ioas = bypass ? this.#whole : this.#allocate();
    return {
      attach: (endpoint) => this.#attach(endpoint, ioas),
      detach: () => undefined,
      map: (start, last, physical, flags) => this.#map(ioas, start, last, physical, flags),
      unmap: (start, last) => this.#unmap(ioas, start, last),
      free: () => {
        if (!bypass) this.#calls.ioctl(this.#iommufd, "IOMMU_DESTROY", { id: ioas });
      },
    };
  }

  rest(endpoint: number, passes: boolean): void {
    this.#attach(endpoint, passes ? this.#whole : this.#empty);
  }

  #allocate(): number {
    return allocIoas(this.#calls, this.#iommufd);
  }

  /** A second attach replaces the first, without a moment between in which accesses pass. */
  #attach(endpoint: number, ioas: number): void {
    const fd = this.#devices.get(endpoint);
    if (fd !== undefined) this.#calls.ioctl(fd, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { pt_id: ioas, argsz: 12 });
  }

  #map(ioas: number, start: bigint, last: bigint, physical: bigint, flags: number): void {
    const done: Piece[] = [];
    try {
      for (const piece of this.#pieces(start, last, physical)) {
        // READ and WRITE are the same bits on both sides.
        mapIoas(this.#calls, this.#iommufd, ioas, { ...piece, rights: flags });
        done.push(piece);
      }
    } catch (error) {
      for (const { iova, length } of done) unmapIoas(this.#calls, this.#iommufd, ioas, iova, length);
      throw error;
    }
  }

  /** Guest-physical addresses as the program has them. @throws IommuError EFAULT where the guest has no memory */
  *#pieces(start: bigint, last: bigint, physical: bigint): Generator<Piece> {
    for (let iova = start; iova <= last; ) {
      const at = physical + (iova - start);
      const { address, left } = locate(this.#ram, at, "phys_start");
      const length = last - iova + 1n < left ? last - iova + 1n : left;
      yield { iova, address, length };
      iova += length;
    }
  }

  #unmap(ioas: number, start: bigint, last: bigint): void {
    unmapIoas(this.#calls, this.#iommufd, ioas, start, last - start + 1n);
  }
}
