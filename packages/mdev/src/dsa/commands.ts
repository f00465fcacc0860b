/** The command register: one row a command, its checks in the order in which they decide (341204, 9.2.11). */
import type { Control } from "./control.js";
import type { Interrupts } from "./interrupts.js";
import { Cmd, CmdSts, Command, CommandError, OPERAND_IMS } from "./spec/commands.js";
import { DeviceError } from "./spec/errors.js";
import { DeviceState, IntCause, Register } from "./spec/registers.js";
import type { WorkQueue } from "./work-queue.js";

const INDEX_MASK = 0xffff;
const QUEUES_PER_WORD = 16;

interface Context {
  readonly control: Control;
  readonly interrupts: Interrupts;
}

/** Ends a command, at once or later. */
type Done = (error: number, result?: number) => void;

interface CommandRow {
  readonly command: number;
  readonly run: (context: Context, operand: number, done: Done) => void;
}

const { NONE, INVALID_WQ, WQ_NOT_ENABLED, DISABLE_NOT_ENABLED, HANDLE_INDEX, NO_HANDLE } = CommandError;

/** Queues that an operand of 16 bits and a number of sixteens names. Undefined when one is not there, or none is named. */
function queuesOf({ control }: Context, operand: number): WorkQueue[] | undefined {
  const first = (operand >>> QUEUES_PER_WORD) * QUEUES_PER_WORD;
  const indexes = Array.from({ length: QUEUES_PER_WORD }, (_, bit) => bit).filter((bit) => (operand >>> bit) & 1).map((bit) => first + bit);
  return indexes.length > 0 && indexes.every((index) => index < control.queues.length) ? indexes.map((index) => control.queues[index]) : undefined;
}

/** A command on enabled queues. */
function onQueues(run: (context: Context, queues: readonly WorkQueue[], done: () => void) => void): CommandRow["run"] {
  return (context, operand, done) => {
    const queues = queuesOf(context, operand);
    if (queues === undefined) return done(INVALID_WQ);
    if (queues.some(({ enabled }) => !enabled)) return done(WQ_NOT_ENABLED);
    run(context, queues, () => done(NONE));
  };
}

/** A command on a device that is enabled. */
function onDevice(run: (context: Context, operand: number, done: () => void) => void): CommandRow["run"] {
  return (context, operand, done) => {
    if (context.control.state !== DeviceState.ENABLED) return done(DISABLE_NOT_ENABLED);
    run(context, operand, () => done(NONE));
  };
}

const includes = (queues: readonly WorkQueue[], index: number): boolean => queues.some((queue) => queue.index === index);

const ROWS: readonly CommandRow[] = [
  { command: Command.ENABLE_DEVICE, run: ({ control }, _operand, done) => done(control.enableDevice()) },
  {
    command: Command.DISABLE_DEVICE,
    run: ({ control }, _operand, done) => {
      const error = control.disableDevice(() => done(NONE));
      if (error !== NONE) done(error);
    },
  },
  { command: Command.DRAIN_ALL, run: onDevice(({ control }, _operand, done) => control.drain(() => true, done)) },
  {
    command: Command.ABORT_ALL,
    run: onDevice(({ control }, _operand, done) => {
      control.abort(() => true);
      done();
    }),
  },
  { command: Command.RESET_DEVICE, run: ({ control }, _operand, done) => done(control.resetDevice()) },
  {
    command: Command.ENABLE_WQ,
    run: ({ control }, operand, done) => {
      const queue = control.queues[operand];
      done(queue ? control.enableQueue(queue) : INVALID_WQ);
    },
  },
  {
    command: Command.DISABLE_WQ,
    run: onQueues(({ control }, queues, done) => {
      let left = queues.length;
      for (const queue of queues) control.disableQueue(queue, () => --left === 0 && done());
    }),
  },
  { command: Command.DRAIN_WQ, run: onQueues(({ control }, queues, done) => control.drain((index) => includes(queues, index), done)) },
  {
    command: Command.ABORT_WQ,
    run: onQueues(({ control }, queues, done) => {
      control.abort((index) => includes(queues, index));
      done();
    }),
  },
  {
    command: Command.RESET_WQ,
    run: onQueues(({ control }, queues, done) => {
      for (const queue of queues) control.resetQueue(queue);
      done();
    }),
  },
  { command: Command.DRAIN_PASID, run: onDevice(({ control }, operand, done) => control.drain((_queue, pasid) => pasid === operand, done)) },
  {
    command: Command.ABORT_PASID,
    run: onDevice(({ control }, operand, done) => {
      control.abortPasid(operand);
      done();
    }),
  },
  {
    command: Command.REQUEST_INT_HANDLE,
    run: ({ interrupts }, operand, done) => {
      const [index, ims] = [operand & INDEX_MASK, (operand & OPERAND_IMS) !== 0];
      if (index >= interrupts.entries(ims)) return done(HANDLE_INDEX);
      done(interrupts.request(index, ims) ? NONE : NO_HANDLE, index);
    },
  },
  {
    command: Command.RELEASE_INT_HANDLE,
    run: ({ interrupts }, operand, done) => done(interrupts.release(operand & INDEX_MASK, (operand & OPERAND_IMS) !== 0) ? NONE : HANDLE_INDEX),
  },
];

const HANDLE_COMMANDS: readonly number[] = [Command.REQUEST_INT_HANDLE, Command.RELEASE_INT_HANDLE];

/** CMDCAP: a bit for each. @param handles those about interrupt handles, too */
export function commandCapabilities(handles: boolean): number {
  return ROWS.reduce((bits, { command }) => (handles || !HANDLE_COMMANDS.includes(command) ? bits | (1 << command) : bits), 0);
}

export class Commands {
  readonly #context: Context;
  readonly #view: DataView;
  readonly #report: (error: number) => void;
  readonly #cause: (bits: number) => void;
  /** Counts commands: one that a reset cut off does not end another. */
  #issued = 0;

  constructor(registers: DataView, context: Context, report: (error: number) => void, cause: (bits: number) => void) {
    this.#view = registers;
    this.#context = context;
    this.#report = report;
    this.#cause = cause;
  }

  get active(): boolean {
    return this.#view.getUint32(Register.CMDSTS, true) >= CmdSts.ACTIVE;
  }

  /** A function-level reset: whatever was under way is forgotten. */
  reset(): void {
    this.#issued++;
    this.#view.setUint32(Register.CMDSTS, 0, true);
  }

  /** While one is active another is an error, and nothing comes of it. */
  issue(word: number): void {
    if (this.active) return this.#report(DeviceError.COMMAND);
    const command = (word >>> Cmd.COMMAND_SHIFT) & Cmd.COMMAND_MASK;
    const issued = ++this.#issued;
    this.#view.setUint32(Register.CMDSTS, CmdSts.ACTIVE, true);
    const done: Done = (error, result = 0) => {
      if (issued !== this.#issued) return;
      this.#view.setUint32(Register.CMDSTS, error | (result << CmdSts.RESULT_SHIFT), true);
      if (word >= Cmd.INTERRUPT) this.#cause(IntCause.COMMAND);
    };
    const row = ROWS.find((candidate) => candidate.command === command && (this.#view.getUint32(Register.CMDCAP, true) >>> command) & 1);
    if (row === undefined) return done(CommandError.INVALID_COMMAND);
    if (this.#context.control.halted && command !== Command.RESET_DEVICE) return done(CommandError.HARDWARE);
    row.run(this.#context, word & Cmd.OPERAND_MASK, done);
  }
}
