/**
 * Histories of what a driver is asked, on two units with small caches, against a naive model: after every step each device and PASID
 * reaches exactly what its domain says at that moment, through both stages, and exactly the pages written are dirty.
 */
import { Access, type IommuDevice, NO_PASID, type NestedDomain, type PageFault, PageTable, type PagingDomain, Prot } from "@iommukit/core";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { readCapabilities } from "../spec/capabilities.js";
import { FirstStage, firstStageFormat } from "../spec/formats.js";
import { type AtsDevice, type Bench, Board, dirtyPages, invalidationEntries, map, unmap, userData } from "./board.test-support.js";

const RUNS = 2000;
const WINDOW = 0x400;
const SIZE = 1024;
/** Pages of the window that are looked at: around what can be a large page. */
const PLACES = [0, 1, 2, 3, 511, 512, 513, 1023];
const PASIDS = [0, 1, 9000];
const FRAMES = 2 ** 25 / 4096;
const EVERYTHING = 2n ** 64n - 1n;
/** Two first stages, one second stage that tracks dirty pages, a nest parent, and two guests on it. */
const KINDS = ["first", "first", "dirty", "parent", "nested", "nested"] as const;
const PAGING = 4;
const PARENT = 3;

/** Who uses what at the beginning: device, PASID, domain. */
const START = [[0, 0, 0], [0, 1, 2], [0, 9000, 4], [1, 0, PARENT], [1, 1, 5], [2, 0, 2], [2, 1, 4]] as const;

const place = fc.constantFrom(...PLACES);
const user = { device: fc.nat(2), pasid: fc.constantFrom(...PASIDS) };
const step = fc.oneof(
  { weight: 3, arbitrary: fc.record({ op: fc.constant("map" as const), domain: fc.nat(PAGING - 1), at: place, count: fc.constantFrom(1, 2, 3, 512, 1024), to: fc.nat(3), writable: fc.boolean() }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constant("unmap" as const), domain: fc.nat(PAGING - 1), at: place, count: fc.constantFrom(1, 2, 512, 1024) }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constant("attach" as const), ...user, domain: fc.nat(KINDS.length - 1) }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("detach" as const), ...user }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constant("guest map" as const), domain: fc.integer({ min: PAGING, max: KINDS.length - 1 }), at: place, to: place, writable: fc.boolean() }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constant("guest unmap" as const), domain: fc.integer({ min: PAGING, max: KINDS.length - 1 }), at: place, everything: fc.boolean() }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constant("track" as const), domain: fc.constantFrom(2, PARENT), on: fc.boolean() }) },
  { weight: 6, arbitrary: fc.record({ op: fc.constant("read dirty" as const), domain: fc.constantFrom(2, PARENT), clear: fc.boolean() }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant("demand" as const), pasid: fc.constantFrom(...PASIDS), at: place, to: fc.nat(3), grant: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("replug" as const), device: fc.nat(2) }) },
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;
type Of<Op extends Step["op"]> = Extract<Step, { op: Op }>;

/** What a domain says of the window's pages. */
class Model {
  /** Output page, or for a guest the page of the window that its own lies in; -1 for none. */
  readonly out: Int32Array = new Int32Array(SIZE).fill(-1);
  readonly writable: Uint8Array = new Uint8Array(SIZE);
  readonly dirty: Set<number> = new Set<number>();
  tracks = false;
}

class History {
  readonly board: Board = new Board();
  readonly units: readonly Bench[];
  readonly devices: readonly IommuDevice[];
  /** The second device keeps translations, where the unit lets it. */
  readonly ats: AtsDevice | undefined;
  paging: PagingDomain[] = [];
  nested: NestedDomain[] = [];
  guests: PageTable[] = [];
  models: Model[] = [];
  /** By device and PASID, the domain. */
  readonly attached = new Map<string, number>();

