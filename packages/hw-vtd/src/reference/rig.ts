/** Units of the model over one small memory, and the naive translator beside them: asks both the same, tells where they differ. */
import { Access, type AtsEndpoint, type IotlbGeometry, CompletionStatus, NO_PASID, PageResponseCode, PhysicalMemory, TranslationCompletion } from "@iommukit/core";
import { type CacheGeometry, type VtdPolicies, VtdUnit } from "../hardware/index.js";
import { Reg } from "../spec/registers.js";
import { answer } from "./answer.js";
import { answers, type Configuration, HIGH_BYTES, HIGH_RAM, inHigh, inReadOnly, LOW_RAM, PAGE_QUEUE, type Question, READ_ONLY, READ_ONLY_BYTES } from "./configuration.js";
import type { Random } from "./random.js";
import type { Answer, ReferenceRecord, ReferenceState } from "./request.js";
import type { ReferenceMemory } from "./trail.js";
import { type Choices, CHOICES, ReferenceUnit, type UnitWords } from "./unit.js";

const SRTP = 0x4000_0000n;
const TE = 0x8000_0000n;
const FRCD = 0x220;
const PQH = 0xc0;
const PQT = 0xc8;
const PQA = 0xd0;
const PRS = 0xdc;

/** Low RAM, high RAM, and a part where reads go through and flags cannot be set. */
export class Memory {
  readonly physical: PhysicalMemory = new PhysicalMemory();
  readonly #readOnly = new DataView(new ArrayBuffer(READ_ONLY_BYTES));

  constructor() {
    this.physical.addRam(0, LOW_RAM);
    this.physical.addRam(HIGH_RAM, HIGH_BYTES);
    this.physical.addRam(PAGE_QUEUE, 4096);
    const bytes = new Uint8Array(this.#readOnly.buffer);
    this.physical.addWindow(READ_ONLY, READ_ONLY_BYTES, {
      read: (offset, target) => target.set(bytes.subarray(offset, offset + target.length)),
      write: () => {
        throw new Error("this memory takes no writes");
      },
    });
  }

  put(address: number, value: bigint): void {
    if (inReadOnly(address)) this.#readOnly.setBigUint64(address - READ_ONLY, value, true);
    else this.physical.writeU64(address, value);
  }

  get(address: number): bigint {
    return inReadOnly(address) ? this.#readOnly.getBigUint64(address - READ_ONLY, true) : (this.physical.readU64(address) ?? 0n);
  }

  /** First word of low RAM that is not 0. */
  firstNonZero(): number | undefined {
    const { words } = this.physical;
    for (let i = 0; i < LOW_RAM / 4; i++) if (words[i] !== 0) return i * 4;
    return undefined;
  }
}

function randomCaches(random: Random): CacheGeometry {
  const geometry = (): IotlbGeometry => ({ sets: random.pick([0, 0, 1, 16]), ways: 2 });
  return { iotlb: geometry(), contexts: geometry(), pasids: geometry(), firstStageTables: geometry(), secondStageTables: geometry() };
}

/** The same choices for both sides. */
function randomChoices(random: Random): { policies: Partial<VtdPolicies>; choices: Choices } {
  const userDenial = random.pick(["first", "last"] as const);
  const rootHalves = random.pick(["used", "both"] as const);
  const firstStageWidth = random.pick(["reserved", "ignored"] as const);
  const dirtyTables = random.pick(["updates", "reads"] as const);
  const unwritableTable = random.pick(["SFS.6", "SFS.8"] as const);
  return {
    policies: {
      userDenial, rootHalves, firstStageWidth, unwritableTable, accessed: random.pick(["success", "walked"]),
      dirtyTables, largestCached: random.pick([12, 21, 30]),
    },
    choices: { ...CHOICES, userDenial, rootHalves, firstStageWidth, dirtyTables, ssadeDenied: unwritableTable },
  };
}

/** What a unit was seen to do. */
type Observed = Pick<Answer, "response" | "address" | "completion" | "record">;

export class Rig {
  readonly unit: VtdUnit;
  readonly reference: ReferenceUnit;
  readonly #memory: Memory;
  readonly #completion = new TranslationCompletion();
  #responses: number[] = [];
  readonly #connected = new Set<number>();

  constructor(memory: Memory, readonly words: UnitWords, random: Random) {
    this.#memory = memory;
    const { policies, choices } = randomChoices(random);
    this.unit = new VtdUnit(memory.physical, { ...words, caches: randomCaches(random), policies });
    this.reference = new ReferenceUnit(words, choices);
    this.unit.write(PQA, 8, BigInt(PAGE_QUEUE));
  }

