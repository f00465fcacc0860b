/** Ranges as commands name them (SMMU 4.4.1, 4.5.1). */
import type { FieldValues } from "@iommukit/core";
import { Op } from "../spec/commands.js";
import type { DeviceRecord, SmmuDomain, UnitSide } from "./domain.js";

/** TG of 4 KiB pages in a command. */
const TG_4K = 1n;
/** Pages of one range command: (NUM + 1) << SCALE. */
const NUM_VALUES = 32;
/** Beyond so many commands, everything goes at once. */
const MOST = 512;
/** ATC_INV.Size for all of the address space. */
const EVERYTHING = 52n;

/**
 * Gathers the invalidation of `count` pages from `page` on, one command after another. False, with nothing gathered, when it would take
 * too many: then everything has to go.
 */
export function invalidateRange({ caps, queue }: UnitSide, opcode: number, ids: FieldValues, page: number, count: number): boolean {
  if (!caps.rangeInvalidation && count > MOST) return false;
  for (let at = page, left = count; left > 0; ) {
    const range = caps.rangeInvalidation && left > 1 ? pagesAtOnce(left) : { pages: 1, fields: {} };
    queue.add(opcode, { ...ids, ...range.fields, Addr: BigInt(at) });
    at += range.pages;
    left -= range.pages;
  }
  return true;
}

/** The lowest run of set bits of the count, up to 31 units of it. A single page needs no range, and may not have one. */
function pagesAtOnce(count: number): { readonly pages: number; readonly fields: FieldValues } {
  let scale = 0;
  while ((count / 2 ** scale) % 2 === 0) scale++;
  const units = (count / 2 ** scale) % NUM_VALUES;
  const pages = units * 2 ** scale;
  if (pages === 1) return { pages, fields: {} };
  return { pages, fields: { TG: TG_4K, NUM: BigInt(units - 1), SCALE: BigInt(scale) } };
}

/** Gathers invalidations of the translation caches of a domain's devices: an aligned block around the pages, or everything. */
export function invalidateDevices(domain: SmmuDomain, page?: number, count?: number): void {
  for (const { record, pasid } of domain.attachments) invalidateDevice(domain.unit, record, pasid, page, count);
}

export function invalidateDevice({ queue }: UnitSide, record: DeviceRecord, pasid: number, page: number = 0, count: number = Infinity): void {
  if (!record.ats) return;
  const who = pasid === 0 ? {} : { SSV: 1n, SubstreamID: BigInt(pasid) };
  let size = 0;
  while (size < Number(EVERYTHING) && Math.floor(page / 2 ** size) !== Math.floor((page + count - 1) / 2 ** size)) size++;
  const block = size >= Number(EVERYTHING) ? { Size: EVERYTHING } : { Size: BigInt(size), Addr: BigInt(Math.floor(page / 2 ** size) * 2 ** size) };
  queue.add(Op.ATC_INV, { StreamID: BigInt(record.device.rid), ...who, ...block });
}
