/**
 * A PCIe endpoint's translation cache and page request client (PCI Express 6.0, 10.2 to 10.4), for device models to move bytes through.
 * It keeps translations, asks for those that it lacks, asks for pages where rights are missing, and goes on when they have come. A transfer
 * that nothing holds up ends before `transfer` returns.
 */
import { type AtsEndpoint, type AtsInvalidation, type AtsPort, CompletionStatus, type PageResponse, PageResponseCode, TranslationCompletion } from "../bus/ats.js";
import { Access, type CachedTranslation, type DmaOptions, type DmaPort, type DmaResult, NO_PASID } from "../bus/types.js";
import { Iotlb, type IotlbGeometry } from "../iotlb/iotlb.js";
import { PageRequestClient } from "./page-request-client.js";

export interface DeviceTlbOptions {
  readonly geometry?: IotlbGeometry;
  /** The device has the page request interface. */
  readonly pageRequests?: boolean;
  /** Page requests that may be unanswered at a time (10.5.2.5); further ones wait. */
  readonly outstanding?: number;
}

const PAGE = 4096;
const LAST_PAGE = 2 ** 52 - 1;
const DEFAULT_GEOMETRY: IotlbGeometry = { sets: 16, ways: 4 };
const DEFAULT_OUTSTANDING = 32;
/** Transfers that may be unfinished at a time. */
const MAX_TRANSFERS = 1024;
/** A page that is said to be there and is not, this often in a row, is given up. */
const MAX_REQUESTS_PER_PAGE = 16;
/** Cache data beside the bits of `Access`: the range is reached by untranslated requests only. */
const UNTRANSLATED = 64;
/** First group of an entry of requests with PASID. */
const WITH_PASID = 1;
/** Ranges above are cached in pieces of this size. */
const LARGEST_SHIFT = 52;

/** An access that stays within one page. Devices that move much reuse one. */
export interface PageAccess {
  /** `Access.READ` or `Access.WRITE`. */
  kind: number;
  /** Bits of `Access` that the request carries beside reading or writing. */
  flags: number;
  pasid: number;
  /** The same, for untranslated requests. */
  options: DmaOptions;
  /** Goes untranslated even while ATS is on. */
  untranslated: boolean;
  page: number;
  offset: number;
}

/** How an access within one page ended. */
export const PageOutcome = {
  MOVED: 0,
  /** The page lacks a right, which a page request may bring. */
  MISSING: 1,
  /** The translation request was not answered with success. */
  UNTRANSLATABLE: 2,
  /** The unit or memory refused a translated request. */
  REFUSED: 3,
  /** The unit or memory refused an untranslated request. */
  BLOCKED: 4,
} as const;

interface Transfer extends PageAccess {
  readonly bytes: Uint8Array;
  moved: number;
  /** Page requests for the page at hand. */
  asked: number;
  readonly done: (result: DmaResult) => void;
}

/** Told a `PageResponseCode`. */
type PageWaiter = (code: number) => void;

export class DeviceTlb implements AtsEndpoint {
  /** ATS is on: off, every request goes untranslated. A unit that answers Unsupported Request turns it off (10.2.3.2). */
  enabled: boolean;
  /** Invalidation requests that came. */
  invalidations = 0;
  readonly pages: PageRequestClient<PageWaiter>;
  readonly #port: DmaPort;
  readonly #ats: AtsPort | undefined;
  readonly #cache: Iotlb;
  /** Not in use: a device may ask again from within a request, when the fault that it makes is heard of at once. */
  readonly #completions: TranslationCompletion[] = [];
  readonly #ready: Transfer[] = [];
  #transfers = 0;
  #pumping = false;
  /** Translated requests that are under way: invalidations complete when they have ended (10.3.2). */
  #moving = 0;
  readonly #uncompleted: number[] = [];

  constructor(port: DmaPort, options: DeviceTlbOptions = {}) {
    this.#port = port;
    this.#ats = port.ats;
    this.enabled = port.ats !== undefined;
    this.#cache = new Iotlb(options.geometry ?? DEFAULT_GEOMETRY);
    this.pages = new PageRequestClient(port.ats, options.outstanding ?? DEFAULT_OUTSTANDING);
    this.pages.enabled = this.enabled && options.pageRequests === true;
    port.ats?.connect(this);
  }

