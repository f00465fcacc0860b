/** Builds the tables of one random configuration, structure by structure. */
import { type Configuration, HIGH_RAM, type Question, READ_ONLY } from "./configuration.js";
import { Random } from "./random.js";
import type { Kind } from "./request.js";
import { E, ReferenceUnit, type UnitWords } from "./unit.js";

const ones = (high: bigint, low: bigint): bigint => (high < low ? 0n : ((1n << (high - low + 1n)) - 1n) << low);
const at = (value: bigint, low: number): bigint => value << BigInt(low);

/** A word that a mutation may change, and the bits of it that are worth it. */
interface Slot {
  readonly address: number;
  readonly interesting: readonly number[];
}

const POINTER_TOP = [39, 41, 42, 45, 46, 47, 48, 50, 51, 52, 56, 62, 63];
const CONTEXT_BITS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, ...POINTER_TOP];
const ENTRY_BITS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 15, 20, 21, 29, 61, ...POINTER_TOP];
const ANY_BITS = Array.from({ length: 64 }, (_, i) => i);

export class Builder {
  readonly #random: Random;
  readonly #unit: ReferenceUnit;
  readonly #words = new Map<number, bigint>();
  readonly #slots: Slot[] = [];
  readonly #used = new Set<number>();
  readonly #second = new Map<string, number>();
  #ssirwe = false;
  #hostPermission = false;
  /** What host permission tables say something about. */
  readonly #hostAddresses: bigint[] = [];

  constructor(words: UnitWords, private readonly seed: number) {
    this.#random = new Random(seed);
    this.#unit = new ReferenceUnit(words);
  }

