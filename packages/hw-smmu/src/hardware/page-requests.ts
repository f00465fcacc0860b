/** The page request queue (SMMU 8): requests that devices make, and the answers the unit gives in software's place. */
import { Access, NO_PASID, type PageRequest, PageResponseCode, type RegisterBank } from "@iommukit/core";
import { PAGE_REQUEST } from "../spec/page-requests.js";
import { Cr0, Gerror, Reg } from "../spec/registers.js";
import { fieldsByName, putField } from "../spec/words.js";
import type { OutputQueue, OutputQueueLayout } from "./output-queue.js";

const WORDS = 4;
export const PAGE_REQUEST_QUEUE: Omit<OutputQueueLayout, "largest"> = {
  base: Reg.PRIQ_BASE, producer: Reg.PRIQ_PROD, consumer: Reg.PRIQ_CONS, words: WORDS, abort: Gerror.PRIQ_ABT_ERR, line: "priq",
};
const FIELDS = fieldsByName(PAGE_REQUEST);
/** PRIQ_IRQ_CFG2.LO: interrupt on the last request of a group instead of on the first in an empty queue. */
const LAST_ONLY = 0x8000_0000;

/** Sends an answer to the device. */
export type Respond = (request: PageRequest, code: number, withPasid: boolean) => void;

export class PageRequestQueue {
  readonly #bank: RegisterBank;
  readonly #queue: OutputQueue;
  readonly #respond: Respond;
  /** Response to a request that overflow dropped: whether its PASID goes with it, undefined for a failure (8.2). */
  readonly #pasidOnOverflow: (request: PageRequest) => boolean | undefined;
  readonly #interrupt: () => void;
  readonly #words = new Uint32Array(WORDS);

  constructor(bank: RegisterBank, queue: OutputQueue, respond: Respond, pasidOnOverflow: (request: PageRequest) => boolean | undefined, interrupt: () => void) {
    this.#bank = bank;
    this.#queue = queue;
    this.#respond = respond;
    this.#pasidOnOverflow = pasidOnOverflow;
    this.#interrupt = interrupt;
  }

  request(request: PageRequest): void {
    const on = Cr0.PRIQEN | Cr0.SMMUEN;
    const isMarker = request.last && request.pasid !== NO_PASID && (request.access & (Access.READ | Access.WRITE)) === 0;
    if ((this.#bank.get32(Reg.CR0ACK) & on) !== on || this.#queue.aborted) {
      if (!isMarker) this.#respond(request, PageResponseCode.FAILURE, false);
      return;
    }
    // Overflow stays until software acknowledges it, even when there is room again.
    if (this.#queue.full || this.#queue.overflowed) {
      this.#queue.overflow();
      if (request.last) this.#dropped(request, isMarker);
      return;
    }
    this.#fill(request);
    const lastOnly = (this.#bank.get32(Reg.PRIQ_IRQ_CFG2) & LAST_ONLY) !== 0;
    if (!this.#queue.push(this.#words, lastOnly ? request.last : undefined)) this.#respond(request, PageResponseCode.FAILURE, false);
  }

  #dropped(request: PageRequest, isMarker: boolean): void {
    if ((this.#bank.get32(Reg.PRIQ_IRQ_CFG2) & LAST_ONLY) !== 0) this.#interrupt();
    if (isMarker) return;
    const withPasid = this.#pasidOnOverflow(request);
    this.#respond(request, withPasid === undefined ? PageResponseCode.FAILURE : PageResponseCode.SUCCESS, withPasid === true);
  }

  #fill(request: PageRequest): void {
    const words = this.#words.fill(0);
    const put = (name: string, value: number): void => putField(words, FIELDS[name], value);
    const bit = (mask: number): number => ((request.access & mask) === 0 ? 0 : 1);
    put("StreamID", request.rid);
    if (request.pasid !== NO_PASID) {
      put("SSV", 1);
      put("SubstreamID", request.pasid);
    }
    put("Priv", bit(Access.PRIVILEGED));
    put("X", bit(Access.EXECUTE));
    put("R", bit(Access.READ));
    put("W", bit(Access.WRITE));
    put("Last", request.last ? 1 : 0);
    put("PRGIndex", request.group);
    words[2] |= (request.page % 0x10_0000) * 4096;
    words[3] = Math.floor(request.page / 0x10_0000);
  }
}
