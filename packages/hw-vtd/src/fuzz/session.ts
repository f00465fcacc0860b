/**
 * Anything in tables, queues, registers and messages: a guest or a dump can put it there. A session is one unit and a sequence
 * of rounds; each round changes what the tables and the queue hold and lets devices and software go at it. What must hold:
 * no exception, no answer out of range, and no round that takes long.
 */
import { type AtsHardware, CompletionStatus, type IotlbGeometry, PhysicalMemory, TranslationCompletion } from "@iommukit/core";
import { type CacheGeometry, VtdUnit } from "../hardware/index.js";
import { CAP, ECAP } from "../spec/capabilities.js";
import { Reg } from "../spec/registers.js";
import { Random } from "../reference/random.js";

/** Tables, then two pages of queues; the unit's own registers can be reached through memory. */
const TABLE_PAGES = 16;
const QUEUE = TABLE_PAGES * 4096;
const PAGE_QUEUE = QUEUE + 4096;
const RAM_BYTES = PAGE_QUEUE + 4096;
const HIGH = 0x40_0000_0000;
const UNIT_BASE = 0xfed9_0000;
const WORDS_A_ROUND = 48;

/** Bits that structures use often: a word of noise is an OR of a pointer and some of them. */
const COMMON = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 52, 61, 62, 63];
/** Offsets into a page where something is looked for: small indexes of every structure. */
const INDEXES = [0, 8, 16, 24, 32, 40, 48, 56, 64, 128, 256, 384, 512, 768, 1024, 4088];

export class Session {
  readonly unit: VtdUnit;
  readonly #memory: PhysicalMemory;
  readonly #ats: AtsHardware;
  readonly #random: Random;
  readonly #completion = new TranslationCompletion();
  #responses = 0;

  constructor(memory: FuzzMemory, seed: number) {
    const random = new Random(seed);
    this.#random = random;
    this.#memory = memory.physical;
    memory.clear();
    const cap = (random.bits(64) | random.bits(64)) & ~(field(CAP, "FRO") | field(CAP, "NFR")) | (0x22n << 24n) | (BigInt(random.below(4)) << 40n);
    // Queue and device-TLBs are always there.
    const ecap = ((random.bits(64) | random.bits(64)) & ~field(ECAP, "IRO")) | (0xfn << 8n) | 6n;
    this.unit = new VtdUnit(memory.physical, {
      version: random.pick([0x10, 0x40, 0x60, 0x70, 0x80, random.below(256)]),
      cap,
      ecap,
      haw: random.pick([36, 39, 46, 52]),
      caches: randomCaches(random),
      policies: { absentPasids: random.pick(["did0", "wildcard", "uncached"]), accessed: random.pick(["success", "walked"]) },
      deviceTlbTimeout: 64,
      onMessage: () => random.chance(0.5),
    });
    memory.unit = this.unit;
    const { ats } = this.unit;
    if (ats === undefined) throw new RangeError("the unit has no ATS");
    this.#ats = ats;
    for (const rid of [0, 1, 0x80]) {
      ats.connectEndpoint(rid, {
        // Answers at once, later or never; a device may well ask again while it is being told to forget.
        invalidate: ({ tag }) => {
          if (random.chance(0.5)) ats.completeInvalidation(rid, random.chance(0.9) ? 1 << tag : random.next(), random.below(10));
        },
        respond: () => void this.#responses++,
      });
    }
  }

  round(): void {
    const random = this.#random;
    for (let i = 0; i < WORDS_A_ROUND; i++) this.#memory.writeU64(this.#slot(), this.#word());
    if (random.chance(0.3)) this.#mode();
    if (random.chance(0.5)) this.#fillQueue();
    if (random.chance(0.2)) this.#anyRegister();
    for (let i = 0; i < 4; i++) this.#request();
    if (random.chance(0.1)) for (const register of [Reg.FSTS, Reg.ICS, Reg.PRS]) this.unit.write(register, 4, 0xffn);
  }

