import { PhysicalMemory } from "@iommukit/core";
import { readCapabilities, secondStageFormat, type SecondStageView } from "@iommukit/hw-vtd/spec";
import { expect, it } from "vitest";
import { GUEST_UNITS } from "./capabilities.js";
import { secondStageLeaves } from "./second-stage.js";

const { version, cap, ecap, haw } = GUEST_UNITS.shadowed;
const FORMAT = secondStageFormat(readCapabilities(version, cap, ecap, haw));
/** Three levels: tables at 0x1000, 0x2000 and 0x3000. */
const VIEW: SecondStageView = { root: 0x1000, levels: 3, pages: 2 ** 27 };
const [R, W, PS] = [1n, 2n, 0x80n];
const BUDGET = 10_000;

/** @param entries words by their address */
function leaves(entries: Readonly<Record<number, bigint>>, start = 0n, last = 2n ** 64n - 1n, budget = BUDGET): string[] {
  const memory = new PhysicalMemory();
  memory.addRam(0, 0x1_0000);
  for (const [at, word] of Object.entries({ 0x1000: 0x2000n | R | W, 0x2000: 0x3000n | R | W, ...entries })) memory.writeU64(Number(at), word);
  return [...secondStageLeaves(memory, FORMAT, VIEW, start, last, budget)].map(({ iova, address, length, rights }) => `${iova.toString(16)} ${address.toString(16)} ${length.toString(16)} ${rights}`);
}

it("are pages of every size, with what all levels grant", () => {
  expect(leaves({ 0x3000: 0x8000n | R | W, 0x3008: 0x9000n | R, 0x2008: 0x20_0000n | R | W | PS, 0x2010: 0x4000n | R, 0x4000: 0xa000n | R | W })).toEqual([
    "0 8000 1000 3", "1000 9000 1000 1", "200000 200000 200000 3", "400000 a000 1000 1",
  ]);
});

it("are looked for where they are asked for", () => {
  const entries = { 0x3000: 0x8000n | R, 0x3008: 0x9000n | R, 0x2008: 0x20_0000n | R | PS };
  expect(leaves(entries, 0x1000n, 0x1fffn)).toEqual(["1000 9000 1000 1"]);
  expect(leaves(entries, 0x30_0000n, 0x30_0000n)).toEqual(["200000 200000 200000 1"]);
});

it.each([
  ["nothing", 0n],
  ["rights that an upper level takes away", 0x8000n | W, 0x3000n | R],
  ["an address beyond the host address width", 0x8000n | R | (1n << 50n)],
  ["bit 62, which is reserved", 0x8000n | R | (1n << 62n)],
  ["snoop control that the unit has not", 0x8000n | R | 0x800n],
])("%s maps nothing", (_what, leaf, middle = 0x3000n | R | W) => {
  expect(leaves({ 0x2000: middle, 0x3000: leaf })).toEqual([]);
});

it.each([["a large page that is not aligned", 0x20_1000n | R | PS], ["a table outside of memory", 0x4000_0000n | R]])("%s maps nothing", (_what, entry) => {
  expect(leaves({ 0x2000: entry })).toEqual([]);
});

it("tables in circles end", () => {
  const circle = Object.fromEntries(Array.from({ length: 512 }, (_, i) => [0x1000 + i * 8, 0x1000n | R | W]));
  expect(leaves(circle).length).toBeLessThanOrEqual(BUDGET);
});
