/** Memory attributes a second time (SMMU 13, DDI0487 D8.6), in words and by lists from weak to strong, sharing nothing with the model. */

/** One level of caches: "WB", "WT", "NC"; RA and WA say yes, TR says transient. */
interface Level {
  readonly type: string;
  readonly ra: boolean;
  readonly wa: boolean;
  readonly tr: boolean;
}

/** `device` is "" for Normal memory. */
export interface Attributes {
  readonly device: string;
  readonly inner: Level;
  readonly outer: Level;
  readonly sh: string;
}

const DEVICES = ["", "GRE", "nGRE", "nGnRE", "nGnRnE"];
const TYPES = ["WB", "WT", "NC"];
const SHARES = ["NSH", "ISH", "OSH"];
const strongest = (order: readonly string[], a: string, b: string): string => (order.indexOf(a) > order.indexOf(b) ? a : b);
const DEVICE_BITS = ["nGnRnE", "nGnRE", "nGRE", "GRE"];

const plain = (type: string): Level => ({ type, ra: true, wa: true, tr: false });
export const DEFAULT: Attributes = { device: "", inner: plain("WB"), outer: plain("WB"), sh: "NSH" };
const deviceOf = (device: string): Attributes => ({ device, inner: plain("WB"), outer: plain("WB"), sh: "OSH" });
const outerShared = (a: Attributes): Attributes => (a.device !== "" || (a.inner.type === "NC" && a.outer.type === "NC") ? { ...a, sh: "OSH" } : a);
const cached = (a: Attributes, level: Level): boolean => a.device === "" && level.type !== "NC";

function memAttr(code: number): { device: string; outer: string; inner: string } {
  const names = ["", "NC", "WT", "WB"];
  if (code < 4) return { device: DEVICE_BITS[code], outer: "WB", inner: "WB" };
  if (code % 4 === 0) return { device: "nGnRnE", outer: "WB", inner: "WB" };
  return { device: "", outer: names[code >> 2], inner: names[code & 3] };
}

/** replace_attrs() of the manual. */
export function replace(a: Attributes, f: { mtcfg: number; memattr: number; shcfg: number; alloccfg: number }): Attributes {
  const type = f.mtcfg === 1 ? memAttr(f.memattr) : { device: a.device, outer: a.outer.type, inner: a.inner.type };
  const one = (name: string, old: Level): Level => {
    if (f.alloccfg >= 8) return { type: name, ra: (f.alloccfg & 4) !== 0, wa: (f.alloccfg & 2) !== 0, tr: (f.alloccfg & 1) !== 0 };
    return cached(a, old) ? { ...old, type: name } : plain(name);
  };
  return { device: type.device, outer: one(type.outer, a.outer), inner: one(type.inner, a.inner), sh: ["NSH", a.sh, "OSH", "ISH"][f.shcfg] };
}

const SH_BITS = ["NSH", "OSH", "OSH", "ISH"];

function mair(byte: number, sh: number): Attributes {
  if (byte < 16) return deviceOf(DEVICE_BITS[byte >> 2]);
  const one = (nibble: number): Level => {
    if (nibble === 0) return { type: "WT", ra: true, wa: true, tr: true };
    if (nibble === 4) return plain("NC");
    return { type: [0, 1, 2, 3, 8, 9, 10, 11].includes(nibble) ? "WT" : "WB", ra: nibble % 4 >= 2, wa: nibble % 2 === 1, tr: nibble < 8 };
  };
  return outerShared({ device: "", outer: one(byte >> 4), inner: one(byte & 15), sh: SH_BITS[sh] });
}

/** 13.4.2 */
export function first(input: Attributes, byte: number, sh: number): Attributes {
  const s1 = mair(byte, sh);
  const one = (own: Level, from: Level): Level =>
    cached(input, from) ? { type: own.type, ra: own.ra && from.ra, wa: own.wa && from.wa, tr: own.tr || from.tr } : own;
  return { ...s1, inner: one(s1.inner, input.inner), outer: one(s1.outer, input.outer) };
}

/** 13.4.3: combine_attrs() and combine_attrs_fwb(). */
export function second(input: Attributes, code: number, sh: number, fwb: boolean, mtePerm: boolean): Attributes {
  const before = outerShared(input);
  let device: string;
  let outer = before.outer.type;
  let inner = before.inner.type;
  if (!fwb) {
    const own = code === 4 && mtePerm ? { device: "", outer: "WB", inner: "WB" } : memAttr(code);
    device = strongest(DEVICES, before.device, own.device);
    outer = strongest(TYPES, outer, own.outer);
    inner = strongest(TYPES, inner, own.inner);
  } else if ((code & 4) === 0) device = strongest(DEVICES, before.device, DEVICE_BITS[code & 3]);
  else if ((code & 3) === 0) device = "nGnRnE";
  else if ((code & 3) === 1) {
    ({ device } = before);
    [outer, inner] = device === "" ? ["NC", "NC"] : [outer, inner];
  } else if ((code & 3) === 2) [device, outer, inner] = ["", "WB", "WB"];
  else ({ device } = before);
  const one = (type: string, old: Level): Level => (cached(before, old) ? { ...old, type } : plain(type));
  return outerShared({ device, outer: one(outer, before.outer), inner: one(inner, before.inner), sh: strongest(SHARES, before.sh, SH_BITS[sh]) });
}

/** ensure_consistent_attrs(), in the manual's notation. */
export function shown(a: Attributes): string {
  if (a.device !== "") return `Device-${a.device}`;
  const one = ({ type, ra, wa, tr }: Level): string => (type === "NC" ? "NC" : `${type}/${ra ? "" : "n"}RA${wa ? "" : "n"}WA${tr && (ra || wa) ? "" : "n"}TR`);
  const both = a.inner.type === "NC" && a.outer.type === "NC";
  return `Normal-i${one(a.inner)}-o${one(a.outer)}${both ? "" : `-${a.sh}`}`;
}