  #slot(): number {
    const random = this.#random;
    const page = random.chance(0.03) ? HIGH : random.below(TABLE_PAGES) * 4096;
    return page + random.pick(INDEXES);
  }

  /** Mostly a pointer to one of the pages with a few flags; sometimes noise. */
  #word(): bigint {
    const random = this.#random;
    if (random.chance(0.05)) return random.bits(64);
    let word = BigInt(random.below(TABLE_PAGES)) << 12n;
    if (random.chance(0.03)) word = BigInt(random.pick([HIGH, UNIT_BASE, 0x2000_0000, QUEUE]));
    if (random.chance(0.8)) word |= 7n;
    for (let i = random.below(3); i > 0; i--) word |= 1n << BigInt(random.pick(COMMON));
    return word;
  }

  #mode(): void {
    const random = this.#random;
    const { unit } = this;
    unit.write(Reg.RTADDR, 8, (BigInt(random.below(TABLE_PAGES)) << 12n) | (BigInt(random.pick([0, 1, 1, 1, 2, 3])) << 10n) | (random.flag(0.2) << 7n));
    if (random.chance(0.3)) unit.write(Reg.IRTA, 8, (BigInt(random.below(TABLE_PAGES)) << 12n) | random.bits(12));
    unit.write(Reg.PQA, 8, BigInt(PAGE_QUEUE) | (random.chance(0.1) ? random.bits(3) : 0n));
    unit.write(Reg.IQA, 8, BigInt(QUEUE) | (random.flag(0.6) << 11n) | (random.chance(0.1) ? random.bits(3) : 0n));
    const on = 0xc700_0000n & (random.chance(0.8) ? 0xffff_ffffn : random.bits(32));
    unit.write(Reg.GCMD, 4, on | (random.chance(0.2) ? random.bits(32) : 0n));
  }

  /** Descriptors of every type, with fields of any value; the tail anywhere. */
  #fillQueue(): void {
    const random = this.#random;
    const count = 1 + random.below(8);
    let at = Number(this.unit.read(Reg.IQH, 8)) % 4096;
    for (let i = 0; i < count; i++) {
      const type = BigInt(random.below(12));
      const noise = random.chance(0.3) ? random.bits(64) : random.bits(64) & 0x0000_ffff_ffff_00f0n;
      this.#memory.writeU64(QUEUE + (at % 4096), (noise & ~0xe0fn) | (type & 15n));
      this.#memory.writeU64(QUEUE + ((at + 8) % 4096), random.chance(0.5) ? random.bits(64) & ~0xfffn : random.chance(0.5) ? 0n : random.bits(64));
      if (random.chance(0.2)) this.#memory.writeU64(QUEUE + ((at + 16) % 4096), random.bits(64));
      at += random.chance(0.5) ? 16 : 32;
    }
    this.unit.write(Reg.IQT, 8, random.chance(0.9) ? BigInt(at % 4096) : random.bits(20));
  }

  #anyRegister(): void {
    const random = this.#random;
    const offset = random.below(0x300);
    const size = random.pick([4, 8, 4, 1]);
    if (random.chance(0.5)) this.unit.write(offset & ~(size - 1), size, random.bits(64));
    else this.#inRange(Number(this.unit.read(offset & ~(size - 1), size) >> 32n), 0, 2 ** 32);
  }

  #request(): void {
    const random = this.#random;
    const { unit } = this;
    const rid = random.pick([0, 0, 1, 0x80, random.below(0x10000)]);
    const pasid = random.pick([-1, -1, 0, 1, 64, random.below(0x100000)]);
    const page = this.#page();
    const access = 1 + random.below(31);
    switch (random.below(8)) {
      case 0:
        unit.interrupt(rid, 0xfee0_0000n | (random.bits(20) & ~3n), random.next());
        break;
      case 1:
        this.#ats.requestPage({ rid, pasid, page, access, group: random.below(512), last: random.chance(0.5) });
        break;
      case 2:
        this.#ats.requestTranslation(rid, pasid, page, access, this.#completion);
        this.#checkCompletion();
        break;
      case 3:
        this.#inRange(this.#ats.translated(rid, pasid, page, access), -1, 2 ** 52);
        break;
      case 4:
        this.#ats.completeInvalidation(rid, random.next(), random.below(9));
        break;
      default:
        this.#inRange(unit.translate(rid, pasid, page, access), -1, 2 ** 52);
    }
  }

  /** Small indexes at every level, so that tables of a few pages answer; or anything. */
  #page(): number {
    const random = this.#random;
    if (random.chance(0.1)) return Number(random.bits(52));
    if (random.chance(0.05)) return 0xfee00 + random.below(256);
    const index = (): number => random.pick([0, 0, 1, 2, 3, 511]);
    const page = index() + index() * 2 ** 9 + index() * 2 ** 18 + index() * 2 ** 27 + (random.chance(0.1) ? index() * 2 ** 36 : 0);
    return page >= 2 ** 35 && random.chance(0.5) ? 2 ** 52 - 2 ** 36 + (page % 2 ** 36) : page;
  }

  #checkCompletion(): void {
    const { status, page, shift, read, write } = this.#completion;
    if (!Object.values<number>(CompletionStatus).includes(status)) throw new RangeError(`completion status ${status}`);
    if (status !== CompletionStatus.SUCCESS || !(read || write)) return;
    this.#inRange(page, 0, 2 ** 52);
    this.#inRange(shift, 12, 65);
  }

  #inRange(value: number, low: number, high: number): void {
    if (!(value >= low && value < high && Number.isInteger(value))) throw new RangeError(`answer ${value} is not in ${low} to ${high}`);
  }
}

function randomCaches(random: Random): CacheGeometry {
  const geometry = (): IotlbGeometry => ({ sets: random.pick([0, 1, 4]), ways: 2 });
  return { iotlb: geometry(), contexts: geometry(), pasids: geometry(), firstStageTables: geometry(), secondStageTables: geometry() };
}

/** One memory for all sessions: making one takes longer than a session. */
export class FuzzMemory {
  readonly physical: PhysicalMemory = new PhysicalMemory();
  /** Whose registers lie in memory. */
  unit: VtdUnit | undefined;

  constructor() {
    this.physical.addRam(0, RAM_BYTES);
    this.physical.addRam(HIGH, 0x10_0000);
    this.physical.addMmio(UNIT_BASE, 0x8000, {
      read: (offset, size) => this.unit?.read(offset, size) ?? 0n,
      write: (offset, size, value) => this.unit?.write(offset, size, value),
    });
  }

  clear(): void {
    this.physical.clear(0, RAM_BYTES);
    this.physical.clear(HIGH, 4096);
  }
}

/** Mask of a field. */
function field(table: typeof CAP, name: string): bigint {
  const row = table.fields.find((candidate) => candidate.name === name);
  if (row === undefined) throw new RangeError(`no field ${name}`);
  return ((1n << BigInt(row.width)) - 1n) << BigInt(row.low);
}
