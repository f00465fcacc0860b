/** ATS and page requests (SMMU 3.9, 13.6, 13.7, 8): translations that devices ask for and keep, and their invalidation. */
import {
  Access,
  type AtsEndpoint,
  type AtsHardware,
  type CachedTranslation,
  CompletionStatus,
  NO_PASID,
  type PageRequest,
  PageResponseCode,
  type RegisterBank,
  type TranslationCompletion,
} from "@iommukit/core";
import { PageResponse } from "../spec/commands.js";
import { Event, FaultClass } from "../spec/events.js";
import type { Capabilities } from "../spec/identification.js";
import { CommandError, Cr0, Cr2, Reg } from "../spec/registers.js";
import { Eats, SteConfig } from "../spec/stream-table.js";
import { GRANULE_SHIFTS } from "../spec/tables.js";
import type { Fields } from "../spec/words.js";
import { Action, Configuration } from "./configuration.js";
import type { EventQueue } from "./event-queue.js";
import type { OutputQueue } from "./output-queue.js";
import { PageRequestQueue } from "./page-requests.js";
import { NEEDED_ROWS, PRIVILEGED_SHIFT, R, W, X } from "./rights.js";
import { Look, type Translator } from "./translator.js";

/** Invalidation tags of a device (PCIe 10.3). */
const TAGS = 32;
/** Effective INSTCFG, as in the rows of NEEDED. */
const AS_IT_COMES = 0;
const AS_INSTRUCTION = 2;
const EVERYTHING = 52;

interface Endpoint {
  readonly device: AtsEndpoint;
  /** Completions that a tag still waits for, as bits. */
  waiting: number;
  nextTag: number;
}

export class AtsUnit implements AtsHardware {
  readonly #bank: RegisterBank;
  readonly #caps: Capabilities;
  readonly #translator: Translator;
  readonly #events: EventQueue;
  readonly #requests: PageRequestQueue;
  readonly #endpoints = new Map<number, Endpoint>();
  readonly #completed: () => void;
  readonly #scratch = new Configuration();
  /** log2 of the smallest translation unit: the smallest granule. */
  readonly #unitShift: number;
  readonly #refusesAtomics: boolean;
  #timedOut = false;

  /** @param refusesAtomics the system carries no atomic accesses @param completed runs the command queue: a CMD_SYNC may be waiting */
  constructor(
    bank: RegisterBank,
    caps: Capabilities,
    translator: Translator,
    events: EventQueue,
    queue: OutputQueue,
    refusesAtomics: boolean,
    interrupt: () => void,
    completed: () => void,
  ) {
    this.#bank = bank;
    this.#caps = caps;
    this.#translator = translator;
    this.#events = events;
    this.#refusesAtomics = refusesAtomics;
    this.#completed = completed;
    this.#unitShift = Math.min(...GRANULE_SHIFTS.filter((_, granule) => caps.granules[granule]));
    this.#requests = new PageRequestQueue(bank, queue, (...answer) => this.#answer(...answer), (request) => this.#pasidOnOverflow(request), interrupt);
  }

  // Translation requests (3.9.1)

  requestTranslation(rid: number, pasid: number, page: number, access: number, out: TranslationCompletion): void {
    out.untranslatedOnly = false;
    out.noSnoop = false;
    out.global = false;
    out.privileged = pasid !== NO_PASID && (access & Access.PRIVILEGED) !== 0;
    out.shift = this.#unitShift;
    // Without a PASID there is neither Exe nor Priv.
    const wanted = pasid === NO_PASID ? access & (Access.READ | Access.WRITE) : access;
    if (!this.#translator.enabled) {
      this.#unsupported(rid, pasid, page, wanted, out, false);
      return;
    }
    const c = this.#translator.configure(rid, pasid);
    const stream = c ?? this.#translator.lastConfiguration(rid, pasid);
    if (stream.config !== -1 && stream.config < SteConfig.BYPASS) {
      out.status = CompletionStatus.UNSUPPORTED_REQUEST;
      return;
    }
    if (stream.config !== -1 && stream.eats === Eats.NONE) {
      this.#unsupported(rid, pasid, page, wanted, out, stream.mergesEvents);
      return;
    }
    if (c === undefined) {
      this.#failed(stream, rid, pasid, page, wanted, out);
      return;
    }
    if (c.action === Action.BYPASS) this.#identity(page, out);
    else this.#translation(c, rid, pasid, page, wanted, out);
  }

