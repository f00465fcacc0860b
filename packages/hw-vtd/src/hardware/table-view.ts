/** What the tables in memory say now, past every cache: for who carries out on a host what a guest ordered (`spec/orders.ts`). */
import { NO_PASID, type PhysicalMemory } from "@iommukit/core";
import type { Capabilities } from "../spec/capabilities.js";
import { Pgtt, TranslationTableMode } from "../spec/entries.js";
import { FirstStage } from "../spec/formats.js";
import type { FirstStageView, SecondStageView, TranslationView } from "../spec/orders.js";
import { Configuration, ConfigurationReader, Context, NONE } from "./configuration.js";
import type { VtdPolicies } from "./policies.js";
import { RequestKind } from "./request.js";

/** RTADDR.SSIRWE: not for legacy mode (RTA.14). */
const SSIRWE = 0x80n;
const PASIDS_PER_TABLE = 64;
const BLOCKED: TranslationView = { kind: "blocked" };

export class TableView {
  readonly #memory: PhysicalMemory;
  readonly #caps: Capabilities;
  readonly #reader: ConfigurationReader;
  readonly #context = new Context();
  readonly #configuration = new Configuration();

  constructor(memory: PhysicalMemory, caps: Capabilities, policies: VtdPolicies) {
    this.#memory = memory;
    this.#caps = caps;
    this.#reader = new ConfigurationReader(memory, caps, policies);
  }

  /** @param rootTable latched RTADDR */
  look(rootTable: bigint, rid: number, pasid: number): TranslationView {
    const context = this.#read(rootTable, rid);
    if (context === undefined || this.#reader.refuses(context, RequestKind.UNTRANSLATED, pasid) !== NONE) return BLOCKED;
    if (context.legacy) return view(context, context.translation);
    const effective = pasid === NO_PASID ? context.ridPasid : pasid;
    return this.#reader.readPasid(context, effective, this.#configuration) === NONE ? view(context, this.#configuration) : BLOCKED;
  }

  /** PASIDs below `limit` whose entry has its present bit set, in order; a directory entry that says nothing costs one step, a table 64. */
  *pasids(rootTable: bigint, rid: number, limit: number): Generator<number> {
    const context = this.#read(rootTable, rid);
    if (context === undefined || context.legacy) return;
    const { directory, pasids } = context;
    const end = Math.min(pasids, limit, 2 ** this.#caps.pasidBits);
    for (let base = 0; base < end; base += PASIDS_PER_TABLE) {
      const table = this.#present(directory + (base / PASIDS_PER_TABLE) * 8);
      if (table === undefined) continue;
      for (let i = 0; i < PASIDS_PER_TABLE && base + i < end; i++) if (this.#present(table + i * 64) !== undefined) yield base + i;
    }
  }

  #read(rootTable: bigint, rid: number): Context | undefined {
    const mode = Number((rootTable >> 10n) & 3n);
    const root = Number(rootTable >> 12n) * 4096;
    const legacy = mode === TranslationTableMode.LEGACY;
    if (legacy && this.#caps.secondStageIoRights && (rootTable & SSIRWE) !== 0n) return undefined;
    if (!legacy && (mode !== TranslationTableMode.SCALABLE || !this.#caps.scalableMode)) return undefined;
    const condition = legacy ? this.#reader.readLegacy(root, rid, this.#context) : this.#reader.readScalable(root, rid, this.#context);
    return condition === NONE ? this.#context : undefined;
  }

  /** Address in a present entry. */
  #present(pa: number): number | undefined {
    const { lo, hi } = this.#memory.load64(pa) ? this.#memory : { lo: 0, hi: 0 };
    return (lo & 1) === 0 ? undefined : (hi >>> 0) * 2 ** 32 + ((lo & ~0xfff) >>> 0);
  }
}

function view(context: Context, c: Configuration): TranslationView {
  const present = { domain: c.domain, pasid: context.legacy ? 0 : c.pasid, pageRequests: !context.legacy && context.pageRequests };
  switch (c.pgtt) {
    case Pgtt.PASS_THROUGH:
      return { ...present, kind: "pass-through" };
    case Pgtt.FIRST_STAGE:
      return { ...present, kind: "first-stage", first: firstStage(c) };
    case Pgtt.SECOND_STAGE:
      return { ...present, kind: "second-stage", second: secondStage(c) };
    default:
      return { ...present, kind: "nested", first: firstStage(c), second: secondStage(c) };
  }
}

function firstStage(c: Configuration): FirstStageView {
  return { root: c.root, levels: c.topLevel + 1, supervisor: c.supervisorEnable, writeProtect: c.writeProtect, extendedAccessed: (c.accessedFlags & FirstStage.EA) !== 0 };
}

function secondStage(c: Configuration): SecondStageView {
  return { root: c.secondRoot, levels: c.secondTopLevel + 1, pages: c.secondPages };
}
