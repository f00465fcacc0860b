/**
 * Portals: where descriptors come in, 64 bytes at once (341204, 3.3). A posted write (MOVDIR64B) is for dedicated queues, a deferrable one
 * (ENQCMD) for shared ones.
 */
import type { Errors } from "./errors.js";
import { DeviceError } from "./spec/errors.js";
import { Portal, PORTAL_PAGES } from "./spec/registers.js";
import type { WorkQueue } from "./work-queue.js";

const PAGE = 4096;

export interface Submission {
  readonly deferrable: boolean;
  /** Shared queues: no further than the threshold. */
  readonly limited: boolean;
  /** The interrupt handle is one of message storage. */
  readonly ims: boolean;
}

/** What a place in BAR 2 means: the queue, by index, and the kind of portal. */
export function portalAt(offset: number): { queue: number; limited: boolean; ims: boolean } {
  const page = Math.floor(offset / PAGE);
  const kind = page % PORTAL_PAGES;
  return {
    queue: Math.floor(page / PORTAL_PAGES),
    limited: kind === Portal.LIMITED_MSIX || kind === Portal.LIMITED_IMS,
    ims: kind === Portal.UNLIMITED_IMS || kind === Portal.LIMITED_IMS,
  };
}

/**
 * Takes a descriptor into a queue, or says why not: to the sender of a deferrable write by false, "try again"; a posted write has nobody to
 * hear it, so an error is reported.
 */
export function accept(queue: WorkQueue, bytes: Uint8Array, { deferrable, limited, ims }: Submission, sequence: number, errors: Errors): boolean {
  const lost = (error: number): boolean => {
    if (!deferrable) errors.report({ error, queue: queue.index });
    return false;
  };
  if (!queue.enabled || queue.closing) return lost(DeviceError.PORTAL_DISABLED);
  if (queue.dedicated === deferrable) return lost(DeviceError.PORTAL_MODE);
  const limit = limited && !queue.dedicated ? queue.threshold : queue.size;
  return queue.push(bytes, sequence, ims, limit) || lost(DeviceError.PORTAL_FULL);
}
