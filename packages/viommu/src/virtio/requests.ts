/**
 * The requests of virtio-iommu (virtio 1.3, 5.13.6.3 to 5.13.6.7): one row each, checks in the order in which they decide the status.
 * In QEMU's mode some of them decide as QEMU 11.1 does.
 */
import { type ErrnoName, IommuError } from "@iommukit/core";
import type { Domain, Domains } from "./domains.js";
import { ATTACH_BYPASS, Feature, HEAD_BYTES, MapFlag, PROPERTY_RESV_MEM, RequestType, RESV_MEM_BYTES, RESV_MEM_MSI, Status } from "./spec.js";

export type Mode = "strict" | "qemu";

/** A range that an endpoint does not translate (RESV_MEM). Both ends inclusive. */
export interface ReservedMemory {
  readonly start: bigint;
  readonly last: bigint;
  /** Writes there are messages, which pass; without it nothing passes. */
  readonly msi: boolean;
}

export interface Limits {
  /** Bit n: 2^n bytes can be mapped as one. */
  readonly pageSizeMask: bigint;
  readonly inputRange: { readonly start: bigint; readonly last: bigint };
  readonly domainRange: { readonly start: number; readonly last: number };
  readonly probeSize: number;
  /** Of all domains together: a guest may ask for any number. */
  readonly mappings: number;
}

export interface RequestContext {
  readonly domains: Domains;
  readonly limits: Limits;
  readonly mode: Mode;
  /** As negotiated. */
  readonly features: bigint;
  readonly reserved: (endpoint: number) => readonly ReservedMemory[];
  /** Bytes of the writable part before the tail. */
  readonly room: number;
  /** What PROBE tells. */
  properties: Uint8Array;
}

type Handler = (context: RequestContext, request: DataView) => number;

const has = (context: RequestContext, feature: bigint): boolean => (context.features & feature) !== 0n;
const isZero = (request: DataView, from: number, to: number): boolean => {
  for (let at = from; at < to; at++) if (request.getUint8(at) !== 0) return false;
  return true;
};

/** What a refusal of the host is to the guest. */
const HOST_STATUS: Partial<Record<ErrnoName, number>> = { ENOMEM: Status.NOMEM, ENOSPC: Status.NOMEM, EFAULT: Status.FAULT, EOPNOTSUPP: Status.UNSUPP, EINVAL: Status.INVAL, EADDRINUSE: Status.INVAL };

function onHost(action: () => void): number {
  try {
    action();
    return Status.OK;
  } catch (error) {
    if (error instanceof IommuError) return HOST_STATUS[error.errno] ?? Status.IOERR;
    throw error;
  }
}

function attach(context: RequestContext, request: DataView): number {
  const { domains, limits, mode } = context;
  const id = request.getUint32(4, true);
  const flags = request.getUint32(12, true);
  const bypass = (flags & ATTACH_BYPASS) !== 0;
  const known = has(context, Feature.BYPASS_CONFIG) ? ATTACH_BYPASS : 0;
  if ((flags & ~known) !== 0) return Status.INVAL;
  if (mode === "strict" && !isZero(request, 16, 20)) return Status.INVAL;
  if (mode === "strict" && has(context, Feature.DOMAIN_RANGE) && (id < limits.domainRange.start || id > limits.domainRange.last)) return Status.RANGE;
  const endpoint = domains.endpoint(request.getUint32(8, true));
  if (endpoint === undefined) return Status.NOENT;
  endpoint.seen = true;
  const domain = domains.domain(id);
  // The same domain again: it would go with its only endpoint, and its mappings with it (5.13.6.3.2 speaks of another domain).
  if (mode === "strict" && domain !== undefined && endpoint.domain === domain && domain.bypass === bypass) return Status.OK;
  if (mode === "strict" && domain !== undefined && domain.bypass !== bypass) return Status.INVAL;
  domains.detach(endpoint);
  const left = domains.domain(id);
  if (left !== undefined && left.bypass !== bypass) return Status.INVAL;
  return onHost(() => domains.attach(endpoint, id, bypass));
}

function detach(context: RequestContext, request: DataView): number {
  const { domains, mode } = context;
  if (mode === "strict" && !isZero(request, 12, 20)) return Status.INVAL;
  const endpoint = domains.endpoint(request.getUint32(8, true));
  if (endpoint === undefined || (mode === "qemu" && !endpoint.seen)) return Status.NOENT;
  if (endpoint.domain?.id !== request.getUint32(4, true)) return Status.INVAL;
  domains.detach(endpoint);
  endpoint.seen = false;
  return Status.OK;
}