  /** Translations that are held. */
  get cached(): number {
    return [...this.#cache.entries()].length;
  }

  *held(): Generator<Omit<CachedTranslation, "rid">> {
    for (const { tagA, tagB: pasid, page, outPage, data } of this.#cache.entries()) {
      if ((data & UNTRANSLATED) !== 0) continue;
      const rights = data & (Access.READ | Access.WRITE);
      yield { page, outPage, rights, ...(pasid === NO_PASID ? {} : { pasid }), ...(tagA === 0 ? {} : { privileged: true }) };
    }
  }

  /** Moves bytes to or from memory, page by page; `done` is called once, with what was moved before the first refusal. */
  transfer(kind: "read" | "write", address: bigint, bytes: Uint8Array, options: DmaOptions, done: (result: DmaResult) => void): void {
    if (this.#transfers >= MAX_TRANSFERS) return done({ ok: false, moved: 0 });
    this.#transfers++;
    const { pasid = NO_PASID, privileged = false, execute = false } = options;
    this.#ready.push({
      kind: kind === "read" ? Access.READ : Access.WRITE,
      flags: (privileged ? Access.PRIVILEGED : 0) | (execute ? Access.EXECUTE : 0),
      pasid, options, bytes, done,
      untranslated: false,
      page: Number((address >> 12n) & 0xf_ffff_ffff_ffffn),
      offset: Number(address & 0xfffn),
      moved: 0,
      asked: 0,
    });
    this.#pump();
  }

