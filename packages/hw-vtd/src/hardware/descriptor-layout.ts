/** Invalidation descriptors as one unit reads them: numbers out of 32-bit words, and reserved bits with those that its capabilities take away. */
import type { FieldTable } from "@iommukit/core";
import type { Capabilities } from "../spec/capabilities.js";
import { DESCRIPTORS } from "../spec/descriptors.js";

/** A descriptor's words: eight of them, those above its width 0. */
export type DescriptorWords = Int32Array;

const WORDS = 8;

interface Place {
  readonly word: number;
  readonly shift: number;
  readonly width: number;
}

export class DescriptorLayout {
  readonly table: FieldTable;
  readonly #reserved = new Int32Array(WORDS).fill(-1);
  readonly #places = new Map<string, Place>();

  constructor(table: FieldTable, caps: Capabilities) {
    this.table = table;
    for (const { name, low, width } of table.fields) {
      // Reserved without ECAP.PDS, and without ECAP.DIT (6.5.2.5, 6.5.2.8).
      const absent = (name === "PD" && !caps.pageRequestDrain) || (name.startsWith("PFSID") && !caps.deviceTlbThrottle);
      if (name === "" || absent) continue;
      for (let bit = low; bit < low + width; bit++) this.#reserved[bit >> 5] &= ~(1 << (bit & 31));
      if (name !== "-" && width <= 52) this.#places.set(name, { word: low >> 5, shift: low & 31, width });
    }
  }

  hasReserved(words: DescriptorWords): boolean {
    for (let i = 0; i < WORDS; i++) if ((words[i] & this.#reserved[i]) !== 0) return true;
    return false;
  }

  /** Value of a field by the manual's name; 0 for one that the descriptor lacks. */
  value(words: DescriptorWords, name: string): number {
    const place = this.#places.get(name);
    if (place === undefined) return 0;
    const { word, shift, width } = place;
    const low = words[word] >>> shift;
    const above = shift + width - 32;
    if (above > 0) return low + ((words[word + 1] >>> 0) % 2 ** above) * 2 ** (32 - shift);
    return width === 32 ? low : low & ((1 << width) - 1);
  }
}

/** By type. */
export function descriptorLayouts(caps: Capabilities): ReadonlyMap<number, DescriptorLayout> {
  return new Map([...DESCRIPTORS].map(([type, table]) => [type, new DescriptorLayout(table, caps)]));
}