  /** Runs a configuration. Empty: they agree. `seen` learns what conditions were met and how. */
  run(configuration: Configuration, seen: (question: Question, expected: Answer) => void = () => {}): string[] {
    const words = new Map(configuration.words);
    for (const [address, value] of words) this.#memory.put(address, value);
    this.unit.write(Reg.RTADDR, 8, configuration.rtaddr);
    this.unit.write(Reg.GCMD, 4, configuration.enabled ? SRTP | TE : SRTP);
    const memory: ReferenceMemory = {
      read64: (address) => (answers(Number(address)) ? (words.get(Number(address)) ?? 0n) : undefined),
      writable: (address) => Number(address) < LOW_RAM || inHigh(Number(address)),
    };
    const state: ReferenceState = { unit: this.reference, memory, enabled: configuration.enabled, rtaddr: configuration.rtaddr };
    const differences: string[] = [];
    configuration.questions.forEach((question, i) => {
      const expected = answer(state, {
        ...question,
        rid: BigInt(question.rid),
        pasid: question.pasid === NO_PASID ? undefined : BigInt(question.pasid),
      });
      const observed = this.#ask(question);
      seen(question, expected);
      // What an earlier question left in the IOTLB may be a piece of the page (6.2.5.2).
      const cached = i > 0;
      for (const difference of compare(expected, observed, { cached, translated: question.kind === "translated" })) differences.push(`request ${i}: ${difference}`);
      for (const difference of this.#compareFlags(expected, words)) differences.push(`request ${i}: ${difference}`);
    });
    for (const address of words.keys()) this.#memory.put(address, 0n);
    return differences;
  }

  /** Memory holds what it held, and flags; `words` then follows the unit, which had a choice. */
  #compareFlags(expected: Answer, words: Map<number, bigint>): string[] {
    const differences: string[] = [];
    for (const [address, before] of words) {
      const now = this.#memory.get(address);
      const must = expected.set.get(BigInt(address)) ?? 0n;
      const may = must | (expected.mayBeSet.get(BigInt(address)) ?? 0n);
      if ((now & ~may) !== (before & ~may) || (now & must) !== must || (before & ~now) !== 0n) {
        differences.push(`word 0x${address.toString(16)} was 0x${before.toString(16)}, is 0x${now.toString(16)}; flags to set 0x${must.toString(16)}, allowed 0x${may.toString(16)}`);
      }
      if (now !== before) words.set(address, now);
    }
    return differences;
  }

  #ask(question: Question): Observed {
    const page = Number(question.address >> 12n);
    const access =
      (question.read ? Access.READ : 0) | (question.write ? Access.WRITE : 0) | (question.execute ? Access.EXECUTE : 0) |
      (question.privileged ? Access.PRIVILEGED : 0) | (question.zeroLength ? Access.ZERO_LENGTH : 0);
    return { ...this.#carry(question, page, access), ...this.#takeRecord() };
  }

  #carry({ kind, rid, pasid, address }: Question, page: number, access: number): Observed {
    const ats = this.unit.ats;
    if (kind === "untranslated") {
      const out = this.unit.translate(rid, pasid, page, access);
      return out === -1 ? { response: "UR" } : { response: "done", address: BigInt(out) << 12n };
    }
    if (ats === undefined) throw new RangeError("this unit has no ATS");
    if (kind === "translated") {
      const out = ats.translated(rid, pasid, page, access);
      return out === -1 ? { response: "UR" } : { response: "done", address: BigInt(out) << 12n };
    }
    if (kind === "page") return this.#requestPage(rid, pasid, address, access);
    const out = this.#completion;
    ats.requestTranslation(rid, pasid, page, access, out);
    if (out.status === CompletionStatus.UNSUPPORTED_REQUEST) return { response: "UR" };
    if (out.status === CompletionStatus.COMPLETER_ABORT) return { response: "CA" };
    const { read, write, privileged, untranslatedOnly, noSnoop } = out;
    const size = BigInt(out.shift);
    return { response: "done", completion: { read, write, privileged, untranslatedOnly, noSnoop, address: BigInt(Math.floor(out.page)) << 12n, size } };
  }

