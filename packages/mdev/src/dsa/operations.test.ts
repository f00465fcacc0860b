/**
 * Each operation against a computation of the test's own, over random sizes and places, with pages missing at random: waited for by the
 * device, or brought by software that goes on after a partial completion, by the rules for it.
 */
import { PageResponseCode } from "@iommukit/core";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type CompletionFields, type DescriptorFields, descriptor, Rig } from "./rig.test-support.js";
import { Status } from "./spec/completion.js";
import { Flag, Opcode } from "./spec/descriptor.js";

const PAGE = 4096;
/** Buffers lie in these pages; completion records before. */
const FIRST_PAGE = 0x100;
const LAST_PAGE = 0x1df;

/** Goes on after a page fault: the descriptor for what is left. */
type Resume = (fields: DescriptorFields, record: CompletionFields) => DescriptorFields;

interface Faults {
  /** Pages that are missing at first, by number; `readOnly` of them may be read. */
  readonly missing: readonly number[];
  readonly readOnly: readonly number[];
  readonly block: boolean;
  readonly ats: boolean;
}

const faults: fc.Arbitrary<Faults> = fc.record({
  missing: fc.array(fc.integer({ min: FIRST_PAGE, max: LAST_PAGE }), { maxLength: 120 }),
  readOnly: fc.array(fc.integer({ min: FIRST_PAGE, max: LAST_PAGE }), { maxLength: 60 }),
  block: fc.boolean(),
  ats: fc.boolean(),
});

function rigWith({ missing, readOnly, block, ats }: Faults): Rig {
  const rig = new Rig(ats ? {} : { ats: false, pri: false, pasid: false }, ats);
  rig.start([{ blockOnFault: block && ats }]);
  for (const page of missing) rig.unit.rights.set(page, 0);
  for (const page of readOnly) rig.unit.rights.set(page, 1);
  rig.unit.answer = () => PageResponseCode.SUCCESS;
  return rig;
}

/** Runs a descriptor to its end, bringing each page that faults; returns the last record, and how often software had to go on. */
function finish(rig: Rig, first: DescriptorFields, faulting: Faults, resume: Resume): { record: CompletionFields; rounds: number } {
  const blocks = faulting.block && faulting.ats;
  let fields: DescriptorFields = blocks ? { ...first, flags: (first.flags ?? 0) | Flag.BLOCK_ON_FAULT } : first;
  for (let rounds = 0; ; rounds++) {
    const record = rig.run(fields);
    if ((record.status & 0x7f) !== Status.PAGE_FAULT) return { record, rounds };
    expect(blocks).toBe(false);
    const page = Number(record.faultAddress >> 12n);
    // Bit 7: the fault was a write. A page that is there for what was wanted does not fault.
    const wanted = record.status & 0x80 ? 2 : 1;
    expect((rig.unit.rights.get(page) ?? 3) & wanted).toBe(0);
    rig.unit.rights.delete(page);
    fields = resume(fields, record);
    if (rounds > 1000) throw new Error("it does not come to an end");
  }
}

const plus = (address: bigint | number | undefined, bytes: number): number => Number(address ?? 0) + bytes;

/** Both addresses and the size go on by what was done. */
const advance: Resume = (fields, { completed }) => ({ ...fields, source: plus(fields.source, completed), destination: plus(fields.destination, completed), size: (fields.size ?? 0) - completed });

/** Places of up to 30 pages, that do not overlap: one in each third. */
const offset = fc.integer({ min: 0, max: 2 * PAGE });
const size = fc.oneof(fc.integer({ min: 1, max: 300 }), fc.integer({ min: 1, max: 28 * PAGE }));
const [ONE, TWO, THREE] = [0x100 * PAGE, 0x140 * PAGE, 0x180 * PAGE];
const seed = fc.integer({ min: 0, max: 2 ** 31 });

const bytesAt = (rig: Rig, at: number, length: number): Buffer => Buffer.from(rig.unit.memory.subarray(at, at + length));

