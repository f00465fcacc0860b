/** Batches: order, fences, failures, and pages of the list that are missing. */
import { PageResponseCode } from "@iommukit/core";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type DescriptorFields, descriptor, Rig } from "./rig.test-support.js";
import { Status } from "./spec/completion.js";
import { Flag, Opcode } from "./spec/descriptor.js";

const LIST = 0x20_000;
const RECORDS = 0x4_0000;
const [A, B] = [0x10_0000, 0x14_0000];

/** Puts members into the list, with a record each. */
function put(rig: Rig, members: readonly DescriptorFields[], list = LIST): void {
  members.forEach((member, i) => rig.unit.memory.set(descriptor({ completion: RECORDS + 32 * i, ...member }), list + 64 * i));
}

const batch = (size: number, rest: Partial<DescriptorFields> = {}): DescriptorFields => ({ opcode: Opcode.BATCH, source: LIST, size, ...rest });
const statuses = (rig: Rig, count: number): number[] => Array.from({ length: count }, (_, i) => rig.record(RECORDS + 32 * i).status);
const noop: DescriptorFields = { opcode: Opcode.NOOP };
const bad: DescriptorFields = { opcode: 0x7f };

function started(blockOnFault = false): Rig {
  const rig = new Rig();
  rig.start([{ blockOnFault, pasid: 3 }], 2);
  return rig;
}

describe("a batch", () => {
  it("does all of its list, in order, with its own rights", () => {
    const rig = started();
    const members = Array.from({ length: 200 }, (_, i): DescriptorFields => ({ opcode: Opcode.FILL, pasid: 0x8000_0009, source: i + 1, destination: A + i * 4, size: 8 }));
    put(rig, members);
    expect(rig.run(batch(200))).toMatchObject({ status: Status.SUCCESS, completed: 200 });
    expect(statuses(rig, 200).every((status) => status === Status.SUCCESS)).toBe(true);
    const view = new DataView(rig.unit.memory.buffer);
    expect(Array.from({ length: 200 }, (_, i) => view.getUint32(A + 4 * i, true))).toEqual(Array.from({ length: 200 }, (_, i) => i + 1));
    expect([...rig.unit.seen]).toEqual(["3"]);
  });

  it("of a shared queue lends its members its PASID and privilege: theirs say nothing", () => {
    const rig = new Rig();
    rig.start([{ dedicated: false, pasid: 0 }]);
    put(rig, [{ opcode: Opcode.FILL, pasid: 0x8000_0009, destination: A, size: 8 }, noop]);
    rig.submit(descriptor(batch(2, { pasid: 4 })), { deferrable: true });
    expect([rig.record().status, ...statuses(rig, 2)]).toEqual([1, 1, 1]);
    expect([...rig.unit.seen]).toEqual(["4"]);
  });

  it("of which one fails does the rest", () => {
    const rig = started();
    put(rig, [noop, bad, noop]);
    expect(rig.run(batch(3))).toMatchObject({ status: Status.BATCH_FAILED, completed: 3 });
    expect(statuses(rig, 3)).toEqual([Status.SUCCESS, Status.OPCODE, Status.SUCCESS]);
  });

  it.each([Opcode.BATCH, Opcode.DRAIN])("takes no opcode %i", (opcode) => {
    const rig = started();
    put(rig, [{ opcode, source: LIST, size: 2 }, noop]);
    expect(rig.run(batch(2)).status).toBe(Status.BATCH_FAILED);
    expect(statuses(rig, 2)).toEqual([Status.OPCODE, Status.SUCCESS]);
  });

  it.each([[1, false], [2, true], [1024, true], [1025, false], [0, false], [0xffff_ffff, false]])("of %i descriptors is one: %s", (size, valid) => {
    const rig = started();
    put(rig, Array.from({ length: 1024 }, () => ({ ...noop, flags: Flag.COMPLETION_VALID | Flag.REQUEST_COMPLETION })));
    expect(rig.run(batch(size)).status).toBe(valid ? Status.SUCCESS : Status.BATCH_COUNT);
  });

  it("is bounded by what its queue allows", () => {
    const rig = new Rig();
    rig.start([{ limits: 20 | (1 << 5) }]);
    put(rig, [noop, noop, noop]);
    expect([rig.run(batch(2)).status, rig.run(batch(3)).status]).toEqual([Status.SUCCESS, Status.BATCH_COUNT]);
  });
});

