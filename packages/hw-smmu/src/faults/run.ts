/** Builds a scene in memory, sets what a recipe sets, and sends the request through a unit of its own. */
import { Access, type AtsHardware, CompletionStatus, encodeFields, type FieldTable, NO_PASID, PhysicalMemory, TranslationCompletion } from "@iommukit/core";
import { SmmuUnit, type UnitChoices } from "../hardware/unit.js";
import { COMMANDS, Op } from "../spec/commands.js";
import { IDR0, IDR1, IDR3, IDR5, type Identification } from "../spec/identification.js";
import { Cr0, Cr2, Reg } from "../spec/registers.js";
import { STAGE1_LEAF, STAGE2_LEAF } from "../spec/tables.js";
import type { Kind, Recipe, Request, Setting, UnitChange, Values } from "./recipe.js";
import { COMMAND_QUEUE, DOORBELL, EVENT_QUEUE, PAGE_QUEUE, type Part, RAM_BYTES, sceneOf, STREAM } from "./scene.js";

export interface FaultCase {
  readonly recipe: Recipe;
  readonly kind: Kind;
  /** Without the recipe's change: then all works. */
  readonly unchanged?: boolean;
  /** Set over everything else: what keeps the record off. */
  readonly over?: Setting;
}

/** What came of it. */
export interface FaultRun {
  readonly identification: Identification;
  /** As it is until the next run. */
  readonly memory: PhysicalMemory;
  readonly parts: readonly Part[];
  /** Registers as they were written. */
  readonly registers: Values;
  readonly request: Required<Omit<Request, "substream">> & { readonly substream: number };
  readonly command: readonly bigint[];
  /** As the device sees it. */
  readonly response: Response;
  /** Page that the transaction came to, or was told; -1 without. */
  readonly page: number;
  /** Records in the event queue. */
  readonly events: readonly (readonly bigint[])[];
  readonly gerror: bigint;
  readonly commands: bigint;
  readonly pageRequests: bigint;
  /** Memory outside the queues that was written. */
  readonly written: readonly string[];
  /** CMD_RESUME of the record's STAG made the unit let go of the transaction. */
  readonly resumed: boolean;
}

export type Response = "passes" | "abort" | "Unsupported Request" | "Completer Abort" | "no access" | "Failure" | "queued" | "consumed" | "stopped";

/** Announces everything that is modelled but LPA2, so that a recipe can take something away. */
const FULL: Required<UnitChange> = {
  minor: 3,
  idr0: {
    S2P: 1n, S1P: 1n, TTF: 2n, COHACC: 1n, HTTU: 2n, Hyp: 1n, ATS: 1n, ASID16: 1n, MSI: 1n, SEV: 1n, PRI: 1n, VMW: 1n, VMID16: 1n, CD2L: 1n, ATSRECERR: 1n, ST_LEVEL: 1n,
  },
  idr1: { SIDSIZE: 16n, SSIDSIZE: 8n, PRIQS: 8n, EVENTQS: 8n, CMDQS: 8n, ATTR_PERMS_OVR: 1n },
  idr3: { HAD: 1n, XNX: 1n, FWB: 1n, STT: 1n, RIL: 1n, BBML: 1n, E0PD: 1n, PTWNNC: 1n, PASIDTT: 1n },
  idr5: { OAS: 5n, GRAN4K: 1n, GRAN16K: 1n, GRAN64K: 1n, STALL_MAX: 16n },
  choices: {},
};
/** Without walk caches: a table that became a block is seen at once. */
const CACHES = { input: { sets: 4, ways: 2 }, intermediate: { sets: 4, ways: 2 }, configurations: 16 };
/** 16 entries each. */
const LOG2_QUEUE = 4n;
const ALL_QUEUES = Cr0.CMDQEN | Cr0.EVENTQEN | Cr0.PRIQEN;
/** Registers that take 64 bits. */
const WIDE: readonly string[] = ["STRTAB_BASE", "CMDQ_BASE", "EVENTQ_BASE", "PRIQ_BASE", "GERROR_IRQ_CFG0", "EVENTQ_IRQ_CFG0", "PRIQ_IRQ_CFG0"];

