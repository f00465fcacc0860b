import fc from "fast-check";
import { beforeEach, describe, expect, it } from "vitest";
import { type AtsEndpoint, type AtsPort, CompletionStatus, type PageRequest, PageResponseCode, type TranslationCompletion } from "../bus/ats.js";
import { Access, type DmaPort, type DmaResult, NO_PASID } from "../bus/types.js";
import { DeviceTlb, type PageAccess, PageOutcome } from "./device-tlb.js";
import { PageRequestStatus } from "./page-request-client.js";

type Question = Omit<PageRequest, "rid">;

/** An IOMMU of one device: input page n is output page 1000 + n, with the rights that the test gives. */
class FakeUnit implements DmaPort {
  readonly rid = 0x18;
  /** Rights by input page. */
  readonly rights = new Map<number, number>();
  readonly memory = new Uint8Array(2000 * 4096);
  readonly translations: number[] = [];
  readonly untranslated: bigint[] = [];
  readonly questions: Question[] = [];
  readonly completed: number[] = [];
  status: number = CompletionStatus.SUCCESS;
  shift = 12;
  untranslatedOnly = false;
  /** Called inside each translation request, when its answer is there. */
  translated: (page: number) => void = () => {};
  /** Called inside each translated access. */
  during: () => void = () => {};
  /** Answers page requests at once. */
  answer: ((question: Question) => number) | undefined;
  endpoint!: AtsEndpoint;

  readonly ats: AtsPort = {
    translate: (_pasid, page, access, out: TranslationCompletion) => {
      this.translations.push(page);
      const pages = 2 ** (this.shift - 12);
      const first = page - (page % pages);
      const rights = this.rights.get(page) ?? 0;
      Object.assign(out, { status: this.status, shift: this.shift, page: 1000 + first, untranslatedOnly: this.untranslatedOnly });
      Object.assign(out, { read: (rights & Access.READ) !== 0, write: (rights & Access.WRITE) !== 0 && (access & Access.WRITE) !== 0, execute: false });
      this.translated(page);
    },
    access: (_pasid, address, bytes, access) => {
      const at = address - 1000 * 4096;
      if (access === Access.READ) bytes.set(this.memory.subarray(at, at + bytes.length));
      else this.memory.set(bytes, at);
      this.during();
      return true;
    },
    requestPage: (question) => {
      this.questions.push(question);
      const code = this.answer?.(question);
      if (code !== undefined) this.endpoint.respond({ pasid: question.pasid, group: question.group, code });
    },
    completeInvalidation: (tags) => void this.completed.push(tags),
    connect: (endpoint) => {
      this.endpoint = endpoint;
    },
  };

  read(address: bigint): DmaResult {
    this.untranslated.push(address);
    return { ok: true, moved: 0 };
  }

  write(address: bigint): DmaResult {
    return this.read(address);
  }

  interrupt(): boolean {
    return false;
  }
}

