/** A unit of any capabilities for tests of the hardware: registers, a queue, tables with a page or two, endpoints, and every message that leaves it. */
import { Access, type AtsEndpoint, type AtsInvalidation, encodeFields, extractBits, type FieldTable, NO_PASID, type PageResponse, PhysicalMemory } from "@iommukit/core";
import { PRESETS } from "../presets.js";
import { CAP, ECAP } from "../spec/capabilities.js";
import { LEGACY_CONTEXT_ENTRY, LEGACY_ROOT_ENTRY, PASID_DIRECTORY_ENTRY, PASID_TABLE_ENTRY, SCALABLE_CONTEXT_ENTRY, SCALABLE_ROOT_ENTRY } from "../spec/entries.js";
import { Fsts, Reg } from "../spec/registers.js";
import { VtdUnit, type VtdUnitOptions } from "./unit.js";

export const COMMAND = { TE: 0x8000_0000n, SRTP: 0x4000_0000n, WBF: 0x800_0000n, QIE: 0x400_0000n, IRE: 0x200_0000n, SIRTP: 0x100_0000n, CFI: 0x80_0000n } as const;
/** Where tests put things. */
export const AT = {
  ROOT: 0x1000, CONTEXT: 0x2000, DIRECTORY: 0x3000, PASIDS: 0x4000, SECOND: 0x5000, FIRST: 0xa000, STATUS: 0x1_0000, INTERRUPTS: 0x2_0000, POSTED: 0x3_0000,
  PAGE_REQUESTS: 0x4_0000, QUEUE: 0x20_0000, PAGES: 0x80_0000,
} as const;
export const RID = 0x18;
export const FRCD = 0x220;

/** Everything that a unit of the model may announce. */
const EVERYTHING = { DT: 1, IR: 1, EIM: 1, PI: 1, PRS: 1, PDS: 1, NWFS: 1, DIT: 1, SMS: 1, MHMV: 15, PLMR: 1, PHMR: 1, ESIRTPS: 1, NEST: 1 };

export interface BenchOptions extends Partial<VtdUnitOptions> {
  readonly preset?: string;
  /** Fields of CAP and ECAP beside, or instead of, the preset's and everything else that there is. */
  readonly fields?: Readonly<Record<string, number>>;
}

export class UnitBench {
  readonly memory: PhysicalMemory = new PhysicalMemory();
  readonly unit: VtdUnit;
  readonly messages: { readonly address: bigint; readonly data: number }[] = [];
  #tail = 0;
  #wide = true;

  constructor({ preset = "scalable", fields = {}, ...options }: BenchOptions = {}) {
    this.memory.addRam(0, 2 ** 24);
    const words = PRESETS[preset];
    const all = { ...(preset === "scalable" ? EVERYTHING : {}), ...fields };
    this.unit = new VtdUnit(this.memory, {
      ...words,
      cap: changed(CAP, words.cap, all),
      ecap: changed(ECAP, words.ecap, all),
      onMessage: (address, data) => this.messages.push({ address, data }) > 0,
      ...options,
    });
  }

  read(register: number, size = 8): bigint {
    return this.unit.read(register, size);
  }

  write(register: number, value: bigint, size = 8): void {
    this.unit.write(register, size, value);
  }

  /** Adds bits to what GSTS shows, as drivers do; one-shots stay out. */
  command(bits: bigint): void {
    this.write(Reg.GCMD, (this.read(Reg.GSTS, 4) & 0x96ff_ffffn) | bits, 4);
  }

  status(): bigint {
    return this.read(Reg.GSTS, 4);
  }

