/** Ranges as commands name them (SMMU 4.4.1, 4.5.1). */
import type { FieldValues } from "@iommukit/core";
import { Op } from "../spec/commands.js";
import { GRANULE_SHIFTS } from "../spec/tables.js";
import type { DeviceRecord, SmmuDomain, UnitSide } from "./domain.js";
import { commandGranule } from "./table-shape.js";

/** Granules of one range command: (NUM + 1) << SCALE. */
const NUM_VALUES = 32;
/** Beyond so many commands, everything goes at once. */
const MOST = 512;
/** ATC_INV.Size for all of the address space. */
const EVERYTHING = 52n;

/**
 * Gathers the invalidation of `count` pages from `page` on, one command after another. False, with nothing gathered, when it would take
 * too many: then everything has to go.
 */
export function invalidateRange({ caps, queue, granule }: UnitSide, opcode: number, ids: FieldValues, page: number, count: number): boolean {
  const pages = 2 ** (GRANULE_SHIFTS[granule] - 12);
  if (!caps.rangeInvalidation && count / pages > MOST) return false;
  for (let at = Math.floor(page / pages), left = Math.ceil((page + count) / pages) - at; left > 0; ) {
    const range = caps.rangeInvalidation && left > 1 ? granulesAtOnce(left, granule) : { granules: 1, fields: {} };
    queue.add(opcode, { ...ids, ...range.fields, Addr: BigInt(at * pages) });
    at += range.granules;
    left -= range.granules;
  }
  return true;
}

/** The lowest run of set bits of the count, up to 31 units of it. A single granule needs no range, and may not have one. */
function granulesAtOnce(count: number, granule: number): { readonly granules: number; readonly fields: FieldValues } {
  let scale = 0;
  while ((count / 2 ** scale) % 2 === 0) scale++;
  const units = (count / 2 ** scale) % NUM_VALUES;
  const granules = units * 2 ** scale;
  if (granules === 1) return { granules, fields: {} };
  return { granules, fields: { TG: BigInt(commandGranule(granule)), NUM: BigInt(units - 1), SCALE: BigInt(scale) } };
}

/** Gathers invalidations of the translation caches of a domain's devices: an aligned block around the pages, or everything. */
export function invalidateDevices(domain: SmmuDomain, page?: number, count?: number): void {
  for (const { record, pasid } of domain.attachments) invalidateDevice(domain, record, pasid, page, count);
}

export function invalidateDevice({ unit, ofEveryPasid }: SmmuDomain, record: DeviceRecord, pasid: number, page: number = 0, count: number = Infinity): void {
  if (!record.ats) return;
  let size = 0;
  while (size < Number(EVERYTHING) && Math.floor(page / 2 ** size) !== Math.floor((page + count - 1) / 2 ** size)) size++;
  const block = size >= Number(EVERYTHING) ? { Size: EVERYTHING } : { Size: BigInt(size), Addr: BigInt(Math.floor(page / 2 ** size) * 2 ** size) };
  const StreamID = BigInt(record.device.rid);
  unit.queue.add(Op.ATC_INV, { StreamID, ...(pasid === 0 ? {} : { SSV: 1n, SubstreamID: BigInt(pasid) }), ...block });
  // An invalidation without PASID need not reach what was asked for with one.
  if (ofEveryPasid && record.device.pasidBits > 0) unit.queue.add(Op.ATC_INV, { StreamID, SSV: 1n, G: 1n, ...block });
}
