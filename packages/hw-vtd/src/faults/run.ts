/** Builds a scene in memory, changes what a recipe changes, and sends the request through a unit of its own. */
import { Access, type AtsHardware, CompletionStatus, encodeFields, NO_PASID, PhysicalMemory, TranslationCompletion } from "@iommukit/core";
import { RequestKind } from "../hardware/request.js";
import { VtdUnit } from "../hardware/unit.js";
import { CAP, ECAP } from "../spec/capabilities.js";
import { Gcmd, Reg } from "../spec/registers.js";
import type { Recipe } from "./recipe.js";
import { INTERRUPT_TABLE, type Part, RAM_BYTES, REQUESTER, type Scene, sceneOf, TARGET, type Values } from "./scene.js";

/** "interrupt" is no kind of memory request, but a message. */
export const INTERRUPT = 4;

export interface FaultCase {
  readonly recipe: Recipe;
  /** `RequestKind`, or `INTERRUPT`. */
  readonly kind: number;
  /** `NO_PASID` without. */
  readonly pasid: number;
  /** FPD is set in the structure that every request reaches first. */
  readonly suppressed: boolean;
}

export interface FaultRun {
  readonly parts: readonly Part[];
  readonly words: ReadonlyMap<string, readonly bigint[]>;
  readonly rtaddr: bigint;
  readonly irta: bigint;
  readonly cap: bigint;
  readonly ecap: bigint;
  readonly version: number;
  readonly haw: number;
  readonly address: bigint;
  readonly access: number;
  readonly data: number;
  /** As the requester sees it. */
  readonly response: "UR" | "CA" | "IR" | "success" | "dropped";
  readonly completion?: TranslationCompletion;
  /** Words of the fault record. */
  readonly record?: readonly bigint[];
}

const FRO = 0x22n;
const ROOT = 1n;
const PAGE_QUEUE = 0x14000n;

/** Announces everything of translation, so that a recipe can take something away. */
const FULL_CAP: Values = { ND: 4n, SAGAW: 6n, MGAW: 47n, ZLR: 1n, FRO, SSLPS: 3n, PSI: 1n, MAMV: 18n, DWD: 1n, DRD: 1n, FS5LP: 0n, PI: 1n, ESRTPS: 1n, ESIRTPS: 1n };
const FULL_ECAP: Values = {
  C: 1n, QI: 1n, DT: 1n, IR: 1n, EIM: 1n, PT: 1n, SC: 1n, IRO: 0xfn, MHMV: 15n, NEST: 1n, PRS: 1n, SRS: 1n, NWFS: 1n, EAFS: 1n, PSS: 15n, PASID: 1n, PDS: 1n,
  SMTS: 1n, SSADS: 1n, SSTS: 1n, FSTS: 1n, SMPWC: 1n, RPS: 1n, ADMS: 1n, RPRIVS: 1n, HPTS: 1n, PTRS: 1n, SSIRWS: 1n,
};
const VERSION = 0x70;
const HAW = 46;

export function runCase(chosen: FaultCase): FaultRun {
  const { recipe, kind, pasid } = chosen;
  const hostPermission = kind === RequestKind.TRANSLATED && /^(SPD|SPT|HPT)/.test(recipe.condition);
  const scene = sceneOf(recipe.base, pasid, hostPermission);
  const parts = changed(scene, chosen);
  const cap = encodeFields(CAP, { ...FULL_CAP, ...recipe.cap })[0];
  const ecap = encodeFields(ECAP, { ...FULL_ECAP, ...recipe.ecap })[0];
  const { version = VERSION, haw = HAW, registers = {} } = recipe;
  const readOnly = parts.find((part) => part.name === recipe.readOnly);
  const { memory, words } = readOnly ? placeBeside(parts, recipe, Math.floor(readOnly.pa / 4096) * 4096) : place(parts, recipe);
  const unit = new VtdUnit(memory, { version, cap, ecap, haw, onMessage: () => true });
  const ttm = registers.TTM ?? BigInt(scene.mode);
  const rtaddr = ((registers.RTA ?? ROOT) << 12n) | (ttm << 10n) | ((registers.SSIRWE ?? 0n) << 7n);
  // 16 entries.
  const irta = ((registers.IRTA ?? BigInt(INTERRUPT_TABLE) >> 12n) << 12n) | 3n;
  start(unit, rtaddr, irta, recipe.interruptsOff !== true);
  const ask = questionOf(chosen, scene);
  const answer = carry(unit, chosen, ask);
  const record = takeRecord(unit);
  return { parts, words, rtaddr, irta, cap, ecap, version, haw, ...ask, ...answer, ...(record ? { record } : {}) };
}

/** The scene's parts with the recipe's fields in them, and FPD where it is asked for. */
function changed(scene: Scene, { recipe, pasid, suppressed }: FaultCase): Part[] {
  return scene.parts.map((part) => {
    const values: Record<string, bigint> = { ...part.values, ...recipe.set?.[part.name] };
    if (recipe.ridPrivilege && pasid === NO_PASID && part.name === "context") values.RID_PRIV = 1n;
    if (suppressed && (part.name === "context" || part.name === "IRTE")) values.FPD = 1n;
    return { ...part, values };
  });
}

interface Placed {
  readonly memory: PhysicalMemory;
  readonly words: ReadonlyMap<string, readonly bigint[]>;
}

/** Everything of a scene lies below. */
const SCENE_BYTES = 0x15000;
let shared: PhysicalMemory | undefined;

