/** A finding in a few lines, for people. */
import { formatRid } from "../bus/rid.js";
import type { Finding } from "./types.js";

const ISSUED_SHOWN = 5;

export function findingLines(finding: Finding): string[] {
  const { kind, unit, rid, pasid, iova, access, served, expected, changed, due, issued } = finding;
  const who = `${formatRid(rid)}${pasid === undefined ? "" : ` PASID ${pasid}`}`;
  const lines = [
    `${kind} in ${unit}: ${access ?? "a request"} of ${who} at IOVA 0x${iova.toString(16)}`,
    `  the unit's answer:  ${served}`,
    `  what memory says:   ${expected}`,
  ];
  if (changed) {
    const changes = changed.before.flatMap((word, i) => (word === changed.after[i] ? [] : [`word ${i} was 0x${word.toString(16)}, is 0x${changed.after[i].toString(16)}`]));
    lines.push(`  what changed:       ${changed.structure} (${changed.section}) at 0x${changed.pa.toString(16)}: ${changes.join("; ")}`);
    lines.push(`  written by:         ${changed.writer}`);
  }
  if (due) lines.push(`  invalidation due:   ${due.text} (${due.section})`);
  if (changed) lines.push(`  issued since then:  ${issued.slice(0, ISSUED_SHOWN).join("; ") || "none"}${issued.length > ISSUED_SHOWN ? `; ${issued.length - ISSUED_SHOWN} more` : ""}`);
  return lines;
}