  /** Writes a structure. */
  put(table: FieldTable, at: number, fields: Readonly<Record<string, bigint | number>>): void {
    const words = encodeFields(table, Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, BigInt(value)])));
    for (const [i, word] of words.entries()) this.memory.writeU64(at + 8 * i, word);
  }

  /** Legacy tables for RID: second stage with input page 5 at AT.PAGES; domain 1. */
  legacyTables(context: Readonly<Record<string, number>> = {}): void {
    this.put(LEGACY_ROOT_ENTRY, AT.ROOT, { P: 1, CTP: AT.CONTEXT >> 12 });
    this.put(LEGACY_CONTEXT_ENTRY, AT.CONTEXT + RID * 16, { P: 1, TT: 0, SSPTPTR: AT.SECOND >> 12, AW: 2, DID: 1, ...context });
    this.secondStage();
  }

  /** Scalable tables for RID: RID_PASID 0 with second stage, PASID 7 with first stage, both with input page 5 at AT.PAGES. */
  scalableTables(context: Readonly<Record<string, number>> = {}, entry: Readonly<Record<string, number>> = {}): void {
    this.put(SCALABLE_ROOT_ENTRY, AT.ROOT, { LP: 1, LCTP: AT.CONTEXT >> 12 });
    this.put(SCALABLE_CONTEXT_ENTRY, AT.CONTEXT + RID * 32, { P: 1, DTE: 1, PASIDE: 1, PRE: 1, PDTS: 0, PASIDDIRPTR: AT.DIRECTORY >> 12, ...context });
    this.put(PASID_DIRECTORY_ENTRY, AT.DIRECTORY, { P: 1, SMPTBLPTR: AT.PASIDS >> 12 });
    const second = { P: 1, PGTT: 2, AW: 2, DID: 1, SSPTPTR: AT.SECOND >> 12, PWSNP: 1 };
    this.put(PASID_TABLE_ENTRY, AT.PASIDS, { ...second, ...entry });
    this.put(PASID_TABLE_ENTRY, AT.PASIDS + 7 * 64, { P: 1, PGTT: 1, FSPM: 0, DID: 1, FSPTPTR: AT.FIRST >> 12, PWSNP: 1, ...entry });
    this.secondStage();
    // Four levels, user pages, accessed.
    for (let level = 0; level < 3; level++) this.memory.writeU64(AT.FIRST + level * 0x1000, BigInt(AT.FIRST + (level + 1) * 0x1000) | 0x27n);
    this.memory.writeU64(AT.FIRST + 0x3000 + 5 * 8, BigInt(AT.PAGES) | 0x67n);
  }

  secondStage(): void {
    for (let level = 0; level < 3; level++) this.memory.writeU64(AT.SECOND + level * 0x1000, BigInt(AT.SECOND + (level + 1) * 0x1000) | 3n);
    this.memory.writeU64(AT.SECOND + 0x3000 + 5 * 8, BigInt(AT.PAGES) | 3n);
  }

  /** @param mode RTADDR.TTM */
  start(mode: number): void {
    this.write(Reg.RTADDR, BigInt(AT.ROOT) | (BigInt(mode) << 10n));
    this.command(COMMAND.SRTP);
    this.command(COMMAND.TE);
  }

  startQueue(wide = true): void {
    this.#wide = wide;
    this.#tail = 0;
    this.write(Reg.IQT, 0n);
    this.write(Reg.IQA, BigInt(AT.QUEUE) | (wide ? 0x800n : 0n));
    this.command(COMMAND.QIE);
  }

  /** Puts a descriptor behind the others without telling the unit. */
  push(table: FieldTable, type: number, fields: Readonly<Record<string, bigint | number>> = {}, more: readonly bigint[] = []): number {
    const at = AT.QUEUE + this.#tail;
    for (let i = 0; i < 4; i++) if (this.#wide || i < 2) this.memory.writeU64(at + 8 * i, 0n);
    this.put(table, at, { type: type & 15, typeHigh: type >> 4, ...fields });
    for (const [i, word] of more.entries()) this.memory.writeU64(at + 8 * i, (this.memory.readU64(at + 8 * i) ?? 0n) | word);
    this.#tail = (this.#tail + (this.#wide ? 32 : 16)) % 4096;
    return at;
  }

  kick(): void {
    this.write(Reg.IQT, BigInt(this.#tail));
  }

  /** Adds a descriptor, tells the unit, and returns IQEI, 0 for none. */
  submit(table: FieldTable, type: number, fields: Readonly<Record<string, bigint | number>> = {}, more: readonly bigint[] = []): number {
    this.push(table, type, fields, more);
    this.kick();
    return (this.read(Reg.FSTS, 4) & BigInt(Fsts.IQE)) === 0n ? 0 : Number(this.read(Reg.IQERCD) & 15n);
  }

  dma(page = 5, access: number = Access.READ, pasid: number = NO_PASID, rid = RID): number {
    return this.unit.translate(rid, pasid, page, access);
  }

  /** Reason and source of a fault record; undefined when F is 0. */
  record(index: number): { reason: number; source: number; high: bigint; low: bigint } | undefined {
    const [low, high] = [this.read(FRCD + index * 16), this.read(FRCD + index * 16 + 8)];
    return high >> 63n === 0n ? undefined : { reason: Number((high >> 32n) & 0xffn), source: Number(high & 0xffffn), high, low };
  }

  clearRecord(index: number): void {
    this.write(FRCD + index * 16 + 12, 0x8000_0000n, 4);
  }

  endpoint(rid = RID): TestEndpoint {
    const endpoint = new TestEndpoint(this.unit, rid);
    this.unit.ats?.connectEndpoint(rid, endpoint);
    return endpoint;
  }
}

/** Writes down what it gets, and completes invalidations when it is told to, or at once. */
export class TestEndpoint implements AtsEndpoint {
  readonly invalidations: AtsInvalidation[] = [];
  readonly responses: PageResponse[] = [];
  prompt = false;
  readonly #unit: VtdUnit;
  readonly #rid: number;

  constructor(unit: VtdUnit, rid: number) {
    this.#unit = unit;
    this.#rid = rid;
  }

  invalidate(request: AtsInvalidation): void {
    this.invalidations.push(request);
    if (this.prompt) this.complete(request.tag);
  }

  respond(response: PageResponse): void {
    this.responses.push(response);
  }

  complete(tag: number, count = 1): void {
    this.#unit.ats?.completeInvalidation(this.#rid, 1 << tag, count);
  }
}

function changed(table: FieldTable, word: bigint, fields: Readonly<Record<string, number>>): bigint {
  const named = table.fields.filter((field) => field.name !== "" && field.name !== "-");
  return encodeFields(table, Object.fromEntries(named.map(({ name, low, width }) => [name, name in fields ? BigInt(fields[name]) : extractBits([word], low, width)])))[0];
}
