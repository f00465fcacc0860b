/** Every status code, reached by one descriptor. */
import { CompletionStatus, PageResponseCode } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { type DescriptorFields, descriptor, Rig } from "./rig.test-support.js";
import { Status, STATUS_WRITE } from "./spec/completion.js";
import { Flag, Opcode } from "./spec/descriptor.js";
import { GENCFG_EVENT_LOG, Register } from "./spec/registers.js";

const [A, B, C, LIST, LOG] = [0x10_0000, 0x12_0000, 0x14_0000, 0x2000, 0x18_0000];
const page = (address: number): number => address >> 12;

interface Row {
  readonly name: string;
  readonly status: number;
  readonly descriptor: DescriptorFields;
  readonly setup?: (rig: Rig) => void;
  readonly shared?: boolean;
  readonly groupFlags?: number;
  /** Where the status is to be found: the record unless given. */
  readonly found?: "swerr" | "log";
  readonly write?: boolean;
}

const move: DescriptorFields = { opcode: Opcode.MEMMOVE, source: A, destination: B, size: 8192 };
const compare: DescriptorFields = { opcode: Opcode.COMPARE, source: A, destination: B, size: 64 };
const noop: DescriptorFields = { opcode: Opcode.NOOP };
const batch: DescriptorFields = { opcode: Opcode.BATCH, source: LIST, size: 2 };
const apply: DescriptorFields = { opcode: Opcode.APPLY_DELTA, source: A, destination: B, size: 64, bytes: { 40: [4, 20] } };
const difCheck: DescriptorFields = { opcode: Opcode.DIF_CHECK, source: A, size: 520 };
const missing = (address: number) => (rig: Rig): void => void rig.unit.rights.set(page(address), 0);
const list = (...members: DescriptorFields[]) => (rig: Rig): void => members.forEach((member, i) => rig.unit.memory.set(descriptor(member), LIST + 64 * i));
const other = (fields: DescriptorFields): DescriptorFields => ({ ...fields, completion: 0x3000 });
const both = (...steps: ((rig: Rig) => void)[]) => (rig: Rig): void => steps.forEach((step) => step(rig));
/** Two entries of a delta record, with these offsets. */
const entries = (first: number, second: number) => (rig: Rig): void => {
  rig.unit.memory[A] = first;
  rig.unit.memory[A + 10] = second;
};

