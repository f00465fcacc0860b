/**
 * A set of PASIDs in which each number means one address space. Requests of devices that share one are told apart by the number alone, so
 * these devices have to appear as one requester to a guest whose PASID tables are per requester (RFC v2's list, 22 July 2021:
 * "give the PASID number space an ID").
 */
import { IdPool } from "@iommukit/core";

/** 0 means "no PASID" in the uAPI. */
const FIRST = 1;

export class PasidNumberSpace {
  /** What users see: equal for devices that share the space. */
  readonly id: number;
  readonly bits: number;
  readonly #pool: IdPool;

  /** @param bits width of its numbers, up to 20 @param first lowest number that is given out */
  constructor(id: number, what: string, bits: number, first: number = FIRST) {
    this.id = id;
    this.bits = bits;
    this.#pool = new IdPool(`PASID of ${what}`, "Max PASID Width of the PASID capability", bits, first);
  }

  /** The lowest number that is free. @throws IommuError ENOSPC */
  take(): number {
    return this.#pool.take();
  }

  free(pasid: number): void {
    this.#pool.free(pasid);
  }
}