describe("a device's translation cache", () => {
  let unit: FakeUnit;
  let tlb: DeviceTlb;
  let results: DmaResult[];
  const RW = Access.READ | Access.WRITE;

  beforeEach(() => {
    unit = new FakeUnit();
    tlb = new DeviceTlb(unit, { pageRequests: true, outstanding: 2 });
    results = [];
  });
  const start = (kind: "read" | "write", page: number, length = 16, pasid?: number): void =>
    tlb.transfer(kind, BigInt(page) << 12n, new Uint8Array(length).fill(7), pasid === undefined ? {} : { pasid }, (result) => results.push(result));
  const invalidate = (page: number, shift: number, pasid: number = NO_PASID, allPasids = false): void => tlb.invalidate({ tag: 3, page, shift, pasid, allPasids });

  it("asks once for what it may do, and moves bytes at the answer", () => {
    unit.rights.set(5, RW);
    start("write", 5);
    start("read", 5);
    start("write", 5);
    expect(results).toEqual([{ ok: true, moved: 16 }, { ok: true, moved: 16 }, { ok: true, moved: 16 }]);
    expect(unit.memory.subarray(5 * 4096, 5 * 4096 + 17)).toEqual(Uint8Array.of(...Array.from({ length: 16 }, () => 7), 0));
    expect(unit.translations).toEqual([5]);
    expect(tlb.cached).toBe(1);
  });

  it("asks again to write what it holds for reading, and keeps ranges as large as the answer", () => {
    for (const page of [4, 5, 6, 7]) unit.rights.set(page, RW);
    unit.shift = 14;
    start("read", 4);
    start("read", 7);
    expect(unit.translations).toEqual([4]);
    start("write", 6);
    start("write", 5);
    expect(unit.translations).toEqual([4, 6]);
    expect(tlb.cached).toBe(1);
  });

  it("keeps PASIDs apart, and forgets what an invalidation says: a range, a PASID, all PASIDs, everything", () => {
    for (let page = 0; page < 32; page++) unit.rights.set(page, RW);
    const fill = (): void => {
      unit.translations.length = 0;
      for (const pasid of [undefined, 0, 9]) for (const page of [8, 9, 10]) start("read", page, 16, pasid);
    };
    fill();
    expect(unit.translations).toHaveLength(9);
    invalidate(8, 13);
    fill();
    expect(unit.translations).toEqual([8, 9]);
    invalidate(9, 12, 9);
    fill();
    expect(unit.translations).toEqual([9]);
    invalidate(0, 64, 0, true);
    fill();
    expect(unit.translations).toHaveLength(6);
    invalidate(0, 64);
    fill();
    expect(unit.translations).toHaveLength(3);
    expect(unit.completed).toEqual([8, 8, 8, 8]);
    expect(tlb.invalidations).toBe(4);
  });

  it("may be asked from within a request, as by who hears at once of the fault that it makes", () => {
    unit.rights.set(5, RW);
    const access = (page: number): PageAccess => ({ kind: Access.READ, flags: 0, pasid: NO_PASID, options: {}, untranslated: false, page, offset: 0 });
    const bytes = new Uint8Array(4);
    let within = -1;
    unit.translated = (page) => {
      if (page === 6) within = tlb.attempt(access(5), bytes);
    };
    expect([tlb.attempt(access(6), bytes), within]).toEqual([PageOutcome.MISSING, PageOutcome.MOVED]);
    unit.during = () => {
      invalidate(5, 12);
      unit.during = () => invalidate(6, 12);
      tlb.attempt(access(5), bytes);
      expect(unit.completed).toEqual([]);
      unit.during = () => {};
    };
    expect(tlb.attempt(access(5), bytes)).toBe(PageOutcome.MOVED);
    expect(unit.completed).toEqual([8, 8]);
  });

  it("completes an invalidation only when the access under way has ended", () => {
    unit.rights.set(5, RW);
    unit.during = () => {
      invalidate(5, 12);
      expect(unit.completed).toEqual([]);
      unit.during = () => {};
    };
    start("write", 5);
    expect(unit.completed).toEqual([8]);
    start("write", 5);
    expect(unit.translations).toEqual([5, 5]);
  });

  it("waits for a page, and goes on where it was when the answer comes", () => {
    unit.rights.set(5, RW);
    start("write", 5, 4096 + 100);
    expect(results).toEqual([]);
    expect(unit.questions).toEqual([{ pasid: NO_PASID, page: 6, access: Access.WRITE, group: 0, last: true }]);
    unit.rights.set(6, RW);
    tlb.respond({ pasid: NO_PASID, group: 0, code: PageResponseCode.SUCCESS });
    expect(results).toEqual([{ ok: true, moved: 4196 }]);
    expect(unit.memory[6 * 4096 + 99]).toBe(7);
  });

  it("ends a transfer that is answered Invalid, and everything on a failure, which turns page requests off", () => {
    start("read", 5);
    start("read", 6, 16, 4);
    start("read", 7, 16, 4);
    expect(unit.questions).toHaveLength(2);
    tlb.respond({ pasid: NO_PASID, group: 0, code: PageResponseCode.INVALID });
    expect(results).toEqual([{ ok: false, moved: 0 }]);
    expect(unit.questions.map(({ page }) => page)).toEqual([5, 6, 7]);
    tlb.respond({ pasid: 4, group: 1, code: PageResponseCode.FAILURE });
    expect(results).toHaveLength(3);
    expect(tlb.pages.status).toBe(PageRequestStatus.RESPONSE_FAILURE);
    start("read", 8);
    expect(results).toHaveLength(4);
    expect(unit.questions).toHaveLength(3);
  });

  it("ignores answers that it did not ask for", () => {
    start("read", 5, 16, 4);
    unit.rights.set(5, RW);
    tlb.respond({ pasid: NO_PASID, group: 0, code: PageResponseCode.SUCCESS });
    tlb.respond({ pasid: 4, group: 77, code: PageResponseCode.SUCCESS });
    expect(results).toEqual([]);
    expect(tlb.pages.status).toBe(PageRequestStatus.UNEXPECTED_GROUP);
  });

  it("gives a page up that never comes although every answer says so, without growing the stack", () => {
    unit.answer = () => PageResponseCode.SUCCESS;
    start("read", 5);
    expect(results).toEqual([{ ok: false, moved: 0 }]);
    expect(unit.questions).toHaveLength(16);
  });

  it("moves a transfer of many pages, each of which comes when it is asked for", () => {
    unit.answer = ({ page }) => {
      unit.rights.set(page, RW);
      return PageResponseCode.SUCCESS;
    };
    start("write", 1, 900 * 4096);
    expect(results).toEqual([{ ok: true, moved: 900 * 4096 }]);
    expect(unit.questions).toHaveLength(900);
  });

  it("stops a PASID: what waits for it ends, and the unit gets a stop marker", () => {
    start("read", 5, 16, 4);
    start("read", 6, 16, 4);
    start("read", 7, 16, 4);
    tlb.stop(4);
    expect(results).toHaveLength(3);
    expect(unit.questions.at(-1)).toEqual({ pasid: 4, page: 0, access: 0, group: 0, last: true });
  });

  it("turns ATS off when a request is answered Unsupported Request, and goes untranslated from then on", () => {
    unit.status = CompletionStatus.UNSUPPORTED_REQUEST;
    start("read", 5);
    expect(results).toEqual([{ ok: false, moved: 0 }]);
    expect(tlb.enabled).toBe(false);
    start("read", 5);
    expect(results[1].ok).toBe(true);
    expect(unit.untranslated).toEqual([0x5000n]);
  });

  it("goes untranslated where the answer says so, as for interrupt addresses", () => {
    unit.rights.set(5, RW);
    unit.untranslatedOnly = true;
    start("write", 5);
    expect(unit.untranslated).toEqual([0x5000n]);
    expect(tlb.enabled).toBe(true);
  });

  it("fails on a completer abort and stays on; a reset forgets everything", () => {
    unit.status = CompletionStatus.COMPLETER_ABORT;
    start("read", 5);
    expect(results).toEqual([{ ok: false, moved: 0 }]);
    expect(tlb.enabled).toBe(true);
    unit.status = CompletionStatus.SUCCESS;
    start("read", 6);
    tlb.reset();
    tlb.respond({ pasid: NO_PASID, group: 0, code: PageResponseCode.SUCCESS });
    expect(results).toHaveLength(1);
    expect(tlb.pages.waiting).toBe(false);
  });

  it("calls every transfer's end once, and never more often, whatever is answered and invalidated", () => {
    const event = fc.oneof(
      fc.record({ kind: fc.constant("transfer"), a: fc.nat(20), b: fc.nat(9000), c: fc.integer({ min: -1, max: 2 }) }),
      fc.record({ kind: fc.constant("respond"), a: fc.nat(20), b: fc.constantFrom(0, 1, 0, 0), c: fc.integer({ min: -1, max: 2 }) }),
      fc.record({ kind: fc.constant("rights"), a: fc.nat(20), b: fc.nat(3), c: fc.constant(0) }),
      fc.record({ kind: fc.constant("invalidate"), a: fc.nat(20), b: fc.constantFrom(12, 13, 64), c: fc.integer({ min: -1, max: 2 }) }),
    );
    fc.assert(
      fc.property(fc.array(event, { maxLength: 80 }), (events) => {
        unit = new FakeUnit();
        tlb = new DeviceTlb(unit, { pageRequests: true, outstanding: 3 });
        results = [];
        let started = 0;
        for (const { kind, a, b, c } of events) {
          if (kind === "transfer") {
            started++;
            start(b % 2 === 0 ? "read" : "write", a, b, c === -1 ? undefined : c);
          } else if (kind === "respond") tlb.respond({ pasid: c, group: a, code: b });
          else if (kind === "rights") unit.rights.set(a, b);
          else invalidate(a, b, c);
        }
        tlb.respond({ pasid: NO_PASID, group: unit.questions.at(-1)?.group ?? 0, code: PageResponseCode.FAILURE });
        expect(results).toHaveLength(started);
        expect(tlb.pages.waiting).toBe(false);
      }),
    );
  });
});
