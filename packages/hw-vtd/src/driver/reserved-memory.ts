/** Memory that firmware's devices go on using (DMAR's RMRR): mapped one to one for them before their first DMA is translated. */
import { type IommuDevice, type PagingDomain, Prot, type ReservedRegion } from "@iommukit/core";

/** Whole pages; `last` inclusive. */
export interface ReservedMemory {
  /** Requester ids. */
  readonly devices: readonly number[];
  readonly start: number;
  readonly last: number;
  /** A device that another page table is attached for does without it, as graphics and USB do. */
  readonly relaxable: boolean;
}

/** Writes there are interrupts and never reach a table (VT-d 3.14). */
const INTERRUPT_RANGE: ReservedRegion = { start: 0xfee0_0000n, last: 0xfeef_ffffn, kind: "msi" };

export class ReservedMemories {
  readonly #list: readonly ReservedMemory[];

  constructor(list: readonly ReservedMemory[]) {
    this.#list = list;
  }

  /** In ascending order. */
  regions(device: IommuDevice): ReservedRegion[] {
    const direct = this.#of(device).map(({ start, last, relaxable }): ReservedRegion => {
      return { start: BigInt(start), last: BigInt(last), kind: relaxable ? "direct-relaxable" : "direct" };
    });
    return [...direct, INTERRUPT_RANGE].sort((a, b) => Number(a.start - b.start));
  }

  /** True when the device has any: then it has a page table of its own, too. */
  has(device: IommuDevice): boolean {
    return this.#of(device).length > 0;
  }

  mapInto(domain: PagingDomain, device: IommuDevice): void {
    for (const { start, last } of this.#of(device)) domain.map(BigInt(start), start, last + 1 - start, Prot.READ | Prot.WRITE);
  }

  #of({ rid }: IommuDevice): ReservedMemory[] {
    return this.#list.filter(({ devices }) => devices.includes(rid));
  }
}
