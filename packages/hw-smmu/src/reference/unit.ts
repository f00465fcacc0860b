/**
 * A second SMMUv3, naive and in BigInt, written from the manual and sharing nothing with the model: what one request does to a
 * machine without caches. Tests compare the two.
 */

import { type Attributes, DEFAULT, first as firstAttributes, replace, second as secondAttributes, shown } from "./attributes.js";

export interface Identification {
  readonly idr0: number;
  readonly idr1: number;
  readonly idr3: number;
  readonly idr5: number;
  readonly aidr: number;
}

export interface Registers {
  readonly strtabBase: bigint;
  readonly strtabCfg: number;
  readonly cr2: number;
}

/** 64-bit words of memory; `read` gives undefined where there is none. */
export interface Memory {
  read(address: bigint): bigint | undefined;
  write(address: bigint, value: bigint): void;
}

export interface Request {
  readonly stream: number;
  readonly substream: number | undefined;
  readonly address: bigint;
  readonly read: boolean;
  readonly write: boolean;
  readonly fetch: boolean;
  readonly privileged: boolean;
}

export interface Record {
  readonly words: bigint[];
  /** Bits that the manual does not leave UNKNOWN. */
  readonly known: bigint[];
  readonly stalled: boolean;
  /** 7.3.1: the unit may leave it out when it says the same as one shortly before. */
  readonly merges: boolean;
}

/** An access that passes has its memory attributes with it, in the manual's notation. */
export type Answer = { readonly address: bigint; readonly attributes: string } | { readonly record?: Record };

type Half = { readonly size: number; readonly granule: number; readonly base: bigint; readonly enabled: boolean; readonly tbi: boolean; readonly had: boolean; readonly e0pd: boolean };
type Need = { readonly read: boolean; readonly write: boolean; readonly fetch: boolean; readonly privileged: boolean };
type Cause = "CD" | "TT" | "IN";

class Stop extends Error {
  constructor(readonly type: number, readonly more: { stage2?: boolean; cause?: Cause; ipa?: bigint; fetch?: bigint; controlled?: boolean; tableWrite?: boolean; readAlone?: boolean } = {}) {
    super(`event ${type}`);
  }
}

const bits = (value: bigint, high: number, low: number): bigint => (value >> BigInt(low)) & ((1n << BigInt(high - low + 1)) - 1n);
const bit = (value: bigint | number, at: number): boolean => ((BigInt(value) >> BigInt(at)) & 1n) === 1n;
const num = (value: bigint, high: number, low: number): number => Number(bits(value, high, low));
const SIZES = [32, 36, 40, 42, 44, 48, 52, 56];
const align = (value: bigint, bytes: bigint): bigint => value - (value % bytes);

const E = {
  BAD_STREAMID: 2, STE_FETCH: 3, BAD_STE: 4, STREAM_DISABLED: 6, BAD_SUBSTREAMID: 8, CD_FETCH: 9, BAD_CD: 0xa, WALK_EABT: 0xb, TRANSLATION: 0x10,
  ADDR_SIZE: 0x11, ACCESS: 0x12, PERMISSION: 0x13,
};

export class ReferenceUnit {
  readonly #id: Identification;
  readonly #oas: number;
  readonly #minor: number;
  #ste = 0n;
  #cd = 0n;
  #memory: Memory;
  #registers: Registers;
  #need: Need = { read: true, write: false, fetch: false, privileged: false };
  #stage1 = false;
  #stage2 = false;
  #attributes: Attributes = DEFAULT;

  constructor(id: Identification) {
    this.#id = id;
    this.#oas = SIZES[id.idr5 & 7];
    this.#minor = id.aidr & 15;
    this.#memory = { read: () => undefined, write: () => undefined };
    this.#registers = { strtabBase: 0n, strtabCfg: 0, cr2: 0 };
  }