  /** Accepted: the queue's tail moves, and nobody answers. */
  #requestPage(rid: number, pasid: number, address: bigint, access: number): Observed {
    if (!this.#connected.has(rid)) {
      const endpoint: AtsEndpoint = { invalidate: () => {}, respond: ({ code }) => void this.#responses.push(code) };
      this.unit.ats?.connectEndpoint(rid, endpoint);
      this.#connected.add(rid);
    }
    this.#responses = [];
    const tail = this.unit.read(PQT, 8);
    this.unit.ats?.requestPage({ rid, pasid, page: Number(address >> 12n), access, group: 5, last: true });
    const moved = this.unit.read(PQT, 8) !== tail;
    this.unit.write(PQH, 8, this.unit.read(PQT, 8));
    this.unit.write(PRS, 4, 3n);
    if (moved) return { response: "done" };
    return { response: this.#responses.length === 1 && this.#responses[0] === PageResponseCode.INVALID ? "IR" : "UR" };
  }

  /** Reads the fault record that is there, if one is, and frees it. */
  #takeRecord(): { readonly record?: ReferenceRecord } {
    const status = Number(this.unit.read(Reg.FSTS, 4));
    if ((status & 2) === 0) return {};
    const offset = FRCD + (status >> 8) * 16;
    const [low, high] = [this.unit.read(offset, 8), this.unit.read(offset + 8, 8)];
    this.unit.write(offset + 12, 4, 0x8000_0000n);
    const flag = (bit: number): boolean => ((high >> BigInt(bit)) & 1n) === 1n;
    const type = (["write", "page", "read", "atomic"] as const)[(flag(62) ? 2 : 0) + (flag(28) ? 1 : 0)];
    return {
      record: {
        reason: Number((high >> 32n) & 0xffn),
        sid: high & 0xffffn,
        pasid: flag(31) ? (high >> 40n) & 0xfffffn : undefined,
        address: low,
        type,
        at: Number((high >> 60n) & 3n),
        execute: flag(30),
        privileged: flag(29),
      },
    };
  }
}

const show = (value: unknown): string =>
  JSON.stringify(value, (_, part: unknown) => (typeof part === "bigint" ? `0x${part.toString(16)}` : part)) ?? "nothing";

function compare(expected: Answer, observed: Observed, { cached, translated }: { readonly cached: boolean; readonly translated: boolean }): string[] {
  const why = expected.condition === undefined ? "" : ` (${expected.condition})`;
  const differences: string[] = [];
  const check = (what: string, should: unknown, is: unknown): void => {
    if (show(should) !== show(is)) differences.push(`${what} should be ${show(should)}${why}, is ${show(is)}`);
  };
  // A translated request that was blocked is -1, whether by UR or by CA.
  check("the response", translated && expected.response === "CA" ? "UR" : expected.response, observed.response);
  check("the output address", expected.address, observed.address);
  check("the completion", meaningful(expected.completion, observed, cached), meaningful(observed.completion, observed, false));
  check("the fault record", expected.record, observed.record);
  return differences;
}

/** Without a right, address and size and N say nothing. The address is that of the range. */
function meaningful(completion: Answer["completion"], observed: Observed, smaller: boolean): Answer["completion"] {
  if (completion === undefined) return undefined;
  if (!completion.read && (!completion.write || completion.untranslatedOnly)) return { ...completion, noSnoop: false, address: 0n, size: 12n };
  const seen = observed.completion?.size ?? 12n;
  const size = smaller && seen >= 12n && seen < completion.size ? seen : completion.size;
  return { ...completion, size, address: (completion.address >> size) << size };
}

export function describeConfiguration(words: UnitWords, configuration: Configuration): string {
  const hex = (value: bigint | number): string => `0x${value.toString(16)}`;
  return [
    `seed ${configuration.seed}; VER ${hex(words.version)} CAP ${hex(words.cap)} ECAP ${hex(words.ecap)} HAW ${words.haw}`,
    `RTADDR ${hex(configuration.rtaddr)}, translation ${configuration.enabled ? "on" : "off"}`,
    ...[...configuration.words].map(([address, value]) => `  ${hex(address)}: ${hex(value)}`),
    ...configuration.questions.map((question) => `  ${show(question)}`),
  ].join("\n");
}

/** Takes away what is not needed for two answers to differ: requests, words, and bits of words. */
export function shrink(rig: Rig, configuration: Configuration): Configuration {
  let smallest = configuration;
  const differs = (candidate: Configuration): boolean => {
    if (rig.run(candidate).length === 0) return false;
    smallest = candidate;
    return true;
  };
  for (const question of configuration.questions) differs({ ...smallest, questions: smallest.questions.filter((other) => other !== question) });
  for (const address of configuration.words.keys()) differs({ ...smallest, words: without(smallest.words, address) });
  for (const [address, value] of smallest.words) {
    for (let bit = 0n; bit < 64n; bit++) {
      const now = smallest.words.get(address) ?? 0n;
      if (((value >> bit) & 1n) === 1n) differs({ ...smallest, words: new Map(smallest.words).set(address, now & ~(1n << bit)) });
    }
  }
  return smallest;
}

function without(words: ReadonlyMap<number, bigint>, address: number): Map<number, bigint> {
  const rest = new Map(words);
  rest.delete(address);
  return rest;
}
