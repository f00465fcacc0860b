/**
 * Anything in tables, queues, registers and messages: a guest or a dump can put it there. A session is one unit and a sequence of
 * rounds. A round damages tables that mostly work, fills the queue, and lets devices and software go at it. What must hold: no
 * exception, no answer out of range, and no round that takes long.
 */
import { type AtsHardware, CompletionStatus, type IotlbGeometry, NO_PASID, PhysicalMemory, TranslationCompletion } from "@iommukit/core";
import { type CacheGeometry, VtdUnit } from "../hardware/index.js";
import { Builder } from "../reference/builder.js";
import { type Configuration, HIGH_BYTES, HIGH_RAM, LOW_RAM, type Question, randomUnit, READ_ONLY, READ_ONLY_BYTES } from "../reference/configuration.js";
import { Random } from "../reference/random.js";
import type { UnitWords } from "../reference/unit.js";
import { CAP, ECAP } from "../spec/capabilities.js";
import { Reg } from "../spec/registers.js";

/** Pages of their own: the invalidation queue, the page request queue, interrupt entries. */
const QUEUE = 0x1800_0000;
const PAGE_QUEUE = QUEUE + 0x1000;
const INTERRUPTS = QUEUE + 0x2000;
const QUEUES_BYTES = 0x4000;
const UNIT_BASE = 0xfed9_0000;
const FRCD = 0x220;
/** TE, SRTP, QIE, IRE, SIRTP. */
const ON = 0xc700_0000n;
/** Rounds that damage the same tables, each in its own way on top of the last. */
const ROUNDS_A_CONFIGURATION = 4;

/** How deep the noise gets. */
export class Depth {
  /** Fault reasons that were recorded. */
  readonly reasons = new Set<number>();
  /** DMA that went through tables, translations granted, pages asked for, times that the queue moved, messages that left the unit. */
  readonly counts = { translated: 0, granted: 0, pageRequests: 0, queue: 0, messages: 0 };
}

export class Session {
  readonly unit: VtdUnit;
  readonly #memory: FuzzMemory;
  readonly #random: Random;
  readonly #words: UnitWords;
  readonly #ats: AtsHardware;
  readonly #completion = new TranslationCompletion();
  readonly #depth: Depth;
  #configuration: Configuration | undefined;
  #addresses: readonly number[] = [];
  #round = 0;

  constructor(memory: FuzzMemory, seed: number, depth: Depth) {
    const random = new Random(seed);
    this.#depth = depth;
    this.#random = random;
    this.#memory = memory;
    memory.clear();
    this.#words = unitWords(random);
    this.unit = new VtdUnit(memory.physical, {
      ...this.#words,
      caches: randomCaches(random),
      policies: { absentPasids: random.pick(["did0", "wildcard", "uncached"]), accessed: random.pick(["success", "walked"]) },
      deviceTlbTimeout: 64,
      onMessage: () => {
        depth.counts.messages++;
        return random.chance(0.5);
      },
    });
    memory.unit = this.unit;
    const { ats } = this.unit;
    if (ats === undefined) throw new RangeError("the unit has no ATS");
    this.#ats = ats;
  }

