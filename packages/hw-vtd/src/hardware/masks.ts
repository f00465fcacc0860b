/** Reserved bits of a structure in one unit: the manual's rows plus what the unit's capabilities take away. */
import type { FieldTable } from "@iommukit/core";
import type { Capabilities } from "../spec/capabilities.js";
import {
  LEGACY_CONTEXT_ENTRY,
  LEGACY_ROOT_ENTRY,
  PASID_DIRECTORY_ENTRY,
  PASID_TABLE_ENTRY,
  SCALABLE_CONTEXT_ENTRY,
  SCALABLE_ROOT_ENTRY,
} from "../spec/entries.js";
import type { VtdPolicies } from "./policies.js";

/** Mask words as 32-bit pairs: lo of word 0, hi of word 0, lo of word 1 … */
export type MaskWords = Int32Array;

function bits(low: number, width: number): bigint {
  return width <= 0 ? 0n : ((1n << BigInt(width)) - 1n) << BigInt(low);
}

function build(table: FieldTable, absent: readonly string[], pointers: readonly string[], domains: readonly string[], caps: Capabilities): MaskWords {
  let whole = 0n;
  for (const [i, word] of table.reserved.entries()) whole |= word << BigInt(64 * i);
  for (const field of table.fields) {
    if (absent.includes(field.name)) whole |= bits(field.low, field.width);
    // Bits 63:HAW of a pointer are reserved (VT-d 9).
    if (pointers.includes(field.name)) whole |= bits(field.low - 12 + caps.haw, 64 - caps.haw);
    if (domains.includes(field.name)) whole |= bits(field.low + caps.domainIdBits, 16 - caps.domainIdBits);
  }
  const words = new Int32Array(table.bits / 32);
  for (let i = 0; i < words.length; i++) words[i] = Number(BigInt.asIntN(32, whole >> BigInt(32 * i)));
  return words;
}

export interface ReservedMasks {
  readonly legacyRoot: MaskWords;
  readonly legacyContext: MaskWords;
  readonly scalableRoot: MaskWords;
  readonly scalableContext: MaskWords;
  readonly directory: MaskWords;
  readonly pasid: MaskWords;
}

/** Fields that are reserved unless the unit has the capability (VT-d 9.4, 9.6). */
function absentFields(rules: readonly (readonly [present: boolean, ...names: string[]])[]): string[] {
  return rules.flatMap(([present, ...names]) => (present ? [] : names));
}

export function buildMasks(caps: Capabilities, policies: VtdPolicies): ReservedMasks {
  return {
    legacyRoot: build(LEGACY_ROOT_ENTRY, [], ["CTP"], [], caps),
    // SSPTPTR's upper bits are checked apart: with TT=2 the pointer is ignored.
    legacyContext: build(LEGACY_CONTEXT_ENTRY, [], [], ["DID"], caps),
    scalableRoot: build(SCALABLE_ROOT_ENTRY, [], ["LCTP", "UCTP"], [], caps),
    scalableContext: build(
      SCALABLE_CONTEXT_ENTRY,
      absentFields([
        [caps.deviceTlb, "DTE"],
        [caps.pasid, "PASIDE"],
        [caps.pageRequests, "PRE"],
        [caps.hostPermission, "HPTE"],
        [caps.translatedPasid, "EPTR"],
        [caps.ridPasid, "RID_PASID"],
        [caps.ridPrivileged, "RID_PRIV"],
      ]),
      ["PASIDDIRPTR"],
      [],
      caps,
    ),
    directory: build(PASID_DIRECTORY_ENTRY, [], ["SMPTBLPTR"], [], caps),
    pasid: build(
      PASID_TABLE_ENTRY,
      absentFields([
        [caps.secondStage, "SSADE", "SSPTPTR"],
        [caps.secondStage || policies.firstStageWidth === "ignored", "AW"],
        [caps.secondStageDirty, "SSADE"],
        [caps.walkCoherency, "PWSNP"],
        [caps.snoopControl, "PGSNP"],
        [caps.memoryType, "CD", "EMTE", "PAT"],
        [caps.supervisor, "SRE"],
        [caps.firstStage, "FSPM", "WPE", "FSPTPTR"],
        [caps.extendedAccessed, "EAFE"],
        [caps.hostPermission, "HPTSZ", "HPTPFD", "HPTPTR", "HPTDID"],
      ]),
      ["SSPTPTR", "FSPTPTR", "HPTPTR"],
      ["DID", "HPTDID"],
      caps,
    ),
  };
}