const RUNS = { numRuns: 150, seed: 20_261 };

describe("memory move", () => {
  it("is a memmove, overlapping or not, whatever pages are missing", () => {
    fc.assert(
      fc.property(faults, size, offset, fc.integer({ min: -3 * PAGE, max: 3 * PAGE }), fc.boolean(), seed, (faulting, bytes, from, distance, apart, paint) => {
        const rig = rigWith(faulting);
        const source = TWO + from;
        const destination = apart ? THREE + from + (distance & 7) : source + distance;
        rig.paint(ONE, 0xa0 * PAGE, paint);
        const expected = Buffer.from(rig.unit.memory);
        expected.copyWithin(destination, source, source + bytes);
        const { record } = finish(rig, { opcode: Opcode.MEMMOVE, source, destination, size: bytes }, faulting, (fields, done) =>
          done.result === 0 ? advance(fields, done) : { ...fields, size: (fields.size ?? 0) - done.completed });
        expect(record).toMatchObject({ status: Status.SUCCESS, completed: 0, result: 0 });
        expect(bytesAt(rig, FIRST_PAGE * PAGE, 0xe0 * PAGE).equals(expected.subarray(FIRST_PAGE * PAGE, 0x1e0 * PAGE))).toBe(true);
      }),
      RUNS,
    );
  });
});

describe("fill", () => {
  it("repeats its pattern", () => {
    fc.assert(
      fc.property(faults, size, offset, fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), fc.option(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })), (faulting, bytes, at, low, high) => {
        const rig = rigWith(faulting);
        const pattern = Buffer.alloc(high === null ? 8 : 16);
        pattern.writeBigUInt64LE(low);
        if (high !== null) pattern.writeBigUInt64LE(high, 8);
        const { record } = finish(
          rig,
          { opcode: Opcode.FILL, source: low, destination: ONE + at, size: bytes, flags: high === null ? 0 : 1 << 16, bytes: high === null ? {} : { 40: high } },
          faulting,
          (fields, { completed }) => ({ ...fields, destination: plus(fields.destination, completed), size: (fields.size ?? 0) - completed }),
        );
        expect(record.status).toBe(Status.SUCCESS);
        expect(bytesAt(rig, ONE + at, bytes).equals(Buffer.alloc(bytes, pattern))).toBe(true);
        expect([rig.unit.memory[ONE + at - 1], rig.unit.memory[ONE + at + bytes]]).toEqual([0, 0]);
      }),
      RUNS,
    );
  });
});

describe("dualcast", () => {
  it("copies to both", () => {
    fc.assert(
      fc.property(faults, size, offset, offset, seed, (faulting, bytes, from, to, paint) => {
        const rig = rigWith(faulting);
        const painted = Buffer.from(rig.paint(ONE + from, bytes, paint));
        const { record } = finish(rig, { opcode: Opcode.DUALCAST, source: ONE + from, destination: TWO + to, size: bytes, bytes: { 40: THREE + to } }, faulting, (fields, done) => ({
          ...advance(fields, done),
          bytes: { 40: Number(fields.bytes?.[40]) + done.completed },
        }));
        expect(record.status).toBe(Status.SUCCESS);
        expect(bytesAt(rig, TWO + to, bytes).equals(painted) && bytesAt(rig, THREE + to, bytes).equals(painted)).toBe(true);
      }),
      RUNS,
    );
  });
});