  round(): void {
    const random = this.#random;
    if (this.#round++ % ROUNDS_A_CONFIGURATION === 0) this.#load();
    for (let i = random.below(5); i > 0; i--) this.#damage();
    if (random.chance(0.5)) this.#fillQueue();
    if (random.chance(0.2)) this.#anyRegister();
    for (const question of this.#configuration?.questions ?? []) this.#ask(question);
    this.#request();
    this.#takeRecord();
    if (random.chance(0.5)) for (const register of [Reg.FSTS, Reg.ICS, Reg.PRS]) this.unit.write(register, 4, 0xffn);
  }

  /** Tables that mostly work, and a unit that is on. */
  #load(): void {
    const random = this.#random;
    const { unit } = this;
    const memory = this.#memory.physical;
    for (const address of this.#addresses) memory.writeU64(address, 0n);
    const built = new Builder(this.#words, random.next()).build();
    for (const [address, value] of built.words) memory.writeU64(address, value);
    this.#configuration = built;
    this.#addresses = [...built.words.keys()];
    for (let i = 0; i < 16; i++) memory.writeU64(INTERRUPTS + i * 8, this.#interruptWord(i & 1));
    for (const { rid } of built.questions) this.#connect(rid);
    unit.write(Reg.RTADDR, 8, built.rtaddr);
    unit.write(Reg.IRTA, 8, BigInt(INTERRUPTS) | (random.chance(0.8) ? 3n : random.bits(12)));
    unit.write(Reg.PQA, 8, BigInt(PAGE_QUEUE) | (random.chance(0.05) ? random.bits(3) : 0n));
    unit.write(Reg.GCMD, 4, 0xc300_0000n);
    const wide = (built.rtaddr & 0x400n) === 0n ? 0n : 0x800n;
    unit.write(Reg.IQA, 8, BigInt(QUEUE) | (random.chance(0.95) ? wide : random.bits(12)));
    unit.write(Reg.IQT, 8, 0n);
    unit.write(Reg.GCMD, 4, ON & (random.chance(0.95) ? 0xffff_ffffn : random.bits(32)));
  }

  /** Devices answer at once, later or never, and may ask again while they are told to forget. */
  #connect(rid: number): void {
    const random = this.#random;
    this.#ats.connectEndpoint(rid, {
      invalidate: ({ tag }) => {
        if (random.chance(0.5)) this.#ats.completeInvalidation(rid, random.chance(0.9) ? 1 << tag : random.next(), random.below(10));
        else if (random.chance(0.1)) this.#request();
      },
      respond: () => {},
    });
  }

  #interruptWord(half: number): bigint {
    const random = this.#random;
    if (random.chance(0.1)) return random.bits(64);
    if (half === 1) return random.bits(18);
    return (random.bits(64) & 0xff_00ff_4ffcn) | random.flag(0.9) | (random.flag(0.2) << 1n) | (random.flag(0.3) << 15n);
  }

