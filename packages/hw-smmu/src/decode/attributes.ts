/** Memory attributes of a walk's answer (SMMU 13), for an access that says nothing of its own. */
import { consistent, formatAttributes, INCOMING, mairAttributes, type MemoryAttributes, overridden, throughStage1, throughStage2 } from "../spec/attributes.js";
import type { Fields } from "../spec/words.js";
import type { Tables, Translation } from "./locate.js";
import type { Trail } from "./trail.js";

/** A leaf that was found, and the tables that it is in. */
export interface FoundLeaf {
  readonly word: bigint;
  readonly tables: Tables;
}

/** @param first in stage 1, with the half of the input range */
export function carriedAttributes({ unit: { caps } }: Trail, t: Translation, first: (FoundLeaf & { readonly half: 0 | 1 }) | undefined, second: FoundLeaf | undefined): string {
  let memory = overridden(t.ste, INCOMING, caps.typeOverride);
  if (first !== undefined) memory = throughStage1(memory, ofFirst(t.cd ?? {}, first));
  if (second !== undefined) {
    const sh = shareOf(second, t.ste.S2SH0);
    memory = throughStage2(memory, { memAttr: bits(second.word, 2, 15n), sh, forced: caps.forceWriteBack && t.ste.S2FWB === 1, tags: caps.tagPermissions });
  }
  return formatAttributes(consistent(memory));
}

/** SMMUEN = 0. */
export function bypassAttributes(gbpa: Fields, possible: boolean): string {
  return formatAttributes(consistent(overridden(gbpa, INCOMING, possible)));
}

function ofFirst(cd: Fields, leaf: FoundLeaf & { readonly half: 0 | 1 }): MemoryAttributes {
  const index = bits(leaf.word, 2, 7n);
  const byte = Math.floor((index < 4 ? cd.MAIR0 : cd.MAIR1) / 2 ** ((index % 4) * 8)) % 256;
  return mairAttributes(byte, shareOf(leaf, leaf.half === 0 ? cd.SH0 : cd.SH1));
}

/** With LPA2 the descriptor holds address bits instead. */
function shareOf({ word, tables }: FoundLeaf, elsewhere: number): number {
  return tables.ds && tables.granule !== 1 ? elsewhere : bits(word, 8, 3n);
}

const bits = (word: bigint, low: number, mask: bigint): number => Number((word >> BigInt(low)) & mask);
