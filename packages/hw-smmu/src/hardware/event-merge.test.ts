/** Merging of event records (7.3.1): which are the same, and for how long. */
import { Access } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { LEAF1, Rig } from "../reference/rig.js";
import { UNITS } from "../reference/units.js";
import { Reg } from "../spec/index.js";

/** Stream 1 lets its events be merged, stream 2 does not. */
function rig(options: ConstructorParameters<typeof Rig>[1] = { mergeEvents: true }): Rig {
  const made = new Rig(UNITS["with everything"], options);
  made.stage1.map(0x100, 0x500, 1, LEAF1 | 0x80);
  made.stage1Stream({}, { MEV: 1 }, 1);
  made.stage1Stream({}, {}, 2);
  return made.start();
}
const records = (made: Rig): number => made.read(Reg.EVENTQ_PROD);

describe("events are merged", () => {
  it("only by a unit that was told to, and of streams with MEV only", () => {
    for (const [options, stream, count] of [[{ mergeEvents: true }, 1, 1], [{ mergeEvents: true }, 2, 3], [{}, 1, 3]] as const) {
      const made = rig(options);
      for (let i = 0; i < 3; i++) made.dma(0x200, { stream });
      expect(records(made), `stream ${stream}`).toBe(count);
    }
  });

  it("wherever in the page they were", () => {
    const made = rig();
    made.dma(0x200, { offset: 0x10 });
    made.dma(0x200, { offset: 0xff8 });
    expect(made.event().words[2]).toBe(0x20_0010n);
  });

  it("not when anything else differs", () => {
    const made = rig();
    made.dma(0x200);
    made.dma(0x201);
    made.dma(0x200);
    made.dma(0x200, { access: Access.WRITE });
    made.dma(0x200, { access: Access.READ | Access.PRIVILEGED });
    made.dma(0x200, { access: Access.READ, stream: 2 });
    made.dma(0x100, { access: Access.WRITE });
    expect(records(made)).toBe(7);
  });

  it("without an STE whatever MEV would be", () => {
    const made = rig();
    for (let i = 0; i < 3; i++) made.dma(0, { stream: 5 });
    for (let i = 0; i < 3; i++) made.dma(0, { stream: 0xffff });
    expect(made.names()).toEqual(["C_BAD_STE", "C_BAD_STREAMID"]);
  });

  it("until software takes the record", () => {
    const made = rig();
    made.dma(0x200);
    expect(made.names()).toHaveLength(1);
    made.dma(0x200);
    expect(made.names()).toHaveLength(1);
  });

  it("until a CMD_SYNC: what comes after it is of another state", () => {
    const made = rig();
    made.dma(0x200);
    made.command("TLBI_NSNH_ALL");
    made.dma(0x200);
    expect(records(made)).toBe(1);
    made.command("SYNC");
    made.dma(0x200);
    expect(records(made)).toBe(2);
  });

  it("until the queue is turned off, as its index may move then", () => {
    const made = rig();
    made.dma(0x200);
    made.write(Reg.CR0, 0x9);
    made.write(Reg.CR0, 0xd);
    made.dma(0x200);
    expect(records(made)).toBe(2);
  });

  it("into a full queue without an overflow, and what is not the same overflows", () => {
    const made = rig();
    for (let i = 0; i < 16; i++) made.dma(0x200 + i);
    made.dma(0x20f);
    expect(records(made) >>> 31).toBe(0);
    made.dma(0x200);
    expect(records(made) >>> 31).toBe(1);
  });

  it("never when a transaction stalls on them", () => {
    const made = new Rig(UNITS["with everything"], { mergeEvents: true });
    made.stage1Stream({ S: 1 }, { MEV: 1 });
    made.start();
    made.dma(0x200);
    made.dma(0x200);
    expect(made.events().map(({ fields }) => fields.Stall)).toEqual([1, 1]);
  });

  it("of ATS traffic too (3.9)", () => {
    const made = rig();
    made.write(Reg.CR0, 0x1d);
    for (const stream of [1, 2]) for (let i = 0; i < 2; i++) made.unit.ats?.translated(stream, -1, 0x300, Access.READ);
    expect(made.events().map(({ name, words }) => [name, Number(words[0] >> 32n)])).toEqual([["F_TRANSL_FORBIDDEN", 1], ["F_TRANSL_FORBIDDEN", 2], ["F_TRANSL_FORBIDDEN", 2]]);
  });
});
