/** The kernel's end of a filter: system calls that wait for an answer (seccomp_unotify(2)). */
import { checked, errno, SystemError, system } from "../system.js";

/** struct seccomp_notif, _resp and _addfd. */
const NOTIFICATION_BYTES = 80;
const RESPONSE_BYTES = 24;
const ADDFD_BYTES = 24;

const IOCTL = { RECV: 0xc050_2100, SEND: 0xc018_2101, ID_VALID: 0x4008_2102, ADDFD: 0x4018_2103, SET_FLAGS: 0x4008_2104 } as const;
/** The caller sleeps until it is answered: it may as well leave its processor to us. Linux 6.6. */
const SYNC_WAKE_UP = 1n;
const CONTINUE = 1;
const ADDFD_SETFD = 1;
const ADDFD_SEND = 2;
const O_CLOEXEC = 0o2000000;

/** A system call that waits; good until the next one is received, since one is served at a time. */
export class Notification {
  readonly #view: DataView;
  readonly id: bigint;
  /** The thread; 0 when it cannot be named from here. */
  readonly tid: number;
  readonly nr: number;

  constructor(view: DataView) {
    this.#view = view;
    this.id = view.getBigUint64(0, true);
    this.tid = view.getUint32(8, true);
    this.nr = view.getInt32(16, true);
  }

  /** Address behind the instruction that made the call. */
  get instruction(): bigint {
    return this.#view.getBigUint64(24, true);
  }

  /** An argument as the register has it. */
  word(index: number): bigint {
    return this.#view.getBigUint64(32 + 8 * index, true);
  }

  /** An argument of type int. */
  int(index: number): number {
    return this.#view.getInt32(32 + 8 * index, true);
  }
}

export interface NewDescriptor {
  /** Of this process. */
  readonly fd: number;
  /** Number in the client; the lowest that is free unless given. */
  readonly as?: number;
  readonly closeOnExec: boolean;
  /** Answers the call with the number, in the same step. */
  readonly answer?: boolean;
}

export class Listener {
  readonly fd: number;
  readonly #ioctl = system().ioctl;
  readonly #notification = new DataView(new ArrayBuffer(NOTIFICATION_BYTES));
  readonly #notificationBytes = bytesOf(this.#notification);
  readonly #response = new DataView(new ArrayBuffer(RESPONSE_BYTES));
  readonly #responseBytes = bytesOf(this.#response);
  readonly #addfd = new DataView(new ArrayBuffer(ADDFD_BYTES));
  readonly #id = new BigUint64Array(1);
  readonly #idBytes = bytesOf(this.#id);

  constructor(fd: number) {
    this.fd = fd;
    this.#ioctl(fd, IOCTL.SET_FLAGS, bytesOf(BigUint64Array.of(SYNC_WAKE_UP))); // older kernels are slower
  }

  /** The oldest call; undefined when it was taken back meanwhile. Only to be asked when poll says that there is one. */
  receive(): Notification | undefined {
    const view = this.#notification;
    this.#notificationBytes.fill(0); // the kernel insists
    if (this.#ioctl(this.fd, IOCTL.RECV, this.#notificationBytes) !== 0) return undefined;
    return new Notification(view);
  }

  /** @param result of the call, or a negative errno */
  answer(id: bigint, result: number | bigint): void {
    this.#send(id, BigInt(result < 0 ? 0 : result), result < 0 ? Number(result) : 0, 0);
  }

  /** The call takes its ordinary way. */
  proceed(id: bigint): void {
    this.#send(id, 0n, 0, CONTINUE);
  }

  /** A caller that died meanwhile needs no answer: the failure is nobody's. */
  #send(id: bigint, value: bigint, error: number, flags: number): void {
    const view = this.#response;
    view.setBigUint64(0, id, true);
    view.setBigInt64(8, value, true);
    view.setInt32(16, error, true);
    view.setUint32(20, flags, true);
    this.#ioctl(this.fd, IOCTL.SEND, this.#responseBytes);
  }

  /** False when the caller has died: its thread number may be somebody else's by now. */
  isWaiting(id: bigint): boolean {
    this.#id[0] = id;
    return this.#ioctl(this.fd, IOCTL.ID_VALID, this.#idBytes) === 0;
  }

  /** Gives the caller a descriptor; returns its number. @throws SystemError ENOENT when it has died, EMFILE, EBADF behind its limit */
  addDescriptor(id: bigint, { fd, as, closeOnExec, answer }: NewDescriptor): number {
    const view = this.#addfd;
    view.setBigUint64(0, id, true);
    view.setUint32(8, (as === undefined ? 0 : ADDFD_SETFD) | (answer ? ADDFD_SEND : 0), true);
    view.setUint32(12, fd, true);
    view.setUint32(16, as ?? 0, true);
    view.setUint32(20, closeOnExec ? O_CLOEXEC : 0, true);
    // A signal may interrupt the installation: it did not happen then.
    for (;;) {
      const result = this.#ioctl(this.fd, IOCTL.ADDFD, bytesOf(view));
      if (result >= 0 || !isInterrupted(errno())) return checked(result, "a descriptor for the client");
    }
  }
}

function isInterrupted(code: number): boolean {
  return code === 4;
}

/** Errno of something that a system call threw. */
export function errnoOf(error: unknown): number | undefined {
  return error instanceof SystemError ? error.errno : undefined;
}

function bytesOf({ buffer }: DataView | BigUint64Array): Uint8Array {
  return new Uint8Array(buffer as ArrayBuffer);
}