  constructor(fields: Readonly<Record<string, number>>) {
    this.board.tracer.listener = undefined;
    const caches = { iotlbSets: 16, iotlbWays: 2 };
    this.units = [this.board.unit("scalable", { NEST: 1, ...fields }, caches), this.board.unit("scalable", { NEST: 1, ...fields }, caches)];
    this.ats = fields.DT === 1 ? this.units[0].atsDevice(0x20, { geometry: { sets: 4, ways: 2 }, pageRequests: true }) : undefined;
    this.devices = [0, 1, 2].map((i) => (i === 1 && this.ats ? this.ats.device : this.bench(i).device(0x18 + 8 * i)));
    if (this.ats) this.ats.tlb.pages.enabled = false;
    // Page n holds n.
    for (let page = 0x1000; page < FRAMES; page++) this.board.memory.write(page * 4096, new Uint8Array(Uint32Array.of(page).buffer));
  }

  bench(device: number): Bench {
    return this.units[device === 2 ? 1 : 0];
  }

  begin(): void {
    const [{ driver }] = this.units;
    const [device] = this.devices;
    this.models = KINDS.map(() => new Model());
    this.paging = KINDS.slice(0, PAGING).map((kind) => driver.allocPaging(device, { dirtyTracking: kind === "dirty" || kind === "parent", nestParent: kind === "parent" }));
    map(this.paging[PARENT], FRAMES, FRAMES, FRAMES);
    const format = firstStageFormat(readCapabilities(0x70, 0n, 0n, 48));
    this.guests = KINDS.slice(PAGING).map(() => new PageTable(this.board.memory, this.board.frames, format, 3));
    this.nested = this.guests.map(({ root }) => {
      const data = userData("iommu_hwpt_vtd_s1", { pgtbl_addr: BigInt(root), addr_width: 48 });
      return driver.allocNested?.(device, this.paging[PARENT], { pasid: false }, data) ?? expect.fail("no nested domain");
    });
    for (let domain = 0; domain < PAGING; domain++) this.map({ op: "map", domain, at: 0, count: 3, to: domain, writable: true });
    for (let domain = PAGING; domain < KINDS.length; domain++) for (const at of [0, 1]) this.guestMap({ op: "guest map", domain, at, to: at, writable: true });
    for (const [to, pasid, domain] of START) this.apply({ op: "attach", device: to, pasid, domain });
  }

  end(): void {
    for (const key of this.attached.keys()) {
      const [device, pasid] = key.split(" ").map(Number);
      this.bench(device).driver.detach(this.devices[device], pasid);
    }
    this.attached.clear();
    for (const domain of [...this.nested, ...this.paging, ...this.guests]) domain.free();
  }

  apply(action: Step): void {
    switch (action.op) {
      case "map":
        return this.map(action);
      case "unmap":
        unmap(this.paging[action.domain], WINDOW + action.at, Math.min(action.count, SIZE - action.at));
        return this.clear(action.domain, action.at, action.count);
      case "attach":
        this.bench(action.device).driver.attach(this.devices[action.device], action.pasid, [...this.paging, ...this.nested][action.domain]);
        this.attached.set(`${action.device} ${action.pasid}`, action.domain);
        return;
      case "detach":
        this.bench(action.device).driver.detach(this.devices[action.device], action.pasid);
        this.attached.delete(`${action.device} ${action.pasid}`);
        return;
      case "guest map":
        return this.guestMap(action);
      case "guest unmap":
        return this.guestUnmap(action);
      case "track":
        this.paging[action.domain].dirty?.set(action.on);
        this.models[action.domain].tracks = action.on;
        return;
      case "read dirty":
        return this.readDirty(action);
      case "demand":
        return this.demand(action);
      default:
        this.replug(action.device);
    }
  }

  clear(domain: number, at: number, count: number): void {
    const model = this.models[domain];
    model.out.fill(-1, at, at + count);
    for (let page = at; page < at + count; page++) model.dirty.delete(page);
  }