/** The parts in memory that is used again from run to run: making one takes longer than a run. */
function place(parts: readonly Part[], recipe: Recipe): Placed {
  if (shared === undefined) {
    shared = new PhysicalMemory();
    shared.addRam(0, RAM_BYTES);
  }
  const memory = shared;
  memory.clear(0, SCENE_BYTES);
  return { memory, words: store(parts, recipe, (pa, word) => memory.writeU64(pa, word)) };
}

/** The parts in memory whose page at `page` takes no writes once they are there. */
function placeBeside(parts: readonly Part[], recipe: Recipe, page: number): Placed {
  const bytes = new Uint8Array(4096);
  const memory = new PhysicalMemory();
  memory.addRam(0, page);
  memory.addWindow(page, 4096, {
    read: (offset, target) => target.set(bytes.subarray(offset, offset + target.length)),
    write: () => {
      throw new Error("this page takes no writes");
    },
  });
  memory.addRam(page + 4096, RAM_BYTES - page - 4096);
  const view = new DataView(bytes.buffer);
  const put = (pa: number, word: bigint): void => {
    if (pa >= page && pa < page + 4096) view.setBigUint64(pa - page, word, true);
    else memory.writeU64(pa, word);
  };
  return { memory, words: store(parts, recipe, put) };
}

function store(parts: readonly Part[], recipe: Recipe, put: (pa: number, word: bigint) => void): Map<string, readonly bigint[]> {
  const placed = new Map<string, readonly bigint[]>();
  for (const part of parts) {
    const words = encodeFields(part.table, part.values);
    for (const bit of recipe.bits?.[part.name] ?? []) words[bit >> 6] |= 1n << BigInt(bit & 63);
    placed.set(part.name, words);
    words.forEach((word, i) => put(part.pa + i * 8, word));
  }
  return placed;
}

function start(unit: VtdUnit, rtaddr: bigint, irta: bigint, interrupts: boolean): void {
  const command = (bits: number): void => unit.write(Reg.GCMD, 4, BigInt(bits >>> 0));
  unit.write(Reg.RTADDR, 8, rtaddr);
  unit.write(Reg.IRTA, 8, irta);
  unit.write(Reg.PQA, 8, PAGE_QUEUE);
  command(Gcmd.SRTP);
  command(Gcmd.SIRTP);
  command(interrupts ? Gcmd.TE | Gcmd.IRE : Gcmd.TE);
}

interface Question {
  readonly address: bigint;
  readonly access: number;
  readonly data: number;
}

function questionOf({ recipe, kind }: FaultCase, scene: Scene): Question {
  const { request = {} } = recipe;
  const address = kind === RequestKind.TRANSLATED ? (request.hostAddress ?? BigInt(TARGET)) : (request.address ?? scene.address);
  // A translation request reads, and asks for write permission too.
  const rights = kind === RequestKind.TRANSLATION ? Access.READ | Access.WRITE : request.write ? Access.WRITE : Access.READ;
  const flags = (request.execute ? Access.EXECUTE : 0) | (request.privileged ? Access.PRIVILEGED : 0) | (request.zeroLength ? Access.ZERO_LENGTH : 0);
  const message = recipe.base === "interrupt" || recipe.base === "posted interrupt";
  const handle = message && request.address === undefined ? 0xfee0_0010n | (3n << 5n) : address;
  return { address: handle, access: rights | flags, data: request.data ?? 0 };
}

/** Every unit here has ECAP.DT. */
function atsOf(unit: VtdUnit): AtsHardware {
  if (unit.ats === undefined) throw new RangeError("the unit has no ATS");
  return unit.ats;
}

function carry(unit: VtdUnit, { kind, pasid }: FaultCase, { address, access, data }: Question): Pick<FaultRun, "response" | "completion"> {
  const page = Number(address >> 12n);
  switch (kind) {
    case INTERRUPT:
      return { response: unit.interrupt(REQUESTER, address, data) ? "success" : "UR" };
    case RequestKind.UNTRANSLATED:
      return { response: unit.translate(REQUESTER, pasid, page, access) === -1 ? "UR" : "success" };
    case RequestKind.TRANSLATED:
      // The same answer for Completer Abort: a write has no completion, and the model keeps none apart for reads.
      return { response: atsOf(unit).translated(REQUESTER, pasid, page, access) === -1 ? "UR" : "success" };
    case RequestKind.PAGE:
      return requestPage(unit, pasid, page, access);
    default: {
      const completion = new TranslationCompletion();
      atsOf(unit).requestTranslation(REQUESTER, pasid, page, access, completion);
      if (completion.status === CompletionStatus.UNSUPPORTED_REQUEST) return { response: "UR" };
      return completion.status === CompletionStatus.COMPLETER_ABORT ? { response: "CA" } : { response: "success", completion };
    }
  }
}

function requestPage(unit: VtdUnit, pasid: number, page: number, access: number): Pick<FaultRun, "response"> {
  let response: FaultRun["response"] = "dropped";
  const ats = atsOf(unit);
  ats.connectEndpoint(REQUESTER, {
    invalidate: () => {},
    respond: ({ code }) => {
      response = code === 1 ? "IR" : "success";
    },
  });
  ats.requestPage({ rid: REQUESTER, pasid, page, access, group: 1, last: true });
  if (unit.read(Reg.PQT, 8) !== 0n) response = "success";
  return { response };
}

/** The words of the fault record, if one was written. */
function takeRecord(unit: VtdUnit): readonly bigint[] | undefined {
  const offset = Number(FRO) * 16;
  const words = [unit.read(offset, 8), unit.read(offset + 8, 8)];
  return words[1] >> 63n === 1n ? words : undefined;
}
