import { decodeFields } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { PRESETS } from "./presets.js";
import { CAP, ECAP, readCapabilities } from "./spec/capabilities.js";

/** Capabilities that the model has; anything else must read 0 in a preset. */
const MODELLED = new Set([
  "ND", "SAGAW", "MGAW", "ZLR", "FRO", "SSLPS", "PSI", "NFR", "MAMV", "DWD", "DRD", "FS1GP", "FS5LP", "ESRTPS",
  "C", "QI", "PT", "IRO", "SRS", "EAFS", "PSS", "PASID", "SMTS", "SSADS", "SSTS", "FSTS", "SMPWC", "RPS", "ADMS", "RPRIVS",
  "RWBF", "PLMR", "PHMR", "PI", "ESIRTPS", "DT", "IR", "EIM", "MHMV", "NEST", "PRS", "NWFS", "DIT", "PDS", "SMS", "EIMER", "IRREQ",
  "CM", "SC", "HPTS", "HPT1GPS", "PTRS", "SSIRWS",
]);

describe.each(Object.entries(PRESETS))("preset %s", (_name, preset) => {
  it("announces only what is modelled", () => {
    const announced = [...decodeFields(CAP, [preset.cap]), ...decodeFields(ECAP, [preset.ecap])].filter((field) => field.value !== 0n);
    expect(announced.map((field) => field.name).filter((name) => !MODELLED.has(name))).toEqual([]);
  });

  it("is consistent (VT-d 11.4.2, 11.4.3)", () => {
    const c = readCapabilities(preset.version, preset.cap, preset.ecap, preset.haw);
    if (c.scalableMode) expect(c.queuedInvalidation).toBe(true);
    if (c.secondStageDirty) expect(c.walkCoherency && c.secondStage).toBe(true);
    if (c.extendedAccessed) expect(c.firstStage && c.walkCoherency).toBe(true);
    if (c.nesting) expect(c.firstStage && c.secondStage).toBe(true);
    if (c.pageRequests) expect(c.deviceTlb && c.scalableMode).toBe(true);
    if (c.postedInterrupts || c.extendedInterrupts) expect(c.interruptRemapping).toBe(true);
    if (c.scalableMode) expect(c.writeBufferFlush).toBe(false);
    if (c.ridPrivileged) expect(c.supervisor).toBe(true);
    if (c.firstStage5Level || c.firstStage1G) expect(c.firstStage).toBe(true);
    expect(c.mgaw).toBeGreaterThanOrEqual(preset.haw);
    expect(c.faultRecordOffset + c.faultRecords * 16).toBeLessThanOrEqual(0x1000);
  });
});
