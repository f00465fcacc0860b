/** A random machine: stream table, STE, CD, tables of both stages, and requests that mostly hit what is mapped. */
import { type Builder, Tables } from "./builder.js";
import type { Identification, Registers, Request } from "./request.js";

export interface RandomMachine {
  readonly registers: Registers;
  readonly requests: readonly Request[];
}

const SIZES = [32, 36, 40, 42, 44, 48, 52, 56];
const GRANULES = [12, 16, 14];

/** Of a leaf: the hint, the access flag, and what could make one leaf of a run need an update (AF is set, DBM and AP[2] are not). */
const CONTIGUOUS = 1n << 52n;
/** STE.CONT in the second word of an STE. */
const STREAMS_ALIKE = 15n << 13n;
const AF = 1n << 10n;
const RUN_OPEN = (1n << 51n) | AF;

const field = (value: number | bigint | boolean, low: number): bigint => BigInt(value) << BigInt(low);
const flag = (id: number, at: number): boolean => ((id >> at) & 1) === 1;

export function randomMachine(b: Builder, id: Identification): RandomMachine {
  b.clear();
  return new MachineBuilder(b, id).build();
}

class MachineBuilder {
  readonly #b: Builder;
  readonly #id: Identification;
  readonly #oas: number;
  readonly #ds: boolean;
  readonly #httu: number;
  readonly #requests: Request[] = [];
  /** Where the STE is. */
  #ste = 0;
  #second: Tables | undefined;
  #mapped: bigint[] = [];
  #hasRun = false;
  /** Ignored bits of table descriptors are used, as software may. */
  readonly #noisy: boolean;
  /** Small pages in 4K tables, and nothing unusual: what a busy device meets, and what the model is quick at. */
  readonly #plain: boolean;

  constructor(b: Builder, id: Identification) {
    this.#b = b;
    this.#id = id;
    this.#oas = SIZES[id.idr5 & 7];
    this.#ds = flag(id.idr5, 7);
    this.#httu = (id.idr0 >> 6) & 3;
    this.#plain = b.chance(35);
    this.#noisy = !this.#plain && b.chance(50);
  }

  build(): RandomMachine {
    const b = this.#b;
    const { idr0, idr1 } = this.#id;
    const s1 = flag(idr0, 1);
    const s2 = flag(idr0, 0);
    const legal = [4, ...(s1 ? [5, 5, 5] : []), ...(s2 ? [6, 6] : []), ...(s1 && s2 ? [7, 7, 7] : [])];
    const config = b.chance(3) ? b.random(8) : b.pick(...legal);
    const ssidBits = (idr1 >> 6) & 31;
    const cdMax = b.chance(60) ? 0 : b.random(Math.min(ssidBits, 7) + (b.chance(3) ? 8 : 1));
    const substream = b.chance(ssidBits === 0 || cdMax === 0 || (config & 1) === 0 ? 2 : 50) ? b.random(2 ** Math.min(cdMax, 8) + (b.chance(5) ? 4 : 0)) : undefined;
    let ste = field(!b.chance(1), 0) | field(config, 1) | field(b.random(4), 64) | field(cdMax, 59);
    const second = (config & 2) !== 0 || b.chance(10);
    if (second) ste |= this.#secondStage();
    if ((config & 1) !== 0 || b.chance(10)) ste |= this.#context(cdMax, substream ?? 0, config === 5 || !second);
    ste |= this.#streamFields(config);
    const stream = b.random(2 ** Math.min((idr1 & 63) - 1, 8));
    const registers = this.#streamTable(stream, this.#bend(ste, 1.5));
    this.#ask(stream, substream, (config & 1) === 0);
    this.#damage();
    this.#setApart();
    return { registers, requests: this.#requests };
  }

  #streamFields(config: number): bigint {
    const b = this.#b;
    const { idr0 } = this.#id;
    const stall = (idr0 >> 24) & 3;
    const eats = b.chance(85) ? 0 : b.random(4);
    const strw = b.chance(75) || config !== 5 ? (b.chance(95) ? 0 : b.random(4)) : 2;
    const s1stalld = stall === 0 && b.chance(10);
    return field(b.chance(50), 83) | field(b.random(32), 96) | field(b.random(16), 101) | field(b.random(4), 108) | field(eats, 92) | field(strw, 94) | field(b.chance(70) ? 0 : b.random(4), 112) | field(b.chance(70) ? 0 : b.random(4), 114) | field(s1stalld, 91)
      | field(b.random(flag(idr0, 18) || b.chance(2) ? 65536 : 256), 128);
  }

