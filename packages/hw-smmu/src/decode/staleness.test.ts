import type { WalkStep } from "@iommukit/core";
import { encodeFields, type FieldTable } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { CD, L1_CONTEXT_DESCRIPTOR } from "../spec/context.js";
import { L1_STREAM_DESCRIPTOR, STE } from "../spec/stream-table.js";
import { STAGE1_LEAF, STAGE1_TABLE, STAGE2_LEAF, STAGE2_TABLE } from "../spec/tables.js";
import { dueInvalidation, ownFlags } from "./index.js";

const step = (table: FieldTable, values: Record<string, bigint> = {}): WalkStep => ({ structure: table.structure, section: table.section, pa: 0, words: encodeFields(table, values), fields: [] });
const due = (before: WalkStep, pasid?: number): string => dueInvalidation({ before, after: before.words }, { rid: 0x18, iova: 0x5000n, ...(pasid === undefined ? {} : { pasid }) }).text;

describe("due invalidations", () => {
  it.each([
    [L1_STREAM_DESCRIPTOR, "CMD_CFGI_STE with Leaf=0"], [STE, "CMD_CFGI_STE, then"], [L1_CONTEXT_DESCRIPTOR, "CMD_CFGI_CD with Leaf=0"], [CD, "CMD_CFGI_CD, then"],
    [STAGE1_TABLE, "CMD_TLBI_NH_VA"], [STAGE1_LEAF, "CMD_TLBI_NH_VA"], [STAGE2_TABLE, "CMD_TLBI_S2_IPA"], [STAGE2_LEAF, "CMD_TLBI_S2_IPA"],
  ])("of $structure", (table, text) => {
    expect(due(step(table)).startsWith(text)).toBe(true);
  });

  it("name what caches know the structure by", () => {
    expect(due(step(CD, { ASID: 9n }), 5)).toMatch(/StreamID 0x18, ASID 9, SubstreamID 0x5$/);
    expect(due(step(STE, { S2VMID: 3n }))).toMatch(/StreamID 0x18, VMID 3$/);
    expect(due(step(STAGE1_LEAF))).toMatch(/around input address 0x5000$/);
  });
});

describe("flags that the unit sets itself", () => {
  it.each([
    [STE, {}, 0n], [CD, {}, 0n], [STAGE1_TABLE, {}, 0x400n], [STAGE1_LEAF, {}, 0x400n], [STAGE1_LEAF, { DBM: 1n }, 0x480n], [STAGE2_LEAF, { DBM: 1n }, 0x480n], [STAGE2_TABLE, {}, 0x400n],
  ] as [FieldTable, Record<string, bigint>, bigint][])("%#", (table, values, flags) => {
    expect(ownFlags(step(table, values))).toBe(flags);
  });
});