describe("comparisons", () => {
  const total = (fields: DescriptorFields, first: DescriptorFields): number => (first.size ?? 0) - (fields.size ?? 0);

  it("find the first difference of two places", () => {
    fc.assert(
      fc.property(faults, size, offset, offset, fc.option(fc.nat()), fc.constantFrom(undefined, 0, 1), seed, (faulting, bytes, a, b, at, wanted, paint) => {
        const rig = rigWith(faulting);
        rig.unit.memory.set(rig.paint(ONE + a, bytes, paint), TWO + b);
        if (at !== null) rig.unit.memory[TWO + b + (at % bytes)] ^= 0x40;
        const check = wanted === undefined ? {} : { flags: Flag.CHECK_RESULT, bytes: { 40: [1, wanted] as const } };
        const first: DescriptorFields = { opcode: Opcode.COMPARE, source: ONE + a, destination: TWO + b, size: bytes, ...check };
        let last = first;
        const { record } = finish(rig, first, faulting, (fields, done) => (last = advance(fields, done)));
        const result = at === null ? 0 : 1;
        expect(record).toMatchObject({ result, status: wanted === undefined || wanted === result ? Status.SUCCESS : Status.FALSE_PREDICATE });
        if (at !== null) expect(total(last, first) + record.completed).toBe(at % bytes);
      }),
      RUNS,
    );
  });

  it("find the first difference of a place from a pattern", () => {
    fc.assert(
      fc.property(faults, size, offset, fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), fc.option(fc.nat()), (faulting, bytes, a, pattern, at) => {
        const rig = rigWith(faulting);
        const eight = Buffer.alloc(8);
        eight.writeBigUInt64LE(pattern);
        rig.unit.memory.set(Buffer.alloc(bytes, eight), ONE + a);
        if (at !== null) rig.unit.memory[ONE + a + (at % bytes)] ^= 1;
        const first: DescriptorFields = { opcode: Opcode.COMPARE_PATTERN, source: ONE + a, destination: pattern, size: bytes };
        let last = first;
        const { record } = finish(rig, first, faulting, (fields, { completed }) => (last = { ...fields, source: plus(fields.source, completed), size: (fields.size ?? 0) - completed }));
        expect(record).toMatchObject({ status: Status.SUCCESS, result: at === null ? 0 : 1 });
        if (at !== null) expect(total(last, first) + record.completed).toBe(at % bytes);
      }),
      RUNS,
    );
  });
});

/** By the definition: which units differ, and what they are in the second place. */
function deltaOf(a: Buffer, b: Buffer): Buffer {
  const entries: Buffer[] = [];
  for (let at = 0; at < a.length; at += 8) {
    if (a.subarray(at, at + 8).equals(b.subarray(at, at + 8))) continue;
    entries.push(Buffer.of((at / 8) & 0xff, at / 8 >> 8), b.subarray(at, at + 8));
  }
  return Buffer.concat(entries);
}

describe("delta records", () => {
  const units = fc.oneof(fc.integer({ min: 1, max: 64 }), fc.integer({ min: 1, max: 3000 }));
  const again: Resume = (fields, { completed }) => {
    expect(completed).toBe(0);
    return fields;
  };

  it("hold what differs, as far as there is room, and make one place into the other", () => {
    fc.assert(
      fc.property(faults, units, units, offset, fc.array(fc.nat(), { maxLength: 200 }), fc.integer({ min: 8, max: 250 }), seed, (faulting, count, room, at, changes, most, paint) => {
        const rig = rigWith(faulting);
        const [bytes, a, b, delta] = [count * 8, ONE + (at & ~7), TWO + ((room * 8) % PAGE), THREE + (at & ~7)];
        rig.unit.memory.set(rig.paint(a, bytes, paint), b);
        for (const change of changes) rig.unit.memory[b + (change % bytes)] ^= 1 + (change & 0x7f);
        const [before, after] = [bytesAt(rig, a, bytes), bytesAt(rig, b, bytes)];
        const expected = deltaOf(before, after);
        const create: DescriptorFields = { opcode: Opcode.CREATE_DELTA, source: a, destination: b, size: bytes, bytes: { 40: delta, 48: [4, most * 10] } };
        const { record } = finish(rig, create, faulting, again);
        const fits = expected.length <= most * 10;
        expect(record).toMatchObject({ status: Status.SUCCESS, result: fits ? (expected.length > 0 ? 1 : 0) : 2 });
        const written = record.view.getUint32(16, true);
        expect(written).toBe(Math.min(expected.length, most * 10));
        expect(bytesAt(rig, delta, written).equals(expected.subarray(0, written))).toBe(true);
        if (!fits || written === 0) return;
        for (const page of faulting.missing) rig.unit.rights.set(page, 0);
        const apply: DescriptorFields = { opcode: Opcode.APPLY_DELTA, source: delta, destination: a, size: bytes, bytes: { 40: [4, written] } };
        // Pages of the cache that were given back are not taken again by the device without being told.
        rig.unit.endpoint?.invalidate({ tag: 0, pasid: -1, allPasids: false, page: 0, shift: 64 });
        expect(finish(rig, apply, faulting, again).record.status).toBe(Status.SUCCESS);
        expect(bytesAt(rig, a, bytes).equals(after)).toBe(true);
      }),
      RUNS,
    );
  });
});

