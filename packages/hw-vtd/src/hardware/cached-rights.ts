/**
 * What the IOTLB keeps with a translation (VT-d 6.2.6), in one word: bits 1:0 are what requests without PRIVILEGED may do at once, bits 3:2
 * those with it, as bits of `Access`. A write that has to set a dirty flag first is not among them.
 */
export const PRIVILEGED_SHIFT = 2;
export const ANY_RIGHTS = 15;
/** Writes are allowed, and have to set a dirty flag. */
export const CLEAN = 16;
/** No Snoop has no effect (PGSNP, SNP). */
export const SNOOP = 32;
/** A piece of a larger page that reaches into the interrupt range. */
export const PIECE = 64;
/** With CM=1: the condition of an absent entry, plus 1, from this bit on. */
export const CONDITION_SHIFT = 8;

/** @param user, privileged rights as bits of `Access` */
export function packRights(user: number, privileged: number, dirty: boolean, snoop: boolean): number {
  const rights = user | (privileged << PRIVILEGED_SHIFT);
  const writes = rights & 0b1010;
  return (dirty ? rights : rights - writes) | (!dirty && writes !== 0 ? CLEAN : 0) | (snoop ? SNOOP : 0);
}