  build(): Configuration {
    const random = this.#random;
    const mode = this.#mode();
    this.#ssirwe = mode === 1n && this.#unit.ecap(E.SSIRWS) ? random.chance(0.4) : mode !== 0n ? random.chance(0) : random.chance(0.01) && this.#unit.ecap(E.SSIRWS);
    const root = this.#page();
    const rid = random.below(0x10000);
    const scalable = mode !== 0n;
    const plan = scalable ? this.#scalable(root, rid) : this.#legacy(root, rid);
    const mutations = random.pick([0, 0, 0, 1, 1, 2]);
    for (let i = 0; i < mutations; i++) this.#mutate();
    const questions = Array.from({ length: 3 }, () => this.#question(rid, plan, scalable));
    const rtaddr = BigInt(random.chance(0.01) ? 0x2000_0000 : root) | (mode << 10n) | (this.#ssirwe ? 0x80n : 0n);
    return { seed: this.seed, rtaddr, enabled: random.chance(0.99), words: this.#words, questions };
  }

  #mode(): bigint {
    const random = this.#random;
    if (random.chance(0.02)) return BigInt(random.below(4));
    return this.#unit.ecap(E.SMTS) && random.chance(0.8) ? 1n : 0n;
  }

  /** A page nobody uses yet: mostly low, now and then high, or where no flag can be set. */
  #page(): number {
    const random = this.#random;
    for (;;) {
      const place = random.below(100);
      const page =
        place < 96 || this.#unit.haw < 39n ? (1 + random.below(511)) * 4096 : place < 98 ? HIGH_RAM + random.below(256) * 4096 : READ_ONLY + random.below(256) * 4096;
      if (this.#used.has(page)) continue;
      this.#used.add(page);
      return page;
    }
  }

  #put(address: number, value: bigint, interesting: readonly number[]): void {
    this.#words.set(address, value);
    this.#slots.push({ address, interesting });
  }

  // ---- Legacy mode ------------------------------------------------------------

  #legacy(root: number, rid: number): Plan {
    const random = this.#random;
    const contexts = this.#page();
    this.#put(root + (rid >> 8) * 16, BigInt(contexts) | 1n, CONTEXT_BITS);
    this.#words.set(root + (rid >> 8) * 16 + 8, 0n);
    const type = BigInt(random.pick([0, 1, 1, 1, 2]));
    const aw = random.chance(0.02) ? random.bits(3) : type === 2n && random.chance(0.8) ? this.#unit.largestAw : this.#aw();
    const table = this.#page();
    const context = contexts + (rid & 0xff) * 16;
    this.#put(context, BigInt(table) | at(type, 2) | at(random.flag(0.1), 1) | 1n, CONTEXT_BITS);
    const domain = random.bits(Number(this.#unit.domainBits));
    this.#put(context + 8, aw | at(random.bits(4), 3) | at(domain, 8), ANY_BITS);
    this.#second.set("", table);
    const address = this.#limited(aw);
    if (type !== 2n) this.#mapSecond(address, aw, BigInt(this.#target()), false);
    return { addresses: [address], pasid: -1 };
  }

  #aw(): bigint {
    const supported = [1n, 2n, 3n].filter((aw) => this.#unit.widthOf(aw) !== undefined);
    return supported.length === 0 ? 2n : this.#random.pick(supported);
  }

  /** An address that a second stage of this width accepts, or one just outside. */
  #limited(aw: bigint): bigint {
    const random = this.#random;
    const limit = this.#unit.inputBits(aw) || 39n;
    const address = random.bits(52) & ones(limit - 1n, 12n);
    if (random.chance(0.03)) return address | (1n << limit);
    return random.chance(0.03) ? 0xfee0_0000n | (address & 0xf_f000n) : address;
  }

  /** Where a mapping leads: rarely into the interrupt range. */
  #target(): number {
    const random = this.#random;
    if (random.chance(0.03)) return 0xfee0_0000 + random.below(256) * 4096;
    return random.chance(0.5) ? random.below(0x4000_0000) * 4096 % 2 ** Number(this.#unit.haw) : this.#page();
  }

  // ---- Scalable mode ------------------------------------------------------------

  #scalable(root: number, rid: number): Plan {
    const random = this.#random;
    const unit = this.#unit;
    const contexts = this.#page();
    const half = root + (rid >> 8) * 16 + ((rid >> 7) & 1) * 8;
    this.#put(half, BigInt(contexts) | 1n, CONTEXT_BITS);
    if (random.chance(0.2)) this.#words.set(half ^ 8, random.bits(64));
    const pdts = BigInt(random.pick([0, 0, 1, 3, 7]));
    const limit = 1 << (Number(pdts) + 13);
    const pasidLimit = Math.min(limit, 2 ** Number(unit.pasidBits));
    let ridPasid = unit.ecap(E.RPS) && random.chance(0.6) ? random.below(pasidLimit) : 0;
    const hasPasid = unit.ecap(E.PASID) && random.chance(0.55);
    let pasid = hasPasid ? random.below(pasidLimit) : ridPasid;
    if (random.chance(0.03)) pasid = random.below(0x100000);
    if (hasPasid && random.chance(0.02)) pasid = ridPasid;
    if (unit.ecap(E.RPS) && random.chance(0.01)) ridPasid = random.below(0x100000);
    const dte = unit.ecap(E.DT) ? random.flag(0.9) : 0n;
    const pre = unit.ecap(E.PRS) && (dte === 1n || random.chance(0.05)) ? random.flag(0.8) : 0n;
    const pasidEnable = unit.ecap(E.PASID) ? random.flag(hasPasid ? 0.96 : 0.7) : 0n;
    const eptr = unit.ecap(E.PTRS) && (pasidEnable === 1n || random.chance(0.1)) ? random.flag(0.6) : 0n;
    const directory = this.#directory(pasid);
    const context = contexts + (rid & 0x7f) * 32;
    this.#hostPermission = unit.ecap(E.HPTS) && random.chance(0.7);
    const flags = at(random.flag(0.08), 1) | at(dte, 2) | at(pasidEnable, 3) | at(pre, 4) | (this.#hostPermission ? 0x20n : 0n) | at(eptr, 6) | at(pdts, 9);
    this.#put(context, BigInt(directory) | flags | 1n, CONTEXT_BITS);
    const privileged = unit.ecap(E.RPRIVS) ? random.flag(0.3) : 0n;
    this.#put(context + 8, BigInt(ridPasid) | at(privileged, 20), ANY_BITS);
    this.#put(context + 16, 0n, ANY_BITS);
    const table = this.#page();
    const entry = directory + (pasid >> 6) * 8;
    this.#put(entry, BigInt(table) | at(random.flag(0.05), 1) | 1n, CONTEXT_BITS);
    const addresses = this.#pasidEntry(table + (pasid & 63) * 64);
    return { addresses, pasid: hasPasid ? pasid : -1 };
  }

  /** A PASID directory can be larger than a page; only the page that is used need be free. */
  #directory(pasid: number): number {
    for (;;) {
      const base = this.#page() - (((pasid >> 6) * 8) & ~0xfff);
      if (base >= 0) return base;
    }
  }