  /** A few bits turned over, now and then. */
  #bend(word: bigint, percent: number, width = 512): bigint {
    return this.#b.chance(percent) ? word ^ (1n << BigInt(this.#b.random(width))) : word;
  }

  #streamTable(stream: number, ste: bigint): Registers {
    const b = this.#b;
    const sidBits = this.#id.idr1 & 63;
    const log2 = b.chance(95) ? Math.min(sidBits, 10) : b.random(sidBits + 3);
    const cr2 = (b.chance(70) ? 2 : 0) | (b.chance(50) ? 1 : 0);
    if (((this.#id.idr0 >> 27) & 3) === 0 || b.chance(40)) {
      const at = b.frame(64 * 2 ** Math.min(log2, 12));
      this.#ste = at + stream * 64;
      b.record(this.#ste, ste);
      return { strtabBase: BigInt(at) | 1n << 62n, strtabCfg: log2 | (b.random(2) << 6), cr2 };
    }
    const split = b.pick(6, 6, 8, 10);
    const span = b.chance(90) ? split + 1 : b.random(32);
    const level1 = b.frame(Math.max(64, 8 * 2 ** Math.max(log2 - split, 0)));
    const level2 = b.frame(64 * 2 ** Math.min(Math.max(span - 1, 0), 10));
    this.#ste = level2 + (stream % 2 ** split) * 64;
    b.record(this.#ste, ste);
    b.put(level1 + Math.floor(stream / 2 ** split) * 8, BigInt(level2) | BigInt(span));
    return { strtabBase: BigInt(level1), strtabCfg: log2 | (split << 6) | (1 << 16), cr2 };
  }

  #granule(): number {
    const b = this.#b;
    const there = [0, 1, 2].filter((tg) => flag(this.#id.idr5, [4, 6, 5][tg]));
    if (this.#plain && there.includes(0)) return 0;
    return b.chance(1) ? b.random(3) : b.pick(...there);
  }

  // Stage 2

  #secondStage(): bigint {
    const b = this.#b;
    const { idr0, idr3 } = this.#id;
    const tg = this.#granule();
    const g = GRANULES[tg];
    const ds = this.#ds && g !== 16 && b.chance(60);
    const choices = secondStarts(g, ds, flag(idr3, 9), this.#oas);
    const { t0sz, sl0, sl02, start } = b.pick(...choices);
    const width = 64 - t0sz;
    const startWidth = width - (g + (g - 3) * (3 - start));
    const big = ((idr0 >> 21) & 3) === 3 || (((idr0 >> 21) & 3) === 0 && b.chance(20));
    const root = b.frame(Math.max(64, 8 * 2 ** startWidth));
    const ps = b.chance(80) ? this.#id.idr5 & 7 : b.random(8);
    this.#second = new Tables(b, { g, width, start, root, ds, wide: this.#oas >= 52, big }, (bytes) => {
      const at = b.frame(bytes);
      return { name: BigInt(at), at };
    });
    const stall = (idr0 >> 24) & 3;
    const updates = this.#httu > 0 && b.chance(50);
    const dirty = this.#httu > 1 && updates && b.chance(70);
    return field(t0sz, 160) | field(sl0, 166) | field(tg, 174) | field(ps, 176) | field(true, 179) | field(big, 180) | field(b.chance(10), 181)
      | field(b.chance(30), 182) | field(dirty, 183) | field(updates, 184) | field(stall === 2 || (stall === 0 && b.chance(10)), 185) | field(b.chance(85), 186)
      | field(b.random(4), 172) | field(this.#httu === 3 && updates && b.chance(50), 187) | field(sl02, 194) | field(ds, 195) | field(BigInt(root) >> 4n, 196) | field(b.chance(30), 89);
  }

  #leaf2(generous: boolean): bigint {
    const b = this.#b;
    const rights = b.chance(generous ? 85 : 70) ? 3 : b.chance(generous ? 70 : 30) ? 1 : b.random(4);
    return field(b.chance(80) ? 15 : b.random(16), 2) | field(rights, 6) | field(b.chance(93), 10) | field(b.chance(85) ? 0 : b.random(4), 53) | field(b.chance(30), 51)
      | (this.#second?.geometry.ds === true ? 0n : field(b.random(4), 8)) | field(b.random(16), 55);
  }

  /** An intermediate address that stage 2 takes to `at`; itself when nothing could be found. */
  #intermediate(at: number, bytes: number): bigint {
    const b = this.#b;
    const second = this.#second;
    if (second === undefined) return BigInt(at);
    const levels = second.leafLevels.filter((level) => 2 ** second.shift(level) >= bytes);
    for (let i = 0; i < 6 && levels.length > 0; i++) {
      const level = this.#plain ? Math.max(...levels) : b.pick(...levels);
      const shift = second.shift(level);
      const width = this.#plain ? Math.min(second.geometry.width, 28) : second.geometry.width;
      const name = ((b.number(width) >> BigInt(shift)) << BigInt(shift)) | (BigInt(at) % (1n << BigInt(shift)));
      const output = BigInt(at);
      if (second.map(name, output, level, () => this.#leaf2(true), () => (this.#noisy ? field(b.random(64), 52) : 0n))) return name;
    }
    // Pieces: a table larger than a page of stage 2.
    const page = 2 ** second.shift(3);
    if (bytes <= page) return BigInt(at);
    const name = (b.number(second.geometry.width) / BigInt(bytes)) * BigInt(bytes);
    for (let offset = 0; offset < bytes; offset += page) second.map(name + BigInt(offset), BigInt(at + offset), 3, () => this.#leaf2(true), () => 0n);
    return name;
  }

  // Stage 1

  #context(cdMax: number, index: number, alone: boolean): bigint {
    const b = this.#b;
    const fmt = cdMax > 0 && flag(this.#id.idr0, 19) ? b.random(4) : 0;
    const through = !alone;
    const name = (at: number, bytes: number): bigint => (through ? this.#intermediate(at, bytes) : BigInt(at));
    const cd = this.#bend(this.#descriptor(through), 2);
    const leafBits = [0, 6, 10, 0][fmt];
    if (leafBits === 0) {
      const bytes = 64 * 2 ** Math.min(cdMax, 12);
      const at = b.frame(Math.max(bytes, 4096));
      b.record(at + index * 64, cd);
      return name(at, Math.max(bytes, 4096)) | field(fmt, 4);
    }
    const leaf = b.frame(64 * 2 ** leafBits);
    b.record(leaf + (index % 2 ** leafBits) * 64, cd);
    const table = b.frame(4096);
    const upper = Math.floor(index / 2 ** leafBits) * 8;
    b.put(table + upper, name(leaf, 64 * 2 ** leafBits) | field(!b.chance(4), 0));
    return name(table, 4096) | field(fmt, 4);
  }

  #descriptor(through: boolean): bigint {
    const b = this.#b;
    const { idr0, idr3 } = this.#id;
    const ds = this.#ds && b.chance(50);
    const stall = (idr0 >> 24) & 3;
    const updates = this.#httu > 0 && b.chance(50);
    const dirty = this.#httu > 1 && updates && b.chance(70);
    const big = ((idr0 >> 21) & 3) === 3 || (((idr0 >> 21) & 3) === 0 && b.chance(20));
    const epd0 = b.chance(12);
    const epd1 = b.chance(45);
    const tbi0 = !this.#plain && b.chance(30);
    const tbi1 = !this.#plain && b.chance(30);
    const ips = b.chance(85) ? this.#id.idr5 & 7 : b.random(8);
    const e0pd = flag(idr3, 13) && !this.#plain;
    let cd = field(epd0, 14) | field(big, 15) | field(epd1, 30) | field(!b.chance(1), 31) | field(ips, 32) | field(b.chance(10), 35) | field(b.chance(25), 36)
      | field(tbi0, 38) | field(tbi1, 39) | field(b.chance(30), 40) | field(true, 41) | field(dirty, 42) | field(updates, 43)
      | field(stall === 2 || (stall === 0 && b.chance(10)), 44) | field(b.chance(85), 45) | field(flag(idr0, 26) || b.chance(80), 46) | field(b.chance(50), 47)
      | field(b.random(flag(idr0, 12) || b.chance(2) ? 65536 : 256), 48) | field(b.chance(15), 65) | field(e0pd && b.chance(15), 66)
      | field(this.#httu === 3 && updates && b.chance(50), 67) | field(b.chance(30), 123) | field(b.chance(15), 129) | field(e0pd && b.chance(15), 130) | field(ds, 186) | field(b.random(4), 12) | field(b.random(4), 28) | field(b.number(64), 192);
    for (const upper of [false, true]) cd |= this.#half(upper, upper ? epd1 : epd0, upper ? tbi1 : tbi0, ds, big, through);
    return cd;
  }

  #half(upper: boolean, off: boolean, tbi: boolean, ds: boolean, big: boolean, through: boolean): bigint {
    const b = this.#b;
    if (off && b.chance(50)) return field(b.random(64), upper ? 16 : 0);
    const tg = this.#granule();
    const g = GRANULES[tg];
    const wideInput = ((this.#id.idr5 >> 10) & 3) >= 1 && (g === 16 || (ds && this.#ds));
    const stt = flag(this.#id.idr3, 9);
    const least = wideInput ? 12 : 16;
    const most = stt ? (g === 16 ? 47 : 48) : 39;
    const size = b.chance(2) ? b.random(64) : least + b.random(most - least + 1);
    const width = 64 - size;
    const start = 4 - Math.ceil((width - g) / (g - 3));
    const startBytes = Math.max(64, 8 * 2 ** Math.max(width - (g + (g - 3) * (3 - start)), 0));
    const coded = upper ? [2, 3, 1][tg] : tg;
    const shift = upper ? 16 : 0;
    if (width <= g || width > 52 || start < -1) return field(size, shift) | field(coded, shift + 6);
    const at = b.frame(Math.max(startBytes, 4096));
    const root = through ? this.#intermediate(at, Math.max(startBytes, 4096)) : BigInt(at);
    const tables = new Tables(b, { g, width, start, root: at, ds: ds && this.#ds && g !== 16, wide: this.#oas >= 52, big }, (bytes) => {
      const place = b.frame(bytes);
      return { name: through ? this.#intermediate(place, bytes) : BigInt(place), at: place };
    });
    for (let i = 0; i < 1 + b.random(3); i++) this.#mapSomething(tables, upper, tbi, through, i === 0);
    return field(size, shift) | field(coded, shift + 6) | field(root >> 4n, upper ? 132 : 68);
  }

  #mapSomething(tables: Tables, upper: boolean, tbi: boolean, through: boolean, empty: boolean): void {
    const b = this.#b;
    const level = this.#plain ? 3 : b.pick(...tables.leafLevels);
    const shift = tables.shift(level);
    const { width, ds } = tables.geometry;
    const input = b.number(width);
    const outer = b.chance(90) ? BigInt(b.frame(4096)) : b.number(this.#oas);
    const output = through && b.chance(90) ? this.#intermediate(Number(outer), 4096) : outer;
    const leaf = (): bigint =>
      field(b.random(8), 2) | field(b.chance(60) ? 1 : b.random(4), 6) | (ds ? 0n : field(b.random(4), 8)) | field(b.chance(92), 10) | field(this.#plain || b.chance(70), 11) | field(b.chance(30), 51)
      | field(b.chance(60) ? 0 : b.random(4), 53) | field(b.random(16), 55);
    const table = (): bigint => (b.chance(this.#noisy ? 75 : 97) ? 0n : field(b.random(16), 59)) | field(this.#httu === 3 && b.chance(50), 10) | (this.#noisy ? field(b.random(128), 52) : 0n);
    if (empty && !through && level === 3 && !this.#plain && b.chance(15)) {
      this.#mapRun(tables, upper, tbi, input, leaf() & ~RUN_OPEN | AF, table);
      return;
    }
    // Where the output's offset in the block is the input's.
    const aligned = ((input >> BigInt(shift)) << BigInt(shift)) | (output % (1n << BigInt(shift)));
    if (!tables.map(aligned, output, level, leaf, table)) return;
    this.#remember(aligned, upper, tbi, width);
    // Neighbours in the same table: each has rights of its own.
    for (const i of level === 3 ? [1n, 2n, 3n] : []) {
      const page = aligned ^ (i << BigInt(shift));
      const beside = through && b.chance(80) ? this.#intermediate(b.frame(4096), 4096) : BigInt(b.frame(4096));
      if (tables.map(page, beside, 3, leaf, table)) this.#remember(page, upper, tbi, width);
    }
  }

  /** A run of contiguous entries as it should be: all alike, aligned in input and output. They need no update, which a unit makes in one of them only. */
  #mapRun(tables: Tables, upper: boolean, tbi: boolean, input: bigint, leaf: bigint, table: () => bigint): void {
    const b = this.#b;
    const { g, width } = tables.geometry;
    const entries = { 12: 16, 14: 128, 16: 32 }[g] ?? 16;
    const bytes = BigInt(entries) << BigInt(g);
    if (bytes > 1n << BigInt(width)) return;
    this.#hasRun = true;
    const first = (input / bytes) * bytes;
    const output = BigInt(b.frame(Number(bytes)));
    for (let i = 0n; i < entries; i++) {
      const at = first + (i << BigInt(g));
      tables.map(at, output + (i << BigInt(g)), 3, () => leaf | CONTIGUOUS, table);
      if (i % 5n === 0n) this.#remember(at, upper, tbi, width);
    }
  }

  #remember(aligned: bigint, upper: boolean, tbi: boolean, width: number): void {
    const b = this.#b;
    const sign = upper ? ((1n << BigInt(64 - width)) - 1n) << BigInt(width) : 0n;
    const whole = aligned | sign;
    this.#mapped.push(tbi && b.chance(50) ? (whole & ((1n << 56n) - 1n)) | (b.number(8) << 56n) : whole);
  }

  // Requests

  #ask(stream: number, substream: number | undefined, stage2Only: boolean): void {
    const b = this.#b;
    if (stage2Only && this.#second !== undefined) {
      for (let i = 0; i < 5; i++) this.#mapped.push(this.#intermediate(b.frame(4096), 4096));
    }
    for (let i = 3 + b.random(6); i > 0; i--) {
      const known = this.#mapped.length > 0 && b.chance(88) ? b.pick(...this.#mapped) : b.number(b.pick(20, 32, 48, 52, 64));
      const address = b.chance(85) ? known : known ^ (1n << BigInt(b.random(64)));
      const kind = b.random(10);
      this.#requests.push({
        stream: b.chance(97) ? stream : b.random(2048),
        substream: b.chance(93) ? substream : b.chance(50) ? undefined : b.random(2 ** b.random(12)),
        address: (address & ~0xfffn) | BigInt(b.random(4096)),
        read: kind !== 0 && kind < 5 || kind === 9 || kind === 8,
        write: kind === 0 || kind >= 5 && kind < 9,
        fetch: kind === 9 || kind === 4,
        privileged: b.chance(40),
      });
    }
  }

  /** The STE says nothing of its neighbours, which are not alike: what a unit makes of CONT then is its own choice (5.2). */
  #setApart(): void {
    const b = this.#b;
    b.put(this.#ste + 8, b.get(this.#ste + 8) & ~STREAMS_ALIKE);
  }

  /** Bits of tables turned over after they were built. Runs of contiguous entries stay as they are: what units make of others is their own choice. */
  #damage(): void {
    const b = this.#b;
    if (!b.chance(25) || this.#hasRun) return;
    const words = [...b.words];
    for (let i = b.random(3); i >= 0; i--) {
      const at = b.pick(...words);
      const value = b.get(at);
      if (value !== 0n) b.put(at, (value ^ (1n << BigInt(b.chance(50) ? b.random(12) : b.random(64)))) & ~CONTIGUOUS);
    }
  }
}

/** Every legal start of stage 2 for a granule, and now and then any. */
function secondStarts(g: number, ds: boolean, stt: boolean, oas: number): { t0sz: number; sl0: number; sl02: number; start: number }[] {
  const rows: { t0sz: number; sl0: number; sl02: number; start: number }[] = [];
  const levels: [start: number, sl0: number, sl02: number][] =
    g === 12 ? [...(ds ? [[-1, 0, 1] as [number, number, number]] : []), [0, 2, 0], [1, 1, 0], [2, 0, 0], ...(stt ? [[3, 3, 0] as [number, number, number]] : [])]
    : g === 14 ? [...(ds ? [[0, 3, 0] as [number, number, number]] : []), [1, 2, 0], [2, 1, 0], [3, 0, 0]]
    : [[1, 2, 0], [2, 1, 0], [3, 0, 0]];
  const least = Math.max(g === 16 || ds ? 12 : 16, 64 - oas);
  const most = stt ? (g === 16 ? 47 : 48) : 39;
  for (const [start, sl0, sl02] of levels) {
    for (let t0sz = least; t0sz <= most; t0sz++) {
      const width = 64 - t0sz - (g + (g - 3) * (3 - start));
      const top = g === 12 ? (start === -1 ? 4 : 99) : g === 14 ? (start === 0 ? 5 : 99) : start === 1 ? 10 : 99;
      if (width >= 1 && width <= Math.min(g + 1, top)) rows.push({ t0sz, sl0, sl02, start });
    }
  }
  return rows;
}