  invalidate(request: AtsInvalidation): void {
    this.invalidations++;
    const last = request.shift >= 64 ? Infinity : request.page + 2 ** (request.shift - 12) - 1;
    if (request.allPasids) this.#cache.removeWhere(WITH_PASID, WITH_PASID, 0, 0, request.page, last);
    else this.#remove(request.pasid, request.page, last);
    if (this.#moving > 0) this.#uncompleted.push(request.tag);
    else this.#ats?.completeInvalidation(1 << request.tag, 1);
  }

  respond(response: PageResponse): void {
    const waiters = response.code === PageResponseCode.FAILURE ? this.pages.fail() : this.pages.answered(response);
    for (const answer of waiters) answer(response.code);
    this.#pump();
  }

  /** Forgets translations, transfers and page requests, as a reset does; `done` of what was under way is not called any more. */
  reset(): void {
    this.#cache.removeAll();
    this.pages.reset();
    this.#ready.length = 0;
    this.#transfers = 0;
  }

  /** Ends what waits for pages of a PASID, and tells the unit that no more comes (stop marker, 10.4.1.2). */
  stop(pasid: number): void {
    for (const answer of this.pages.stop(pasid)) answer(PageResponseCode.FAILURE);
  }

  /**
   * Moves `bytes` to or from one page now, or moves nothing: for devices that schedule their own waiting. With no bytes it only asks whether
   * the page may be reached. Returns a `PageOutcome`.
   */
  attempt(access: PageAccess, bytes: Uint8Array): number {
    const { pasid, page, kind, flags } = access;
    if (!this.enabled || access.untranslated || this.#ats === undefined) return this.#untranslated(access, bytes);
    const needed = kind | (flags & Access.EXECUTE);
    const tag = flags & Access.PRIVILEGED;
    let slot = this.#cache.lookup(tag, pasid, page);
    if (slot === -1 || (this.#cache.data(slot) & needed) !== needed) {
      if (!this.#translate(tag, access, needed)) return PageOutcome.UNTRANSLATABLE;
      slot = this.#cache.lookup(tag, pasid, page);
    }
    const data = slot === -1 ? 0 : this.#cache.data(slot);
    if ((data & needed) !== needed) return PageOutcome.MISSING;
    if ((data & UNTRANSLATED) !== 0) return this.#untranslated(access, bytes);
    return this.#move(this.#ats, kind, this.#cache.output(slot, page) * PAGE + access.offset, bytes);
  }

  /** Asks for the page of an access that lacked a right; `answer` is called once, unless a reset comes first. */
  askForPage({ pasid, page, kind, flags }: PageAccess, answer: (code: number) => void): void {
    this.pages.ask(answer, { pasid, page, access: kind | flags });
  }

  /** Goes on with every transfer that can. An answer that comes while a transfer is under way waits for its turn. */
  #pump(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    try {
      for (let transfer = this.#ready.shift(); transfer !== undefined; transfer = this.#ready.shift()) this.#advance(transfer);
    } finally {
      this.#pumping = false;
    }
  }

  #advance(transfer: Transfer): void {
    while (transfer.moved < transfer.bytes.length) {
      const length = Math.min(transfer.bytes.length - transfer.moved, PAGE - transfer.offset);
      const outcome = this.attempt(transfer, transfer.bytes.subarray(transfer.moved, transfer.moved + length));
      if (outcome === PageOutcome.MISSING && this.#ask(transfer)) return;
      if (outcome !== PageOutcome.MOVED) return this.#end(transfer, false);
      transfer.moved += length;
      transfer.page = transfer.page === LAST_PAGE ? 0 : transfer.page + 1;
      transfer.offset = 0;
      transfer.asked = 0;
    }
    this.#end(transfer, true);
  }

  #end(transfer: Transfer, ok: boolean): void {
    this.#transfers--;
    transfer.done({ ok, moved: transfer.moved });
  }

  #untranslated({ kind, page, offset, options }: PageAccess, bytes: Uint8Array): number {
    const address = (BigInt(page) << 12n) | BigInt(offset);
    const { ok } = kind === Access.READ || bytes.length === 0 ? this.#port.read(address, bytes, options) : this.#port.write(address, bytes, options);
    return ok ? PageOutcome.MOVED : PageOutcome.BLOCKED;
  }

  /** Translated requests carry no PASID: the function has no such capability (10.5.1.2). */
  #move(ats: AtsPort, kind: number, address: number, part: Uint8Array): number {
    this.#moving++;
    const moved = ats.access(NO_PASID, address, part, kind);
    this.#moving--;
    if (this.#moving === 0) for (let tag = this.#uncompleted.pop(); tag !== undefined; tag = this.#uncompleted.pop()) ats.completeInvalidation(1 << tag, 1);
    return moved ? PageOutcome.MOVED : PageOutcome.REFUSED;
  }

  /** Sends a translation request and keeps what it grants. False when it was refused. */
  #translate(tag: number, access: PageAccess, needed: number): boolean {
    const out = this.#completions.pop() ?? new TranslationCompletion();
    this.#ats?.translate(access.pasid, access.page, needed | access.flags, out);
    this.#completions.push(out);
    if (out.status === CompletionStatus.UNSUPPORTED_REQUEST) this.enabled = false;
    if (out.status !== CompletionStatus.SUCCESS) return false;
    this.#keep(tag, access, out);
    return true;
  }

  #keep(tag: number, { pasid, page }: PageAccess, out: TranslationCompletion): void {
    const rights = (out.read ? Access.READ : 0) | (out.write ? Access.WRITE : 0) | (out.execute ? Access.EXECUTE : 0);
    // What was held for the page does not stand any more. Where nothing is granted, nothing may be kept (10.2.3.5).
    this.#remove(pasid, page, page);
    if (rights === 0) return;
    const shift = Math.min(out.shift, LARGEST_SHIFT);
    const offset = page % 2 ** (out.shift - 12);
    this.#cache.insert(tag, pasid, page, shift, out.page + offset, rights | (out.untranslatedOnly ? UNTRANSLATED : 0), pasid === NO_PASID ? 0 : WITH_PASID, pasid + 1);
  }

  /** The second group of an entry is its PASID + 1, 0 without one. */
  #remove(pasid: number, first: number, last: number): void {
    this.#cache.removeWhere(0, 0, -1, pasid + 1, first, last);
  }

  /** False when there is nobody to ask, or it was asked for often enough. */
  #ask(transfer: Transfer): boolean {
    if (!this.pages.enabled || ++transfer.asked > MAX_REQUESTS_PER_PAGE) return false;
    this.askForPage(transfer, (code) => {
      if (code === PageResponseCode.SUCCESS) this.#ready.push(transfer);
      else this.#end(transfer, false);
    });
    return true;
  }
}
