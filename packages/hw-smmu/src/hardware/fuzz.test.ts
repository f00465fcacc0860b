/** Anything in memory and in registers: the unit neither throws nor goes on for ever, and never gives what is no page. */
import { NO_PASID, PhysicalMemory, TranslationCompletion } from "@iommukit/core";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { UNITS } from "../reference/units.js";
import { REGISTERS } from "../spec/index.js";
import { SmmuUnit } from "./index.js";

const RAM = 2 ** 16;
const memory = new PhysicalMemory();
memory.addRam(0, RAM);
const offsets = [...REGISTERS.flatMap(({ offset, width }) => (width === 8 ? [offset, offset + 4] : [offset])), 0x3000, 0x1fffc];

const word = fc.oneof(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), fc.bigInt({ min: 0n, max: 2n ** 16n }), fc.constantFrom(0n, 1n, 2n ** 64n - 1n, 0xdn, 0x1fn, 0x46n));
const action = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("write" as const), offset: fc.constantFrom(...offsets), size: fc.constantFrom(1, 2, 4, 8), value: word }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("read" as const), offset: fc.constantFrom(...offsets), size: fc.constantFrom(1, 2, 4, 8) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("store" as const), at: fc.nat(RAM / 8 - 1), value: word }) },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant("dma" as const),
      stream: fc.oneof(fc.nat(15), fc.nat(2 ** 32 - 1)),
      substream: fc.oneof(fc.constant(NO_PASID), fc.nat(2 ** 20 - 1)),
      page: fc.oneof(fc.nat(1000), fc.maxSafeNat().map((value) => value % 2 ** 52)),
      access: fc.nat(15),
      offset: fc.nat(4095),
    }),
  },
);
type Action = typeof action extends fc.Arbitrary<infer T> ? T : never;

function apply(unit: SmmuUnit, out: TranslationCompletion, step: Action): void {
  switch (step.kind) {
    case "write":
      unit.write(step.offset, step.size, step.value);
      return;
    case "read":
      expect(unit.read(step.offset, step.size)).toBeGreaterThanOrEqual(0n);
      return;
    case "store":
      memory.writeU64(step.at * 8, step.value);
      return;
    default: {
      const { stream, substream, page, access, offset } = step;
      const result = unit.translate(stream, substream, page, access, offset);
      expect(result === -1 || (Number.isInteger(result) && result >= 0 && result < 2 ** 52)).toBe(true);
      if (unit.ats === undefined) return;
      unit.ats.requestTranslation(stream, substream, page, access, out);
      unit.ats.requestPage({ rid: stream, pasid: substream, page, access, group: 1, last: true });
      const translated = unit.ats.translated(stream, substream, page, access);
      expect(Number.isInteger(translated)).toBe(true);
    }
  }
}

describe.each(Object.entries(UNITS))("a unit %s", (_name, identification) => {
  it("takes any registers and any memory", () => {
    const noise = new Uint8Array(RAM);
    let seed = 1;
    for (let i = 0; i < RAM; i++) noise[i] = (seed = (Math.imul(seed, 1103515245) + 12345) >>> 0) >>> 24;
    fc.assert(
      fc.property(fc.array(action, { minLength: 10, maxLength: 60 }), fc.boolean(), fc.nat(63), (steps, noisy, streams) => {
        if (noisy) memory.write(0, noise);
        else memory.clear(0, RAM);
        const unit = new SmmuUnit(memory, { identification, caches: { input: { sets: 4, ways: 1 }, intermediate: { sets: 4, ways: 1 }, configurations: 4 } });
        // Mostly on from the beginning: otherwise little happens.
        unit.write(0x80, 8, BigInt(streams * 64));
        unit.write(0x88, 4, 5n);
        unit.write(0x90, 8, 0x1005n);
        unit.write(0xa0, 8, 0x2005n);
        unit.write(0xc0, 8, 0x3005n);
        unit.write(0x20, 4, 0x1fn);
        const out = new TranslationCompletion();
        for (const step of steps) apply(unit, out, step);
      }),
      { numRuns: 2000 },
    );
  });
});