  /** One word of the tables: a bit, a pointer, anything. */
  #damage(): void {
    const random = this.#random;
    const address = random.pick(this.#addresses);
    const memory = this.#memory.physical;
    const word = memory.readU64(address) ?? 0n;
    switch (random.below(8)) {
      case 0:
        memory.writeU64(address, random.bits(64));
        break;
      case 1:
        memory.writeU64(address, (word & 0xfffn) | BigInt(random.pick([0x2000_0000, UNIT_BASE, QUEUE, HIGH_RAM, 2 ** 51])));
        break;
      case 2:
        memory.writeU64(address, (word & 0xfffn) | (BigInt(random.pick(this.#addresses)) & ~0xfffn));
        break;
      case 3:
        memory.writeU64(random.below(LOW_RAM / 8) * 8, 0n);
        break;
      default:
        memory.writeU64(address, word ^ (1n << BigInt(random.below(64))));
    }
  }

  /** Descriptors of every type, mostly well-formed; the tail mostly behind them. */
  #fillQueue(): void {
    const random = this.#random;
    const { unit } = this;
    const bytes = (unit.read(Reg.IQA, 8) & 0x800n) === 0n ? 16 : 32;
    let at = Number(unit.read(Reg.IQH, 8)) % 4096;
    for (let i = 1 + random.below(5); i > 0; i--) {
      const words = random.chance(0.9) ? this.#descriptor() : [random.bits(64), random.bits(64), random.flag(0.1), 0n];
      for (let word = 0; word < bytes / 8; word++) this.#memory.physical.writeU64(QUEUE + ((at + word * 8) % 4096), words[word] ?? 0n);
      at = (at + bytes) % 4096;
    }
    const before = unit.read(Reg.IQH, 8);
    unit.write(Reg.IQT, 8, random.chance(0.95) ? BigInt(at) : random.bits(20));
    if (unit.read(Reg.IQH, 8) !== before) this.#depth.counts.queue++;
  }

  #descriptor(): bigint[] {
    const random = this.#random;
    const type = random.below(12);
    const rid = BigInt(this.#question()?.rid ?? 0);
    const pasid = BigInt(random.pick([0, this.#question()?.pasid ?? 0, random.below(0x100000)]) & 0xfffff);
    const address = (this.#question()?.address ?? 0n) & ~0xfffn;
    const range = address | BigInt(random.pick([0, 0, 9, 18, 63])) | (random.flag(0.3) << 6n);
    const granularity = BigInt(random.below(4)) << 4n;
    const head = BigInt(type & 15) | (type >= 16 ? 0x200n : 0n);
    switch (type) {
      case 1:
        return [head | granularity | (random.bits(4) << 16n) | (rid << 32n) | (random.bits(2) << 48n), 0n];
      case 2:
        return [head | granularity | (random.bits(2) << 6n) | (random.bits(4) << 16n), range];
      case 3:
        return [head | (rid << 32n) | (random.bits(5) << 16n), address | random.flag(0.5)];
      case 4:
        return [head | (random.flag(0.5) << 4n) | (random.bits(4) << 32n), 0n];
      case 5:
        return [head | (random.bits(3) << 4n) | (random.bits(32) << 32n), BigInt(random.pick([QUEUE + 0x3000, UNIT_BASE + Reg.IQT, 0x2000_0000, QUEUE]))];
      case 6:
        return [head | granularity | (random.bits(4) << 16n) | (pasid << 32n), range];
      case 7:
        return [head | granularity | (random.bits(4) << 16n) | (pasid << 32n), 0n];
      case 8:
        return [head | (random.bits(5) << 4n) | (rid << 16n) | (pasid << 32n), address | (random.flag(0.5) << 11n) | random.flag(0.2)];
      case 9:
        return [head | (random.flag(0.5) << 4n) | (BigInt(random.pick([0, 1, 15])) << 12n) | (rid << 16n) | (pasid << 32n), random.bits(9) << 3n];
      default:
        return [head | granularity | (random.bits(4) << 16n), range];
    }
  }

  #question(): Question | undefined {
    const questions = this.#configuration?.questions ?? [];
    return questions.length === 0 ? undefined : this.#random.pick(questions);
  }

  #anyRegister(): void {
    const random = this.#random;
    const offset = random.below(0x300);
    const size = random.pick([4, 8, 4, 1]);
    if (random.chance(0.5)) this.unit.write(offset & ~(size - 1), size, random.bits(64));
    else this.#inRange(Number(this.unit.read(offset & ~(size - 1), size) >> 32n), 0, 2 ** 32);
  }

  /** A request that the tables were made for. */
  #ask({ kind, rid, pasid, address, ...rights }: Question): void {
    const access = (rights.read ? 1 : 0) | (rights.write ? 2 : 0) | (rights.execute ? 4 : 0) | (rights.privileged ? 8 : 0) | (rights.zeroLength ? 16 : 0);
    const page = Number(address >> 12n);
    if (kind === "untranslated") this.#translate(rid, pasid, page, access);
    else if (kind === "translated") this.#inRange(this.#ats.translated(rid, pasid, page, access), -1, 2 ** 52);
    else if (kind === "page") this.#requestPage(rid, pasid, page, access);
    else this.#requestTranslation(rid, pasid, page, access);
  }

  #translate(rid: number, pasid: number, page: number, access: number): void {
    const out = this.unit.translate(rid, pasid, page, access);
    this.#inRange(out, -1, 2 ** 52);
    if (out !== -1 && out !== page) this.#depth.counts.translated++;
  }

  #requestPage(rid: number, pasid: number, page: number, access: number): void {
    this.#ats.requestPage({ rid, pasid, page, access, group: this.#random.below(512), last: this.#random.chance(0.5) });
    if ((this.unit.read(Reg.PRS, 4) & 1n) === 1n) this.#depth.counts.pageRequests++;
  }

  /** Anything from anybody. */
  #request(): void {
    const random = this.#random;
    const rid = random.chance(0.5) ? (this.#question()?.rid ?? 0) : random.below(0x10000);
    const pasid = random.pick([NO_PASID, 0, random.below(0x100000)]);
    const page = random.chance(0.2) ? 0xfee00 + random.below(256) : Number(random.bits(random.pick([20, 36, 52])));
    const access = 1 + random.below(31);
    switch (random.below(8)) {
      case 0:
      case 1:
        this.unit.interrupt(rid, 0xfee0_0010n | (random.chance(0.8) ? BigInt(random.below(8)) << 5n : random.bits(20) & ~3n), random.chance(0.5) ? 0 : random.next());
        break;
      case 2:
        this.#requestPage(rid, pasid, page, access);
        break;
      case 3:
        this.#requestTranslation(rid, pasid, page, access);
        break;
      case 4:
        this.#inRange(this.#ats.translated(rid, pasid, page, access), -1, 2 ** 52);
        break;
      case 5:
        this.#ats.completeInvalidation(rid, random.next(), random.below(9));
        break;
      default:
        this.#translate(rid, pasid, page, access);
    }
  }

  #requestTranslation(rid: number, pasid: number, asked: number, access: number): void {
    this.#ats.requestTranslation(rid, pasid, asked, access, this.#completion);
    const { status, page, shift, read, write, untranslatedOnly } = this.#completion;
    if (!Object.values<number>(CompletionStatus).includes(status)) throw new RangeError(`completion status ${status}`);
    if (status !== CompletionStatus.SUCCESS || !(read || write) || untranslatedOnly) return;
    this.#depth.counts.granted++;
    this.#inRange(page, 0, 2 ** 52);
    this.#inRange(shift, 12, 65);
  }

  #inRange(value: number, low: number, high: number): void {
    if (!(value >= low && value < high && Number.isInteger(value))) throw new RangeError(`answer ${value} is not in ${low} to ${high}`);
  }