/** CRC of one bit after another, its bits and the data's highest first, in the register of RFC 3720 once both are reflected. */
function crc32c(bytes: Uint8Array, init: number, reflectData: boolean): number {
  let crc = init >>> 0;
  for (const byte of bytes) {
    for (let bit = 0; bit < 8; bit++) {
      const input = (reflectData ? byte >> bit : byte >> (7 - bit)) & 1;
      const top = (crc >>> 31) ^ input;
      crc = ((crc << 1) ^ (top ? 0x1edc6f41 : 0)) >>> 0;
    }
  }
  return crc;
}
const mirror = (word: number): number => Number.parseInt((word >>> 0).toString(2).padStart(32, "0").split("").reverse().join(""), 2);

/** Seed and result inverted and mirrored, unless the flag says not to. */
function expectedCrc(bytes: Uint8Array, from: number, flags: number): number {
  const plain = (flags & 2) !== 0;
  const out = crc32c(bytes, plain ? from : mirror(~from), (flags & 4) === 0);
  return plain ? out : ~mirror(out) >>> 0;
}

describe("CRC", () => {
  it("is that of RFC 3720", () => {
    expect(expectedCrc(Buffer.from("123456789"), 0, 0)).toBe(0xe306_9283);
    const rig = new Rig();
    rig.start();
    rig.unit.memory.set(Buffer.from("123456789"), ONE);
    expect(rig.run({ opcode: Opcode.CRC, source: ONE, size: 9 }).view.getUint32(16, true)).toBe(0xe306_9283);
  });

  it("is the same by hand, copying or not, from any seed, in any order of bits", () => {
    const small = fc.oneof(fc.integer({ min: 1, max: 300 }), fc.integer({ min: 1, max: 6 * PAGE }));
    fc.assert(
      fc.property(faults, small, offset, offset, fc.integer({ min: 0, max: 7 }), fc.nat(0xffff_ffff), fc.boolean(), seed, (faulting, bytes, from, to, flags, start, copies, paint) => {
        const rig = rigWith(faulting);
        const painted = Buffer.from(rig.paint(ONE + from, bytes, paint));
        const inMemory = (flags & 1) !== 0;
        const seedAt = THREE + PAGE - 2;
        new DataView(rig.unit.memory.buffer).setUint32(seedAt, start, true);
        const first: DescriptorFields = {
          opcode: copies ? Opcode.COPY_CRC : Opcode.CRC,
          source: ONE + from,
          destination: copies ? TWO + to : 0,
          size: bytes,
          flags: flags << 16,
          bytes: inMemory ? { 48: seedAt } : { 40: [4, start] },
        };
        // What was done so far is the seed of the rest, which comes out of the descriptor then, unless nothing was done.
        const { record } = finish(rig, first, faulting, (fields, { completed, view }) => ({
          ...fields,
          source: plus(fields.source, completed),
          destination: copies ? plus(fields.destination, completed) : 0,
          size: (fields.size ?? 0) - completed,
          ...(completed > 0 && { flags: (fields.flags ?? 0) & ~(1 << 16), bytes: { 40: [4, view.getUint32(16, true)] } }),
        }));
        expect(record.status).toBe(Status.SUCCESS);
        expect(record.view.getUint32(16, true)).toBe(expectedCrc(painted, start, flags));
        if (copies) expect(bytesAt(rig, TWO + to, bytes).equals(painted)).toBe(true);
      }),
      RUNS,
    );
  });
});

