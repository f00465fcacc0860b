/** The command queue (SMMU 3.5, 4.8, 7.1): in order, and stopped by an error until software has acknowledged it. */
import { decodeFields, type FieldTable, type PhysicalMemory, type RegisterBank, type Tracer } from "@iommukit/core";
import { type Command, COMMAND_BY_OPCODE, COMMANDS, Op } from "../spec/commands.js";
import type { Capabilities } from "../spec/identification.js";
import type { CommandRefusal, UnitObserver } from "../spec/orders.js";
import { CommandError, Cr0, Gerror, Reg } from "../spec/registers.js";
import { type Fields, readFields } from "../spec/words.js";
import type { Interrupts } from "./interrupts.js";
import { Ring } from "./ring.js";

/** What commands do. */
export interface CommandEffects {
  /** Returns how many cache entries went. */
  execute(opcode: number, fields: Fields): number;
  /** CMD_SYNC: a `CommandError` that ends it, or undefined while it has to wait for a device. */
  synchronize(fields: Fields): number | undefined;
}

const WORDS = 4;
const RESERVED = new Map<Command, Uint32Array>(COMMANDS.map((command) => [command, reservedWords(command.table)]));

function reservedWords(table: FieldTable): Uint32Array {
  return Uint32Array.from({ length: WORDS }, (_, i) => Number((table.reserved[i >> 1] >> BigInt(32 * (i & 1))) & 0xffff_ffffn));
}

export class CommandQueue {
  readonly #name: string;
  readonly #bank: RegisterBank;
  readonly #memory: PhysicalMemory;
  readonly #caps: Capabilities;
  readonly #interrupts: Interrupts;
  readonly #effects: CommandEffects;
  readonly #ring: Ring;
  readonly #strict: boolean;
  readonly #tracer: Tracer | undefined;
  readonly #observer: () => UnitObserver | undefined;
  readonly #words = new Uint32Array(WORDS);
  #running = false;
  /** How far before the command at hand the one lies that was refused. */
  #back = 0;

  /** @param strict reserved bits make a command illegal; the manual leaves it open */
  constructor(
    name: string,
    bank: RegisterBank,
    memory: PhysicalMemory,
    caps: Capabilities,
    interrupts: Interrupts,
    effects: CommandEffects,
    strict: boolean,
    tracer: Tracer | undefined,
    observer: () => UnitObserver | undefined,
  ) {
    this.#name = name;
    this.#bank = bank;
    this.#memory = memory;
    this.#caps = caps;
    this.#interrupts = interrupts;
    this.#effects = effects;
    this.#strict = strict;
    this.#tracer = tracer;
    this.#observer = observer;
    this.#ring = new Ring(bank, Reg.CMDQ_BASE, Reg.CMDQ_PROD, Reg.CMDQ_CONS, caps.cmdqBits, WORDS * 4);
  }

  /**
   * Consumes what is there, one lap at the most: a message of a CMD_SYNC may land in CMDQ_PROD and would
   * go on for ever. The same write may not start the queue inside itself.
   */
  run(): void {
    if (this.#running) return;
    this.#running = true;
    try {
      for (let left = this.#ring.size; left > 0 && this.#step(); left--);
      // What was ordered before an error may turn out to be an error itself, an earlier one.
      const refusal = this.#observer()?.idle();
      if (refusal) this.#stop(this.#ring.before(this.#ring.consumer, refusal.back), refusal.error);
    } finally {
      this.#running = false;
    }
  }

  /** Consumes one command; false when there is none, or it waits or is wrong. */
  #step(): boolean {
    const ring = this.#ring;
    const enabled = (this.#bank.get32(Reg.CR0ACK) & Cr0.CMDQEN) !== 0;
    const { used } = ring;
    if (!enabled || this.#interrupts.isActive(Gerror.CMDQ_ERR) || used === 0 || used > ring.size) return false;
    const at = ring.consumer;
    this.#back = 0;
    const error = this.#execute(ring.address(at));
    if (error === undefined) return false;
    if (error !== CommandError.NONE) {
      this.#stop(ring.before(at, this.#back), error);
      return false;
    }
    ring.moveConsumer(ring.next(at));
    return true;
  }

  /** The index stays at the bad command; the reason is there before the error is (7.1). */
  #stop(at: number, error: number): void {
    this.#bank.set(Reg.CMDQ_CONS, BigInt(at) | (BigInt(error) << 24n));
    if (!this.#interrupts.isActive(Gerror.CMDQ_ERR)) this.#interrupts.error(Gerror.CMDQ_ERR);
  }

  #execute(address: number): number | undefined {
    const words = this.#words;
    for (let i = 0; i < WORDS; i += 2) {
      if (!this.#memory.load64(address + i * 4)) return CommandError.ABT;
      words[i] = this.#memory.lo;
      words[i + 1] = this.#memory.hi;
    }
    const command = COMMAND_BY_OPCODE.get(words[0] & 0xff);
    if (command === undefined) return CommandError.ILL;
    const fields = readFields(command.table, words);
    if (fields.SSec === 1 || command.illegal(fields, this.#caps) || (this.#strict && this.#hasReserved(command))) return CommandError.ILL;
    const refusal = this.#tell(command.opcode, fields);
    if (refusal) {
      this.#back = refusal.back;
      return refusal.error;
    }
    if (command.opcode === Op.SYNC) {
      const done = this.#effects.synchronize(fields);
      if (done === CommandError.NONE) this.#trace(command, 0);
      return done;
    }
    const removed = this.#effects.execute(command.opcode, fields);
    this.#trace(command, removed);
    return CommandError.NONE;
  }

  #tell(opcode: number, fields: Fields): CommandRefusal | undefined {
    const [a, b, c, d] = this.#words;
    return this.#observer()?.command(opcode, fields, [(BigInt(b) << 32n) | BigInt(a), (BigInt(d) << 32n) | BigInt(c)]);
  }

  #hasReserved(command: Command): boolean {
    return RESERVED.get(command)?.some((mask, i) => (this.#words[i] & mask) !== 0) === true;
  }

  #trace({ table }: Command, removed: number): void {
    if (!this.#tracer?.listener) return;
    const words = [0, 2].map((i) => (BigInt(this.#words[i + 1]) << 32n) | BigInt(this.#words[i]));
    const shown = decodeFields(table, words)
      .filter((field) => field.name !== "opcode" && field.value !== 0n)
      .map((field) => `${field.name}=${field.meaning ?? `0x${field.value.toString(16)}`}`);
    this.#tracer.listener({ kind: "invalidation", unit: this.#name, descriptor: [`${table.structure}:`, ...shown].join(" "), removed });
  }
}