const REGISTERS: Values = {
  CMDQ_BASE: BigInt(COMMAND_QUEUE) | LOG2_QUEUE,
  EVENTQ_BASE: BigInt(EVENT_QUEUE) | LOG2_QUEUE,
  PRIQ_BASE: BigInt(PAGE_QUEUE) | LOG2_QUEUE,
  GERROR_IRQ_CFG0: DOORBELL, EVENTQ_IRQ_CFG0: DOORBELL, PRIQ_IRQ_CFG0: DOORBELL,
  CR2: BigInt(Cr2.RECINVSID | Cr2.REC_CFG_ATS),
  IRQ_CTRL: 7n,
  CR0: BigInt(ALL_QUEUES | Cr0.SMMUEN | Cr0.ATSCHK),
};

const word = (table: FieldTable, full: Values, changes: readonly (Values | undefined)[]): number => Number(encodeFields(table, Object.assign({}, full, ...changes) as Values)[0]);

function identify(changes: readonly (UnitChange | undefined)[]): Identification {
  const of = (name: "idr0" | "idr1" | "idr3" | "idr5"): (Values | undefined)[] => changes.map((change) => change?.[name]);
  return {
    idr0: word(IDR0, FULL.idr0, of("idr0")), idr1: word(IDR1, FULL.idr1, of("idr1")), idr3: word(IDR3, FULL.idr3, of("idr3")), idr5: word(IDR5, FULL.idr5, of("idr5")),
    aidr: changes.findLast((change) => change?.minor !== undefined)?.minor ?? FULL.minor,
  };
}

export function runCase({ recipe, kind, unchanged = false, over = {} }: FaultCase): FaultRun {
  const { given = {}, change } = recipe;
  const settings: readonly Setting[] = [given, ...(unchanged ? [] : [change]), over];
  const scene = sceneOf(recipe.scene);
  const laid = scene.parts.map((part) => ({ ...part, values: Object.assign({}, part.values, ...settings.map(({ set }) => set?.[part.name])) as Values }));
  const registers = Object.assign({}, scene.registers, REGISTERS, ...settings.map((setting) => setting.registers)) as Values;
  const request = Object.assign(
    { address: scene.address, access: "read", privileged: false, substream: scene.substream ?? NO_PASID, stream: STREAM },
    ...settings.map((setting) => setting.request),
  ) as FaultRun["request"];
  const identification = identify(settings.map(({ unit }) => unit));
  const choices = Object.assign({}, ...settings.map(({ unit }) => unit?.choices)) as UnitChoices;
  const memory = memoryWith(laid, settings.findLast(({ readOnly }) => readOnly !== undefined)?.readOnly);
  const ended: number[] = [];
  const unit = new SmmuUnit(memory, { identification, caches: CACHES, ...choices, onStallEnd: ({ stag }) => ended.push(stag) });
  start(unit, registers);
  if (settings.some(({ neighbourFirst }) => neighbourFirst)) unit.translate(request.stream + 1, request.substream, Number(request.address >> 12n), accessBits(request));
  const merged = settings.flatMap(({ merge }) => (merge === undefined ? [] : [mergePages(unit, memory, laid, request, merge)]));
  if (merged.length > 0 && !settings.some(({ uninvalidated }) => uninvalidated)) invalidate(unit, memory);
  const parts = laid.map((part) => merged.find(({ name }) => name === part.name) ?? part);
  const command = queueCommands(memory, settings);
  const answer = carry(unit, kind, request, settings.some(({ deaf }) => deaf));
  const written = parts.filter((part) => wordsInMemory(part, parts).some((value, i) => memory.readU64(part.pa + i * 8) !== value)).map(({ name }) => name);
  const events = takeEvents(unit, memory);
  const after = { gerror: unit.read(Reg.GERROR, 4) ^ unit.read(Reg.GERRORN, 4), commands: unit.read(Reg.CMDQ_CONS, 4), pageRequests: unit.read(Reg.PRIQ_PROD, 4) };
  resume(unit, memory, events[0]);
  return { identification, memory, parts, registers, request, command, ...answer, events, ...after, written, resumed: ended.length === 1 };
}

let shared: PhysicalMemory | undefined;
/** What scenes and queues use is below. */
const SCENE_BYTES = 0x1_4000;

/** The same from run to run: making one takes longer than a run. */
function freshMemory(): PhysicalMemory {
  if (shared === undefined) {
    shared = new PhysicalMemory();
    shared.addRam(0, RAM_BYTES);
  }
  shared.clear(0, SCENE_BYTES);
  return shared;
}