const BLOCKS = [512, 520, 4096, 4104];

/** T10 DIF: polynomial 8BB7, highest bit first. */
function crc16(bytes: Uint8Array, init: number): number {
  let crc = init;
  for (const byte of bytes) for (let bit = 7; bit >= 0; bit--) crc = ((crc << 1) ^ (((crc >> 15) ^ (byte >> bit)) & 1 ? 0x8bb7 : 0)) & 0xffff;
  return crc;
}

interface Tags {
  readonly reference: number;
  readonly mask: number;
  readonly application: number;
  readonly increments: boolean;
  readonly fixed: boolean;
}

const tags: fc.Arbitrary<Tags> = fc.record({
  reference: fc.oneof(fc.nat(0xffff_ffff), fc.constant(0xffff_fffe)),
  mask: fc.nat(0xffff),
  application: fc.oneof(fc.nat(0xffff), fc.constant(0xfffe)),
  increments: fc.boolean(),
  fixed: fc.boolean(),
});

const tagFlags = ({ increments, fixed }: Tags): number => (increments ? 0x10 : 0) | (fixed ? 0x80 : 0);
const tagBytes = (at: number, { reference, mask, application }: Tags): DescriptorFields["bytes"] => ({ [at]: [4, reference], [at + 4]: [2, mask], [at + 6]: [2, application] });

function tuple(block: Uint8Array, index: number, flags: number, { reference, mask, application, increments, fixed }: Tags): Buffer {
  const out = Buffer.alloc(8);
  const guard = crc16(block, flags & 4 ? 0xffff : 0);
  out.writeUInt16BE(flags & 8 ? guard ^ 0xffff : guard, 0);
  out.writeUInt16BE((application + (increments ? index : 0)) & 0xffff & ~mask, 2);
  out.writeUInt32BE((reference + (fixed ? 0 : index)) >>> 0, 4);
  return out;
}

/** Blocks with their tuples. */
function protectedBlocks(data: Buffer, block: number, flags: number, of: Tags): Buffer {
  const parts: Buffer[] = [];
  for (let i = 0; i * block < data.length; i++) parts.push(data.subarray(i * block, (i + 1) * block), tuple(data.subarray(i * block, (i + 1) * block), i, flags, of));
  return Buffer.concat(parts);
}

