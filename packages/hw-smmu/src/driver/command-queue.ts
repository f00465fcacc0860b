/**
 * The command queue from the software side (SMMU 3.5, 4). Commands are gathered, and `sync` hands them over in one go with a CMD_SYNC
 * behind them: when the unit has consumed that, everything before is done.
 */
import { type Deferred, encodeFields, type FieldTable, type FieldValues, type FrameAllocator, type PhysicalMemory } from "@iommukit/core";
import { COMMAND_BY_OPCODE, Op } from "../spec/commands.js";
import { type Capabilities } from "../spec/identification.js";
import { CommandError, Gerror, Reg } from "../spec/registers.js";
import type { RegisterAccess } from "./registers.js";

const COMMAND_BYTES = 16;
/** log2 of commands in the queue, if the unit takes so many: one frame. */
const LOG2_COMMANDS = 8;
const ERRORS: Readonly<Record<number, string>> = { [CommandError.ILL]: "is illegal", [CommandError.ABT]: "cannot be fetched" };
/** Times that CONS is looked at before the unit counts as dead. */
const POLLS = 2 ** 16;

export class CommandQueue {
  readonly #memory: PhysicalMemory;
  readonly #registers: RegisterAccess;
  readonly #deferred: Deferred;
  readonly #onTimeout: () => void;
  readonly #log2: number;
  readonly #base: number;
  #commands: Command[] = [];
  /** Slots with commands of a guest, which may be illegal. */
  readonly #guests = new Set<number>();
  /** PROD with its wrap bit. */
  #prod = 0;

  /** @param onTimeout a device did not answer an invalidation of its translation cache */
  constructor(memory: PhysicalMemory, frames: FrameAllocator, registers: RegisterAccess, caps: Capabilities, deferred: Deferred, onTimeout: () => void) {
    this.#memory = memory;
    this.#registers = registers;
    this.#deferred = deferred;
    this.#onTimeout = onTimeout;
    this.#log2 = Math.min(LOG2_COMMANDS, caps.cmdqBits);
    this.#base = frames.alloc();
    registers.write(Reg.CMDQ_BASE, 8, BigInt(this.#base) | BigInt(this.#log2));
    registers.write32(Reg.CMDQ_PROD, 0);
    registers.write32(Reg.CMDQ_CONS, 0);
  }

  /** Addresses are given by the bits that hold them. */
  add(opcode: number, fields: FieldValues): void {
    this.#commands.push({ words: encodeFields(commandTable(opcode), { opcode: BigInt(opcode), ...fields }), guest: false });
  }

  /** A guest's command. One that the unit calls illegal does nothing. */
  addGuest(words: readonly bigint[]): void {
    this.#commands.push({ words, guest: true });
  }

  /** Hands over what was gathered and waits until the unit has done it. @throws Error when the unit refuses a command: the driver or the unit is wrong */
  sync(): void {
    this.#deferred.run(() => {
      const commands = this.#commands;
      this.#commands = [];
      const room = 2 ** this.#log2 - 1;
      for (let first = 0; first < commands.length || first === 0; first += room - 1) this.#submit(commands.slice(first, first + room - 1));
    });
  }

  #submit(commands: readonly Command[]): void {
    this.#guests.clear();
    for (const command of commands) this.#push(command);
    this.#push({ words: SYNC, guest: false });
    this.#registers.write32(Reg.CMDQ_PROD, this.#prod);
    for (let polls = 0; polls < POLLS; polls++) {
      const consumer = this.#registers.read32(Reg.CMDQ_CONS);
      if ((consumer & 0xf_ffff) === this.#prod) return;
      if (this.#isStopped()) this.#recover(consumer);
    }
    throw new Error(`the unit did not complete ${commands.length} commands and their CMD_SYNC`);
  }

  #push({ words, guest }: Command): void {
    const slot = this.#prod % 2 ** this.#log2;
    if (guest) this.#guests.add(slot);
    this.#store(slot, words);
    this.#prod = (this.#prod + 1) % 2 ** (this.#log2 + 1);
  }

  #store(slot: number, words: readonly bigint[]): void {
    for (let i = 0; i < 2; i++) this.#memory.writeU64(this.#base + slot * COMMAND_BYTES + i * 8, words[i]);
  }

  #isStopped(): boolean {
    return ((this.#registers.read32(Reg.GERROR) ^ this.#registers.read32(Reg.GERRORN)) & Gerror.CMDQ_ERR) !== 0;
  }

  /**
   * The unit goes on at the same slot once the error is acknowledged (7.1). A CMD_SYNC may fail because a device was silent, and a guest's
   * command may be illegal: a CMD_SYNC takes its place. Everything else is a bug.
   */
  #recover(consumer: number): void {
    const error = (consumer >>> 24) & 0x7f;
    const slot = (consumer & 0xf_ffff) % 2 ** this.#log2;
    if (error === CommandError.ATC_INV_SYNC) this.#onTimeout();
    else if (error === CommandError.ILL && this.#guests.has(slot)) this.#store(slot, SYNC);
    else {
      const word = this.#memory.readU64(this.#base + slot * COMMAND_BYTES) ?? 0n;
      const name = COMMAND_BY_OPCODE.get(Number(word & 0xffn))?.table.structure ?? `command 0x${word.toString(16)}`;
      throw new Error(`the unit stopped: ${name} ${ERRORS[error] ?? `failed with error ${error}`}`);
    }
    this.#registers.write32(Reg.GERRORN, this.#registers.read32(Reg.GERRORN) ^ Gerror.CMDQ_ERR);
  }
}

const SYNC = encodeFields(commandTable(Op.SYNC), { opcode: BigInt(Op.SYNC) });

interface Command {
  readonly words: readonly bigint[];
  readonly guest: boolean;
}

function commandTable(opcode: number): FieldTable {
  const command = COMMAND_BY_OPCODE.get(opcode);
  if (command === undefined) throw new RangeError(`there is no command 0x${opcode.toString(16)}`);
  return command.table;
}
