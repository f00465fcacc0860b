/** `TableDecoder` for VT-d: one walk explained, or everything that the tables map. */
import type { AddressSpaceDump, TableDecoder, TableSource, WalkReport, WalkRequest } from "@iommukit/core";
import { rightLetters } from "@iommukit/core/decode";
import { dumpUnit } from "./dump.js";
import { locate, type Translation } from "./locate.js";
import { checkOutput, type Mapped, translateFirstStage, translateSecondStage, type Wanted } from "./stages.js";
import { Blocked, describeCondition, Trail } from "./trail.js";
import { readUnit, type Unit, UNKNOWN_HAW } from "./unit.js";

const INTERRUPT_FIRST = 0xfee0_0000;
const INTERRUPT_LAST = 0xfeef_ffff;

function wantedBy({ access, privileged, pasid }: WalkRequest, t: Translation): Wanted {
  return {
    read: access !== "write",
    write: access === "write" || access === "atomic",
    privileged: pasid === undefined ? t.ridPrivileged : privileged === true,
  };
}

export const vtdTableDecoder: TableDecoder = {
  iommu: "vtd",
  registers: ["RTADDR", "CAP", "ECAP"],

  summary(source: TableSource): readonly string[] {
    const unit = readUnit(source);
    return [modeLine(unit), ...(unit.caps.haw === UNKNOWN_HAW ? ["the host address width is not given (HAW): no address below 2^52 counts as too high"] : [])];
  },

  walk(source: TableSource, request: WalkRequest): WalkReport {
    const trail = new Trail(readUnit(source));
    const { steps } = trail;
    try {
      const interrupt = interruptRange(request);
      if (interrupt !== undefined) return { steps, verdict: interrupt };
      const translation = locate(trail, request.rid, request.pasid, request.execute === true);
      const { pa, pageSize, rights } = translate(trail, translation, request);
      return { steps, verdict: { ok: true, pa, pageSize, permissions: rightLetters(rights), ...note(trail, translation) } };
    } catch (error) {
      if (!(error instanceof Blocked)) throw error;
      const { code, reason, qualified } = describeCondition(error.condition);
      if (trail.faultDisable && qualified) trail.notes.unshift(`FPD is set in the ${trail.faultDisable.toLowerCase()}: the request is blocked, but nothing is recorded`);
      return { steps, verdict: { ok: false, section: "VT-d 7.1", code, reason, ...note(trail) } };
    }
  },

  dump: (source: TableSource): Iterable<AddressSpaceDump> => dumpUnit(readUnit(source)),
};

function modeLine({ mode, ssirwe, rootTable, caps }: Unit): string {
  const at = `root table at 0x${rootTable.toString(16)}`;
  if (mode === 3) return caps.abortMode ? "abort-DMA mode: every request is blocked with reason 0x33 (RTA.4)" : "RTADDR.TTM is abort-DMA, which this unit lacks: every request is blocked with reason 0x30 (RTA.1.1)";
  if (mode === 2) return "RTADDR.TTM is reserved: every request is blocked with reason 0x30 (RTA.1.2)";
  if (mode === 1 && !caps.scalableMode) return "RTADDR.TTM is scalable, which this unit lacks: every request is blocked with reason 0x30 (RTA.1.3)";
  if (ssirwe && mode === 0) return "RTADDR.SSIRWE is set in legacy mode: every request is blocked with reason 0x30 (RTA.1.4)";
  return `${mode === 1 ? "scalable" : "legacy"} mode, ${at}${ssirwe ? ", rights of the second stage are IR and IW (SSIRWE)" : ""}`;
}

function note({ notes }: Trail, translation?: Translation): { note?: string } {
  const all = translation?.kind === "pass-through" ? ["pass-through: the address is the physical address", ...notes] : notes;
  return all.length === 0 ? {} : { note: all.join("; ") };
}

/** Requests without PASID to 0xFEExxxxx are interrupts, whatever the tables say (3.14). @throws Blocked */
function interruptRange({ iova, pasid, access }: WalkRequest): WalkReport["verdict"] | undefined {
  if (pasid !== undefined || iova < INTERRUPT_FIRST || iova > INTERRUPT_LAST) return undefined;
  if (access !== "write") throw new Blocked("IRR.29");
  return { ok: true, pa: Number(iova), pageSize: 4096, permissions: "w", note: "an interrupt request: it is never translated as DMA" };
}

function translate(trail: Trail, t: Translation, request: WalkRequest): Mapped {
  const { caps } = trail.unit;
  const { iova, pasid } = request;
  const wanted = wantedBy(request, t);
  if (pasid !== undefined && request.execute === true) throw new Blocked("SPT.5");
  if (!t.legacy && wanted.privileged && !t.supervisorEnable) throw new Blocked("SPT.6");
  switch (t.kind) {
    case "pass-through":
      if (iova >> BigInt(caps.haw) !== 0n) throw new Blocked(t.legacy ? "LGN.1.3" : "SGN.4.2");
      checkOutput(t, Number(iova));
      return { pa: Number(iova), pageSize: 4096, rights: 3 };
    case "second-stage":
      return translateSecondStage(trail, t, iova, wanted);
    default:
      if (!isCanonical(iova, 12 + 9 * (t.firstStage.topLevel + 1))) throw new Blocked("SGN.1");
      return translateFirstStage(trail, t, iova, wanted);
  }
}

function isCanonical(iova: bigint, bits: number): boolean {
  return BigInt.asUintN(64, BigInt.asIntN(bits, iova)) === iova;
}