  #pasidEntry(address: number): bigint[] {
    const random = this.#random;
    const unit = this.#unit;
    const kinds = [1, 2, 4].filter((pgtt) => unit.ecap(pgtt === 1 ? E.FSTS : pgtt === 2 ? E.SSTS : E.PT));
    const nested = unit.ecap(E.NEST) && random.chance(0.6);
    const pgtt = random.chance(0.01) ? random.bits(3) : nested ? 3n : BigInt(random.pick(kinds.length === 0 ? [0] : kinds));
    const usesFirst = pgtt === 1n || pgtt === 3n;
    const usesSecond = pgtt === 2n || pgtt === 3n;
    const aw = !unit.ecap(E.SSTS) ? 0n : random.chance(0.01) ? random.bits(3) : this.#aw();
    const fspm = !unit.ecap(E.FSTS) ? 0n : random.chance(0.01) ? random.bits(2) : unit.cap(60) === 1n ? random.flag(0.5) : 0n;
    const option = (bit: number, probability: number): bigint => (unit.ecap(bit) ? random.flag(probability) : 0n);
    const ssade = unit.ecap(E.SSTS) ? option(E.SSADS, 0.5) : 0n;
    const second = usesSecond || (unit.ecap(E.SSTS) && random.chance(0.2)) ? this.#page() : 0;
    if (second !== 0) this.#second.set("", second);
    const eafe = option(E.EAFS, 0.4);
    let first = 0n;
    const addresses: bigint[] = [];
    if (usesFirst) {
      first = BigInt(this.#page());
      if (pgtt === 3n) {
        const host = Number(first);
        first = this.#guest(aw);
        this.#mapSecond(first, aw, BigInt(host), ssade === 1n);
        if (random.chance(0.02)) first |= 1n << unit.inputBits(aw);
        addresses.push(this.#mapFirst(fspm, host, eafe === 1n, aw, ssade === 1n));
      } else addresses.push(this.#mapFirst(fspm, Number(first), eafe === 1n, undefined, false));
    } else if (usesSecond) {
      const input = this.#limited(aw);
      this.#mapSecond(input, aw, BigInt(this.#target()), ssade === 1n);
      addresses.push(input);
    } else addresses.push(random.chance(0.1) ? 0xfee0_0000n + BigInt(random.below(256) * 4096) : random.bits(random.pick([32, 46, 64])));
    this.#put(address, BigInt(second) | at(ssade, 9) | at(pgtt, 6) | at(aw, 2) | at(random.flag(0.05), 1) | 1n, CONTEXT_BITS);
    const memoryType = unit.ecap(E.MTS) ? at(random.bits(2), 25) | at(random.bits(32), 32) : 0n;
    const domain = random.bits(Number(unit.domainBits));
    this.#put(address + 8, domain | at(option(E.SMPWC, 0.9), 23) | at(option(E.SC, 0.4), 24) | memoryType, ANY_BITS);
    const wpe = unit.ecap(E.FSTS) ? random.flag(0.5) : 0n;
    const word2 = first | option(E.SRS, 0.85) | at(fspm, 2) | at(wpe, 4) | at(random.bits(2), 5) | at(eafe, 7);
    this.#put(address + 16, word2, ANY_BITS);
    for (const offset of [24, 48, 56]) if (random.chance(0.1)) this.#put(address + offset, 0n, ANY_BITS);
    if (this.#hostPermission) {
      const size = random.bits(2);
      this.#put(address + 32, BigInt(this.#hostPermissions()) | size, ANY_BITS);
      this.#put(address + 40, random.bits(Number(this.#unit.domainBits)), ANY_BITS);
    }
    return addresses;
  }

  /** A guest-physical page for a first-stage table or a guest page. */
  #guest(aw: bigint): bigint {
    const limit = this.#unit.inputBits(aw) || 39n;
    return this.#random.bits(52) & ones(limit - 1n, 12n) & ones(this.#unit.haw - 1n, 0n);
  }

  /** Host permission tables for one host address; gives back the top one. */
  #hostPermissions(): number {
    const random = this.#random;
    const address = random.bits(Math.min(Number(this.#unit.haw), random.pick([30, 41, 49]))) & ~0xfffn;
    this.#hostAddresses.push(address);
    const top = this.#page();
    let table = top;
    for (const [depth, shift] of [41n, 33n, 25n, 17n].entries()) {
      // The top table may be larger than a page: its lower part is used.
      const place = table + Number((address >> shift) & (depth === 0 ? 127n : 255n)) * 16;
      if (depth === 0 && (address >> shift) > 127n) return top;
      if (depth === 3 || (depth > 0 && random.chance(0.3) && (depth > 1 || this.#unit.ecap(E.HPT1GPS)))) {
        const permission = Number((address >> [0n, 30n, 21n, 12n][depth]) & [0n, 7n, 15n, 31n][depth]);
        const word = place + (permission >> 4) * 8;
        this.#put(word, BigInt(random.pick([1, 2, 3, 3, 0])) << BigInt((permission & 15) * 4), [...ANY_BITS]);
        if (word === place) this.#put(place + 8, depth === 3 ? 0n : random.flag(0.2), CONTEXT_BITS);
        return top;
      }
      const next = this.#page();
      this.#put(place, 0n, [0, 1, 2, 3, 40]);
      this.#put(place + 8, BigInt(next) | 1n, CONTEXT_BITS);
      table = next;
    }
    return top;
  }

  // ---- Tables -------------------------------------------------------------------

  /** Maps a page of a second stage; `target` is a host page. Large leaves map a range that holds it. */
  #mapSecond(address: bigint, aw: bigint, target: bigint, flags: boolean): void {
    const random = this.#random;
    const top = Math.min(Math.max(Number(aw) + 1, 2), 4);
    const isTable = target < 2n ** 52n && this.#used.has(Number(target));
    // A large page whose offset bits agree may hold the page.
    const leaf = this.#leafLevel([this.#unit.cap(34) === 1n, this.#unit.cap(35) === 1n], isTable ? 0.04 : 0.3);
    let path = "";
    for (let level = top; level >= leaf; level--) {
      const table = this.#second.get(path);
      if (table === undefined) return;
      const index = (address >> BigInt(12 + 9 * level)) & 511n;
      const place = table + Number(index) * 8;
      path += `/${index}`;
      const known = this.#second.get(path);
      if (known !== undefined) continue;
      const [read, write] = [random.flag(0.96), random.flag(0.94)];
      const rights = this.#ssirwe ? at(read, 61) | at(write, 62) | random.bits(2) : read | at(write, 1) | at(random.flag(0.2), 61);
      const kept = rights | at(random.flag(flags ? 0.7 : 0.3), 8) | at(random.flag(flags ? 0.6 : 0.3), 9) | at(random.flag(0.2), 10) | at(random.bits(9) , 52);
      const ignored = kept & ~(this.#ssirwe ? 0n : 1n << 62n);
      if (level === leaf) {
        const size = BigInt(12 + 9 * level);
        const snoop = this.#unit.ecap(E.SC) ? at(random.flag(0.3), 11) : 0n;
        const frame = (target >> size) << size;
        this.#put(place, ignored | frame | at(random.bits(3), 3) | at(random.flag(0.3), 6) | snoop | (level > 0 ? 0x80n : at(random.flag(0.2), 7)), ENTRY_BITS);
      } else {
        const next = this.#page();
        this.#second.set(path, next);
        this.#put(place, ignored | BigInt(next) | at(random.bits(4), 2), ENTRY_BITS);
      }
    }
  }

  /** Level of the leaf: 0, or higher where pages of 2 MiB and 1 GiB exist. */
  #leafLevel([two, one]: readonly [boolean, boolean], probability: number): number {
    const random = this.#random;
    if (!random.chance(probability)) return 0;
    if (one && random.chance(0.4)) return 2;
    return two || random.chance(0.05) ? 1 : 0;
  }

  /** Maps one page of a first stage whose top table lies at `host`; gives back its address. */
  #mapFirst(fspm: bigint, host: number, eafe: boolean, aw: bigint | undefined, secondFlags: boolean): bigint {
    const random = this.#random;
    const top = fspm === 1n ? 4 : 3;
    const sign = fspm === 1n ? 56n : 47n;
    let address = random.bits(64) & ones(sign - 1n, 12n);
    if (random.chance(0.3)) address |= ones(63n, sign);
    const leaf = this.#leafLevel([true, this.#unit.cap(56) === 1n], 0.3);
    let table = host;
    const user = random.chance(0.9);
    for (let level = top; level >= leaf; level--) {
      const place = table + Number((address >> BigInt(12 + 9 * level)) & 511n) * 8;
      const bits = random.flag(0.95) << 1n | at(user ? random.flag(0.99) : random.flag(0.7), 2);
      const kept = bits | at(random.bits(2), 3) | at(random.flag(0.7), 5) | at(random.flag(eafe ? 0.6 : 0.3), 10) | at(random.bits(1), 11) | at(random.bits(12), 52) | 1n;
      if (level === leaf) {
        const size = BigInt(12 + 9 * level);
        let target = BigInt(this.#target());
        if (aw !== undefined) {
          const guest = this.#guest(aw);
          this.#mapSecond(guest, aw, target, secondFlags);
          target = guest;
        }
        const frame = (target >> size) << size;
        // The offset in a large page leads to the guest page that is mapped.
        if (level > 0) address = (address >> size << size) | (target & ones(size - 1n, 12n));
        const pat = level > 0 ? at(random.flag(0.3), 12) : at(random.flag(0.3), 7);
        this.#put(place, kept | frame | at(random.flag(0.6), 6) | at(random.flag(0.2), 8) | pat | (level > 0 ? 0x80n : 0n), ENTRY_BITS);
      } else {
        const next = this.#page();
        let pointer = BigInt(next);
        if (aw !== undefined) {
          pointer = this.#guest(aw);
          this.#mapSecond(pointer, aw, BigInt(next), secondFlags);
          if (random.chance(0.005)) pointer |= 1n << this.#unit.inputBits(aw);
        }
        this.#put(place, kept | pointer | at(random.bits(1), 6), ENTRY_BITS);
        table = next;
      }
    }
    return random.chance(0.01) ? address ^ (1n << random.pick([47n, 55n, 56n, 62n])) : address;
  }

  // ---- Mutations and questions -----------------------------------------------------

  #mutate(): void {
    const random = this.#random;
    const slot = random.pick(this.#slots);
    const word = this.#words.get(slot.address) ?? 0n;
    const choice = random.below(20);
    if (choice === 0) this.#words.set(slot.address, 0n);
    else if (choice === 1) this.#words.set(slot.address, random.bits(64));
    // Memory that does not answer, and a table that is another one too.
    else if (choice < 6) this.#words.set(slot.address, (word & 0xfffn) | 0x2000_0000n | at(random.bits(6), 12));
    else if (choice === 6) this.#words.set(slot.address, (word & 0xfffn) | BigInt(random.pick([...this.#used])));
    else this.#words.set(slot.address, word ^ (1n << BigInt(random.pick(slot.interesting))));
  }

  #question(rid: number, plan: Plan, scalable: boolean): Question {
    const random = this.#random;
    const unit = this.#unit;
    const kinds: Kind[] = ["untranslated", "untranslated", "untranslated"];
    if (unit.ecap(E.DT)) kinds.push("translation", "translation", "translated");
    if (unit.ecap(E.PRS)) kinds.push("page");
    const kind = random.pick(kinds);
    let address = random.pick(plan.addresses) | (random.chance(0.1) ? at(random.bits(2), 12) : 0n);
    if (random.chance(0.01)) address = 0xfee0_0000n + at(random.bits(8), 12);
    if (kind === "translated") {
      address = random.chance(0.05) ? 0xfee0_0000n : random.bits(random.pick([30, 39, 46, 52]));
      if (this.#hostAddresses.length > 0 && random.chance(0.7)) address = random.pick(this.#hostAddresses) | (random.chance(0.2) ? at(random.bits(2), 12) : 0n);
    }
    const access = random.below(10);
    let pasid = scalable ? plan.pasid : random.chance(0.02) ? 5 : -1;
    if (scalable && random.chance(0.02)) pasid = pasid === -1 ? random.below(0x100000) : -1;
    const read = access < 5 || access === 9;
    return {
      kind, rid, pasid,
      address: address & ~0xfffn,
      read: read || kind === "translation",
      write: access >= 5,
      execute: pasid !== -1 && access < 5 && random.chance(0.02),
      privileged: pasid !== -1 && random.chance(0.3),
      zeroLength: (kind === "untranslated" || kind === "translated") && access < 5 && random.chance(0.1),
    };
  }
}

interface Plan {
  readonly addresses: readonly bigint[];
  readonly pasid: number;
}