  /** S1DSS takes a request without PASID past the only stage. */
  #identity(page: number, out: TranslationCompletion): void {
    const inside = page < 2 ** (this.#caps.oas - 12);
    grant(out, inside, inside, false);
    out.page = page - (page % 2 ** (this.#unitShift - 12));
  }

  /** A missing right is not a fault: what is left is granted (13.6). */
  #translation(c: Configuration, rid: number, pasid: number, page: number, access: number, out: TranslationCompletion): void {
    const privilege = access & Access.PRIVILEGED;
    const tries = (access & Access.WRITE) === 0 ? [Access.READ] : [Access.READ | Access.WRITE, Access.WRITE, Access.READ];
    for (const kind of tries) {
      const found = this.#translator.resolve(c, page, kind | privilege, c.eats === Eats.SPLIT ? Look.TABLES : Look.CACHE);
      if (found !== -1) {
        this.#translator.granted(rid, pasid, page, kind | privilege, found);
        this.#granted(c, access, found, out);
        return;
      }
      const { fault } = this.#translator;
      // What the unit itself may not read or update leaves no rights at all (3.9.1.2).
      if (fault.type !== Event.F_PERMISSION || (fault.stage2 && fault.cause !== FaultClass.IN)) break;
    }
    this.#failed(c, rid, pasid, page, access, out);
  }

  /** INSTCFG makes every read a fetch, or every fetch a read; otherwise Exe comes with the right to read only (13.7.1). */
  #granted(c: Configuration, access: number, outPage: number, out: TranslationCompletion): void {
    const { rights, shift, stage1Page } = this.#translator;
    const own = this.#translator.isPrivileged(c, access) ? rights >> PRIVILEGED_SHIFT : rights;
    const instruction = (c.needed / 16) % NEEDED_ROWS.instruction;
    const read = (own & (instruction === AS_INSTRUCTION ? X : R)) !== 0;
    const execute = read && (instruction !== AS_IT_COMES || (own & X) !== 0);
    grant(out, read, (own & W) !== 0, (access & Access.EXECUTE) !== 0 && execute);
    out.shift = shift;
    const target = c.eats === Eats.SPLIT ? stage1Page : outPage;
    out.page = target - (target % 2 ** (shift - 12));
  }

