import type { DeviceFault } from "@iommukit/core";
import { expect, it } from "vitest";
import type { Capabilities } from "../spec/capabilities.js";
import { Fsts, Reg } from "../spec/registers.js";
import { FaultLog } from "./fault-log.js";
import type { RegisterAccess } from "./registers.js";

const BASE = 0x200;
const RID = 0x18;

it("tells each listener once, with its next record, that the unit lost some", () => {
  const words = new Map<number, bigint>();
  const read = (offset: number): bigint => words.get(offset) ?? 0n;
  const write = (offset: number): void => void words.delete(offset === BASE + 12 ? BASE + 8 : offset);
  const log = new FaultLog({ read, write } as unknown as RegisterAccess, { faultRecords: 1, faultRecordOffset: BASE } as Capabilities, "unit", undefined);
  const told: DeviceFault[] = [];
  log.connect(RID, (fault) => told.push(fault));
  for (const overflow of [Fsts.PFO, 0, 0]) {
    words.set(Reg.FSTS, BigInt(Fsts.PPF | overflow));
    words.set(BASE, 0x7000n);
    words.set(BASE + 8, (1n << 63n) | BigInt(RID));
    log.handle();
  }
  expect(told.map(({ address, afterLoss }) => [address, afterLoss])).toEqual([[0x7000n, undefined], [0x7000n, true], [0x7000n, undefined]]);
});
