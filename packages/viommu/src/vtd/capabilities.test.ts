import { encodeFields } from "@iommukit/core";
import { CAP, ECAP, readCapabilities } from "@iommukit/hw-vtd/spec";
import { describe, expect, it } from "vitest";
import { checkShown, GUEST_UNITS, type GuestWords } from "./capabilities.js";

const caps = ({ version, cap, ecap, haw }: GuestWords): ReturnType<typeof readCapabilities> => readCapabilities(version, cap, ecap, haw);
/** A host that nests, with PASIDs, device-TLBs and page requests. */
const HOST = { cap: 0n, ecap: encodeFields(ECAP, { NEST: 1n, FSTS: 1n, SMTS: 1n, PASID: 1n, PSS: 19n, PRS: 1n, DT: 1n })[0] };
const { nested, nesting } = GUEST_UNITS;
const without = (ecap: Readonly<Record<string, bigint>>): typeof HOST => ({ cap: 0n, ecap: HOST.ecap & ~encodeFields(ECAP, ecap)[0] });

describe("what a guest may be shown", () => {
  it("is what there is for guests, where the host can", () => {
    for (const words of [nested, nesting]) expect(() => checkShown(caps(words), HOST)).not.toThrow();
    for (const words of [GUEST_UNITS.shadowed, GUEST_UNITS.legacy]) expect(() => checkShown(caps(words), undefined)).not.toThrow();
  });

  it.each([
    ["caching mode is missing", { ...nested, cap: nested.cap & ~encodeFields(CAP, { CM: 1n })[0] }, HOST, "CAP.CM=0"],
    ["it nests without second stages", { ...nested, ecap: nested.ecap | encodeFields(ECAP, { NEST: 1n })[0] }, HOST, "ECAP.NEST"],
    ["interrupt remapping", { ...nested, ecap: nested.ecap | encodeFields(ECAP, { IR: 1n })[0] }, HOST, "ECAP.IR"],
    ["first stages on a host that walks none", nested, undefined, "ECAP.FSTS"],
    ["first stages on a host that does not nest", nested, without({ NEST: 1n }), "ECAP.FSTS"],
    ["1 GiB pages", { ...nested, cap: nested.cap | encodeFields(CAP, { FS1GP: 1n })[0] }, HOST, "CAP.FS1GP"],
    ["5 levels", { ...nested, cap: nested.cap | encodeFields(CAP, { FS5LP: 1n })[0] }, HOST, "CAP.FS5LP"],
    ["wider PASIDs", nested, without({ PSS: 16n }), "ECAP.PSS"],
    ["page requests", nested, without({ PRS: 1n }), "ECAP.PRS"],
    ["device-TLBs", nested, without({ DT: 1n }), "ECAP.DT"],
    ["privileged requests", { ...nested, ecap: nested.ecap | encodeFields(ECAP, { SRS: 1n })[0] }, HOST, "ECAP.SRS"],
  ] as const)("%s: refused, by name", (_what, words, host, name) => {
    expect(() => checkShown(caps(words), host)).toThrow(name);
  });
});
