/** Lines of a kernel's log that tell of an event. */
import type { LogExplanation } from "@iommukit/core/decode";
import { EVENTS, eventType } from "../spec/events.js";
import { adviceFor } from "./advice.js";

/** What Linux's driver prints of an event: by number and by name. */
const LINES: readonly RegExp[] = [/arm-smmu-v3 .*event 0x([0-9a-f]+) received/i, /event: ([CFE]_[A-Z_]+) client: /];

export function explainLine(line: string): LogExplanation | undefined {
  const found = LINES.map((pattern) => pattern.exec(line)?.[1]).find((text) => text !== undefined);
  if (found === undefined) return undefined;
  const event = EVENTS.find(({ table }) => table.structure === found) ?? eventType(Number.parseInt(found, 16));
  if (event === undefined) return { event: "dma-fault", text: [`event ${found} is not in the manual's table (SMMU 7.3)`], structures: [] };
  const advice = adviceFor(event.table.structure);
  return { event: "dma-fault", text: [`0x${event.code.toString(16)} ${event.table.structure} (${event.table.section})`, ...(advice === undefined ? [] : [`look at: ${advice}`])], structures: [] };
}
