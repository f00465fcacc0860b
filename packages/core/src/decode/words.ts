/**
 * Structures as people have them: `0x` numbers are words of 64 bits, or of 32 when each has its 8 digits, least significant first
 * (one number may be as wide as the whole structure); digits without `0x` are bytes in memory order. Lines of hexdump -C, xxd and the QEMU monitor's `xp` may be pasted whole.
 */

/** Structures that one input may hold. */
const LIMIT = 65_536;

/** hexdump -C, which ends with a line that holds an offset only; xxd; the QEMU monitor's xp. */
const HEXDUMP = /^[0-9a-f]{8} {2}([0-9a-f ]+?)\s*\|.*\|\s*$/i;
const OFFSET_ONLY = /^[0-9a-f]{8}\s*$/i;
const XXD = /^[0-9a-f]{8,16}: ((?:[0-9a-f]{2,} )*[0-9a-f]{2,})(?: .*)?$/i;
const MONITOR = /^[0-9a-f]{8,16}: (0x.+)$/i;

/** One structure's words after the other. @throws RangeError */
export function parseStructures(text: string, bits: number): bigint[][] {
  const lines = text.split("\n");
  const dumped = lines.some((line) => HEXDUMP.test(line));
  const tokens = lines.filter((line) => !(dumped && OFFSET_ONLY.test(line))).flatMap(tokensOf);
  if (tokens.length === 0) throw new RangeError("nothing is given to decode");
  for (const token of tokens) if (!/^(0x)?[0-9a-f]+$/i.test(token)) throw new RangeError(`"${token.slice(0, 40)}" is neither a word such as 0x7f001 nor bytes in hexadecimal`);
  const numbers = tokens.filter((token) => /^0x/i.test(token)).length;
  const zeros = tokens.filter((token) => token === "0").length;
  if (numbers === 0 && zeros < tokens.length) return splitStructures(bytesOf(tokens.join("")), bits);
  // A lone 0 is a word like the others.
  if (numbers + zeros < tokens.length) throw new RangeError("words with 0x and bytes without it are mixed");
  return splitWords(tokens, bits);
}

function tokensOf(line: string): string[] {
  const data = [HEXDUMP, MONITOR, XXD].map((shape) => shape.exec(line)?.[1]).find((found) => found !== undefined) ?? line;
  return data.split(/[\s,]+/).filter((token) => token !== "");
}

/** True when a file's bytes are to be read as text. */
export function isText(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte === 9 || byte === 10 || byte === 13 || (byte >= 32 && byte < 127));
}

function bytesOf(digits: string): Uint8Array {
  if (digits.length % 2 !== 0) throw new RangeError(`${digits.length} hexadecimal digits are no whole number of bytes (a word needs 0x in front)`);
  return Uint8Array.from({ length: digits.length / 2 }, (_, i) => Number.parseInt(digits.slice(2 * i, 2 * i + 2), 16));
}

/** @throws RangeError when the bytes are no whole number of structures */
export function splitStructures(bytes: Uint8Array, bits: number): bigint[][] {
  const size = bits / 8;
  if (bytes.length === 0 || bytes.length % size !== 0) throw new RangeError(`${bytes.length} bytes are given; the structure has ${size}`);
  const count = checked(bytes.length / size);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Array.from({ length: count }, (_, i) =>
    bits === 32 ? [BigInt(view.getUint32(i * size, true))] : Array.from({ length: size / 8 }, (_word, j) => view.getBigUint64(i * size + j * 8, true)));
}

function splitWords(tokens: readonly string[], bits: number): bigint[][] {
  const digits = Math.max(...tokens.map((token) => token.replace(/^0x/i, "").length));
  if (digits > bits / 4) throw new RangeError(`a word of ${digits} digits does not fit a structure of ${bits} bits`);
  if (tokens.length === 1) {
    const whole = BigInt(tokens[0]);
    if (bits > 64 && digits <= 16) throw new RangeError(`one word is given; the structure has ${bits / 64} of 64 bits, least significant first`);
    return [Array.from({ length: Math.ceil(bits / 64) }, (_, i) => (whole >> BigInt(64 * i)) & 0xffff_ffff_ffff_ffffn)];
  }
  const values = tokens.map((token) => BigInt(token));
  // Words of 32 bits are written in full: 0x00000001.
  const width = bits === 32 || (tokens.every((token) => token.length === 10) && tokens.length % (bits / 32) === 0) ? 32 : 64;
  const each = bits / width;
  if (digits > width / 4 || tokens.length % each !== 0) throw new RangeError(`${tokens.length} words are given; the structure has ${bits / Math.min(bits, 64)} of ${Math.min(bits, 64)} bits, least significant first`);
  const structures: bigint[][] = [];
  for (let at = 0; at < values.length; at += each) {
    const part = values.slice(at, at + each);
    structures.push(width === 64 || bits === 32 ? part : Array.from({ length: each / 2 }, (_, i) => part[2 * i] | (part[2 * i + 1] << 32n)));
  }
  checked(structures.length);
  return structures;
}

function checked(count: number): number {
  if (count > LIMIT) throw new RangeError(`${count} structures are given; ${LIMIT} is the most`);
  return count;
}