/** The parts in memory; the page of one of them may take no writes from then on. */
function memoryWith(parts: readonly Part[], readOnly: string | undefined): PhysicalMemory {
  const sealed = parts.find(({ name }) => name === readOnly);
  const { memory, seal } = sealed === undefined ? { memory: freshMemory(), seal: () => {} } : memoryAround(Math.floor(sealed.pa / 4096) * 4096);
  for (const part of parts) place(memory, part, parts);
  seal();
  return memory;
}

/** RAM with a page in it that takes no writes once it is sealed. */
function memoryAround(page: number): { readonly memory: PhysicalMemory; readonly seal: () => void } {
  const bytes = new Uint8Array(4096);
  let isSealed = false;
  const memory = new PhysicalMemory();
  memory.addRam(0, page);
  memory.addWindow(page, 4096, {
    read: (offset, target) => target.set(bytes.subarray(offset, offset + target.length)),
    write: (offset, source) => {
      if (isSealed) throw new Error("this page takes no writes");
      bytes.set(source, offset);
    },
  });
  memory.addRam(page + 4096, RAM_BYTES - page - 4096);
  return { memory, seal: () => (isSealed = true) };
}

function place(memory: PhysicalMemory, part: Part, parts: readonly Part[]): void {
  wordsInMemory(part, parts).forEach((value, i) => memory.writeU64(part.pa + i * 8, value));
}

function wordsInMemory(part: Part, parts: readonly Part[]): readonly bigint[] {
  const words = encodeFields(part.table, part.values);
  return isBigEndian(part, parts) ? words.map(swap) : words;
}

/** CD.ENDI and STE.S2ENDI are about descriptors of tables alone. */
function isBigEndian({ name }: Part, parts: readonly Part[]): boolean {
  const flag = (structure: string, field: string): boolean => parts.find((part) => part.name === structure)?.values[field] === 1n;
  if (name.startsWith("S2 ")) return flag("STE", "S2ENDI");
  return name.startsWith("S1 ") && flag("CD", "ENDI");
}

/** The eight bytes in the other order. */
function swap(value: bigint): bigint {
  let swapped = 0n;
  for (let left = value, i = 0; i < 8; i++, left >>= 8n) swapped = (swapped << 8n) | (left & 0xffn);
  return swapped;
}

function start(unit: SmmuUnit, registers: Values): void {
  const put = (name: string): void => unit.write(Reg[name as keyof typeof Reg], WIDE.includes(name) ? 8 : 4, registers[name]);
  for (const name of Object.keys(registers).filter((other) => other !== "CR0" && other !== "IRQ_CTRL")) put(name);
  put("IRQ_CTRL");
  put("CR0");
}

/** One request to the page behind, and then its table becomes a block that covers both pages. Returns the block. */
function mergePages(unit: SmmuUnit, memory: PhysicalMemory, parts: readonly Part[], request: FaultRun["request"], { part: name, values }: NonNullable<Setting["merge"]>): Part {
  const part = parts.find((candidate) => candidate.name === name);
  if (part === undefined) throw new RangeError(`no part ${name}`);
  unit.translate(request.stream, request.substream, Number(request.address >> 12n) + 1, accessBits(request));
  const block = { ...part, table: name.startsWith("S2") ? STAGE2_LEAF : STAGE1_LEAF, values };
  place(memory, block, parts);
  return block;
}

function invalidate(unit: SmmuUnit, memory: PhysicalMemory): void {
  memory.writeU64(COMMAND_QUEUE, BigInt(Op.TLBI_NSNH_ALL));
  unit.write(Reg.CMDQ_PROD, 4, 1n);
}

/** The command at index 0, and a CMD_SYNC behind it. Returns the words of the first. */
function queueCommands(memory: PhysicalMemory, settings: readonly Setting[]): readonly bigint[] {
  const fields = Object.assign({ opcode: BigInt(Op.TLBI_NSNH_ALL) }, ...settings.map(({ command }) => command)) as Values;
  const sync = encodeCommand(Object.assign({ opcode: BigInt(Op.SYNC) }, ...settings.map((setting) => setting.sync)) as Values);
  const words = encodeCommand(fields);
  [...words, ...sync].forEach((value, i) => memory.writeU64(COMMAND_QUEUE + i * 8, value));
  return words;
}

