/** What a sanitizer asks of VT-d: which invalidation was due, and which flags the unit sets itself. */
import type { ChangedStructure, DueInvalidation, WalkRequest, WalkStep } from "@iommukit/core";
import { fieldValue } from "@iommukit/core";
import {
  LEGACY_CONTEXT_ENTRY,
  LEGACY_ROOT_ENTRY,
  PASID_DIRECTORY_ENTRY,
  PASID_TABLE_ENTRY,
  SCALABLE_CONTEXT_ENTRY,
  SCALABLE_ROOT_ENTRY,
} from "../spec/entries.js";
import { FirstStage, SecondStage } from "../spec/formats.js";
import { INVALIDATION_RULES } from "../spec/invalidation-rules.js";

const KINDS: ReadonlyMap<string, keyof typeof INVALIDATION_RULES> = new Map([
  [LEGACY_ROOT_ENTRY.structure, "root"],
  [SCALABLE_ROOT_ENTRY.structure, "root"],
  [LEGACY_CONTEXT_ENTRY.structure, "context"],
  [SCALABLE_CONTEXT_ENTRY.structure, "context"],
  [PASID_DIRECTORY_ENTRY.structure, "directory"],
  [PASID_TABLE_ENTRY.structure, "pasid"],
]);

function kindOf(structure: string): keyof typeof INVALIDATION_RULES {
  return KINDS.get(structure) ?? (structure.startsWith("FS-") ? "first-stage" : "second-stage");
}

/** @param legacy the unit's latched mode */
export function dueInvalidation({ before }: ChangedStructure, request: Pick<WalkRequest, "rid" | "pasid" | "iova">, legacy: boolean): DueInvalidation {
  const kind = kindOf(before.structure);
  const rule = INVALIDATION_RULES[kind][legacy ? "legacy" : "scalable"];
  const where = kind === "first-stage" || kind === "second-stage" ? ` around IOVA 0x${request.iova.toString(16)}` : "";
  const pasid = request.pasid === undefined ? "" : `, PASID 0x${request.pasid.toString(16)}`;
  return { text: `${rule}${where}${domainOf(before)}${pasid}`, section: "VT-d 6.5.3" };
}

/** The domain-id that caches know an entry by: the old one. */
function domainOf({ structure, words }: WalkStep): string {
  const table = [PASID_TABLE_ENTRY, LEGACY_CONTEXT_ENTRY].find((candidate) => candidate.structure === structure);
  return table === undefined ? "" : `, domain-id ${fieldValue(table, words, "DID")}`;
}

/** Accessed, extended-accessed and dirty flags of paging entries. */
export function ownFlags({ structure }: WalkStep): bigint {
  if (structure.startsWith("FS-")) return BigInt(FirstStage.A | FirstStage.D | FirstStage.EA);
  return structure.startsWith("SS-") ? BigInt(SecondStage.A | SecondStage.D) : 0n;
}