  /** Where dirty pages are counted, outputs lie so that no large page fits. */
  map({ domain, at, count, to, writable }: Of<"map">): void {
    const model = this.models[domain];
    const length = Math.min(count, SIZE - at);
    if (model.out.subarray(at, at + length).some((out) => out !== -1)) return;
    const first = (domain < 2 ? 0x1000 : 0x1001) + to * 0x200 + at;
    map(this.paging[domain], WINDOW + at, first, length, writable ? Prot.READ | Prot.WRITE : Prot.READ);
    for (let i = 0; i < length; i++) model.out[at + i] = first + i;
    model.writable.fill(writable || domain === PARENT ? 1 : 0, at, at + length);
  }

  guestMap({ domain, at, to, writable }: Of<"guest map">): void {
    const model = this.models[domain];
    if (model.out[at] !== -1) return;
    this.guests[domain - PAGING].map(WINDOW + at, WINDOW + to, 1, FirstStage.P | FirstStage.US | (writable ? FirstStage.RW : 0));
    model.out[at] = to;
    model.writable[at] = writable ? 1 : 0;
  }

  /** A guest tells of what it took away, and whether only leaves changed. */
  guestUnmap({ domain, at, everything }: Of<"guest unmap">): void {
    const guest = this.guests[domain - PAGING];
    const { freed } = guest.unmap(WINDOW + at, everything ? SIZE - at : 1);
    const range = everything ? { addr: 0n, npages: EVERYTHING } : { addr: BigInt(WINDOW + at) << 12n, npages: 1n, flags: freed.length === 0 ? 1 : 0 };
    this.nested[domain - PAGING].invalidate?.(invalidationEntries([range]));
    for (const frame of freed) this.board.frames.free(frame);
    this.clear(domain, at, everything ? SIZE : 1);
  }

  readDirty({ domain, clear }: Of<"read dirty">): void {
    const { dirty, out } = this.models[domain];
    const found = new Set<number>();
    for (const at of PLACES) if (out[at] !== -1) for (const page of dirtyPages(this.paging[domain], WINDOW + at, 1, clear)) found.add(page - WINDOW);
    expect(found).toEqual(dirty);
    if (clear) dirty.clear();
  }

  /** The device with the cache reads a page that is not mapped: it asks, and goes on, or does not, as it is answered. */
  demand({ pasid, at, to, grant }: Of<"demand">): void {
    const domain = this.attached.get(`1 ${pasid}`);
    if (this.ats === undefined || domain === undefined || domain >= PAGING || this.models[domain].out[at] !== -1) return;
    const { device, tlb } = this.ats;
    const { driver } = this.units[0];
    const asked: PageFault[] = [];
    driver.reportPageFaults?.(device, { report: (fault) => asked.push(fault), discardPartial: () => expect.fail("nothing was lost") });
    tlb.enabled = true;
    tlb.pages.enabled = true;
    const word = new Uint32Array(1);
    const results: boolean[] = [];
    tlb.transfer("read", BigInt(WINDOW + at) << 12n, new Uint8Array(word.buffer), pasid === 0 ? {} : { pasid }, ({ ok }) => results.push(ok));
    tlb.pages.enabled = false;
    const [{ group }] = asked;
    expect(asked).toEqual([{ pasid: pasid === 0 ? undefined : pasid, group, permissions: 1, address: BigInt(WINDOW + at) << 12n, last: true }]);
    expect(results).toEqual([]);
    if (grant) this.map({ op: "map", domain, at, count: 1, to, writable: false });
    driver.respondToPageFault?.(device, { pasid: pasid === 0 ? undefined : pasid, group, code: grant ? "success" : "invalid" });
    expect(results).toEqual([grant]);
    if (grant) expect(word[0]).toBe(this.models[domain].out[at]);
    driver.reportPageFaults?.(device, undefined);
  }

