/** Translation fetch, and cache flush: neither moves a byte, both reach every page (341204, 8.3). There is no cache of data to flush. */
import { Field } from "../spec/descriptor.js";
import type { Address } from "../address.js";
import type { PageMover } from "../page-mover.js";
import type { Work } from "../work.js";
import { advance, type Operation, Step } from "./types.js";

const PAGE = 4096;

function reach(work: Work, mover: PageMover, address: Address, stride: number): number {
  if (!mover.probe(work, address, work.done)) return Step.STOPPED;
  // Steps within a page find nothing new.
  const room = address.roomAt(work.done);
  const bytes = stride >= PAGE ? stride : Math.max(1, stride) * Math.ceil(room / Math.max(1, stride));
  return advance(work, Math.min(bytes, work.size - work.done));
}

export const translationFetch: Operation = {
  step: (work, mover) => reach(work, mover, work.source, work.view.getUint32(Field.STRIDE, true)),
};

export const cacheFlush: Operation = {
  step: (work, mover) => reach(work, mover, work.destination, 1),
};
