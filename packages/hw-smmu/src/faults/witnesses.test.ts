/** Two witnesses for each recipe that one request meets: the naive unit of `reference/`, and what `iommu walk` says. */
import { NO_PASID, type TableSource } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { smmuTableDecoder } from "../decode/index.js";
import type { Answer, Request } from "../reference/request.js";
import { ReferenceUnit } from "../reference/unit.js";
import { Cr0 } from "../spec/registers.js";
import { RECIPES } from "./catalogue.js";
import { expectedRecord, kindsOf } from "./check.js";
import { type FaultRun, runCase } from "./run.js";
import { TARGET } from "./scene.js";

/** Both know a unit that translates, and nothing of what implementations may add. */
const WITNESSED = RECIPES.filter((recipe) => {
  // Memory that takes no writes is not theirs to see.
  if (recipe.change.readOnly !== undefined) return false;
  const settings = [recipe.given, recipe.change];
  const isPlain = settings.every((setting) => setting?.unit?.choices === undefined && setting?.registers?.CR0 === undefined);
  return isPlain && recipe.expect.event !== undefined && !recipe.name.startsWith("GERROR") && kindsOf(recipe)[0] === "untranslated";
});

function requestOf({ request: { stream, substream, address, access, privileged } }: FaultRun): Request {
  return {
    stream, address, privileged, substream: substream === NO_PASID ? undefined : substream,
    read: access !== "write", write: access === "write" || access === "atomic", fetch: access === "execute",
  };
}

/** The naive unit's registers are those that say where tables are. */
function referenceSays(run: FaultRun): Answer {
  const { STRTAB_BASE: strtabBase, STRTAB_BASE_CFG: cfg, CR2 } = run.registers;
  const memory = { read: (at: bigint) => run.memory.readU64(Number(at)), write: () => undefined };
  return new ReferenceUnit(run.identification).request(memory, { strtabBase, strtabCfg: Number(cfg), cr2: Number(CR2) }, requestOf(run));
}

function decoderSays(run: FaultRun): string {
  const { idr0, idr1, idr3, idr5, aidr } = run.identification;
  const { STRTAB_BASE, STRTAB_BASE_CFG, CR2 } = run.registers;
  const source: TableSource = {
    iommu: "smmuv3",
    registers: { STRTAB_BASE, STRTAB_BASE_CFG, CR2, CR0: BigInt(Cr0.SMMUEN), IDR0: BigInt(idr0 >>> 0), IDR1: BigInt(idr1 >>> 0), IDR3: BigInt(idr3 >>> 0), IDR5: BigInt(idr5 >>> 0), AIDR: BigInt(aidr) },
    read: (pa, target) => run.memory.read(pa, target),
  };
  const { stream, substream, address, read, write, fetch, privileged } = requestOf(run);
  const { verdict } = smmuTableDecoder.walk(source, {
    rid: stream, iova: address, access: read && write ? "atomic" : write ? "write" : "read", execute: fetch, privileged, ...(substream === undefined ? {} : { pasid: substream }),
  });
  return verdict.ok ? `0x${verdict.pa.toString(16)}` : verdict.code.replace(/ .*/, "");
}

describe.each(WITNESSED)("$name", (recipe) => {
  const run = (unchanged: boolean): FaultRun => runCase({ recipe, kind: "untranslated", unchanged });

  it("the naive unit records the same, in every bit that the manual defines", () => {
    const answer = referenceSays(run(false));
    const record = "record" in answer ? answer.record : undefined;
    expect(record).toBeDefined();
    const expected = expectedRecord(recipe, "untranslated", run(false));
    expect(record?.words.map((word, i) => word & (record.known[i] ?? 0n))).toEqual(expected.map((word, i) => word & (record?.known[i] ?? 0n)));
  });

  it("a walk of the tables comes to the same event", () => {
    expect(decoderSays(run(false))).toBe(`0x${recipe.expect.event?.toString(16).padStart(2, "0")}`);
  });

  it("both find nothing wrong without the change", () => {
    const answer = referenceSays(run(true));
    const page = BigInt(TARGET) | (run(true).request.address & 0xfffn);
    expect(answer).toMatchObject({ address: page });
    expect(decoderSays(run(true))).toBe(`0x${page.toString(16)}`);
  });
});
