/** What the translation caches hold for whom, for those who check it: each entry under each configuration that would find it. */
import { Access, type CachedTranslation, NO_PASID } from "@iommukit/core";
import { Action, type Configuration } from "./configuration.js";
import { NEEDED } from "./rights.js";
import { ASID, GLOBAL_TAG } from "./tlb-groups.js";
import type { Tlbs } from "./tlbs.js";

const UPPER_HALF = 2 ** 51;

/** Entries of stage 2 under a first stage are left out: no input address is known for them. */
export function* cachedTranslations(configurations: Iterable<Configuration>, tlbs: Tlbs): Generator<CachedTranslation> {
  const users = new Map<string, Configuration[]>();
  for (const c of configurations) {
    if (!c.valid || c.action !== Action.TRANSLATE || c.tlb === undefined) continue;
    add(users, keyOf(c.tagA, c.tagB), c);
    if (c.stage1) add(users, keyOf(c.tagA & ~ASID, c.tagB | GLOBAL_TAG), c);
  }
  for (const tlb of [tlbs.input, tlbs.intermediate]) {
    for (const { tagA, tagB, page, outPage, data } of tlb.entries()) {
      for (const c of users.get(keyOf(tagA, tagB)) ?? []) {
        const found = c.tlb === tlb ? rightsOf(c, page, data) : undefined;
        if (found) yield { rid: c.stream, page, outPage, ...found, ...(c.substream === NO_PASID ? {} : { pasid: c.substream }) };
      }
    }
  }
}

/** What requests of this stream may do by an entry, unprivileged ones first; undefined for nothing. */
function rightsOf(c: Configuration, page: number, data: number): Pick<CachedTranslation, "rights" | "privileged"> | undefined {
  const half = c.halves[page >= UPPER_HALF ? 1 : 0];
  for (const privileged of c.stage1 && half.privilegedOnly ? [true] : [false, true]) {
    const may = (access: number): number => {
      const needed = NEEDED[c.needed + (access | (privileged ? Access.PRIVILEGED : 0))];
      return (data & needed) === needed ? access : 0;
    };
    const rights = may(Access.READ) | may(Access.WRITE);
    if (rights !== 0) return privileged ? { rights, privileged } : { rights };
  }
  return undefined;
}

function add(users: Map<string, Configuration[]>, key: string, c: Configuration): void {
  const list = users.get(key);
  if (list) list.push(c);
  else users.set(key, [c]);
}

function keyOf(tagA: number, tagB: number): string {
  return `${tagA} ${tagB}`;
}