  /** Away, and back with nothing attached; its tables may lie elsewhere. */
  replug(device: number): void {
    this.bench(device).driver.removeDevice(this.devices[device]);
    this.bench(device).driver.addDevice(this.devices[device]);
    for (const pasid of PASIDS) this.attached.delete(`${device} ${pasid}`);
  }

  /** The oracle. What a device may write, it has written: the page is dirty then. */
  probe(device: number, pasid: number, at: number, access: number): void {
    const domain = this.attached.get(`${device} ${pasid}`);
    const out = domain === undefined ? -1 : this.expected(domain, at, access);
    const got = device === 1 && this.ats ? this.move(this.ats, pasid, at, access, out) : this.bench(device).dma(this.devices[device], WINDOW + at, access, pasid === 0 ? NO_PASID : pasid);
    // `expect` costs more than the DMA.
    if (got !== out) expect({ device, pasid, at, access, got }).toEqual({ device, pasid, at, access, got: out });
  }

  /** Through the device's own cache: the page that was read, or written back as it is; -1 when it was refused. */
  move({ tlb }: AtsDevice, pasid: number, at: number, access: number, out: number): number {
    const word = Uint32Array.of(out);
    const moved: { ok?: boolean } = {};
    // A request for a PASID beyond the directory, or from an absent device, turned it off.
    tlb.enabled = true;
    tlb.transfer(access === Access.WRITE ? "write" : "read", BigInt(WINDOW + at) << 12n, new Uint8Array(word.buffer), pasid === 0 ? {} : { pasid }, ({ ok }) => (moved.ok = ok));
    return moved.ok ? word[0] : -1;
  }

  /** What is attached, at one page; before a change, so that caches hold it. */
  probeAll(at: number): void {
    for (const key of this.attached.keys()) {
      const [device, pasid] = key.split(" ").map(Number);
      this.probe(device, pasid, at, Access.READ);
      this.probe(device, pasid, at, Access.WRITE);
    }
  }

  expected(domain: number, at: number, access: number): number {
    const model = this.models[domain];
    if (model.out[at] === -1 || (access === Access.WRITE && model.writable[at] === 0)) return -1;
    if (domain >= PAGING) return this.expected(PARENT, model.out[at], access);
    if (access === Access.WRITE && model.tracks) model.dirty.add(at);
    return model.out[at];
  }
}

const probe = fc.tuple(fc.nat(2), fc.constantFrom(...PASIDS), place, fc.constantFrom(Access.READ, Access.WRITE));

describe.each([
  ["as they are", {}],
  ["with a device that keeps translations and asks for pages", { DT: 1, NWFS: 1, PRS: 1, PDS: 1 }],
  ["with caching mode", { CM: 1 }],
  ["without page-selective invalidation", { PSI: 0, ESRTPS: 0 }],
  ["with few domain-ids and no large pages", { ND: 0, SSLPS: 0, FS1GP: 0 }],
])("histories on units %s", (_name, fields) => {
  it("agree with a naive model, and leave nothing behind", () => {
    const history = new History(fields);
    let frames: number | undefined;
    fc.assert(
      fc.property(fc.array(fc.tuple(step, fc.array(probe, { minLength: 2, maxLength: 4 })), { minLength: 1, maxLength: 12 }), (actions) => {
        history.begin();
        try {
          for (const [action, probes] of actions) {
            const near = "at" in action ? action.at : 0;
            history.probeAll(near);
            history.apply(action);
            history.probeAll(near);
            for (const [device, pasid, at, access] of probes) history.probe(device, pasid, at, access);
          }
        } finally {
          history.end();
        }
        // PASID tables and directories come with the first runs, and stay with their devices.
        for (const device of [0, 1, 2]) history.replug(device);
        frames ??= history.board.frames.inUse;
        expect(history.board.frames.inUse).toBe(frames);
      }),
      { numRuns: RUNS },
    );
  }, 300_000);
});