function encodeCommand({ opcode, ...fields }: Values): readonly bigint[] {
  const known = COMMANDS.find((command) => BigInt(command.opcode) === opcode);
  if (known === undefined) return [opcode, 0n];
  const { reserved = 0n, ...named } = fields;
  const [low, high] = encodeFields(known.table, { opcode, ...named });
  return [low | reserved, high];
}

const BITS: Readonly<Record<NonNullable<Request["access"]>, number>> = {
  read: Access.READ, write: Access.WRITE, atomic: Access.READ | Access.WRITE, execute: Access.READ | Access.EXECUTE,
};

export function accessBits({ access, privileged }: FaultRun["request"]): number {
  return BITS[access] | (privileged ? Access.PRIVILEGED : 0);
}

type Answer = Pick<FaultRun, "response" | "page">;

function carry(unit: SmmuUnit, kind: Kind, request: FaultRun["request"], deaf: boolean): Answer {
  const page = Number(request.address >> 12n);
  const access = accessBits(request);
  const passed = (out: number): Answer => ({ response: out === -1 ? "abort" : "passes", page: out });
  switch (kind) {
    case "command":
      return runCommands(unit, deaf);
    case "untranslated":
      return passed(unit.translate(request.stream, request.substream, page, access, Number(request.address & 0xfffn)));
    case "translated":
      return passed(atsOf(unit).translated(request.stream, request.substream, page, access));
    case "page":
      return requestPage(unit, request, page, access);
    default:
      return askTranslation(unit, request, page, access);
  }
}

function atsOf({ ats }: SmmuUnit): AtsHardware {
  if (ats === undefined) throw new RangeError("the unit has no ATS");
  return ats;
}

function askTranslation(unit: SmmuUnit, { stream, substream }: FaultRun["request"], page: number, access: number): Answer {
  const completion = new TranslationCompletion();
  atsOf(unit).requestTranslation(stream, substream, page, access, completion);
  if (completion.status === CompletionStatus.UNSUPPORTED_REQUEST) return { response: "Unsupported Request", page: -1 };
  if (completion.status === CompletionStatus.COMPLETER_ABORT) return { response: "Completer Abort", page: -1 };
  return completion.read || completion.write ? { response: "passes", page: completion.page } : { response: "no access", page: -1 };
}

function requestPage(unit: SmmuUnit, { stream, substream }: FaultRun["request"], page: number, access: number): Answer {
  let response: Response = "queued";
  const ats = atsOf(unit);
  ats.connectEndpoint(stream, { invalidate: () => {}, respond: () => (response = "Failure") });
  ats.requestPage({ rid: stream, pasid: substream, page, access, group: 1, last: true });
  return { response, page: -1 };
}

/** @param deaf the device never answers an invalidation, and its time runs out */
function runCommands(unit: SmmuUnit, deaf: boolean): Answer {
  unit.ats?.connectEndpoint(STREAM, { invalidate: ({ tag }) => (deaf ? undefined : unit.ats?.completeInvalidation(STREAM, 1 << tag, 1)), respond: () => {} });
  unit.write(Reg.CMDQ_PROD, 4, 2n);
  if (deaf) unit.expireInvalidations();
  return { response: (unit.read(Reg.CMDQ_CONS, 4) & 0xf_ffffn) === 2n ? "consumed" : "stopped", page: -1 };
}

function takeEvents(unit: SmmuUnit, memory: PhysicalMemory): (readonly bigint[])[] {
  const count = Number(unit.read(Reg.EVENTQ_PROD, 4));
  return Array.from({ length: count }, (_, i) => [0, 8, 16, 24].map((offset) => memory.readU64(EVENT_QUEUE + i * 32 + offset) ?? 0n));
}

/** CMD_RESUME (4.6.1) as software that knows the record alone would send it. */
function resume(unit: SmmuUnit, memory: PhysicalMemory, record: readonly bigint[] | undefined): void {
  const queueIsFree = unit.read(Reg.CMDQ_PROD, 4) === 0n;
  if (record === undefined || ((record[1] >> 31n) & 1n) === 0n || !queueIsFree) return;
  const [low, high] = encodeCommand({ opcode: BigInt(Op.RESUME), Ac: 1n, StreamID: record[0] >> 32n, STAG: record[1] & 0xffffn });
  memory.writeU64(COMMAND_QUEUE, low);
  memory.writeU64(COMMAND_QUEUE + 8, high);
  unit.write(Reg.CMDQ_PROD, 4, 1n);
}