describe("DIF", () => {
  it("has T10's guard", () => expect(crc16(Buffer.from("123456789"), 0)).toBe(0xd0db));

  const kinds = fc.constantFrom(Opcode.DIF_CHECK, Opcode.DIF_INSERT, Opcode.DIF_STRIP, Opcode.DIF_UPDATE, Opcode.DIX_GENERATE);

  it("is checked, inserted, stripped, updated and generated, block by block", () => {
    fc.assert(
      fc.property(faults, kinds, fc.integer({ min: 0, max: 15 }), fc.integer({ min: 1, max: 6 }), offset, offset, tags, tags, fc.integer({ min: 0, max: 7 }), seed, (faulting, opcode, flags, count, from, to, source, target, pass, paint) => {
        const rig = rigWith(faulting);
        const block = BLOCKS[flags & 3];
        const data = Buffer.from(rig.paint(THREE, block * count, paint));
        const guarded = protectedBlocks(data, block, flags, source);
        const takesTuples = opcode !== Opcode.DIF_INSERT && opcode !== Opcode.DIX_GENERATE;
        const input = takesTuples ? guarded : data;
        rig.unit.memory.set(input, ONE + from);
        const passFlags = opcode === Opcode.DIF_UPDATE ? (pass & 1 ? 0x08 : 0) | (pass & 2 ? 0x20 : 0) | (pass & 4 ? 0x40 : 0) : 0;
        const givesTuples = opcode !== Opcode.DIF_CHECK && opcode !== Opcode.DIF_STRIP;
        const first: DescriptorFields = {
          opcode,
          source: ONE + from,
          destination: opcode === Opcode.DIF_CHECK ? 0 : TWO + to,
          size: input.length,
          bytes: {
            42: [1, flags],
            ...(takesTuples && { 40: [1, tagFlags(source)], ...tagBytes(48, source) }),
            ...(givesTuples && { 41: [1, tagFlags(target) | passFlags], ...tagBytes(56, target) }),
          },
        };
        const perBlock = block + (takesTuples ? 8 : 0);
        const given = { [Opcode.DIF_CHECK]: 0, [Opcode.DIF_STRIP]: block, [Opcode.DIX_GENERATE]: 8 }[opcode as number] ?? block + 8;
        // Counted in whole blocks; the record has the tags of what comes next, where the descriptor has its seeds.
        const { record } = finish(rig, first, faulting, (fields, { completed, view }) => {
          expect(completed % perBlock).toBe(0);
          const next = (at: number): DescriptorFields["bytes"] => ({ [at + 32]: [4, view.getUint32(at, true)], [at + 36]: [2, view.getUint16(at + 4, true)], [at + 38]: [2, view.getUint16(at + 6, true)] });
          return {
            ...fields,
            source: plus(fields.source, completed),
            destination: opcode === Opcode.DIF_CHECK ? 0 : plus(fields.destination, (completed / perBlock) * given),
            size: (fields.size ?? 0) - completed,
            bytes: { ...fields.bytes, ...(takesTuples && next(16)), ...(givesTuples && next(24)) },
          };
        });
        expect(record).toMatchObject({ status: Status.SUCCESS, result: 0 });
        const output = bytesAt(rig, TWO + to, given * count);
        expect(output.equals(expectedOutput(opcode, data, guarded, block, flags, target, passFlags))).toBe(true);
      }),
      RUNS,
    );
  });

  function expectedOutput(opcode: number, data: Buffer, guarded: Buffer, block: number, flags: number, target: Tags, pass: number): Buffer {
    if (opcode === Opcode.DIF_CHECK) return Buffer.alloc(0);
    if (opcode === Opcode.DIF_STRIP) return data;
    const whole = protectedBlocks(data, block, flags, target);
    if (opcode === Opcode.DIF_INSERT) return whole;
    const tuples = (of: Buffer): Buffer[] => Array.from({ length: data.length / block }, (_, i) => of.subarray(i * (block + 8) + block, (i + 1) * (block + 8)));
    if (opcode === Opcode.DIX_GENERATE) return Buffer.concat(tuples(whole));
    const before = tuples(guarded);
    for (const [i, after] of tuples(whole).entries()) {
      if (pass & 0x20) before[i].copy(after, 0, 0, 2);
      if (pass & 0x08) before[i].copy(after, 2, 2, 4);
      if (pass & 0x40) before[i].copy(after, 4, 4, 8);
    }
    return whole;
  }

  const WRONG: readonly [name: string, at: number, result: number][] = [["guard", 0, 1], ["application tag", 2, 2], ["reference tag", 4, 4], ["data", -1, 1]];
  it.each(WRONG)("finds a wrong %s, and says in which block", (_name, at, result) => {
    const rig = new Rig();
    rig.start();
    const none: Tags = { reference: 7, mask: 0, application: 3, increments: true, fixed: false };
    const guarded = protectedBlocks(Buffer.from(rig.paint(THREE, 1536)), 512, 0, none);
    guarded[2 * 520 + 512 + at] ^= 0x80;
    rig.unit.memory.set(guarded, ONE);
    const fields: DescriptorFields = { opcode: Opcode.DIF_CHECK, source: ONE, size: guarded.length, bytes: { 40: [1, 0x10], ...tagBytes(48, none) } };
    expect(rig.run(fields)).toMatchObject({ status: Status.DIF, result, completed: 1040 });
    // Nobody looks where it is told not to.
    const blind = { ...fields, bytes: { ...fields.bytes, 40: [1, 0x10 | (result & 1 ? 0x20 : 0) | (result & 4 ? 0x40 : 0)] as const, 52: [2, 0xffff] as const } };
    expect(rig.run(blind).status).toBe(Status.SUCCESS);
  });

  const F_ROWS: readonly [flags: number, bytes: readonly number[], status: number, result: number][] = [
    [0, [255, 255, 255, 255, 255, 255, 255, 255], Status.DIF, 7],
    [2, [255, 255, 255, 255, 255, 255, 255, 255], Status.SUCCESS, 0],
    [3, [255, 255, 255, 255, 255, 255, 255, 255], Status.DIF, 8],
    [4, [0, 0, 255, 255, 0, 0, 0, 1], Status.SUCCESS, 0],
    [8, [0, 0, 255, 255, 0, 0, 0, 1], Status.DIF, 7],
    [8, [0, 0, 255, 255, 255, 255, 255, 255], Status.SUCCESS, 0],
  ];
  it.each(F_ROWS)("with source flags %i takes tags of all ones as it is told: %j", (flags, bytes, status, result) => {
    const rig = new Rig();
    rig.start();
    rig.paint(ONE, 512);
    rig.unit.memory.set(bytes, ONE + 512);
    expect(rig.run({ opcode: Opcode.DIF_CHECK, source: ONE, size: 520, bytes: { 40: [1, flags] } })).toMatchObject({ status, result });
  });
});