describe("a fence", () => {
  it("waits for those before it, which others need not", () => {
    const rig = started(true);
    rig.unit.rights.set(B >> 12, 0);
    put(rig, [
      { opcode: Opcode.FILL, source: 5, destination: B, size: 8, flags: Flag.BLOCK_ON_FAULT },
      { opcode: Opcode.FILL, source: 6, destination: A, size: 8 },
      { opcode: Opcode.MEMMOVE, source: B, destination: A + 64, size: 8, flags: Flag.FENCE },
      noop,
    ]);
    rig.run(batch(4));
    expect(statuses(rig, 4)).toEqual([0, 1, 0, 0]);
    rig.unit.respond();
    expect(rig.record()).toMatchObject({ status: Status.SUCCESS, completed: 4 });
    expect(rig.unit.memory[A + 64]).toBe(5);
  });

  it("stops the batch where an earlier one has failed", () => {
    const rig = started();
    put(rig, [noop, bad, { ...noop, flags: Flag.FENCE }, noop]);
    expect(rig.run(batch(4))).toMatchObject({ status: Status.BATCH_FAILED, completed: 2 });
    expect(statuses(rig, 4)).toEqual([1, Status.OPCODE, 0, 0]);
  });

  it.each([[0, 3, Status.SUCCESS], [1, 1, Status.BATCH_FAILED]])("makes what follows depend on a comparison: %i", (difference, completed, status) => {
    const rig = started();
    rig.unit.memory[A] = difference;
    put(rig, [{ opcode: Opcode.COMPARE, source: A, destination: B, size: 8, flags: Flag.CHECK_RESULT }, { ...noop, flags: Flag.FENCE }, noop]);
    expect(rig.run(batch(3))).toMatchObject({ status, completed });
  });

  it("outside of a batch is no valid flag, and the record says which one it was", () => {
    const record = started().run({ ...noop, flags: Flag.FENCE });
    expect([record.status, record.view.getUint32(16, true)]).toEqual([Status.FLAGS, Flag.FENCE]);
  });
});

describe("a list whose page is missing", () => {
  it("ends the batch there, and software goes on behind what is done", () => {
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 300 }), fc.integer({ min: 0, max: 63 }), fc.array(fc.integer({ min: 0, max: 5 }), { maxLength: 6 }), (count, start, missing) => {
        const rig = started();
        const list = LIST + 64 * start;
        put(rig, Array.from({ length: count }, (_, i): DescriptorFields => ({ opcode: Opcode.FILL, source: i, destination: A + 8 * i, size: 8 })), list);
        for (const page of missing) rig.unit.rights.set((LIST >> 12) + page, 0);
        let [at, left] = [list, count];
        for (;;) {
          const record = rig.run(left > 1 ? batch(left, { source: at }) : { opcode: Opcode.NOOP });
          if (record.status !== Status.BATCH_PAGE_FAULT) break;
          expect(record.faultAddress).toBe(BigInt(at + 64 * record.completed) & ~0xfffn);
          rig.unit.rights.delete(Number(record.faultAddress >> 12n));
          at += 64 * record.completed;
          left -= record.completed;
        }
        // A list of one is no batch: software submits it by itself.
        const view = new DataView(rig.unit.memory.buffer);
        for (let i = 0; i < (left === 1 ? count - 1 : count); i++) expect(view.getBigUint64(A + 8 * i, true)).toBe(BigInt(i));
      }),
      { numRuns: 60, seed: 20_261 },
    );
  });

  it("is waited for where the batch blocks", () => {
    const rig = started(true);
    put(rig, Array.from({ length: 100 }, () => noop));
    rig.unit.rights.set((LIST >> 12) + 1, 0);
    rig.run(batch(100, { flags: Flag.BLOCK_ON_FAULT }));
    expect([rig.record().status, rig.unit.questions.length]).toEqual([0, 1]);
    rig.unit.respond();
    expect(rig.record()).toMatchObject({ status: Status.SUCCESS, completed: 100 });
  });

  it("is given up when the page is refused, or is said to be there and is not", () => {
    const rig = started(true);
    put(rig, Array.from({ length: 100 }, () => noop));
    rig.unit.rights.set((LIST >> 12) + 1, 0);
    rig.unit.answer = () => PageResponseCode.INVALID;
    expect(rig.run(batch(100, { flags: Flag.BLOCK_ON_FAULT }))).toMatchObject({ status: Status.BATCH_PAGE_FAULT, completed: 64 });
    let asked = 0;
    rig.unit.answer = (question) => {
      asked++;
      rig.unit.rights.set(question.page, 0);
      return undefined;
    };
    rig.run(batch(100, { flags: Flag.BLOCK_ON_FAULT }));
    while (rig.unit.questions.length > 0) {
      const page = rig.unit.questions[0].page;
      rig.unit.rights.set(page, 0);
      const [question] = rig.unit.questions.splice(0, 1);
      rig.unit.endpoint?.respond({ pasid: question.pasid, group: question.group, code: PageResponseCode.SUCCESS });
    }
    expect(rig.record()).toMatchObject({ status: Status.BATCH_PAGE_FAULT, completed: 64 });
    expect(asked).toBe(16);
  });
});
