/** A unit and devices with translation caches, while software writes anything anywhere: nothing throws, and nothing goes on for ever. */
import { Access, type AtsPort, type DmaPort, NO_PASID } from "@iommukit/core";
import { DeviceTlb } from "@iommukit/core/devices";
import fc from "fast-check";
import { expect, it } from "vitest";
import { DESCRIPTORS, DescriptorType, WAIT_DESCRIPTOR } from "../spec/descriptors.js";
import { TranslationTableMode as TTM } from "../spec/entries.js";
import { Reg, REGISTERS } from "../spec/registers.js";
import { AT, COMMAND, RID, UnitBench } from "./unit.test-support.js";

/** The way of a device's requests to the unit, and on to memory. */
function portOf(bench: UnitBench, rid: number): DmaPort {
  const { unit, memory } = bench;
  const hardware = unit.ats!;
  const ats: AtsPort = {
    translate: (pasid, page, access, out) => hardware.requestTranslation(rid, pasid, page, access, out),
    access: (pasid, address, bytes, access) => {
      if (hardware.translated(rid, pasid, Math.floor(address / 4096), access) === -1) return false;
      return access === Access.WRITE ? memory.write(address, bytes) : memory.read(address, bytes);
    },
    requestPage: (request) => hardware.requestPage({ ...request, rid }),
    completeInvalidation: (tags, count) => hardware.completeInvalidation(rid, tags, count),
    connect: (endpoint) => hardware.connectEndpoint(rid, endpoint),
  };
  const move = (write: boolean) => (address: bigint, bytes: Uint8Array, options: { pasid?: number } = {}) => {
    const page = unit.translate(rid, options.pasid ?? NO_PASID, Number(address >> 12n), write ? Access.WRITE : Access.READ);
    const at = page * 4096 + Number(address & 0xfffn);
    return { ok: page !== -1 && (write ? memory.write(at, bytes) : memory.read(at, bytes)), moved: 0 };
  };
  return { rid, read: move(false), write: move(true), interrupt: (address, data) => unit.interrupt(rid, address, data), ats };
}

/** Fields that a descriptor may have; some wait descriptors write into the unit's own registers. */
function good(type: number, random: bigint): Record<string, bigint> {
  const one = random & 1n;
  const status = random % 7n === 0n ? 0xfed9_0000n + (random & 0xfcn) : BigInt(AT.STATUS);
  const rid = BigInt(RID) + one;
  switch (type) {
    case DescriptorType.WAIT:
      return { SW: one, IF: (random >> 1n) & 1n, FN: (random >> 2n) & 1n, DATA: random & 0xfffn, STATUS_ADDR: status / 4n };
    case DescriptorType.DEV_TLB:
      return { SID: rid, S: one, ADDR: (random >> 8n) & 0xffn };
    case DescriptorType.P_DEV_TLB:
      return { SID: rid, PASID: 7n, GI: one, MIP: random % 3n };
    case DescriptorType.PGR:
      return { RID: rid, PP: one, PASID: 7n, PRGI: (random >> 4n) & 3n, RC: random % 5n === 0n ? 1n : 0n };
    case DescriptorType.P_IOTLB:
      return { G: 2n, DID: 1n, PASID: 7n };
    case DescriptorType.IEC:
      return { G: one, IIDX: 5n };
    case DescriptorType.HPT:
      return { G: 1n + one, HPTDID: 1n };
    case DescriptorType.PC:
      return { G: one, DID: 1n, PASID: 7n };
    default:
      return { G: 1n + one, DID: 1n };
  }
}

const word = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const event = fc.oneof(
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("transfer"), a: fc.nat(12), b: word, c: fc.nat(9000) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("descriptor"), a: fc.nat(11), b: word, c: fc.nat(9) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("register"), a: fc.nat(REGISTERS.length - 1), b: word, c: fc.nat(1) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("table"), a: fc.nat(0xfff), b: word, c: fc.nat(9) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom("kick", "clear", "interrupt", "timeout", "command"), a: fc.nat(255), b: word, c: fc.nat(1) }) },
);

it("devices, queue, page requests and interrupts survive any software", () => {
  fc.assert(
    fc.property(fc.array(event, { minLength: 10, maxLength: 120 }), fc.constantFrom(TTM.SCALABLE, TTM.SCALABLE, TTM.LEGACY, TTM.ABORT), (events, mode) => {
      const bench = new UnitBench({ fields: { HPTS: 1 } });
      bench.memory.addMmio(0xfed9_0000, 0x8000, bench.unit);
      bench.legacyTables();
      if (mode !== TTM.LEGACY) bench.scalableTables();
      bench.start(mode);
      bench.startQueue();
      bench.write(Reg.PQA, BigInt(AT.PAGE_REQUESTS));
      const devices = [RID, RID + 1].map((rid) => new DeviceTlb(portOf(bench, rid), { pageRequests: true }));
      let started = 0;
      let ended = 0;
      const types = [...DESCRIPTORS.keys()];
      for (const { kind, a, b, c } of events) {
        if (kind === "transfer") {
          started++;
          const pasid = b % 3n === 0n ? {} : { pasid: b % 5n === 0n ? Number(b & 0xfffffn) : 7 };
          devices[a % 2].transfer(b % 2n === 0n ? "read" : "write", (BigInt(a) << 12n) | (b & 0xfffn), new Uint8Array(c), pasid, () => ended++);
        } else if (kind === "descriptor") {
          const type = types[a % types.length];
          // One in ten is damaged.
          bench.push(DESCRIPTORS.get(type) ?? WAIT_DESCRIPTOR, type, good(type, b), c === 0 ? [b & ~0xe0fn] : []);
          if (c < 6) bench.kick();
        } else if (kind === "register") {
          const { offset, width } = REGISTERS[a];
          // Queue and tables stay where they are, mostly: else nothing would happen any more.
          if (c === 1 || ![Reg.IQA, Reg.GCMD, Reg.RTADDR].some((one) => one === offset)) bench.write(offset, b, width);
        } else if (kind === "table") bench.memory.writeU64(AT.ROOT + c * 0x1000 + (a & 0xff8), b);
        else if (kind === "kick") bench.kick();
        else if (kind === "clear") {
          // As drivers do: what stands at the head becomes a wait.
          bench.put(WAIT_DESCRIPTOR, AT.QUEUE + Number(bench.read(Reg.IQH)), { type: 5 });
          bench.write(Reg.FSTS, 0x71n, 4);
        }
        else if (kind === "interrupt") bench.unit.interrupt(RID, 0xfee0_0000n | (b & 0xfffffn), a);
        else if (kind === "timeout") bench.unit.timeOut();
        else bench.command([COMMAND.SRTP, COMMAND.TE, COMMAND.QIE, COMMAND.IRE, COMMAND.SIRTP, COMMAND.CFI][a % 6]);
      }
      expect(ended).toBeLessThanOrEqual(started);
      // A failure response ends whatever still waits.
      for (const device of devices) device.respond({ pasid: NO_PASID, group: 0, code: 15 });
      expect(ended).toBe(started);
    }),
    { numRuns: 80 },
  );
});