  /** Faults of translation are answers without rights; configuration errors and failed fetches abort (3.9.1.2). */
  #failed(c: Configuration, rid: number, pasid: number, page: number, access: number, out: TranslationCompletion): void {
    const { fault } = this.#translator;
    if (fault.controlled || fault.type === Event.F_ADDR_SIZE) {
      grant(out, false, false, false);
      out.page = page;
      return;
    }
    out.status = CompletionStatus.COMPLETER_ABORT;
    this.#recordConfiguration(c, rid, pasid, page, access, true);
  }

  #unsupported(rid: number, pasid: number, page: number, access: number, out: TranslationCompletion, mayMerge: boolean): void {
    out.status = CompletionStatus.UNSUPPORTED_REQUEST;
    const bit = (mask: number): number => ((access & mask) === 0 ? 0 : 1);
    // Span: the bus asks for one translation at a time.
    this.#events.recordPlain(Event.F_BAD_ATS_TREQ, rid, pasid, page, { Span: 1, R: 1, W: bit(Access.WRITE), X: bit(Access.EXECUTE), P: bit(Access.PRIVILEGED) }, mayMerge);
  }

  /** Configuration errors of ATS traffic are told with CR2.REC_CFG_ATS only. */
  #recordConfiguration(c: Configuration, rid: number, pasid: number, page: number, access: number, invalidStream: boolean): void {
    const { fault, cr2 } = this.#translator;
    if ((cr2 & Cr2.REC_CFG_ATS) === 0 || !this.#caps.atsRecordErrors) return;
    if (invalidStream && fault.type === Event.C_BAD_STREAMID && (cr2 & Cr2.RECINVSID) === 0) return;
    this.#events.record(fault, c, rid, pasid, page, access, 0);
  }

  // Translated transactions (3.9.2)

  translated(rid: number, pasid: number, page: number, access: number): number {
    // Without PASIDTT, or without a PASID, the transaction is unprivileged data of no SubstreamID (3.9.1.3).
    const substream = this.#caps.translatedPasid ? pasid : NO_PASID;
    const seen = substream === NO_PASID ? access & (Access.READ | Access.WRITE) : access;
    const write = (access & Access.WRITE) !== 0;
    const forbid = (mayMerge: boolean): -1 => {
      this.#events.recordPlain(Event.F_TRANSL_FORBIDDEN, rid, substream, page, { RnW: write ? 0 : 1 }, mayMerge);
      return -1;
    };
    const inside = page < 2 ** (this.#caps.oas - 12);
    // What would be F_UUT is no event of a translated transaction (3.9.1.3).
    if (this.#refusesAtomics && write && (access & Access.READ) !== 0) return -1;
    if (!this.#translator.enabled) return forbid(false);
    if ((this.#bank.get32(Reg.CR0ACK) & Cr0.ATSCHK) === 0) return inside ? page : -1;
    const c = this.#scratch;
    if (!this.#translator.reader.readStream(rid, substream, c)) {
      this.#recordConfiguration(c, rid, substream, page, seen, false);
      return -1;
    }
    if (c.config < SteConfig.BYPASS) return -1;
    if (c.eats === Eats.NONE) return forbid(c.mergesEvents);
    if (this.#caps.translatedPasid && c.substreamError !== 0) {
      this.#translator.fault.structure(c.substreamError);
      this.#recordConfiguration(c, rid, substream, page, seen, false);
      return -1;
    }
    if (c.eats === Eats.FULL) return inside ? page : -1;
    const out = this.#translator.resolveIntermediate(c, page, seen);
    if (out === -1) this.#events.record(this.#translator.fault, c, rid, substream, page, seen, 0);
    return out;
  }

  // Page requests (8)

  requestPage(request: PageRequest): void {
    if (this.#caps.pri) this.#requests.request(request);
    else this.#answer(request, PageResponseCode.FAILURE, false);
  }

  #answer(request: PageRequest, code: number, withPasid: boolean): void {
    this.#endpoints.get(request.rid)?.device.respond({ pasid: withPasid ? request.pasid : NO_PASID, group: request.group, code });
  }

  #pasidOnOverflow(request: PageRequest): boolean | undefined {
    if (request.pasid === NO_PASID) return false;
    if (this.#caps.pasidResponse) return true;
    const c = this.#scratch;
    if (this.#translator.reader.readStream(request.rid, request.pasid, c)) return c.pasidInResponse;
    this.#recordConfiguration(c, request.rid, request.pasid, request.page, request.access, true);
    return undefined;
  }

  respond(f: Fields): number {
    const code = [PageResponseCode.FAILURE, PageResponseCode.INVALID, PageResponseCode.SUCCESS][f.Resp] ?? PageResponse.FAILURE;
    if (this.#translator.enabled) {
      this.#endpoints.get(f.StreamID)?.device.respond({ pasid: f.SSV === 1 ? f.SubstreamID : NO_PASID, group: f.PRGIndex, code });
    }
    return 0;
  }

  // Invalidation of what devices keep (4.5.1)

  invalidate(f: Fields): number {
    const endpoint = this.#endpoints.get(f.StreamID);
    if (!this.#translator.enabled || endpoint === undefined) return 0;
    const tag = endpoint.nextTag;
    endpoint.nextTag = (tag + 1) % TAGS;
    endpoint.waiting |= 1 << tag;
    const page = f.Addr / 4096;
    const everything = f.Size === EVERYTHING;
    endpoint.device.invalidate({
      tag,
      pasid: f.SSV === 1 ? f.SubstreamID : NO_PASID,
      allPasids: f.SSV === 1 && f.G === 1,
      page: everything ? 0 : page - (page % 2 ** f.Size),
      shift: everything ? 64 : f.Size + 12,
    });
    return 0;
  }

  completeInvalidation(rid: number, tags: number, _count: number): void {
    const endpoint = this.#endpoints.get(rid);
    if (endpoint === undefined) return;
    endpoint.waiting &= ~tags;
    if (!this.#isWaiting()) this.#completed();
  }

  /** A CMD_SYNC waits for devices; one that does not answer in time ends it with an error (4.7.3). */
  synchronize(): number | undefined {
    if (this.#timedOut) {
      this.#timedOut = false;
      for (const endpoint of this.#endpoints.values()) endpoint.waiting = 0;
      return CommandError.ATC_INV_SYNC;
    }
    return this.#isWaiting() ? undefined : CommandError.NONE;
  }

  /** The time for device answers is over. */
  expire(): void {
    if (!this.#isWaiting()) return;
    this.#timedOut = true;
    this.#completed();
  }

  #isWaiting(): boolean {
    for (const { waiting } of this.#endpoints.values()) if (waiting !== 0) return true;
    return false;
  }

  /** What devices hold of physical addresses. */
  *held(): Generator<CachedTranslation> {
    for (const [rid, { device }] of this.#endpoints) {
      if (this.#translator.isSplit(rid)) continue;
      for (const entry of device.held?.() ?? []) yield { rid, ...entry };
    }
  }

  connectEndpoint(rid: number, device: AtsEndpoint): void {
    this.#endpoints.set(rid, { device, waiting: 0, nextTag: 0 });
  }
}

function grant(out: TranslationCompletion, read: boolean, write: boolean, execute: boolean): void {
  out.status = CompletionStatus.SUCCESS;
  out.read = read;
  out.write = write;
  out.execute = execute;
}
