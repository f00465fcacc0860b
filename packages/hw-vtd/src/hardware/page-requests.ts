/** Page requests (VT-d 7.4): checked, answered at once where no answer can come from software, else queued in memory with an event. */
import { Access, NO_PASID, type PageRequest, type PageRequestEvent, PageResponseCode, type PhysicalMemory, type RegisterBank, type Tracer } from "@iommukit/core";
import type { Capabilities } from "../spec/capabilities.js";
import { Pgtt } from "../spec/entries.js";
import { Prs, Reg } from "../spec/registers.js";
import type { Caches } from "./caches.js";
import { NONE } from "./configuration.js";
import type { DeviceTlbs } from "./device-tlbs.js";
import type { EventMessage } from "./event-message.js";
import { RequestKind } from "./request.js";
import type { Locator } from "./locator.js";

export interface PageRequestParts {
  readonly name: string;
  readonly tracer: Tracer | undefined;
  readonly bank: RegisterBank;
  readonly memory: PhysicalMemory;
  readonly caps: Capabilities;
  readonly caches: Caches;
  readonly locator: Locator;
  readonly deviceTlbs: DeviceTlbs;
  /** Sends the message of PRS. */
  readonly event: EventMessage;
}

/** Bytes of a page request descriptor (7.4.1). */
const ENTRY = 32;
const DOMAIN_SELECTIVE = 2;
const PAGE_SELECTIVE = 3;

export class PageRequests {
  readonly #parts: PageRequestParts;

  constructor(parts: PageRequestParts) {
    this.#parts = parts;
  }

  request(request: PageRequest): void {
    const { bank, caps, locator } = this.#parts;
    const { rid, pasid, page, access } = request;
    if (!caps.pageRequests) return this.#respond(request, PageResponseCode.FAILURE);
    if (!locator.enabled) return this.#respond(request, PageResponseCode.INVALID);
    const condition = locator.locate(rid, pasid);
    if (condition !== NONE) {
      locator.report(condition, RequestKind.PAGE, rid, pasid, page, access);
      return this.#respond(request, PageResponseCode.INVALID);
    }
    if ((Number(bank.get(Reg.PRS)) & Prs.PRO) !== 0) return this.#respond(request, PageResponseCode.SUCCESS);
    const bytes = 2 ** (12 + Number(bank.get(Reg.PQA) & 7n));
    const tail = Number(bank.get(Reg.PQT)) % bytes;
    const next = (tail + ENTRY) % bytes;
    if (next === Number(bank.get(Reg.PQH))) {
      this.#raise(Prs.PRO);
      return this.#respond(request, PageResponseCode.SUCCESS);
    }
    this.#invalidate(page);
    this.#write(Number(bank.get(Reg.PQA) >> 12n) * 4096 + tail, request);
    if (this.#parts.tracer?.listener) this.#trace(request, "queued");
    bank.set(Reg.PQT, BigInt(next));
    this.#raise(Prs.PPR);
  }

  /** PRS was written. */
  statusCleared(): void {
    if ((Number(this.#parts.bank.get(Reg.PRS)) & (Prs.PPR | Prs.PRO)) === 0) this.#parts.event.drop();
  }

  #raise(bit: number): void {
    const { bank, event } = this.#parts;
    const before = Number(bank.get(Reg.PRS));
    bank.set(Reg.PRS, BigInt(before | bit));
    if ((before & (Prs.PPR | Prs.PRO)) === 0) event.raise();
  }

  /** An answer of the unit's own. Only the last request of a group gets one, and a stop marker, which asks for nothing, does not. */
  #respond(request: PageRequest, code: number): void {
    const { rid, pasid, group, access, last } = request;
    if (this.#parts.tracer?.listener) this.#trace(request, code === PageResponseCode.SUCCESS ? "success" : code === PageResponseCode.INVALID ? "invalid" : "failure");
    const asks = (access & (Access.READ | Access.WRITE | Access.EXECUTE)) !== 0;
    if (last && asks) this.#parts.deviceTlbs.endpoint(rid)?.respond({ pasid, group, code });
  }

  /** What may be cached for the page is dropped, so that the device finds what software does about the request (7.4.1). */
  #invalidate(page: number): void {
    const { caches, locator } = this.#parts;
    const { pgtt, domain, pasid } = locator.configuration;
    if (pgtt === Pgtt.FIRST_STAGE) caches.iotlbPasid(PAGE_SELECTIVE, domain, pasid, page, 0);
    else if (pgtt === Pgtt.NESTED) caches.iotlbDomain(DOMAIN_SELECTIVE, domain, 0, 0);
    else caches.iotlbDomain(PAGE_SELECTIVE, domain, page, 0);
  }

  #trace({ rid, pasid, page, access, group }: PageRequest, result: PageRequestEvent["result"]): void {
    const names = [[Access.READ, "read"], [Access.WRITE, "write"], [Access.EXECUTE, "execute"]] as const;
    const asked = names.filter(([bit]) => (access & bit) !== 0).map(([, name]) => name);
    this.#parts.tracer?.listener?.({
      kind: "page-request",
      unit: this.#parts.name,
      rid,
      ...(pasid === NO_PASID ? {} : { pasid }),
      address: BigInt(page) << 12n,
      access: asked.join(" and ") || "stop marker",
      group,
      result,
    });
  }

  #write(at: number, { rid, pasid, page, access, group, last }: PageRequest): void {
    const { memory } = this.#parts;
    const bit = (flag: number, at: bigint): bigint => ((access & flag) !== 0 ? 1n << at : 0n);
    const who = pasid === NO_PASID ? 0n : 0x100n | (BigInt(pasid) << 32n);
    memory.writeU64(at, 1n | who | (BigInt(rid) << 16n) | bit(Access.EXECUTE, 52n) | bit(Access.PRIVILEGED, 53n));
    const what = bit(Access.READ, 0n) | bit(Access.WRITE, 1n) | (last ? 4n : 0n) | (BigInt(group) << 3n);
    memory.writeU64(at + 8, what | (BigInt(page) << 12n));
    memory.writeU64(at + 16, 0n);
    memory.writeU64(at + 24, 0n);
  }
}
