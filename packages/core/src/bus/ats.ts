/**
 * Address Translation Services and the Page Request Interface between a device and its IOMMU (PCI Express Base
 * Specification 6.0, chapter 10). A device asks for translations, keeps them, and is told to forget them; it asks for pages, and
 * is told when they are there.
 */
import { type CachedTranslation, NO_PASID } from "./types.js";

/** Completion status of a translation request. */
export const CompletionStatus = {
  SUCCESS: 0,
  /** The function may not use ATS any more. */
  UNSUPPORTED_REQUEST: 1,
  COMPLETER_ABORT: 4,
} as const;

/** Answer to a translation request, reused from request to request: nothing is allocated for one (10.2.3). */
export class TranslationCompletion {
  /** `CompletionStatus`; what follows means something for SUCCESS only. */
  status = 0;
  read = false;
  write = false;
  execute = false;
  privileged = false;
  /** U: the range is reached by untranslated requests only. */
  untranslatedOnly = false;
  /** N: translated requests must not set No Snoop. */
  noSnoop = false;
  global = false;
  /** First 4 KiB output page of the range, and log2 of its bytes. */
  page = 0.5;
  shift = 12;
}

/** A page request message (10.4.1). */
export interface PageRequest {
  readonly rid: number;
  /** `NO_PASID` without a PASID prefix. */
  readonly pasid: number;
  /** Input address >> 12. */
  readonly page: number;
  /** Bits of `Access`: what the device wants to do. */
  readonly access: number;
  /** Page request group index, 9 bits. */
  readonly group: number;
  /** Last request of its group: an answer will come. */
  readonly last: boolean;
}

/** Response codes of a page request group (10.4.2). */
export const PageResponseCode = { SUCCESS: 0, INVALID: 1, FAILURE: 15 } as const;

/** A page request group's answer. */
export interface PageResponse {
  readonly pasid: number;
  readonly group: number;
  /** `PageResponseCode` */
  readonly code: number;
}

/** An invalidation request to a device's translation cache (10.3). */
export interface AtsInvalidation {
  /** The completion names it: bit `tag` of its tag vector. 0 to 31. */
  readonly tag: number;
  /** `NO_PASID`: translations of requests without PASID. */
  readonly pasid: number;
  /** Every PASID; `pasid` then says nothing. */
  readonly allPasids: boolean;
  /** First 4 KiB page of the range, and log2 of its bytes: 64 for everything. */
  readonly page: number;
  readonly shift: number;
}

/** A device's side of ATS, as its IOMMU reaches it. */
export interface AtsEndpoint {
  /** The device forgets the range, then says so by `AtsPort.completeInvalidation`, at once or later, or never: then the unit times out. */
  invalidate(request: AtsInvalidation): void;
  respond(response: PageResponse): void;
  /** What the device's translation cache holds, for those who check it. */
  held?(): Iterable<Omit<CachedTranslation, "rid">>;
}

/** What an IOMMU with ATS offers; a unit without it answers Unsupported Request. */
export interface AtsHardware {
  /**
   * Answers a translation request.
   * @param access `Access.READ`, and `Access.WRITE` unless the No Write flag is set
   */
  requestTranslation(rid: number, pasid: number, page: number, access: number, out: TranslationCompletion): void;
  /** A request with a translated address (AT = 10b): the output page, or -1 when it was blocked. */
  translated(rid: number, pasid: number, page: number, access: number): number;
  requestPage(request: PageRequest): void;
  /** @param tags bit n: the invalidation with tag n @param count completions that the device sends for each of them in all: 1 to 7, or 0 for 8 */
  completeInvalidation(rid: number, tags: number, count: number): void;
  /** Who gets invalidations and responses for a requester. */
  connectEndpoint(rid: number, endpoint: AtsEndpoint): void;
}

/** A device's port for ATS: every request is made as its requester id. */
export interface AtsPort {
  translate(pasid: number, page: number, access: number, out: TranslationCompletion): void;
  /** Moves bytes at a translated address. False when the unit or memory refused. */
  access(pasid: number, address: number, bytes: Uint8Array, access: number): boolean;
  requestPage(request: Omit<PageRequest, "rid">): void;
  completeInvalidation(tags: number, count: number): void;
  connect(endpoint: AtsEndpoint): void;
}

/** True when an invalidation covers a cached translation's first page. */
export function invalidationCovers(request: AtsInvalidation, pasid: number, page: number, shift: number): boolean {
  if (!request.allPasids && request.pasid !== pasid) return false;
  if (request.allPasids && pasid === NO_PASID) return false;
  if (request.shift >= 64) return true;
  const first = request.page;
  const last = first + 2 ** (request.shift - 12) - 1;
  return page <= last && page + 2 ** (shift - 12) - 1 >= first;
}
