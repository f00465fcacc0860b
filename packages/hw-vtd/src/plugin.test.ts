/** Options of a unit in a machine file. */
import { buildMachine } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { vtdIommuFactory } from "./plugin.js";

const build = (options: Readonly<Record<string, unknown>>): unknown =>
  buildMachine({ name: "options", memory: { size: "16MiB" }, iommus: [{ type: "vtd", options }], devices: [] }, { iommus: [vtdIommuFactory], devices: [] });

describe("options of a VT-d unit", () => {
  it("give every cache a geometry, and every policy a value", () => {
    expect(() => build({ iotlbSets: 0, contextSets: 8, contextWays: 1, pasidSets: 0, firstStageTableSets: 0, secondStageTableSets: 1, secondStageTableWays: 255 })).not.toThrow();
    expect(() => build({ policies: { userDenial: "last", largestCached: 12, absentPasids: "did0" } })).not.toThrow();
  });

  it.each([
    [{ contextSets: 3 }, "contextSets is 3, neither a power of two nor 0"],
    [{ iotlbWays: 0 }, "iotlbWays is 0, not 1 to 255"],
    [{ policies: [] }, "policies is not an object"],
    [{ policies: { userDenail: "last" } }, 'there is no policy "userDenail"; there are: accessed'],
    [{ policies: { userDenial: "maybe" } }, 'policy userDenial is "maybe", none of first, last'],
    [{ policies: { toString: 1 } }, 'there is no policy "toString"'],
    [{ tables: 1 }, 'no option "tables"'],
  ])("refuse %j", (options, message) => {
    expect(() => build(options)).toThrow(message);
  });
});
