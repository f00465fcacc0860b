/**
 * Nothing that a sibling, a guest or a device does changes what another sees. Each device has a life of its own, a list of steps; the
 * lives of several devices of one parent run interleaved at random. The oracle knows nothing of siblings: it is the same life, alone on a
 * fresh machine. Whatever a device and its guest can observe (answers, memory, faults, registers, interrupts) must be the same in both.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Command } from "../dsa/spec/commands.js";
import { Flag, Opcode } from "../dsa/spec/descriptor.js";
import { Register } from "../dsa/spec/registers.js";
import { type Adi, adiMachine, Guest, move } from "../rig/adi-rig.js";
import { errno } from "../rig/pasid-rig.js";

const PAGES = 6;
const RECORDS = 0x10_0000;
const VPASIDS = [1, 2];

type Step =
  | { readonly kind: "map" | "unmap"; readonly page: number }
  | { readonly kind: "attach" | "detach"; readonly vpasid: number | undefined }
  | { readonly kind: "move"; readonly from: number; readonly to: number; readonly size: number; readonly vpasid: number; readonly blocks: boolean; readonly opcode: number }
  | { readonly kind: "answer"; readonly code: number }
  | { readonly kind: "command"; readonly command: number; readonly operand: number }
  | { readonly kind: "reset" | "reopen" };

const COMMANDS = [[Command.ABORT_ALL, 0], [Command.ABORT_WQ, 1], [Command.DRAIN_ALL, 0], [Command.DRAIN_PASID, 1], [Command.ABORT_PASID, 1], [Command.RESET_WQ, 1], [Command.ENABLE_WQ, 0]] as const;
const page = fc.nat(PAGES - 1);
const vpasid = fc.constantFrom(...VPASIDS);
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 3, arbitrary: fc.record({ kind: fc.constantFrom("map" as const, "map" as const, "unmap" as const), page }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constantFrom("attach" as const, "attach" as const, "detach" as const), vpasid: fc.option(vpasid, { nil: undefined }) }) },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant("move" as const), from: page, to: page, size: fc.integer({ min: 1, max: 5000 }), vpasid, blocks: fc.nat(4).map((n) => n > 0),
      opcode: fc.constantFrom(Opcode.MEMMOVE, Opcode.MEMMOVE, Opcode.FILL, Opcode.COMPARE, Opcode.CRC),
    }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("answer" as const), code: fc.constantFrom(0, 0, 1) }) },
  { weight: 2, arbitrary: fc.constantFrom(...COMMANDS).map(([command, operand]) => ({ kind: "command" as const, command, operand })) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom("reset" as const, "reopen" as const) }) },
);

/** One device with its guest, and everything that it has seen. */
class Life {
  readonly seen: unknown[] = [];
  readonly #guest: Guest;
  readonly #shared: boolean;
  readonly #memory = new Map<number, Uint8Array>();
  #adi: Adi;
  #ioas = 0;
  #records: Uint8Array = new Uint8Array(0);
  #queue = { id: 0, fd: 0 };
  #moves = 0;
  #answers: { cookie: number }[] = [];

  constructor(guest: Guest, shared: boolean) {
    this.#guest = guest;
    this.#shared = shared;
    this.#adi = guest.newAdi(shared ? "idxd-1swq-v1" : "idxd-1dwq-v1");
    this.#settle();
  }

  /** As a guest begins: an address space, a fault queue, the default space and one PASID attached, the queue on. */
  #settle(): void {
    this.#memory.clear();
    this.#ioas = this.#guest.ioas();
    this.#queue = this.#guest.queue();
    this.#records = this.#guest.page(this.#ioas, BigInt(RECORDS));
    this.#attach(undefined);
    this.#attach(1);
    this.seen.push(this.#adi.start({ blockOnFault: true, ...(this.#shared ? { pasid: 1 } : {}) }));
  }

