/**
 * Makes a thread that waits for its answer run other system calls in the place of its own (ptrace(2)): the one way to map
 * something into another process.
 */
import { addressOf, syscall, SystemError } from "../system.js";
import type { Call } from "./call.js";
import { CallMemory } from "./remote-memory.js";

const SYS = { wait4: 61, ptrace: 101 } as const;
const PTRACE = { GETREGS: 12, SETREGS: 13, DETACH: 17, SYSCALL: 24, SEIZE: 0x4206, INTERRUPT: 0x4207, SETSIGMASK: 0x420b, GETSIGMASK: 0x420a } as const;
const WALL = 0x4000_0000;
/** Words of struct user_regs_struct. */
const REG = { r10: 7, r9: 8, r8: 9, rax: 10, rdx: 12, rsi: 13, rdi: 14, orig_rax: 15, rip: 16 } as const;
const REGISTERS = 27;
const ARGUMENTS = [REG.rdi, REG.rsi, REG.rdx, REG.r10, REG.r8, REG.r9] as const;
const SIGSET_BYTES = 8;
/** The instruction `syscall`. */
const SYSCALL = [0x0f, 0x05] as const;
const ENOSYS = 38;

/** The kernel reads and writes these by address: they are kept. */
const registers = new BigUint64Array(REGISTERS);
const mask = new BigUint64Array(1);
const allSignals = BigUint64Array.of(2n ** 64n - 1n);
const status = new Int32Array(1);
const NO_RESTART = 2n ** 64n - 1n;

function ptrace(what: keyof typeof PTRACE, tid: number, address: number | bigint = 0, data: number | bigint = 0): void {
  syscall(`ptrace ${what} of thread ${tid}`, SYS.ptrace, PTRACE[what], tid, address, data);
}

/** Waits for the next stop; false when the thread has died instead. */
function stopped(tid: number): boolean {
  syscall(`wait for thread ${tid}`, SYS.wait4, tid, addressOf(status), WALL, 0);
  return (status[0] & 0xff) === 0x7f;
}

class ThreadDied extends Error {}

function mustStop(tid: number): void {
  if (!stopped(tid)) throw new ThreadDied();
}

/** A system call in the client; returns its result or negative errno. */
export type Inject = (nr: number, ...args: readonly (number | bigint)[]) => bigint;

/**
 * Ends the call with what `run` returns.
 * @throws SystemError when the thread cannot be traced, and then the call waits still
 */
export function injectInto(call: Call, run: (inject: Inject) => bigint): void {
  const { tid } = call;
  ptrace("SEIZE", tid);
  try {
    ptrace("INTERRUPT", tid);
    // Now it leaves the kernel, and stops before it is back in its program.
    call.services.listener.answer(call.id, -ENOSYS);
    mustStop(tid);
    inStop(tid, run);
    ptrace("DETACH", tid);
  } catch (error) {
    // Killed in a stop: its parent learns of it when we have.
    if (error instanceof SystemError) while (stopped(tid));
    else if (!(error instanceof ThreadDied)) throw error;
  }
}

function getRegisters(tid: number): BigUint64Array {
  ptrace("GETREGS", tid, 0, addressOf(registers));
  return BigUint64Array.from(registers);
}

function setRegisters(tid: number, values: BigUint64Array): void {
  registers.set(values);
  ptrace("SETREGS", tid, 0, addressOf(registers));
}

function inStop(tid: number, run: (inject: Inject) => bigint): void {
  const before = getRegisters(tid);
  // Signals wait until all is as it was.
  ptrace("GETSIGMASK", tid, SIGSET_BYTES, addressOf(mask));
  ptrace("SETSIGMASK", tid, SIGSET_BYTES, addressOf(allSignals));
  const after = BigUint64Array.from(before);
  after[REG.rax] = BigInt.asUintN(64, run((nr, ...args) => one(tid, before, nr, args)));
  after[REG.orig_rax] = NO_RESTART;
  setRegisters(tid, after);
  ptrace("SETSIGMASK", tid, SIGSET_BYTES, addressOf(mask));
}

function one(tid: number, before: BigUint64Array, nr: number, args: readonly (number | bigint)[]): bigint {
  const set = BigUint64Array.from(before);
  set[REG.rip] -= BigInt(SYSCALL.length);
  set[REG.rax] = BigInt(nr);
  set[REG.orig_rax] = NO_RESTART;
  for (const [i, argument] of args.entries()) set[ARGUMENTS[i]] = BigInt.asUintN(64, BigInt(argument));
  setRegisters(tid, set);
  for (const _ of ["entry", "exit"]) {
    ptrace("SYSCALL", tid);
    mustStop(tid);
  }
  return BigInt.asIntN(64, getRegisters(tid)[REG.rax]);
}

/** True when the call came by the instruction that we would run again. */
export function canInject({ services, id, tid, notification: { instruction } }: Call): boolean {
  const bytes = new Uint8Array(SYSCALL.length);
  try {
    new CallMemory(services.listener, id, tid).read(instruction - BigInt(SYSCALL.length), bytes);
  } catch {
    return false; // code that cannot be read
  }
  return bytes.every((byte, i) => byte === SYSCALL[i]);
}
