/**
 * Event records (SMMU 7.3), one table a type, and what may be asked of a type: whether A, R and S control it, whether a
 * transaction can stall on it.
 */
import { defineFields, type FieldRow, type FieldTable } from "@iommukit/core";
import { addressFrom, oneOf } from "./words.js";

const head: readonly FieldRow[] = [[8, "type"], [3, ""], [1, "SSV"], [20, "SubstreamID"], [32, "StreamID"]];
const input: readonly FieldRow[] = [[64, "InputAddr", addressFrom(0)]];
const inputPage: readonly FieldRow[] = [[12, ""], [52, "InputAddr", addressFrom(12)]];
const fetch: readonly FieldRow[] = [[3, ""], [53, "FetchAddr", addressFrom(3)], [8, ""]];
const ipa: readonly FieldRow[] = [[12, ""], [44, "IPA", addressFrom(12)], [8, ""]];
const access: readonly FieldRow[] = [[1, ""], [1, "PnU"], [1, "InD"], [1, "RnW"]];
const stage: readonly FieldRow[] = [[1, "NSIPA"], [1, "S2"], [2, "CLASS", oneOf("CD", "TT", "IN")]];
const none: readonly FieldRow[] = [[64, ""]];
const reason: readonly FieldRow[] = [[16, "Reason"], [1, "GPCF"], [47, ""]];
/** The four faults that a transaction may stall on; TTRnW in permission faults only. */
const fault = (ttrnw: readonly FieldRow[]): readonly FieldRow[] => [
  ...head, [16, "STAG"], [15, ""], [1, "Stall"], ...access, [2, ""], ...stage, [2, ""], ...ttrnw, [19, ""], ...input, ...ipa,
];

const table = (name: string, section: string, rows: readonly FieldRow[]): FieldTable => defineFields(name, `SMMU ${section}`, 256, rows);

export interface EventType {
  readonly code: number;
  readonly table: FieldTable;
  /** A, R and S decide (5.5); everything else aborts and is recorded. */
  readonly controlled: boolean;
}

function row(code: number, name: string, section: string, rows: readonly FieldRow[], controlled = false): EventType {
  return { code, table: table(name, section, rows), controlled };
}

export const Event = {
  F_UUT: 0x01, C_BAD_STREAMID: 0x02, F_STE_FETCH: 0x03, C_BAD_STE: 0x04, F_BAD_ATS_TREQ: 0x05, F_STREAM_DISABLED: 0x06, F_TRANSL_FORBIDDEN: 0x07,
  C_BAD_SUBSTREAMID: 0x08, F_CD_FETCH: 0x09, C_BAD_CD: 0x0a, F_WALK_EABT: 0x0b, F_TRANSLATION: 0x10, F_ADDR_SIZE: 0x11, F_ACCESS: 0x12,
  F_PERMISSION: 0x13, F_TLB_CONFLICT: 0x20, F_CFG_CONFLICT: 0x21, E_PAGE_REQUEST: 0x24, F_VMS_FETCH: 0x25,
} as const;

export const EVENTS: readonly EventType[] = [
  row(Event.F_UUT, "F_UUT", "7.3.2", [...head, [16, "Reason"], [16, ""], ...access, [28, ""], ...input, ...none]),
  row(Event.C_BAD_STREAMID, "C_BAD_STREAMID", "7.3.3", [...head, ...none, ...none, ...none]),
  row(Event.F_STE_FETCH, "F_STE_FETCH", "7.3.4", [...head, ...reason, ...none, ...fetch]),
  row(Event.C_BAD_STE, "C_BAD_STE", "7.3.5", [...head, ...none, ...none, ...none]),
  row(Event.F_BAD_ATS_TREQ, "F_BAD_ATS_TREQ", "7.3.6", [
    ...head, [4, "Span"], [24, ""], [1, "P"], [1, "X"], [1, "W"], [1, "R"], [32, ""], ...inputPage, ...none,
  ]),
  row(Event.F_STREAM_DISABLED, "F_STREAM_DISABLED", "7.3.7", [...head, ...none, ...none, ...none]),
  row(Event.F_TRANSL_FORBIDDEN, "F_TRANSL_FORBIDDEN", "7.3.8", [...head, [35, ""], [1, "RnW"], [28, ""], ...input, ...none]),
  // The SubstreamID is always valid: there is no SSV (7.3.9).
  row(Event.C_BAD_SUBSTREAMID, "C_BAD_SUBSTREAMID", "7.3.9", [[8, "type"], [4, ""], [20, "SubstreamID"], [32, "StreamID"], ...none, ...none, ...none]),
  row(Event.F_CD_FETCH, "F_CD_FETCH", "7.3.10", [...head, ...reason, ...none, ...fetch]),
  row(Event.C_BAD_CD, "C_BAD_CD", "7.3.11", [...head, ...none, ...none, ...none]),
  row(Event.F_WALK_EABT, "F_WALK_EABT", "7.3.12", [...head, [16, "Reason"], [16, ""], ...access, [2, ""], ...stage, [22, ""], ...input, ...fetch]),
  row(Event.F_TRANSLATION, "F_TRANSLATION", "7.3.13", fault([[1, ""]]), true),
  row(Event.F_ADDR_SIZE, "F_ADDR_SIZE", "7.3.14", fault([[1, ""]]), true),
  row(Event.F_ACCESS, "F_ACCESS", "7.3.15", fault([[1, ""]]), true),
  row(Event.F_PERMISSION, "F_PERMISSION", "7.3.16", fault([[1, "TTRnW"]]), true),
  row(Event.F_TLB_CONFLICT, "F_TLB_CONFLICT", "7.3.17", [...head, [16, "Reason"], [16, ""], ...access, [3, ""], [1, "S2"], [24, ""], ...input, ...ipa]),
  row(Event.F_CFG_CONFLICT, "F_CFG_CONFLICT", "7.3.18", [...head, [32, "Reason"], [32, ""], ...none, ...none]),
  row(Event.E_PAGE_REQUEST, "E_PAGE_REQUEST", "7.3.19", [
    ...head, [33, ""], [1, "uX"], [1, "uW"], [1, "uR"], [1, ""], [1, "pX"], [1, "pW"], [1, "pR"], [4, ""], [8, "Span"], [12, ""], ...inputPage, ...none,
  ]),
  row(Event.F_VMS_FETCH, "F_VMS_FETCH", "7.3.20", [...head, ...reason, ...none, ...fetch]),
];

/** Merging (7.3.1): events of streams that are not known, which no STE keeps from being merged. */
export const MERGE_WITHOUT_STE: readonly number[] = [Event.F_UUT, Event.C_BAD_STREAMID, Event.F_STE_FETCH, Event.C_BAD_STE];
/** Events that are the same wherever in the page the access was. */
export const MERGE_IN_PAGE: readonly number[] = [
  Event.F_TRANSL_FORBIDDEN, Event.F_WALK_EABT, Event.F_TRANSLATION, Event.F_ADDR_SIZE, Event.F_ACCESS, Event.F_PERMISSION, Event.F_TLB_CONFLICT,
];

/** CLASS (7.3): what was being translated. */
export const FaultClass = { CD: 0, TT: 1, IN: 2 } as const;

export function eventType(code: number): EventType | undefined {
  return EVENTS.find((event) => event.code === code);
}
export function eventName(code: number): string {
  return eventType(code)?.table.structure ?? `event 0x${code.toString(16)}`;
}
