/** Builds a scene in memory, sets what a recipe sets, and sends the request through a unit of its own. */
import { Access, type AtsHardware, CompletionStatus, encodeFields, type FieldTable, NO_PASID, type PhysicalMemory, TranslationCompletion } from "@iommukit/core";
import { SmmuUnit, type UnitChoices } from "../hardware/unit.js";
import { COMMANDS, Op } from "../spec/commands.js";
import { IDR0, IDR1, IDR3, IDR5, type Identification } from "../spec/identification.js";
import { Cr0, Cr2, Reg } from "../spec/registers.js";
import { STAGE1_LEAF, STAGE2_LEAF } from "../spec/tables.js";
import { memoryWith, place, wordsInMemory } from "./memory.js";
import type { Kind, Recipe, Request, Setting, UnitChange, Values } from "./recipe.js";
import { COMMAND_QUEUE, DOORBELL, EVENT_QUEUE, PAGE_QUEUE, type Part, sceneOf, STREAM } from "./scene.js";

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

export type Response = "passes" | "abort" | "Unsupported Request" | "Completer Abort" | "no access" | "reads only" | "Failure" | "queued" | "consumed" | "stopped";

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

/** Everything that a case sets up, of its scene and its settings. */
interface Setup {
  readonly identification: Identification;
  readonly choices: UnitChoices;
  readonly parts: readonly Part[];
  readonly registers: Values;
  readonly request: FaultRun["request"];
  readonly commands: Commands;
  /** Settings that stand alone: the last one counts. */
  readonly readOnly: string | undefined;
  readonly merge: Setting["merge"];
  readonly neighbourFirst: boolean;
  readonly uninvalidated: boolean;
  readonly deaf: boolean;
}

interface Commands {
  readonly first: readonly bigint[];
  readonly sync: readonly bigint[];
}

function setUp({ recipe, unchanged = false, over = {} }: FaultCase): Setup {
  const { given = {}, change } = recipe;
  const settings: readonly Setting[] = [given, ...(unchanged ? [] : [change]), over];
  const scene = sceneOf(recipe.scene);
  const merged = <T>(base: object, of: (setting: Setting) => object | undefined): T => Object.assign({}, base, ...settings.map(of)) as T;
  const last = <T>(of: (setting: Setting) => T | undefined): T | undefined => settings.map(of).findLast((value) => value !== undefined);
  const ask = { address: scene.address, access: "read", privileged: false, substream: scene.substream ?? NO_PASID, stream: STREAM };
  return {
    identification: identify(settings.map(({ unit }) => unit)),
    choices: merged({}, ({ unit }) => unit?.choices),
    parts: scene.parts.map((part) => ({ ...part, values: merged(part.values, ({ set }) => set?.[part.name]) })),
    registers: merged({ ...scene.registers, ...REGISTERS }, (setting) => setting.registers),
    request: merged(ask, ({ request }) => request),
    commands: {
      first: encodeCommand(merged({ opcode: BigInt(Op.TLBI_NSNH_ALL) }, ({ command }) => command)),
      sync: encodeCommand(merged({ opcode: BigInt(Op.SYNC) }, ({ sync }) => sync)),
    },
    readOnly: last(({ readOnly }) => readOnly),
    merge: last(({ merge }) => merge),
    neighbourFirst: last(({ neighbourFirst }) => neighbourFirst) ?? false,
    uninvalidated: last(({ uninvalidated }) => uninvalidated) ?? false,
    deaf: last(({ deaf }) => deaf) ?? false,
  };
}

export function runCase(chosen: FaultCase): FaultRun {
  const setup = setUp(chosen);
  const { identification, registers, request, commands } = setup;
  const memory = memoryWith(setup.parts, setup.readOnly);
  const ended: number[] = [];
  const unit = new SmmuUnit(memory, { identification, caches: CACHES, ...setup.choices, onStallEnd: ({ stag }) => ended.push(stag) });
  start(unit, registers);
  const parts = beforehand(unit, memory, setup);
  [...commands.first, ...commands.sync].forEach((value, i) => memory.writeU64(COMMAND_QUEUE + i * 8, value));
  const answer = carry(unit, chosen.kind, request, setup.deaf);
  const written = parts.filter((part) => wordsInMemory(part, parts).some((value, i) => memory.readU64(part.pa + i * 8) !== value)).map(({ name }) => name);
  const events = takeEvents(unit, memory);
  const after = { gerror: unit.read(Reg.GERROR, 4) ^ unit.read(Reg.GERRORN, 4), commands: unit.read(Reg.CMDQ_CONS, 4), pageRequests: unit.read(Reg.PRIQ_PROD, 4) };
  resume(unit, memory, events[0]);
  return { identification, memory, parts, registers, request, command: commands.first, ...answer, events, ...after, written, resumed: ended.length === 1 };
}

/** What happens before the request. Returns the parts as they are then. */
function beforehand(unit: SmmuUnit, memory: PhysicalMemory, { parts, request, neighbourFirst, merge, uninvalidated }: Setup): readonly Part[] {
  const page = Number(request.address >> 12n);
  if (neighbourFirst) unit.translate(request.stream + 1, request.substream, page, accessBits(request));
  if (merge === undefined) return parts;
  unit.translate(request.stream, request.substream, page + 1, accessBits(request));
  const blocks = parts.map((part) => (part.name === merge.part ? { ...part, table: part.name.startsWith("S2") ? STAGE2_LEAF : STAGE1_LEAF, values: merge.values } : part));
  for (const part of blocks) if (part.name === merge.part) place(memory, part, blocks);
  if (!uninvalidated) invalidate(unit, memory);
  return blocks;
}

function start(unit: SmmuUnit, registers: Values): void {
  const put = (name: string): void => unit.write(Reg[name as keyof typeof Reg], WIDE.includes(name) ? 8 : 4, registers[name]);
  for (const name of Object.keys(registers).filter((other) => other !== "CR0" && other !== "IRQ_CTRL")) put(name);
  put("IRQ_CTRL");
  put("CR0");
}

function invalidate(unit: SmmuUnit, memory: PhysicalMemory): void {
  memory.writeU64(COMMAND_QUEUE, BigInt(Op.TLBI_NSNH_ALL));
  unit.write(Reg.CMDQ_PROD, 4, 1n);
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
  // Reading is always asked for, writing unless the request says No Write.
  atsOf(unit).requestTranslation(stream, substream, page, access | Access.READ, completion);
  if (completion.status === CompletionStatus.UNSUPPORTED_REQUEST) return { response: "Unsupported Request", page: -1 };
  if (completion.status === CompletionStatus.COMPLETER_ABORT) return { response: "Completer Abort", page: -1 };
  if (completion.read && !completion.write && (access & Access.WRITE) !== 0) return { response: "reads only", page: completion.page };
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