  #takeRecord(): void {
    const high = this.unit.read(FRCD + 8, 8);
    if (high >> 63n === 0n) return;
    this.#depth.reasons.add(Number((high >> 32n) & 0xffn));
    this.unit.write(FRCD + 12, 4, 0x8000_0000n);
  }
}

/** One memory for all sessions: making one takes longer than a session. */
export class FuzzMemory {
  readonly physical: PhysicalMemory = new PhysicalMemory();
  /** Whose registers lie in memory, where tables, waits and page requests can reach them. */
  unit: VtdUnit | undefined;

  constructor() {
    this.physical.addRam(0, LOW_RAM);
    this.physical.addRam(HIGH_RAM, HIGH_BYTES);
    this.physical.addRam(READ_ONLY, READ_ONLY_BYTES);
    this.physical.addRam(QUEUE, QUEUES_BYTES);
    this.physical.addMmio(UNIT_BASE, 0x8000, {
      read: (offset, size) => this.unit?.read(offset, size) ?? 0n,
      write: (offset, size, value) => this.unit?.write(offset, size, value),
    });
  }

  clear(): void {
    this.unit = undefined;
    this.physical.clear(0, LOW_RAM);
    this.physical.clear(HIGH_RAM, HIGH_BYTES);
    this.physical.clear(READ_ONLY, READ_ONLY_BYTES);
    this.physical.clear(QUEUE, QUEUES_BYTES);
  }
}

/** A real unit, or one that announces anything: some combinations make no sense. One fault record; ATS and the queue are always there. */
function unitWords(random: Random): UnitWords {
  const words = randomUnit(random);
  const strange = random.chance(0.3);
  const noise = strange ? random.bits(64) : 0n;
  const more = strange ? random.bits(64) & random.bits(64) : 0n;
  const fixedCap = fieldMask(CAP, "FRO") | fieldMask(CAP, "NFR");
  return {
    version: strange ? random.below(256) : words.version,
    cap: words.cap ^ (noise & ~fixedCap),
    // IR and interrupt features, device-TLBs, queue.
    ecap: words.ecap | (more & ~fieldMask(ECAP, "IRO")) | 0xen,
    haw: strange ? 36 + random.below(17) : words.haw,
  };
}

function randomCaches(random: Random): CacheGeometry {
  const geometry = (): IotlbGeometry => ({ sets: random.pick([0, 1, 4]), ways: 2 });
  return { iotlb: geometry(), contexts: geometry(), pasids: geometry(), firstStageTables: geometry(), secondStageTables: geometry() };
}

function fieldMask(table: typeof CAP, name: string): bigint {
  const row = table.fields.find((candidate) => candidate.name === name);
  if (row === undefined) throw new RangeError(`no field ${name}`);
  return ((1n << BigInt(row.width)) - 1n) << BigInt(row.low);
}
