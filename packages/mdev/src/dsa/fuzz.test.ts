/** Anything at all, in any register, portal, descriptor or answer: no crash, no end that does not come, no status that is none. */
import { PageResponseCode } from "@iommukit/core";
import fc from "fast-check";
import { expect, it } from "vitest";
import { COMPLETION, type DescriptorFields, descriptor, Rig } from "./rig.test-support.js";
import { Command } from "./spec/commands.js";
import { Status } from "./spec/completion.js";
import { Field, Opcode } from "./spec/descriptor.js";
import { GENCFG_EVENT_LOG, Register, Table } from "./spec/registers.js";

const PAGE = 4096;
const [FIRST, PAGES] = [0x100, 0x40];
const RECORDS = 8;
const LIST = 0x2000;

type Action = (rig: Rig) => void;

const word = fc.oneof(fc.nat(0xffff_ffff), fc.constantFrom(0, 1, 0xffff_ffff, 0x11, 0x3000_0013));
const address = fc.oneof(
  { weight: 6, arbitrary: fc.tuple(fc.integer({ min: FIRST, max: FIRST + PAGES }), fc.oneof(fc.constant(0), fc.nat(PAGE - 1))).map(([page, offset]) => BigInt(page * PAGE + offset)) },
  { weight: 1, arbitrary: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }) },
);
const lengths = fc.oneof(fc.nat(3 * PAGE), fc.constantFrom(0, 1, 8, 64, 512, 520, 1040, 4104, 0x8_0000, 0xffff_ffff));
const opcodes = fc.oneof({ weight: 8, arbitrary: fc.constantFrom(...Object.values(Opcode)) }, { weight: 1, arbitrary: fc.nat(255) });

/** Mostly sensible, with bytes overwritten at random. */
const descriptors: fc.Arbitrary<Uint8Array> = fc
  .record({
    opcode: opcodes,
    flags: fc.oneof(fc.constantFrom(0, 2, 0x10, 0x80, 0x4000), fc.nat(0xff_ffff)),
    source: fc.oneof(address, fc.constant(BigInt(LIST))),
    destination: address,
    size: lengths,
    record: fc.nat(RECORDS - 1),
    pasid: fc.oneof(fc.nat(3), word),
    handle: fc.nat(9),
    rest: fc.option(address),
    noise: fc.array(fc.tuple(fc.nat(63), fc.nat(255)), { maxLength: 2 }),
    noisy: fc.boolean(),
  })
  .map(({ record, rest, noise, noisy, ...fields }) => {
    const given: DescriptorFields = { ...fields, completion: COMPLETION + 32 * record, ...(rest !== null && { bytes: { [Field.EXPECTED]: rest } }) };
    const bytes = descriptor(given);
    if (noisy) for (const [at, value] of noise) bytes[at] = value;
    return bytes;
  });

const actions: fc.Arbitrary<Action> = fc.oneof(
  { weight: 8, arbitrary: fc.tuple(descriptors, fc.nat(3), fc.nat(3), fc.boolean()).map(([bytes, queue, portal, deferrable]): Action => (rig) => void rig.submit(bytes, { queue, portal, deferrable })) },
  { weight: 3, arbitrary: fc.tuple(descriptors, fc.nat(40)).map(([bytes, at]): Action => (rig) => rig.unit.memory.set(bytes, LIST + 64 * at)) },
  { weight: 2, arbitrary: fc.tuple(fc.integer({ min: FIRST, max: FIRST + PAGES }), fc.nat(3)).map(([page, rights]): Action => (rig) => void rig.unit.rights.set(page, rights)) },
  {
    weight: 4,
    arbitrary: fc.constantFrom(PageResponseCode.SUCCESS, PageResponseCode.INVALID, PageResponseCode.FAILURE).map((code): Action => (rig) => {
      if (rig.unit.questions.length > 0) rig.unit.respond(code);
    }),
  },
  { weight: 2, arbitrary: fc.tuple(fc.nat(31), fc.oneof(fc.nat(0xf_ffff), fc.constantFrom(0, 1, 2, 3))).map(([command, operand]): Action => (rig) => void rig.command(command, operand)) },
  { weight: 3, arbitrary: fc.constantFrom(Command.ENABLE_DEVICE, Command.ENABLE_WQ).map((command): Action => (rig) => void [0, 1, 2].map((queue) => rig.command(command, queue))) },
  { weight: 1, arbitrary: fc.tuple(fc.nat(0x1ff).map((at) => at * 4), word).map(([at, value]): Action => (rig) => rig.write32(at, value)) },
  { weight: 1, arbitrary: fc.tuple(fc.constantFrom(Table.GRPCFG, Table.WQCFG, Table.MSIX_PERM, Table.IMS), fc.nat(0x3f), word).map(([table, at, value]): Action => (rig) => rig.write32(table + 4 * at, value)) },
  { weight: 1, arbitrary: fc.tuple(fc.nat(0xffff), fc.constantFrom(1, 2, 4, 8), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), fc.constantFrom(0, 2)).map(([at, size, value, bar]): Action => (rig) => {
    rig.device.writeBar(bar, at, size, value);
    rig.device.readBar(bar, at, size);
  }) },
  { weight: 1, arbitrary: fc.boolean().map((function_): Action => (rig) => (function_ ? rig.device.reset() : void rig.command(Command.RESET_DEVICE))) },
  { weight: 1, arbitrary: fc.nat(3).map((needed): Action => (rig) => rig.device.halt(needed)) },
  { weight: 2, arbitrary: fc.nat(3).map((pasid): Action => (rig) => rig.device.abortPasid(pasid)) },
);

/** Programmed as a driver would, as often as the device is found off. */
function setUp(rig: Rig): void {
  rig.write32(Register.GENCFG, GENCFG_EVENT_LOG);
  rig.write32(Register.EVLCFG, 0x18_0000);
  rig.write32(Register.EVLCFG + 8, 64);
  for (const handle of [1, 2]) rig.command(Command.REQUEST_INT_HANDLE, handle);
  rig.start([{ blockOnFault: true, size: 8 }, { dedicated: false, pasid: 0, blockOnFault: true, privileged: true, size: 8 }, { size: 4, limits: 16 | (4 << 5) }], 2);
}

const KNOWN = new Set<number>(Object.values(Status));

it("stands anything", () => {
  fc.assert(
    fc.property(fc.array(actions, { minLength: 1, maxLength: 60 }), fc.boolean(), (list, ats) => {
      const rig = new Rig({ ...(ats ? {} : { ats: false, pri: false, pasid: false }) }, ats);
      if (ats) setUp(rig);
      else rig.start([{}, {}, {}], 2);
      for (const act of list) {
        act(rig);
        for (let i = 0; i < RECORDS; i++) {
          const status = rig.record(COMPLETION + 32 * i).status & 0x7f;
          if (!KNOWN.has(status)) expect.fail(`status 0x${status.toString(16)}`);
        }
      }
      // Nothing is left over once the function is reset, and it works.
      rig.device.reset();
      rig.unit.questions.length = 0;
      rig.unit.rights.clear();
      for (const engine of rig.device.engines) expect(engine.open).toBe(0);
      rig.unit.memory.fill(0, COMPLETION, COMPLETION + 32);
      rig.start([{}], 1);
      expect(rig.run({ opcode: Opcode.NOOP }).status).toBe(Status.SUCCESS);
    }),
    { numRuns: 400, seed: 20_261 },
  );
});
