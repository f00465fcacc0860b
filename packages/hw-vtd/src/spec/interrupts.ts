/** Interrupt remapping and posting (VT-d 5.1, 5.2, 9.10 to 9.12). */
import { defineFields, type FieldTable } from "@iommukit/core";
import { flag, oneOf, requester } from "./meanings.js";

const present = flag("present", "not present");
const faultDisable = flag("faults that qualify are not recorded");
const deliveryMode = oneOf("fixed", "lowest priority", "SMI", "", "NMI", "INIT", "", "ExtINT");
const sourceValidation = oneOf("source not checked", "SID is checked as SQ says", "bus within SID 15:8 to SID 7:0");
const sourceQualifier = oneOf("all bits of SID", "SID without bit 2", "SID without bits 2:1", "SID without bits 2:0");

export const IRTE_REMAPPED: FieldTable = defineFields("Interrupt remapping table entry (remapped)", "VT-d 9.10", 128, [
  [1, "P", present], [1, "FPD", faultDisable], [1, "DM", flag("logical destination", "physical destination")], [1, "RH", flag("redirection hint")],
  [1, "TM", flag("level-triggered", "edge-triggered")], [3, "DLM", deliveryMode], [4, "-"], [3, ""], [1, "IM", flag("posted", "remapped")],
  [8, "V"], [8, ""], [32, "DST"],
  [16, "SID", requester], [2, "SQ", sourceQualifier], [2, "SVT", sourceValidation], [44, ""],
]);

export const IRTE_POSTED: FieldTable = defineFields("Interrupt remapping table entry (posted)", "VT-d 9.11", 128, [
  [1, "P", present], [1, "FPD", faultDisable], [6, ""], [4, "-"], [2, ""], [1, "URG", flag("urgent: notifies in spite of SN")], [1, "IM", flag("posted", "remapped")],
  [8, "VV"], [8, ""], [6, ""], [26, "PDAL", (value) => `descriptor address bits 31:6: 0x${(value << 6n).toString(16)}`],
  [16, "SID", requester], [2, "SQ", sourceQualifier], [2, "SVT", sourceValidation], [12, ""], [32, "PDAH"],
]);

const vectors = (base: number) => (value: bigint): string | undefined => {
  const set: number[] = [];
  for (let bit = 0; bit < 64; bit++) if (((value >> BigInt(bit)) & 1n) === 1n) set.push(base + bit);
  return set.length === 0 ? undefined : `vectors ${set.map((vector) => `0x${vector.toString(16)}`).join(" ")}`;
};

export const POSTED_INTERRUPT_DESCRIPTOR: FieldTable = defineFields("Posted interrupt descriptor", "VT-d 9.12", 512, [
  [64, "PIR0", vectors(0)], [64, "PIR1", vectors(64)], [64, "PIR2", vectors(128)], [64, "PIR3", vectors(192)],
  [1, "ON", flag("a notification is outstanding")], [1, "SN", flag("notifications are suppressed")], [14, ""], [8, "NV"], [8, ""], [32, "NDST"],
  [64, ""], [64, ""], [64, ""],
]);