describe("translation fetch and cache flush", () => {
  it.each([[Opcode.TRANSLATION_FETCH, 0], [Opcode.TRANSLATION_FETCH, 64], [Opcode.TRANSLATION_FETCH, PAGE], [Opcode.TRANSLATION_FETCH, 3 * PAGE], [Opcode.CACHE_FLUSH, 0]])("opcode %i with stride %i reaches each page, and moves nothing", (opcode, stride) => {
    fc.assert(
      fc.property(size, offset, fc.array(fc.integer({ min: 0x100, max: 0x120 }), { maxLength: 20 }), (bytes, at, missing) => {
        const rig = rigWith({ missing, readOnly: [], block: true, ats: true });
        const address = ONE + at;
        rig.unit.answer = undefined;
        const touched = new Set<number>();
        for (let i = 0; i < bytes; i += stride < PAGE ? 1 : stride) touched.add(Math.floor((address + i) / PAGE));
        rig.submit(descriptor({ opcode, source: opcode === Opcode.CACHE_FLUSH ? 0 : address, destination: opcode === Opcode.CACHE_FLUSH ? address : 0, size: bytes, flags: Flag.BLOCK_ON_FAULT, bytes: stride > 0 ? { 48: [4, stride] } : {} }));
        const asked: number[] = [];
        while (rig.unit.questions.length > 0) {
          asked.push(rig.unit.questions[0].page);
          rig.unit.respond();
        }
        expect(rig.record().status).toBe(Status.SUCCESS);
        expect(asked).toEqual([...touched].filter((page) => missing.includes(page)));
      }),
      { ...RUNS, numRuns: 40 },
    );
  });
});

describe("no-op", () => {
  it("does nothing, and says so only when asked", () => {
    const rig = new Rig();
    rig.start();
    expect(rig.run({ opcode: Opcode.NOOP })).toMatchObject({ status: Status.SUCCESS, completed: 0 });
    expect(rig.run({ opcode: Opcode.NOOP, flags: Flag.REQUEST_COMPLETION }).status).toBe(Status.NONE);
  });
});
