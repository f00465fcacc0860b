import { describe, expect, it } from "vitest";
import { checkTopology } from "./topology.js";

type Shown = readonly [rid: number, pasidSpace: number | undefined];
const check = (...devices: readonly Shown[]) => () => checkTopology(devices.map(([rid, pasidSpace], i) => ({ id: i + 1, rid, pasidSpace })));

describe("R19: one requester of the host is not shown as two", () => {
  it.each<[string, ...Shown[]]>([
    ["two of one parent at two places", [8, 1], [16, 1]],
    ["beside others that are as they should be", [8, 1], [8, 1], [24, 2], [16, 1]],
  ])("%s: refused by name", (_what, ...devices) => {
    expect(check(...devices)).toThrow(/EINVAL.*device 1 is 00:01\.0 to the guest, device [24] is 00:02\.0, and both use PASID number space 1/);
  });

  it.each<[string, ...Shown[]]>([
    ["two of one parent at one place", [8, 1], [8, 1]],
    ["of two parents at two places", [8, 1], [16, 2]],
    ["of two parents at one place", [8, 1], [8, 2]],
    ["with PASIDs of their own anywhere", [8, undefined], [16, undefined]],
  ])("%s: shown", (_what, ...devices) => expect(check(...devices)).not.toThrow());
});