const ROWS: readonly Row[] = [
  { name: "success", status: Status.SUCCESS, descriptor: move },
  { name: "comparison that was to find no difference", status: Status.FALSE_PREDICATE, descriptor: { ...compare, flags: Flag.CHECK_RESULT }, setup: (rig) => (rig.unit.memory[A] = 1) },
  { name: "page fault of a source", status: Status.PAGE_FAULT, descriptor: move, setup: missing(A + 4096) },
  { name: "page fault of a destination", status: Status.PAGE_FAULT, descriptor: move, setup: missing(B), write: true },
  {
    name: "page that is refused",
    status: Status.PAGE_RESPONSE,
    descriptor: { ...move, flags: Flag.BLOCK_ON_FAULT },
    setup: both(missing(A), (rig) => (rig.unit.answer = () => PageResponseCode.INVALID)),
  },
  { name: "batch of which one fails", status: Status.BATCH_FAILED, descriptor: batch, setup: list(other({ opcode: 0x3f }), other(noop)) },
  { name: "batch whose list is not there", status: Status.BATCH_PAGE_FAULT, descriptor: batch, setup: missing(LIST) },
  { name: "delta record out of order", status: Status.DELTA_ORDER, descriptor: apply, setup: entries(1, 1) },
  { name: "delta record beyond the end", status: Status.DELTA_RANGE, descriptor: apply, setup: entries(0, 8) },
  { name: "DIF that is wrong", status: Status.DIF, descriptor: difCheck, setup: (rig) => (rig.unit.memory[A] = 1) },
  { name: "opcode that is none", status: Status.OPCODE, descriptor: { opcode: 0x7f } },
  { name: "flag of another operation", status: Status.FLAGS, descriptor: { ...move, flags: Flag.CHECK_RESULT } },
  { name: "reserved byte", status: Status.RESERVED, descriptor: { ...move, bytes: { 56: 1 } } },
  { name: "size of 0", status: Status.SIZE, descriptor: { ...move, size: 0 } },
  { name: "batch of one", status: Status.BATCH_COUNT, descriptor: { ...batch, size: 1 } },
  { name: "delta record without room", status: Status.DELTA_SIZE, descriptor: { opcode: Opcode.CREATE_DELTA, source: A, destination: B, size: 64, bytes: { 40: C, 48: [4, 70] } } },
  { name: "copy onto itself", status: Status.OVERLAP, descriptor: { opcode: Opcode.COPY_CRC, source: A, destination: A + 8, size: 64 } },
  { name: "dualcast to other offsets", status: Status.DUALCAST_ALIGNMENT, descriptor: { opcode: Opcode.DUALCAST, source: A, destination: B, size: 64, bytes: { 40: C + 8 } } },
  { name: "list off its boundary", status: Status.LIST_ALIGNMENT, descriptor: { ...batch, source: LIST + 32 } },
  { name: "interrupt handle that nobody asked for", status: Status.INTERRUPT_HANDLE, descriptor: { ...noop, flags: Flag.REQUEST_INTERRUPT, handle: 1 } },
  { name: "completion record that cannot be stored", status: Status.COMPLETION_FAULT, descriptor: other(noop), setup: missing(0x3000), found: "swerr", write: true },
  { name: "completion record off its boundary", status: Status.COMPLETION_ALIGNMENT, descriptor: { ...noop, completion: 0x3010 }, found: "swerr" },
  { name: "address off its boundary", status: Status.ADDRESS_ALIGNMENT, descriptor: { ...apply, source: A + 4 } },
  { name: "privilege that the queue does not give", status: Status.PRIVILEGE, descriptor: { ...noop, pasid: 0x8000_0005 }, shared: true },
  { name: "traffic class without a channel", status: Status.TRAFFIC_CLASS, descriptor: { ...move, flags: Flag.TRAFFIC_1 }, groupFlags: 7 << 3 },
  { name: "readback that may not read", status: Status.READBACK_FAULT, descriptor: { ...move, size: 64, flags: Flag.READBACK }, setup: (rig) => rig.unit.rights.set(page(B), 2) },
  { name: "translated request that is refused", status: Status.HARDWARE, descriptor: move, setup: (rig) => rig.unit.broken.add(page(A)) },
  { name: "readback that is refused", status: Status.READBACK_HARDWARE, descriptor: { opcode: Opcode.DRAIN, source: A, flags: 1 << 16 }, setup: (rig) => rig.unit.broken.add(page(A)) },
  { name: "translation request that is refused", status: Status.TRANSLATION, descriptor: move, setup: (rig) => (rig.unit.status = (at) => (at === page(A) ? CompletionStatus.COMPLETER_ABORT : 0)) },
  {
    name: "drain behind a record in the log",
    status: Status.DRAIN_LOGGED,
    descriptor: { opcode: Opcode.DRAIN },
    setup: both(missing(0x3000), (rig) => void rig.submit(descriptor(other(noop)))),
    found: "log",
  },
  { name: "batch with a record in the log", status: Status.BATCH_LOGGED, descriptor: batch, setup: both(missing(0x3000), list(other(noop), noop)), found: "log" },
];

function rigFor({ shared = false, groupFlags = 0, found }: Row): Rig {
  const rig = new Rig();
  if (found === "log") {
    rig.write32(Register.GENCFG, GENCFG_EVENT_LOG);
    rig.write32(Register.EVLCFG, LOG);
    rig.write32(Register.EVLCFG + 8, 64);
  }
  rig.start([shared ? { dedicated: false, pasid: 0, size: 16 } : { blockOnFault: true }], 1, groupFlags);
  return rig;
}

/** Error of the newest event. */
function newestEvent(rig: Rig): number {
  const tail = rig.read32(Register.EVLSTATUS + 4) & 0xffff;
  return rig.unit.memory[LOG + 64 * (tail - 1) + 1];
}

describe("status codes", () => {
  it.each(ROWS)("$status: $name", (row) => {
    const rig = rigFor(row);
    row.setup?.(rig);
    rig.submit(descriptor(row.descriptor), { deferrable: row.shared ?? false });
    if (row.found === "swerr") {
      expect(rig.swerr()).toMatchObject({ error: row.status, queue: 0, write: row.write ?? false });
      expect(rig.record().status).toBe(Status.NONE);
    } else if (row.found === "log") {
      expect(newestEvent(rig)).toBe(row.status);
      expect(rig.swerr()).toBeUndefined();
    } else {
      expect(rig.record().status).toBe(row.status | (row.write ? STATUS_WRITE : 0));
      expect(rig.swerr()).toBeUndefined();
    }
  });

  it("are all here", () => {
    expect([...new Set(ROWS.map(({ status }) => status))].sort()).toEqual(Object.values(Status).filter((status) => status !== Status.NONE).sort());
  });
});
