/** What the unit writes for software: fault records and page requests (VT-d 11.4.7.6, 7.4). */
import { defineFields, type FieldTable } from "@iommukit/core";
import { explainReason } from "./faults.js";
import { flag, oneOf, page, requester } from "./meanings.js";

const pageGroup = flag("the last request of its group: it wants a response");

/** T1 and T2 together name the request: 00 write, 01 page request, 10 read, 11 AtomicOp. */
export const FAULT_RECORD: FieldTable = defineFields("Fault record", "VT-d 11.4.7.6", 128, [
  [12, ""], [52, "FI", page],
  [16, "SID", requester], [12, ""], [1, "T2"], [1, "PRIV", flag("privileged")], [1, "EXE", flag("execute")], [1, "PP", flag("with PASID", "without PASID")],
  [8, "FR", (value) => explainReason(Number(value))], [20, "PV"], [2, "AT", oneOf("untranslated", "translation request", "translated")],
  [1, "T1"], [1, "F", flag("a fault is recorded", "empty")],
]);

/** `PASID` means nothing while PP is 0. */
export const PAGE_REQUEST: FieldTable = defineFields("Page request descriptor", "VT-d 7.4", 256, [
  [8, "type", (value) => (value === 1n ? "page request" : "not a page request")], [1, "PP", flag("with PASID", "without PASID")], [7, ""],
  [16, "RID", requester], [20, "PASID"], [1, "EXR", flag("for execution")], [1, "PMR", flag("privileged")], [10, ""],
  [1, "RDR", flag("for reading")], [1, "WRR", flag("for writing")], [1, "LPIG", pageGroup], [9, "PRGI"], [52, "ADDR", page],
  [64, ""], [64, ""],
]);
