import type { DeviceFault } from "@iommukit/core";
import { expect, it } from "vitest";
import { Event } from "../spec/events.js";
import { EventLog } from "./event-log.js";
import type { OutputQueue } from "./output-queue.js";
import type { StalledRequests } from "./stalls.js";

const STREAM = 0x18n;

it("tells each listener once, with its next record, that the queue lost some; and the SubstreamID of a record without SSV", () => {
  const record = [BigInt(Event.C_BAD_SUBSTREAMID) | (5n << 12n) | (STREAM << 32n), 0n, 0n, 0n];
  const rounds = [true, false, false];
  const queue = { take: () => ({ records: [record], lost: rounds.shift() }) } as unknown as OutputQueue;
  const log = new EventLog(queue, {} as StalledRequests, "unit", undefined, () => undefined);
  const told: DeviceFault[] = [];
  log.connect(Number(STREAM), (fault) => told.push(fault));
  for (let i = 0; i < 3; i++) log.handle();
  expect(told.map(({ pasid, afterLoss }) => [pasid, afterLoss])).toEqual([[5, undefined], [5, true], [5, undefined]]);
});
