/**
 * Stale use as a finding. A sanitizer listens to a machine's trace: each answer of a unit is compared with what its decoder reads
 * out of memory at that moment. Where they differ, a cache has outlived the tables: it says which structure changed, who wrote
 * it, and which invalidation was due. When no sanitizer listens, none of this costs anything.
 */
import { Access } from "../bus/types.js";
import type { WalkReport, WalkStep } from "../decode/types.js";
import type { IommuUnit } from "../machine/types.js";
import type { PhysicalMemory } from "../memory/physical-memory.js";
import type { TraceEvent, Tracer, TranslationEvent } from "../trace.js";
import { FillLog } from "./fills.js";
import { type ChangedStructure, type Finding, FindingKind } from "./types.js";
import { WriterLog } from "./writers.js";

/** Findings of a run that are kept; the rest is counted. */
const LIMIT = 1000;

/** What a sanitizer needs of a machine. */
export interface SanitizedMachine {
  readonly tracer: Tracer;
  readonly memory: PhysicalMemory;
  readonly units: readonly IommuUnit[];
}

export class Sanitizer {
  readonly findings: Finding[] = [];
  /** Findings, those that were not kept included. */
  count = 0;
  readonly #machine: SanitizedMachine;
  readonly #units: ReadonlyMap<string, IommuUnit>;
  readonly #report: ((finding: Finding) => void) | undefined;
  readonly #writers = new WriterLog();
  readonly #fills = new FillLog();
  readonly #seen = new Set<string>();
  readonly #stop: () => void;
  /** A table or an invalidation has moved since the caches were last looked at. */
  #dirty = false;

  /** @param report called for each finding as it is made */
  constructor(machine: SanitizedMachine, report?: (finding: Finding) => void) {
    this.#machine = machine;
    this.#units = new Map(machine.units.map((unit) => [unit.hardware.name, unit]));
    this.#report = report;
    this.#stop = machine.tracer.listen((event) => this.#observe(event));
  }

  /** Listens no more. */
  stop(): void {
    this.#stop();
  }

  #observe(event: TraceEvent): void {
    this.#writers.observe(event);
    if (event.kind === "translation" && event.source !== "bypass") this.#check(event);
    else if (event.kind === "table-write" || event.kind === "invalidation") this.#dirty = true;
    else if (event.kind === "call" && this.#dirty) this.#sweep();
  }

  #check(event: TranslationEvent): void {
    const { unit, rid, pasid, iova } = event;
    const report = this.#explain(unit, event);
    if (report === undefined) return;
    const { verdict } = report;
    const allowed = event.pa !== undefined;
    if (verdict.ok === allowed && (!verdict.ok || verdict.pa === event.pa)) {
      if (event.source === "walk") this.#fills.record(unit, rid, pasid, iova, report, this.#writers.moment);
      return;
    }
    const rights = !verdict.ok && allowed && this.#stillMapped(unit, event) === event.pa;
    const kind = !allowed ? FindingKind.STALE_BLOCK : rights ? FindingKind.OVER_PERMISSIVE : FindingKind.STALE;
    this.#found(kind, event, allowed ? `${hex(event.pa ?? 0)} from ${event.source === "iotlb" ? "a cached translation" : "a walk that began in a cache"}` : "blocked", report);
  }

  #explain(unit: string, request: Pick<TranslationEvent, "rid" | "pasid" | "iova"> & Partial<TranslationEvent>): WalkReport | undefined {
    const { rid, pasid, iova, access } = request;
    return this.#units.get(unit)?.explain?.({
      rid,
      iova,
      access: access === "read" ? "read" : "write",
      ...(pasid === undefined ? {} : { pasid }),
      ...(request.privileged ? { privileged: true } : {}),
      ...(request.execute ? { execute: true } : {}),
    });
  }

  /** Where a read goes, when only the right to write is gone. */
  #stillMapped(unit: string, event: TranslationEvent): number | undefined {
    if (event.access === "read") return undefined;
    const verdict = this.#explain(unit, { ...event, access: "read" })?.verdict;
    return verdict?.ok ? verdict.pa : undefined;
  }

  /** At the end of a call a driver has invalidated what it changed: what a cache still holds must be what memory says. */
  #sweep(): void {
    this.#dirty = false;
    for (const [name, unit] of this.#units) {
      for (const { rid, pasid, page, outPage, rights, privileged = false } of unit.hardware.cached?.() ?? []) {
        const iova = BigInt(page) << 12n;
        const request = { unit: name, rid, iova, ...(pasid === undefined ? {} : { pasid }) };
        const access = (rights & Access.WRITE) !== 0 ? "write" : "read";
        const report = this.#explain(name, { ...request, access, privileged });
        if (report === undefined || (report.verdict.ok && report.verdict.pa === outPage * 4096)) continue;
        this.#found(FindingKind.MISSING_INVALIDATION, request, `${hex(outPage * 4096)} is still cached`, report);
      }
    }
  }

  #found(kind: FindingKind, at: Pick<TranslationEvent, "unit" | "rid" | "pasid" | "iova"> & { readonly access?: string }, served: string, report: WalkReport): void {
    const { unit, rid, pasid, iova, access } = at;
    const key = `${kind} ${unit} ${rid} ${pasid} ${iova >> 12n}`;
    if (this.#seen.has(key)) return;
    if (this.#seen.size < LIMIT) this.#seen.add(key);
    const fill = this.#fills.find(unit, rid, pasid, iova);
    const changed = fill && this.#firstChange(unit, fill.steps);
    const since = changed ? this.#writers.lastWrite(changed.before.pa, changed.before.words.length) : 0;
    const due = changed && this.#units.get(unit)?.dueInvalidation?.(changed, { rid, iova, ...(pasid === undefined ? {} : { pasid }) });
    const finding: Finding = {
      kind, unit, rid, iova, served,
      ...(pasid === undefined ? {} : { pasid }),
      ...(access === undefined ? {} : { access }),
      expected: report.verdict.ok ? hex(report.verdict.pa) : `blocked: ${report.verdict.code} ${report.verdict.reason}`,
      ...(changed ? { changed: this.#describe(changed, since) } : {}),
      ...(due ? { due } : {}),
      issued: this.#writers.invalidationsSince(Math.max(since, fill?.moment ?? 0)),
    };
    this.count++;
    if (this.findings.length < LIMIT) this.findings.push(finding);
    this.#report?.(finding);
  }

  /** The first structure on the way that is not what it was, flags that the unit itself sets aside. */
  #firstChange(unit: string, steps: readonly WalkStep[]): ChangedStructure | undefined {
    for (const before of steps) {
      const after = before.words.map((_, i) => this.#machine.memory.readU64(before.pa + i * 8) ?? 0n);
      const own = this.#units.get(unit)?.ownFlags?.(before) ?? 0n;
      if (after.some((word, i) => ((word ^ before.words[i]) & (i === 0 ? ~own : -1n)) !== 0n)) return { before, after };
    }
    return undefined;
  }

  #describe({ before, after }: ChangedStructure, since: number): NonNullable<Finding["changed"]> {
    const { structure, section, pa, words } = before;
    return { structure, section, pa, before: words, after, writer: this.#writers.describe(since) };
  }
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}