/** A domain that has mappings: status when it is none. */
function mappable(context: RequestContext, id: number): Domain | number {
  if (!has(context, Feature.MAP_UNMAP)) return Status.UNSUPP;
  const domain = context.domains.domain(id);
  if (domain === undefined) return Status.NOENT;
  return domain.bypass ? Status.INVAL : domain;
}

function map(context: RequestContext, request: DataView): number {
  const { domains, limits, mode } = context;
  const [start, last, physical] = [request.getBigUint64(8, true), request.getBigUint64(16, true), request.getBigUint64(24, true)];
  const flags = request.getUint32(32, true);
  const known = MapFlag.READ | MapFlag.WRITE | (has(context, Feature.MMIO) ? MapFlag.MMIO : 0);
  if (mode === "qemu" && (flags & ~known) !== 0) return Status.INVAL;
  const domain = mappable(context, request.getUint32(4, true));
  if (typeof domain === "number") return domain;
  if ((flags & ~known) !== 0 || last < start) return Status.INVAL;
  const granule = limits.pageSizeMask & -limits.pageSizeMask;
  if ((start | (last + 1n) | physical) % granule !== 0n) return Status.RANGE;
  if (mode === "strict" && has(context, Feature.INPUT_RANGE) && (start < limits.inputRange.start || last > limits.inputRange.last)) return Status.RANGE;
  if (physical + (last - start) >= 2n ** 64n) return Status.RANGE;
  if (domains.meeting(domain, start, last).length > 0) return Status.INVAL;
  if (domains.mappings >= limits.mappings) return Status.NOMEM;
  const status = onHost(() => domains.map(domain, start, last, physical, flags));
  // QEMU tells its log of what the host refused, and the guest that all is well: the accesses fail later.
  return mode === "qemu" ? Status.OK : status;
}

function unmap(context: RequestContext, request: DataView): number {
  const { domains, mode } = context;
  const [start, last] = [request.getBigUint64(8, true), request.getBigUint64(16, true)];
  const domain = mappable(context, request.getUint32(4, true));
  if (typeof domain === "number") return domain;
  if (mode === "strict" && (!isZero(request, 24, 28) || last < start)) return Status.INVAL;
  const met = domains.meeting(domain, start, last);
  const cut = met.findIndex((entry) => entry.start < start || entry.last > last);
  // Nothing is removed when a mapping would be cut (5.13.6.6.2); QEMU removes those before it.
  if (cut !== -1 && mode === "strict") return Status.RANGE;
  const status = onHost(() => {
    for (const entry of cut === -1 ? met : met.slice(0, cut)) domains.unmap(domain, entry);
  });
  return cut === -1 ? status : Status.RANGE;
}

function probe(context: RequestContext, request: DataView): number {
  const { domains, limits, mode } = context;
  if (!has(context, Feature.PROBE)) return Status.UNSUPP;
  if (mode === "strict" && !isZero(request, 8, 72)) return Status.INVAL;
  const endpoint = domains.endpoint(request.getUint32(HEAD_BYTES, true));
  if (endpoint === undefined) return Status.NOENT;
  const reserved = context.reserved(endpoint.id);
  if (reserved.length * RESV_MEM_BYTES > Math.min(limits.probeSize, context.room)) return Status.INVAL;
  const view = new DataView(new ArrayBuffer(reserved.length * RESV_MEM_BYTES));
  for (const [i, { start, last, msi }] of reserved.entries()) {
    const at = i * RESV_MEM_BYTES;
    view.setUint16(at, PROPERTY_RESV_MEM, true);
    view.setUint16(at + 2, RESV_MEM_BYTES - 4, true);
    view.setUint8(at + 4, msi ? RESV_MEM_MSI : 0);
    view.setBigUint64(at + 8, start, true);
    view.setBigUint64(at + 16, last, true);
  }
  context.properties = new Uint8Array(view.buffer);
  return Status.OK;
}

export const REQUESTS: Readonly<Record<number, Handler>> = {
  [RequestType.ATTACH]: attach,
  [RequestType.DETACH]: detach,
  [RequestType.MAP]: map,
  [RequestType.UNMAP]: unmap,
  [RequestType.PROBE]: probe,
};
