/** What a unit tells whoever stands behind it, and what it says that its tables hold. */
import { NO_PASID } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { CC_DESCRIPTOR, DescriptorType, IOTLB_DESCRIPTOR, P_IOTLB_DESCRIPTOR, PC_DESCRIPTOR, WAIT_DESCRIPTOR } from "../spec/descriptors.js";
import { PASID_TABLE_ENTRY } from "../spec/entries.js";
import type { UnitOrder } from "../spec/orders.js";
import { Reg } from "../spec/registers.js";
import { AT, COMMAND, RID, UnitBench } from "./unit.test-support.js";

const SCALABLE = 1;

function observed(preset = "scalable"): { bench: UnitBench; orders: UnitOrder[] } {
  const orders: UnitOrder[] = [];
  return { bench: new UnitBench({ preset, observer: (order) => void orders.push(order) }), orders };
}

describe("an observed unit", () => {
  it("tells of the root table and of translation", () => {
    const { bench, orders } = observed();
    bench.start(SCALABLE);
    bench.command(COMMAND.TE);
    bench.write(Reg.GCMD, 0n, 4);
    expect(orders.filter(({ kind }) => kind !== "idle")).toEqual([{ kind: "root-table" }, { kind: "translation", enabled: true }, { kind: "translation", enabled: false }]);
  });

  it("tells of invalidations in turn, and of a wait before software sees it", () => {
    const { bench, orders } = observed();
    bench.scalableTables();
    bench.start(SCALABLE);
    bench.startQueue();
    const statusAt: (bigint | undefined)[] = [];
    bench.unit.observer = (order) => {
      orders.push(order);
      if (order.kind === "barrier") statusAt.push(bench.memory.readU64(AT.STATUS));
    };
    orders.length = 0;
    bench.push(CC_DESCRIPTOR, DescriptorType.CC, { G: 3, DID: 1, SID: RID, FM: 2 });
    bench.push(PC_DESCRIPTOR, DescriptorType.PC, { G: 1, DID: 1, PASID: 7 });
    bench.push(IOTLB_DESCRIPTOR, DescriptorType.IOTLB, { G: 3, DID: 1, ADDR: 8, AM: 2, IH: 1 });
    bench.push(P_IOTLB_DESCRIPTOR, DescriptorType.P_IOTLB, { G: 2, DID: 1, PASID: 7 });
    bench.push(WAIT_DESCRIPTOR, DescriptorType.WAIT, { SW: 1, DATA: 9, STATUS_ADDR: AT.STATUS >> 2 });
    bench.kick();
    expect(orders).toEqual([
      { kind: "contexts", granularity: 3, domain: 1, source: RID, functionMask: 2 },
      { kind: "pasids", granularity: 1, domain: 1, pasid: 7 },
      { kind: "translations", granularity: 3, domain: 1, page: 8, addressMask: 2, leavesOnly: true },
      { kind: "translations", granularity: 2, domain: 1, pasid: 7, page: 0, addressMask: 0, leavesOnly: false },
      { kind: "barrier" },
      { kind: "idle" },
    ]);
    expect([statusAt, bench.memory.readU64(AT.STATUS)]).toEqual([[0n], 9n]);
  });

  it("tells of invalidations by register that it did not refuse", () => {
    const { bench, orders } = observed("legacy");
    bench.legacyTables();
    bench.start(0);
    orders.length = 0;
    bench.write(Reg.CCMD, 0x8000_0000_0000_0000n | (3n << 61n) | (BigInt(RID) << 16n) | 1n);
    bench.write(0xf8, 0x8000_0000_0000_0000n | (2n << 60n) | (1n << 32n));
    expect(orders.filter(({ kind }) => kind !== "idle")).toEqual([
      { kind: "contexts", granularity: 3, domain: 1, source: RID, functionMask: 0 },
      { kind: "translations", granularity: 2, domain: 1, page: 0, addressMask: 0, leavesOnly: false },
    ]);
    bench.startQueue(false);
    orders.length = 0;
    bench.write(0xf8, 0x8000_0000_0000_0000n | (2n << 60n) | (1n << 32n));
    expect(orders).toEqual([]);
  });
});

describe("a unit's tables", () => {
  it("are looked at past the caches, with every check", () => {
    const { bench } = observed();
    bench.scalableTables();
    expect(bench.unit.look(RID, NO_PASID)).toEqual({ kind: "untranslated" });
    bench.start(SCALABLE);
    expect(bench.unit.look(RID, NO_PASID)).toEqual({ kind: "second-stage", domain: 1, pasid: 0, pageRequests: true, second: { root: AT.SECOND, levels: 4, pages: 2 ** 36 } });
    const first = { root: AT.FIRST, levels: 4, supervisor: false, writeProtect: false, extendedAccessed: false };
    expect(bench.unit.look(RID, 7)).toEqual({ kind: "first-stage", domain: 1, pasid: 7, pageRequests: true, first });
    expect(bench.dma(5, 1, 7)).toBe(AT.PAGES >> 12);
    bench.memory.writeU64(AT.PASIDS + 7 * 64, 0n);
    expect([bench.unit.look(RID, 7).kind, bench.dma(5, 1, 7)]).toEqual(["blocked", AT.PAGES >> 12]);
    bench.put(PASID_TABLE_ENTRY, AT.PASIDS, { P: 1, PGTT: 4 });
    expect([bench.unit.look(RID, NO_PASID).kind, bench.unit.look(RID, 0).kind, bench.unit.look(RID + 1, NO_PASID).kind]).toEqual(["pass-through", "blocked", "blocked"]);
  });

  it("list the PASIDs that are present, up to a limit", () => {
    const { bench } = observed();
    bench.scalableTables();
    bench.start(SCALABLE);
    expect([[...bench.unit.pasids(RID, 2 ** 20)], [...bench.unit.pasids(RID, 7)], [...bench.unit.pasids(RID + 1, 64)]]).toEqual([[0, 7], [0], []]);
  });

  it("in legacy mode know no PASID", () => {
    const { bench } = observed("legacy");
    bench.legacyTables();
    bench.start(0);
    expect(bench.unit.look(RID, NO_PASID)).toMatchObject({ kind: "second-stage", domain: 1, second: { root: AT.SECOND, levels: 4 } });
    expect([bench.unit.look(RID, 7).kind, [...bench.unit.pasids(RID, 64)]]).toEqual(["blocked", []]);
  });
});

it("a refusal of whoever stands behind is a fault record of the requester", () => {
  const { bench } = observed();
  bench.scalableTables();
  bench.start(SCALABLE);
  bench.unit.recordRefusal(RID, 7);
  expect(bench.record(0)).toMatchObject({ reason: 0x5b, source: RID });
});
