import { type DeviceFault, encodeFields, FaultPermission, type FieldTable } from "@iommukit/core";
import { expect, it } from "vitest";
import { Event, eventType } from "../spec/events.js";
import { EventLog } from "./event-log.js";
import type { OutputQueue } from "./output-queue.js";
import type { StalledRequests } from "./stalls.js";

const STREAM = 0x18n;

function eventTable(code: number): FieldTable {
  const type = eventType(code);
  if (type === undefined) throw new RangeError(`there is no event 0x${code.toString(16)}`);
  return type.table;
}

/** What a listener is told of records, a round each: the queue has lost some before it as `lost` says. */
function told(record: readonly bigint[], lost: readonly boolean[]): DeviceFault[] {
  const rounds = [...lost];
  const queue = { take: () => ({ records: [record], lost: rounds.shift() }) } as unknown as OutputQueue;
  const log = new EventLog(queue, {} as StalledRequests, "unit", undefined, () => undefined);
  const faults: DeviceFault[] = [];
  log.connect(Number(STREAM), (fault) => faults.push(fault));
  for (const _ of lost) log.handle();
  return faults;
}

it("tells each listener once, with its next record, that the queue lost some; and the SubstreamID of a record without SSV", () => {
  const record = [BigInt(Event.C_BAD_SUBSTREAMID) | (5n << 12n) | (STREAM << 32n), 0n, 0n, 0n];
  expect(told(record, [true, false, false]).map(({ pasid, afterLoss }) => [pasid, afterLoss])).toEqual([[5, undefined], [5, true], [5, undefined]]);
});

it("says of a request for a translation that it was one, of which page, and what for", () => {
  const record = encodeFields(eventTable(Event.F_BAD_ATS_TREQ), { type: BigInt(Event.F_BAD_ATS_TREQ), StreamID: STREAM, SSV: 1n, SubstreamID: 7n, R: 1n, W: 1n, P: 1n, InputAddr: 0x400n });
  expect(told(record, [false])).toEqual([{ pasid: 7, permissions: FaultPermission.READ | FaultPermission.WRITE | FaultPermission.PRIVILEGED, address: 0x40_0000n, translationRequest: true }]);
});
