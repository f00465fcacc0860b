/** What a sanitizer asks of SMMUv3: which invalidation was due, and which flags the unit sets itself. */
import { type ChangedStructure, type DueInvalidation, fieldValue, type WalkRequest, type WalkStep } from "@iommukit/core";
import { CD, L1_CONTEXT_DESCRIPTOR } from "../spec/context.js";
import { INVALIDATION_RULES } from "../spec/invalidation-rules.js";
import { L1_STREAM_DESCRIPTOR, STE } from "../spec/stream-table.js";
import { STAGE1_LEAF, STAGE1_TABLE, STAGE2_LEAF } from "../spec/tables.js";
import { Bit } from "./descriptors.js";

type Kind = keyof typeof INVALIDATION_RULES;

const KINDS: ReadonlyMap<string, Kind> = new Map<string, Kind>([
  [L1_STREAM_DESCRIPTOR.structure, "stream-table"], [STE.structure, "ste"], [L1_CONTEXT_DESCRIPTOR.structure, "cd-table"], [CD.structure, "cd"],
  [STAGE1_TABLE.structure, "stage-1"], [STAGE1_LEAF.structure, "stage-1"],
]);

export function dueInvalidation({ before }: ChangedStructure, request: Pick<WalkRequest, "rid" | "pasid" | "iova">): DueInvalidation {
  const kind = KINDS.get(before.structure) ?? "stage-2";
  const isTable = kind === "stage-1" || kind === "stage-2";
  const where = isTable ? ` around input address 0x${request.iova.toString(16)}` : `, StreamID 0x${request.rid.toString(16)}`;
  const substream = request.pasid === undefined ? "" : `, SubstreamID 0x${request.pasid.toString(16)}`;
  return { text: `${INVALIDATION_RULES[kind]}${where}${tagOf(before)}${substream}`, section: isTable ? "SMMU 4.4" : "SMMU 4.3" };
}

/** The id that caches know a structure by: the old one. */
function tagOf({ structure, words }: WalkStep): string {
  if (structure === CD.structure) return `, ASID ${fieldValue(CD, words, "ASID")}`;
  return structure === STE.structure ? `, VMID ${fieldValue(STE, words, "S2VMID")}` : "";
}

/** Access flag, and the write permission that dirty state is kept in, as far as the leaf lets the unit change it. */
export function ownFlags({ structure, words }: WalkStep): bigint {
  if (KINDS.has(structure) && KINDS.get(structure) !== "stage-1") return 0n;
  const dirty = (words[0] & Bit.DBM) === 0n ? 0n : structure === STAGE1_LEAF.structure ? Bit.AP2 : structure === STAGE2_LEAF.structure ? Bit.S2W : 0n;
  return Bit.AF | dirty;
}
