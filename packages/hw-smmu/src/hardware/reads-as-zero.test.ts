/** CD.A = 0 (5.5): a fault of stage 1 that is not an abort, on the bus. */
import { Bus } from "@iommukit/core";
import { expect, it } from "vitest";
import { LEAF1, Rig } from "../reference/rig.js";
import { identify } from "../reference/units.js";

const id = identify(1, { S2P: 1n, S1P: 1n, TTF: 2n, TTENDIAN: 2n, STALL_MODEL: 0n, ST_LEVEL: 1n }, { SIDSIZE: 16n, CMDQS: 8n, EVENTQS: 8n }, { HAD: 1n, XNX: 1n }, { OAS: 5n, GRAN4K: 1n, STALL_MAX: 8n });

function machine(cd: Record<string, number>, nested = false) {
  const rig = new Rig(id);
  // Read-only, and in nested tables a page that stage 2 does not have.
  rig.stage1.map(0x100, nested ? 0x8_0000 : 0x500, 1, LEAF1 | 0x80);
  if (nested) rig.nestedStream({ IPS: 5, ...cd });
  else rig.stage1Stream({ IPS: 5, ...cd });
  rig.start();
  return { rig, port: new Bus(rig.memory).connect(1, rig.unit) };
}

it.each([[{ A: 0, R: 1 }, 1], [{ A: 0, R: 0 }, 0]])("%o: reads get zeros, writes go nowhere; R alone says what is recorded", (cd, records) => {
  const { rig, port } = machine(cd);
  const bytes = new Uint8Array(8).fill(7);
  expect(port.read(0x20_0ff8n, bytes)).toEqual({ ok: true, moved: 8 });
  expect([...bytes]).toEqual(Array(8).fill(0));
  expect(rig.events()).toHaveLength(records);
  rig.memory.writeU64(0x50_0000, 0x1234n);
  expect(port.write(0x10_0000n, new Uint8Array(8).fill(9)).ok).toBe(true);
  expect(rig.memory.readU64(0x50_0000)).toBe(0x1234n);
});

it("other pages of the same request are as they are", () => {
  const { rig, port } = machine({ A: 0 });
  rig.memory.writeU64(0x50_0ff8, 0x0101_0101_0101_0101n);
  const bytes = new Uint8Array(16).fill(7);
  expect(port.read(0x10_0ff8n, bytes)).toEqual({ ok: true, moved: 16 });
  expect([...bytes]).toEqual([...Array<number>(8).fill(1), ...Array<number>(8).fill(0)]);
});

it.each<[string, Record<string, number>, boolean]>([
  ["A = 1", { A: 1 }, false],
  ["a stall comes first", { A: 0, S: 1 }, false],
  ["a fault of stage 2 aborts", { A: 0 }, true],
])("%s: an abort", (_what, cd, nested) => {
  const { port } = machine(cd, nested);
  expect(port.read(nested ? 0x10_0000n : 0x20_0000n, new Uint8Array(8)).ok).toBe(false);
});

it("nor does what it was before count for a request that aborts", () => {
  const { rig, port } = machine({ A: 0 });
  expect(port.read(0x20_0000n, new Uint8Array(8)).ok).toBe(true);
  // Config = 0: abort; then no STE at all.
  rig.ste({ Config: 0 }, 2);
  const bus = new Bus(rig.memory);
  expect(bus.connect(2, rig.unit).read(0x20_0000n, new Uint8Array(8)).ok).toBe(false);
  expect(port.read(0x20_0000n, new Uint8Array(8)).ok).toBe(true);
  expect(bus.connect(3, rig.unit).read(0x20_0000n, new Uint8Array(8)).ok).toBe(false);
});
