/** What becomes of a request that is stopped, and its event record (5.5, 7.3). */
import { bit, bits } from "./bits.js";
import { type Answer, E, type Record, type Request, type State, type Stop } from "./request.js";

export function stopped(s: State, stop: Stop, r: Request): Answer {
  const { type, more } = stop;
  if (type === E.BAD_STREAMID && !bit(s.registers.cr2, 1)) return {};
  let stalled = false;
  if (more.controlled === true) {
    stalled = more.stage2 === true ? bit(s.ste, 185) : bit(s.cd, 44);
    const recorded = more.stage2 === true ? bit(s.ste, 186) : bit(s.cd, 45);
    // CD.A: zeros, and no abort.
    const zero = !stalled && more.stage2 !== true && !bit(s.cd, 46);
    return !stalled && !recorded ? { zero } : { zero, record: fields(s, stop, r, stalled) };
  }
  return { record: fields(s, stop, r, stalled) };
}

function fields(s: State, { type, more }: Stop, r: Request, stalled: boolean): Record {
  const words = [BigInt(type) | (BigInt(r.stream) << 32n), 0n, 0n, 0n];
  const known = [0xffff_ffff_ffff_ffffn, 0xffff_ffff_ffff_ffffn, 0xffff_ffff_ffff_ffffn, 0xffff_ffff_ffff_ffffn];
  if (r.substream !== undefined) words[0] |= (BigInt(r.substream) << 12n) | (type === E.BAD_SUBSTREAMID ? 0n : 1n << 11n);
  else known[0] &= ~(0xf_ffffn << 12n);
  const isAccess = type === E.WALK_EABT || type >= E.TRANSLATION;
  if (isAccess) {
    words[2] = r.address;
    if (s.need.privileged) words[1] |= 1n << 33n;
    if (s.need.fetch) words[1] |= 1n << 34n;
    if (!s.need.write || more.readAlone === true) words[1] |= 1n << 35n;
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
  const merges = !stalled && (bit(s.ste, 83) || type === E.BAD_STREAMID || type === E.STE_FETCH || type === E.BAD_STE);
  return { words, known, stalled, merges };
}

/** 7.3.1: two records say the same; the place in the page does not count where the event says so. */
export function sameEvent(a: Record, b: Record): boolean {
  const inPage = (a.words[0] & 0xffn) >= BigInt(E.WALK_EABT);
  return a.merges && b.merges && a.words.every((word, i) => ((word ^ b.words[i]) & (a.known[i] | b.known[i]) & (i === 2 && inPage ? ~0xfffn : -1n)) === 0n);
}
