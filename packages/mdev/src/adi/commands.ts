/**
 * Commands of a virtual DSA: each as the device would answer it, done on the parent's queue as far as the queue is this device's alone. A
 * shared queue stays on: what is drained or dropped there are the device's own PASIDs.
 */
import { Command, CommandError, OPERAND_IMS } from "../dsa/spec/commands.js";
import { DeviceState } from "../dsa/spec/registers.js";

/** What commands do to the device. */
export interface CommandTarget {
  state: number;
  readonly queueEnabled: boolean;
  readonly busMaster: boolean;
  /** Turns the queue on; a command error, 0 for none. */
  enableQueue(): number;
  /** Waits until what is in the queue has ended; it stays on. */
  drainQueue(done: () => void): void;
  abortQueue(): void;
  disableQueue(): void;
  /** Gives the queue's configuration its defaults. */
  clearQueue(): void;
  drainPasid(user: number, done: () => void): void;
  abortPasid(user: number): void;
  clear(): void;
  /** A handle for a vector; undefined when none is free. */
  requestHandle(vector: number): number | undefined;
  releaseHandle(handle: number): boolean;
  readonly vectors: number;
}

type Done = (error: number, result?: number) => void;
type Run = (target: CommandTarget, operand: number, done: Done) => void;

const { NONE, INVALID_WQ, BUS_MASTER, DEVICE_ENABLED, DISABLE_NOT_ENABLED, WQ_NOT_ENABLED, DEVICE_NOT_ENABLED, WQ_ENABLED, HANDLE_INDEX, NO_HANDLE } = CommandError;

/** A command on an enabled device. */
const onDevice =
  (run: (target: CommandTarget, operand: number, done: () => void) => void): Run =>
  (target, operand, done) =>
    target.state === DeviceState.ENABLED ? run(target, operand, () => done(NONE)) : done(DISABLE_NOT_ENABLED);

/** A command on the queue, which an operand names by bit 0. */
const onQueue =
  (run: (target: CommandTarget, done: () => void) => void): Run =>
  (target, operand, done) => {
    if (operand !== 1) return done(INVALID_WQ);
    return target.queueEnabled ? run(target, () => done(NONE)) : done(WQ_NOT_ENABLED);
  };

const drained = (target: CommandTarget, done: () => void): void => (target.queueEnabled ? target.drainQueue(done) : done());

export const VIRTUAL_COMMANDS: Readonly<Record<number, Run>> = {
  [Command.ENABLE_DEVICE]: (target, _operand, done) => {
    if (target.state !== DeviceState.DISABLED) return done(DEVICE_ENABLED);
    if (!target.busMaster) return done(BUS_MASTER);
    target.state = DeviceState.ENABLED;
    done(NONE);
  },
  [Command.DISABLE_DEVICE]: onDevice((target, _operand, done) => {
    target.state = DeviceState.DRAIN;
    drained(target, () => {
      target.disableQueue();
      target.state = DeviceState.DISABLED;
      done();
    });
  }),
  [Command.DRAIN_ALL]: onDevice((target, _operand, done) => drained(target, done)),
  [Command.ABORT_ALL]: onDevice((target, _operand, done) => {
    target.abortQueue();
    done();
  }),
  [Command.RESET_DEVICE]: (target, _operand, done) => {
    target.state = DeviceState.DRAIN;
    target.abortQueue();
    target.disableQueue();
    target.clear();
    done(NONE);
  },
  [Command.ENABLE_WQ]: (target, operand, done) => {
    if (operand !== 0) return done(INVALID_WQ);
    if (target.state !== DeviceState.ENABLED) return done(DEVICE_NOT_ENABLED);
    done(target.queueEnabled ? WQ_ENABLED : target.enableQueue());
  },
  [Command.DISABLE_WQ]: onQueue((target, done) =>
    target.drainQueue(() => {
      target.disableQueue();
      done();
    }),
  ),
  [Command.DRAIN_WQ]: onQueue((target, done) => target.drainQueue(done)),
  [Command.ABORT_WQ]: onQueue((target, done) => {
    target.abortQueue();
    done();
  }),
  [Command.RESET_WQ]: onQueue((target, done) => {
    target.abortQueue();
    target.disableQueue();
    target.clearQueue();
    done();
  }),
  [Command.DRAIN_PASID]: onDevice((target, operand, done) => target.drainPasid(operand, done)),
  [Command.ABORT_PASID]: onDevice((target, operand, done) => {
    target.abortPasid(operand);
    done();
  }),
  [Command.REQUEST_INT_HANDLE]: (target, operand, done) => {
    if ((operand & OPERAND_IMS) !== 0 || operand === 0 || operand >= target.vectors) return done(HANDLE_INDEX);
    const handle = target.requestHandle(operand);
    done(handle === undefined ? NO_HANDLE : NONE, handle);
  },
  [Command.RELEASE_INT_HANDLE]: (target, operand, done) => done(target.releaseHandle(operand) ? NONE : HANDLE_INDEX),
};

/** CMDCAP: a bit for each. */
export const VIRTUAL_COMMAND_CAPABILITIES: number = Object.keys(VIRTUAL_COMMANDS).reduce((bits, command) => bits | (1 << Number(command)), 0);