  #attach(user: number | undefined): void {
    this.seen.push(errno(() => this.#adi.attach(this.#adi.table(this.#ioas, this.#queue.id), user)));
  }

  run(step: Step): void {
    const iova = (index: number): bigint => BigInt(index) * 4096n;
    switch (step.kind) {
      case "map":
        if (!this.#memory.has(step.page)) {
          const bytes = this.#guest.page(this.#ioas, iova(step.page));
          bytes.forEach((_, i) => (bytes[i] = (i * 31 + step.page) & 0xff));
          this.#memory.set(step.page, bytes);
        }
        break;
      case "unmap":
        if (this.#memory.delete(step.page)) this.#guest.ioctl("IOMMU_IOAS_UNMAP", { ioas_id: this.#ioas, iova: iova(step.page), length: 4096 });
        break;
      case "attach":
        this.#attach(step.vpasid);
        break;
      case "detach":
        this.seen.push(errno(() => this.#adi.detach(step.vpasid)));
        break;
      case "move":
        this.#move(step);
        break;
      case "answer":
        this.#answer(step.code);
        break;
      case "command":
        this.#adi.command(step.command, step.operand);
        break;
      case "reset":
        this.#adi.reset();
        break;
      default:
        this.#adi.close();
        this.#adi = this.#guest.open(this.#adi.uuid);
        this.#settle();
    }
    this.#observe();
  }

  #move({ from, to, size, vpasid: pasid, blocks, opcode }: Extract<Step, { kind: "move" }>): void {
    const completion = RECORDS + 32 * (this.#moves++ % 64);
    const flags = blocks ? Flag.BLOCK_ON_FAULT : 0;
    this.seen.push(this.#adi.submit(move({ source: from * 4096, destination: to * 4096, size, completion, pasid, flags, opcode }), this.#shared));
  }

  #answer(code: number): void {
    for (const { cookie } of this.#answers.splice(0)) this.seen.push(errno(() => this.#guest.answer(this.#queue.fd, cookie, code)));
  }

  #observe(): void {
    const faults = this.#guest.faults(this.#queue.fd);
    this.#answers.push(...faults);
    const registers = [Register.GENSTS, Register.CMDSTS, Register.INTCAUSE, Register.SWERR].map((register) => this.#adi.read(register, 8));
    const memory = [...this.#memory].sort(([a], [b]) => a - b).map(([, bytes]) => Buffer.from(bytes).toString("latin1"));
    this.seen.push(faults.map(({ dev_id, pasid, addr, cookie }) => [dev_id === this.#adi.id, pasid, addr, cookie]), registers, Buffer.from(this.#records).toString("latin1"), memory);
  }
}

/** Devices by kind: true for one on the shared queue. */
const KINDS = [true, false, true] as const;

function alone(kind: boolean, steps: readonly Step[]): unknown[] {
  const life = new Life(new Guest(adiMachine(1, { workQueues: 4 })), kind);
  for (const one of steps) life.run(one);
  return life.seen;
}

function together(lives: readonly (readonly Step[])[], order: readonly number[]): unknown[][] {
  const machine = adiMachine(1, { workQueues: 4 });
  const all = KINDS.map((kind) => new Life(new Guest(machine), kind));
  const left = lives.map((steps) => [...steps]);
  const turn = (who: number): void => {
    const next = left[who].shift();
    if (next) all[who].run(next);
  };
  for (const who of order) turn(who);
  for (const who of KINDS.keys()) while (left[who].length > 0) turn(who);
  return all.map(({ seen }) => seen);
}

describe("siblings of one parent", () => {
  it("see what they would see alone, whatever the others do and in whatever order", () => {
    const life = fc.array(step, { minLength: 1, maxLength: 16 });
    fc.assert(
      fc.property(fc.tuple(life, life, life), fc.array(fc.nat(KINDS.length - 1), { maxLength: 40 }), (lives, order) => {
        const seen = together(lives, order);
        for (const [i, kind] of KINDS.entries()) expect(seen[i]).toEqual(alone(kind, lives[i]));
      }),
      { numRuns: 8 },
    );
  });
});