  #has(register: number, at: number): boolean {
    return bit(register, at);
  }

  get #ds(): boolean {
    return bit(this.#id.idr5, 7);
  }

  request(memory: Memory, registers: Registers, request: Request): Answer {
    this.#memory = memory;
    this.#registers = registers;
    this.#ste = 0n;
    this.#cd = 0n;
    this.#need = request;
    this.#stage1 = false;
    this.#stage2 = false;
    try {
      const address = this.#translate(request);
      return address === undefined ? {} : { address, attributes: shown(this.#attributes) };
    } catch (error) {
      if (!(error instanceof Stop)) throw error;
      return this.#stopped(error, request);
    }
  }

  // 3.3, 5.2: the ladder

  #translate(r: Request): bigint | undefined {
    this.#ste = this.#streamEntry(r.stream);
    const ste = this.#ste;
    if (!bit(ste, 0)) throw new Stop(E.BAD_STE);
    const config = num(ste, 3, 1);
    if (config < 4) return undefined;
    const s1 = (config & 1) !== 0;
    const s2 = (config & 2) !== 0;
    this.#checkSte(config);
    this.#override(r);
    const overrides = { mtcfg: num(ste, 100, 100), memattr: num(ste, 99, 96), shcfg: num(ste, 109, 108), alloccfg: num(ste, 104, 101) };
    this.#attributes = bit(this.#id.idr1, 27) ? replace(DEFAULT, overrides) : DEFAULT;
    if (!s1 && r.substream !== undefined) throw new Stop(E.BAD_SUBSTREAMID);
    if (config === 4) {
      if (r.address >= 1n << BigInt(this.#oas)) throw new Stop(E.ADDR_SIZE);
      return r.address;
    }
    const ssidSize = (this.#id.idr1 >> 6) & 31;
    const cdMax = ssidSize === 0 ? 0 : num(ste, 63, 59);
    let skip = !s1;
    let index = 0;
    if (s1) {
      const dss = num(ste, 65, 64);
      if (r.substream === undefined) {
        if (cdMax > 0 && (dss === 0 || dss === 3)) throw new Stop(E.STREAM_DISABLED);
        if (cdMax > 0 && dss === 1) skip = true;
      } else {
        if (cdMax === 0 || r.substream >= 2 ** cdMax) throw new Stop(E.BAD_SUBSTREAMID);
        if (r.substream === 0 && dss === 2) throw new Stop(E.STREAM_DISABLED);
        index = r.substream;
      }
    }
    this.#stage2 = s2;
    if (skip) {
      if (r.address >= 1n << BigInt(this.#ias)) throw new Stop(E.ADDR_SIZE);
      if (!s2) return r.address % (1n << BigInt(this.#oas));
      const found = this.#lookup2(r.address, this.#need, "IN");
      this.#secondAttributes(found.d);
      found.update?.();
      return found.address;
    }
    this.#stage1 = true;
    this.#cd = this.#contextDescriptor(index, cdMax);
    this.#checkCd();
    const first = this.#first(r.address);
    this.#attributes = firstAttributes(this.#attributes, ...first.attributes);
    if (!s2) {
      first.update?.();
      return first.address;
    }
    const found = this.#lookup2(first.address, this.#need, "IN");
    this.#secondAttributes(found.d);
    first.update?.();
    found.update?.();
    return found.address;
  }

  #secondAttributes(d: bigint): void {
    const ds = this.#ds && bit(this.#ste, 195) && num(this.#ste, 175, 174) !== 1;
    const sh = ds ? num(this.#ste, 173, 172) : num(d, 9, 8);
    this.#attributes = secondAttributes(this.#attributes, num(d, 5, 2), sh, bit(this.#id.idr3, 8) && bit(this.#ste, 89), bit(this.#id.idr3, 22));
  }

  get #ias(): number {
    return Math.max(bit(this.#id.idr0, 2) ? 40 : 0, bit(this.#id.idr0, 3) ? this.#oas : 0);
  }

  #override(r: Request): void {
    const allowed = this.#has(this.#id.idr1, 26);
    const priv = allowed ? num(this.#ste, 113, 112) : 0;
    const inst = allowed ? num(this.#ste, 115, 114) : 0;
    const fetch = r.write ? false : inst === 2 ? false : inst === 3 ? true : r.fetch;
    this.#need = { read: r.read, write: r.write, fetch, privileged: priv === 2 ? false : priv === 3 ? true : r.privileged };
  }

  #streamEntry(stream: number): bigint {
    const { strtabBase, strtabCfg } = this.#registers;
    const log2 = strtabCfg & 63;
    const twoLevel = num(BigInt(this.#id.idr0), 28, 27) === 1 && ((strtabCfg >> 16) & 3) === 1;
    if (BigInt(stream) >= 1n << BigInt(Math.min(log2, this.#id.idr1 & 63))) throw new Stop(E.BAD_STREAMID);
    const base = strtabBase & 0xff_ffff_ffff_ffc0n;
    if (!twoLevel) return this.#record(align(base, 1n << BigInt(log2 + 6)) + BigInt(stream) * 64n, E.STE_FETCH);
    const coded = (strtabCfg >> 6) & 31;
    const split = coded === 8 || coded === 10 ? coded : 6;
    const table = align(base, 1n << BigInt(Math.max(6, log2 - split + 3)));
    const at = table + BigInt(Math.floor(stream / 2 ** split)) * 8n;
    const l1 = this.#memory.read(at);
    if (l1 === undefined) throw new Stop(E.STE_FETCH, { fetch: at });
    const span = num(l1, 4, 0);
    if (span === 0 || span >= 12 || span > split + 1) throw new Stop(E.BAD_STREAMID);
    const below = stream % 2 ** split;
    if (below >= 2 ** (span - 1)) throw new Stop(E.BAD_STREAMID);
    return this.#record(align(l1 & 0xff_ffff_ffff_ffc0n, 1n << BigInt(5 + span)) + BigInt(below) * 64n, E.STE_FETCH);
  }

  /** 64 bytes as one number. */
  #record(at: bigint, type: number): bigint {
    let value = 0n;
    for (let i = 0n; i < 8n; i++) {
      const word = this.#memory.read(at + i * 8n);
      if (word === undefined) throw new Stop(type, { fetch: at });
      value |= word << (i * 64n);
    }
    return value;
  }

  // 5.2.2

  #checkSte(config: number): void {
    const ste = this.#ste;
    const { idr0, idr1, idr3, idr5 } = this.#id;
    const s1 = (config & 1) !== 0;
    const s2 = (config & 2) !== 0;
    const bad = (when: boolean): void => {
      if (when) throw new Stop(E.BAD_STE);
    };
    bad(s1 && !bit(idr0, 1));
    bad(s2 && !bit(idr0, 0));
    const s2s = bit(ste, 185);
    if (bit(idr0, 10) && config !== 4) {
      const eats = num(ste, 93, 92);
      bad(eats === 2 && (config !== 7 || s2s || bit(idr0, 11)));
      bad(eats === 1 && s2 && s2s);
    }
    const strw = num(ste, 95, 94);
    bad(config === 5 && bit(idr0, 1) && bit(idr0, 9) && (strw === 1 || strw === 3));
    const stallModel = num(BigInt(idr0), 25, 24);
    const ssidSize = (idr1 >> 6) & 31;
    if (s1) {
      bad(bit(ste, 91) && stallModel !== 0);
      const cdMax = num(ste, 63, 59);
      bad(ssidSize !== 0 && cdMax > ssidSize);
      const fmt = num(ste, 5, 4);
      bad(ssidSize !== 0 && cdMax !== 0 && !bit(idr0, 19) && (fmt === 1 || fmt === 2));
      bad(bits(ste, 55, 6) << 6n >= 1n << BigInt(s2 ? this.#ias : this.#oas));
    }
    const ds = this.#ds && bit(ste, 195);
    if (s2) {
      bad(!bit(ste, 179) || !bit(idr0, 3));
      bad((s2s && stallModel === 1) || (!s2s && stallModel === 2));
      const httu = num(BigInt(idr0), 7, 6);
      const ha = bit(ste, 184);
      const hd = bit(ste, 183);
      bad((ha || hd) && httu === 0);
      bad(hd && httu === 1);
      bad(httu === 3 && bit(ste, 187) && !ha);
      const tg = num(ste, 175, 174);
      bad(tg === 3 || !bit(idr5, [4, 6, 5][tg]));
      const t0sz = num(ste, 165, 160);
      const stt = bit(idr3, 9);
      bad(t0sz > (stt ? (tg === 1 ? 47 : 48) : 39));
      bad(t0sz < Math.max(tg === 1 || ds ? 12 : 16, 64 - this.#ias));
      bad(this.#start2() === undefined);
      const ps = this.#ps;
      bad((bits(ste, 247, 196) << 4n) >= 1n << BigInt(tg !== 1 && !ds ? Math.min(48, ps) : ps));
      this.#endian(bit(ste, 180), E.BAD_STE);
    }
    const el1 = !(config === 5 && bit(idr0, 9) && strw === 2);
    bad(bit(idr0, 0) && !bit(idr0, 18) && config !== 4 && el1 && num(ste, 143, 136) !== 0);
  }

  #endian(big: boolean, type: number): void {
    const model = num(BigInt(this.#id.idr0), 22, 21);
    if ((model === 2 && big) || (model === 3 && !big)) throw new Stop(type);
  }

  get #ps(): number {
    const code = num(this.#ste, 178, 176);
    return Math.min(SIZES[this.#minor === 0 ? Math.min(code, 5) : Math.min(code, 6)], this.#oas);
  }

  /** Start level in the manual's numbering, and the log2 of the start table's entries; undefined where not allowed. */
  #start2(): { level: number; width: number } | undefined {
    const ste = this.#ste;
    const ds = this.#ds && bit(ste, 195);
    const sl0 = num(ste, 167, 166);
    const tg = num(ste, 175, 174);
    const t0sz = num(ste, 165, 160);
    let level: number | undefined;
    if (tg === 0) {
      if (ds && bit(ste, 194)) level = sl0 === 0 ? -1 : undefined;
      else level = [2, 1, 0, bit(this.#id.idr3, 9) ? 3 : undefined][sl0];
    } else if (tg === 2) level = [3, 2, 1, ds ? 0 : undefined][sl0];
    else level = [3, 2, 1, undefined][sl0];
    if (level === undefined) return undefined;
    const g = [12, 16, 14][tg];
    const width = 64 - t0sz - (g + (g - 3) * (3 - level));
    const most = tg === 0 && level === -1 ? 4 : tg === 2 && level === 0 ? 5 : tg === 1 && level === 1 ? 10 : g + 1;
    return width >= 1 && width <= most ? { level, width } : undefined;
  }

  // 5.3, 5.4

  #contextDescriptor(index: number, cdMax: number): bigint {
    const pointer = bits(this.#ste, 55, 6) << 6n;
    const fmt = cdMax === 0 ? 0 : num(this.#ste, 5, 4);
    if (fmt === 0 || fmt === 3) return this.#cdAt(align(pointer, 64n << BigInt(cdMax)) + BigInt(index) * 64n);
    const leaf = fmt === 1 ? 6 : 10;
    const entries = Math.max(1, 2 ** (cdMax - leaf));
    const at = align(pointer, BigInt(Math.max(64, entries * 8))) + BigInt(Math.floor(index / 2 ** leaf)) * 8n;
    const physical = this.#stage2 ? this.#second(at, { read: true, write: false, fetch: false, privileged: false }, "CD") : at;
    const l1 = this.#memory.read(physical);
    if (l1 === undefined) throw new Stop(E.CD_FETCH, { fetch: physical });
    const table = bits(l1, 55, 12) << 12n;
    if (!bit(l1, 0) || table >= 1n << BigInt(this.#stage2 ? this.#ias : this.#oas)) throw new Stop(E.BAD_SUBSTREAMID);
    return this.#cdAt(align(table, 64n << BigInt(leaf)) + BigInt(index % 2 ** leaf) * 64n);
  }

  #cdAt(at: bigint): bigint {
    const physical = this.#stage2 ? this.#second(at, { read: true, write: false, fetch: false, privileged: false }, "CD") : at;
    return this.#record(physical, E.CD_FETCH);
  }

  get #el2(): boolean {
    return this.#singlePrivilegeWorld(false);
  }

  /** NS-EL2 without E2H: one privilege level, no upper half. */
  #singlePrivilegeWorld(orE2h: boolean): boolean {
    const used = num(this.#ste, 3, 1) === 5 && bit(this.#id.idr0, 9) && bit(this.#id.idr0, 1);
    if (!used || num(this.#ste, 95, 94) !== 2) return false;
    return orE2h || !bit(this.#registers.cr2, 0);
  }

  get #halves(): readonly [Half, Half] {
    const cd = this.#cd;
    const e0pd = bit(this.#id.idr3, 13) && !this.#el2;
    const had = bit(this.#id.idr3, 2);
    return [
      { size: num(cd, 5, 0), granule: [12, 16, 14, 0][num(cd, 7, 6)], base: bits(cd, 119, 68) << 4n, enabled: this.#el2 || !bit(cd, 14), tbi: bit(cd, 38), had: had && bit(cd, 65), e0pd: e0pd && bit(cd, 66) },
      { size: num(cd, 21, 16), granule: [0, 14, 12, 16][num(cd, 23, 22)], base: bits(cd, 183, 132) << 4n, enabled: !this.#el2 && !bit(cd, 30), tbi: bit(cd, 39), had: had && bit(cd, 129), e0pd: e0pd && bit(cd, 130) },
    ];
  }

  get #ips(): number {
    const code = num(this.#cd, 34, 32);
    return Math.min(SIZES[this.#minor === 0 ? Math.min(code, 5) : Math.min(code, 6)], this.#oas);
  }

  #checkCd(): void {
    const cd = this.#cd;
    const { idr0, idr3, idr5 } = this.#id;
    const bad = (when: boolean): void => {
      if (when) throw new Stop(E.BAD_CD);
    };
    bad(!bit(cd, 31));
    const s = bit(cd, 44);
    const stallModel = num(BigInt(idr0), 25, 24);
    bad(bit(this.#ste, 91) && s);
    bad(bit(idr0, 26) && !bit(cd, 46));
    bad((stallModel === 1 && s) || (stallModel === 2 && !s));
    bad(!bit(cd, 41) || !bit(idr0, 3));
    const httu = num(BigInt(idr0), 7, 6);
    bad((bit(cd, 43) || bit(cd, 42)) && httu === 0);
    bad(bit(cd, 42) && httu === 1);
    bad(httu === 3 && bit(cd, 67) && !bit(cd, 43));
    bad(!bit(idr0, 12) && !this.#el2 && num(cd, 63, 56) !== 0);
    const ds = this.#ds && bit(cd, 186);
    for (const half of this.#halves) {
      if (!half.enabled) continue;
      this.#endian(bit(cd, 15), E.BAD_CD);
      bad(half.granule === 0 || !bit(idr5, { 12: 4, 14: 5, 16: 6 }[half.granule] ?? 31));
      const wide = num(BigInt(idr5), 11, 10) >= 1 && (half.granule === 16 || ds);
      bad(half.size > (bit(idr3, 9) ? (half.granule === 16 ? 47 : 48) : 39) || half.size < (wide ? 12 : 16));
      bad(half.base >= 1n << BigInt(half.granule !== 16 && !ds ? Math.min(48, this.#ips) : this.#ips));
    }
  }

  // DDI0487 D8: descriptors

  /** OA of a descriptor for a granule, and the Address Size check. */
  #output(d: bigint, g: number, low: number, ds: boolean): bigint {
    let oa = bits(d, 47, low) << BigInt(low);
    if (g === 16 && this.#oas >= 52) oa |= bits(d, 15, 12) << 48n;
    if (g !== 16 && ds) oa |= (bits(d, 49, 48) << 48n) | (bits(d, 9, 8) << 50n);
    return oa;
  }

  #blockAllowed(g: number, level: number, ds: boolean): boolean {
    if (g === 12) return level === 1 || level === 2 || (level === 0 && ds);
    if (g === 14) return level === 2 || (level === 1 && ds);
    return level === 2 || (level === 1 && this.#oas >= 52);
  }

  #load(at: bigint, big: boolean): bigint | undefined {
    const word = this.#memory.read(at);
    return word === undefined || !big ? word : swap(word);
  }

  #store(at: bigint, value: bigint, big: boolean): void {
    this.#memory.write(at, big ? swap(value) : value);
  }

  #first(input: bigint): { address: bigint; attributes: readonly [byte: number, sh: number]; update: (() => void) | undefined } {
    const cd = this.#cd;
    const need = this.#need;
    const halves = this.#halves;
    const fault = (type: number, more: Stop["more"] = {}): Stop => new Stop(type, { controlled: true, ...more });
    const upper = bit(input, 55);
    const half = halves[upper ? 1 : 0];
    if (!half.enabled) throw fault(E.TRANSLATION);
    const top = half.tbi ? 55 : 63;
    const width = 64 - half.size;
    const sign = bits(input, top, width);
    if (sign !== (upper ? (1n << BigInt(top - width + 1)) - 1n : 0n)) throw fault(E.TRANSLATION);
    if (half.e0pd && !need.privileged) throw fault(E.TRANSLATION);
    const ds = this.#ds && bit(cd, 186);
    const g = half.granule;
    const stride = g - 3;
    const va = bits(input, width - 1, 0);
    const big = bit(cd, 15);
    let level = 4 - Math.ceil((width - g) / stride);
    const startWidth = width - (g + stride * (3 - level));
    let table = align(half.base, BigInt(Math.max(2 ** startWidth * 8, this.#ips > 48 ? 64 : 8)));
    const path: { ipa: bigint; physical: bigint; d: bigint }[] = [];
    let noUnprivileged = false;
    let noWrite = false;
    let tableUxn = false;
    let tablePxn = false;
    for (;;) {
      const shift = g + stride * (3 - level);
      const index = path.length === 0 ? va >> BigInt(shift) : bits(va, shift + stride - 1, shift);
      const ipa = table + index * 8n;
      const physical = this.#stage2 ? this.#second(ipa, { read: true, write: false, fetch: false, privileged: false }, "TT") : ipa;
      const d = this.#load(physical, big);
      if (d === undefined) throw new Stop(E.WALK_EABT, { cause: "TT", fetch: physical });
      path.push({ ipa, physical, d });
      const isTable = level < 3 && bit(d, 1);
      const isLeaf = level === 3 ? bit(d, 1) : !bit(d, 1) && this.#blockAllowed(g, level, ds);
      if (!bit(d, 0) || (!isTable && !isLeaf)) throw fault(E.TRANSLATION);
      if (this.#output(d, g, g, ds) >= 1n << BigInt(this.#ips)) throw fault(E.ADDR_SIZE);
      if (isLeaf) break;
      if (!half.had) {
        noUnprivileged ||= bit(d, 61);
        noWrite ||= bit(d, 62);
        tableUxn ||= bit(d, 60);
        tablePxn ||= bit(d, 59);
      }
      table = this.#output(d, g, g, ds);
      level++;
    }
    const shift = g + stride * (3 - level);
    const { d } = path[path.length - 1];
    const ha = bit(cd, 43);
    const hd = ha && bit(cd, 42);
    const af = bit(d, 10);
    if (!af && !ha && !bit(cd, 35)) throw fault(E.ACCESS);
    const clean = hd && bit(d, 51) && bit(d, 7);
    const wxn = bit(cd, 36);
    const writable = (!bit(d, 7) || clean) && !noWrite;
    const allowed = { read: true, write: writable, fetch: true };
    const uxn = bit(d, 54) || tableUxn;
    if (this.#el2) allowed.fetch = !uxn && !(wxn && writable);
    else {
      const userRead = bit(d, 6) && !noUnprivileged;
      const userWrite = userRead && writable;
      const userFetch = !uxn && !(wxn && userWrite);
      if (need.privileged) {
        const pan = bit(cd, 40) && (userRead || userWrite || (bit(this.#id.idr3, 17) && bit(cd, 123) && userFetch));
        allowed.read = !pan;
        allowed.write = writable && !pan;
        allowed.fetch = !(bit(d, 53) || tablePxn) && !userWrite && !(wxn && writable);
      } else Object.assign(allowed, { read: userRead, write: userWrite, fetch: userFetch });
    }
    this.#permit(allowed, fault);
    const low = BigInt(shift);
    const address = align(this.#output(d, g, g, ds), 1n << low) + (va % (1n << low));
    const tables = num(BigInt(this.#id.idr0), 7, 6) === 3 && bit(cd, 67);
    const changed = (ha && !af ? 1n << 10n : 0n) | 0n;
    const dirties = clean && need.write;
    const update = (): void => {
      path.forEach((entry, i) => {
        const leaf = i === path.length - 1;
        let value = entry.d;
        if (leaf) value = (value | changed) & (dirties ? ~(1n << 7n) : -1n);
        else if (tables) value |= 1n << 10n;
        if (value === entry.d) return;
        if (this.#stage2) {
          try {
            this.#second(entry.ipa, { read: true, write: true, fetch: false, privileged: false }, "TT");
          } catch (error) {
            if (error instanceof Stop) throw new Stop(error.type, { ...error.more, tableWrite: true });
            throw error;
          }
        }
        this.#store(entry.physical, value, big);
      });
    };
    const index = num(d, 4, 2);
    const sh = ds && g !== 16 ? num(cd, upper ? 29 : 13, upper ? 28 : 12) : num(d, 9, 8);
    return { address, attributes: [num(cd, 192 + index * 8 + 7, 192 + index * 8), sh], update };
  }

  /** 13.4: writes are looked at first. */
  #permit(allowed: { read: boolean; write: boolean; fetch: boolean }, fault: (type: number, more?: Stop["more"]) => Stop): void {
    const need = this.#need;
    if (need.write && !allowed.write) throw fault(E.PERMISSION);
    if (need.fetch ? !allowed.fetch : need.read && !allowed.read) throw fault(E.PERMISSION, { readAlone: need.write && this.#minor >= 1 });
  }

  #second(ipa: bigint, need: Need, cause: Cause): bigint {
    const { address, update } = this.#lookup2(ipa, need, cause);
    update?.();
    return address;
  }

  #lookup2(ipa: bigint, need: Need, cause: Cause): { address: bigint; d: bigint; update: (() => void) | undefined } {
    const ste = this.#ste;
    const fault = (type: number, more: Stop["more"] = {}): Stop => new Stop(type, { controlled: true, stage2: true, cause, ipa, ...more });
    const t0sz = num(ste, 165, 160);
    if (ipa >= 1n << BigInt(64 - t0sz)) throw fault(E.TRANSLATION);
    const g = [12, 16, 14][num(ste, 175, 174)];
    const stride = g - 3;
    const ds = this.#ds && bit(ste, 195);
    const start = this.#start2();
    if (start === undefined) throw new Error("stage 2 without a start level");
    const big = bit(ste, 180);
    let { level } = start;
    let table = align(bits(ste, 247, 196) << 4n, BigInt(Math.max(2 ** start.width * 8, this.#ps > 48 ? 64 : 8)));
    const path: { at: bigint; d: bigint }[] = [];
    for (;;) {
      const shift = g + stride * (3 - level);
      const index = path.length === 0 ? ipa >> BigInt(shift) : bits(ipa, shift + stride - 1, shift);
      const at = table + index * 8n;
      const d = this.#load(at, big);
      if (d === undefined) throw new Stop(E.WALK_EABT, { stage2: true, cause, ipa, fetch: at });
      path.push({ at, d });
      const isTable = level < 3 && bit(d, 1);
      const isLeaf = level === 3 ? bit(d, 1) : !bit(d, 1) && this.#blockAllowed(g, level, ds);
      if (!bit(d, 0) || (!isTable && !isLeaf)) throw fault(E.TRANSLATION);
      if (this.#output(d, g, g, ds) >= 1n << BigInt(this.#ps)) throw fault(E.ADDR_SIZE);
      if (isLeaf) break;
      table = this.#output(d, g, g, ds);
      level++;
    }
    const { d } = path[path.length - 1];
    const ha = bit(ste, 184);
    const hd = ha && bit(ste, 183);
    const af = bit(d, 10);
    if (!af && !ha && !bit(ste, 181)) throw fault(E.ACCESS);
    const clean = hd && bit(d, 51) && !bit(d, 7);
    const xn = bit(this.#id.idr3, 4) ? num(d, 54, 53) : bit(d, 54) ? 2 : 0;
    const allowed = { read: bit(d, 6), write: bit(d, 7) || clean, fetch: xn === 0 || (xn === 1 && !need.privileged) || (xn === 3 && need.privileged) };
    if (need.write && !allowed.write) throw fault(E.PERMISSION);
    if (need.fetch ? !allowed.fetch : need.read && !allowed.read) throw fault(E.PERMISSION, { readAlone: cause === "IN" && need.write && this.#minor >= 1 });
    if (cause !== "IN" && bit(ste, 182)) {
      const attributes = num(d, 5, 2);
      const device = bit(this.#id.idr3, 8) && bit(ste, 89) ? (attributes & 4) === 0 : attributes < 4;
      if (device) throw fault(E.PERMISSION);
    }
    const shift = BigInt(g + stride * (3 - level));
    const address = align(this.#output(d, g, g, ds), 1n << shift) + (ipa % (1n << shift));
    const tables = num(BigInt(this.#id.idr0), 7, 6) === 3 && bit(ste, 187);
    const update = (): void => {
      path.forEach((entry, i) => {
        const leaf = i === path.length - 1;
        let value = entry.d;
        if (leaf && ha && !af) value |= 1n << 10n;
        if (leaf && clean && need.write) value |= 1n << 7n;
        if (!leaf && tables) value |= 1n << 10n;
        if (value !== entry.d) this.#store(entry.at, value, big);
      });
    };
    return { address, d, update };
  }

  // 5.5, 7.3

  #stopped(stop: Stop, r: Request): Answer {
    const { type, more } = stop;
    if (type === E.BAD_STREAMID && !bit(this.#registers.cr2, 1)) return {};
    let stalled = false;
    if (more.controlled === true) {
      stalled = more.stage2 === true ? bit(this.#ste, 185) : bit(this.#cd, 44);
      const recorded = more.stage2 === true ? bit(this.#ste, 186) : bit(this.#cd, 45);
      if (!stalled && !recorded) return {};
    }
    return { record: this.#fields(stop, r, stalled) };
  }

  #fields({ type, more }: Stop, r: Request, stalled: boolean): Record {
    const words = [BigInt(type) | (BigInt(r.stream) << 32n), 0n, 0n, 0n];
    const known = [0xffff_ffff_ffff_ffffn, 0xffff_ffff_ffff_ffffn, 0xffff_ffff_ffff_ffffn, 0xffff_ffff_ffff_ffffn];
    if (r.substream !== undefined) words[0] |= (BigInt(r.substream) << 12n) | (type === E.BAD_SUBSTREAMID ? 0n : 1n << 11n);
    else known[0] &= ~(0xf_ffffn << 12n);
    const isAccess = type === E.WALK_EABT || type >= E.TRANSLATION;
    if (isAccess) {
      words[2] = r.address;
      if (this.#need.privileged) words[1] |= 1n << 33n;
      if (this.#need.fetch) words[1] |= 1n << 34n;
      if (!this.#need.write || more.readAlone === true) words[1] |= 1n << 35n;
      if (more.stage2 === true) words[1] |= 1n << 39n;
      const cause = more.cause ?? "IN";
      words[1] |= BigInt(["CD", "TT", "IN"].indexOf(cause)) << 40n;
      if (cause === "TT" && type === E.PERMISSION) {
        if (more.tableWrite !== true) words[1] |= 1n << 44n;
      } else known[1] &= ~(1n << 44n);
    }
    if (more.fetch !== undefined) words[3] = bits(more.fetch, 55, 3) << 3n;
    else if (more.stage2 === true) words[3] = bits(more.ipa ?? 0n, 55, 12) << 12n;
    else known[3] = 0n;
    if (stalled) {
      words[1] |= 1n << 31n;
      known[1] &= ~0xffffn; // STAG
    }
    const merges = !stalled && (bit(this.#ste, 83) || type === E.BAD_STREAMID || type === E.STE_FETCH || type === E.BAD_STE);
    return { words, known, stalled, merges };
  }

  /** True when the last request got as far as stage 1. */
  get reachedStage1(): boolean {
    return this.#stage1;
  }
}

/** 7.3.1: two records say the same; the place in the page does not count where the event says so. */
export function sameEvent(a: Record, b: Record): boolean {
  const inPage = (a.words[0] & 0xffn) >= BigInt(E.WALK_EABT);
  return a.merges && b.merges && a.words.every((word, i) => ((word ^ b.words[i]) & (a.known[i] | b.known[i]) & (i === 2 && inPage ? ~0xfffn : -1n)) === 0n);
}

function swap(word: bigint): bigint {
  let out = 0n;
  for (let i = 0n; i < 8n; i++) out |= ((word >> (i * 8n)) & 0xffn) << ((7n - i) * 8n);
  return out;
}
