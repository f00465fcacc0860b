/** epoll(7): what has happened, in one call however many descriptors there are. */
import { addressOf, syscall, system } from "../system.js";

const SYS = { EPOLL_CTL: 233, EPOLL_CREATE1: 291, EPOLL_PWAIT2: 441 } as const;
const EPOLL_CLOEXEC = 0o2000000;
const CTL = { ADD: 1, DEL: 2 } as const;
/** struct epoll_event, which x86-64 packs: u32 events, u64 data. */
const EVENT_BYTES = 12;
export const MOST_READY = 128;

export const EPOLLIN = 1;
export const EPOLLHUP = 16;

export interface ReadyDescriptor {
  readonly fd: number;
  readonly events: number;
}

export class Epoll {
  readonly fd: number = syscall("epoll_create1", SYS.EPOLL_CREATE1, EPOLL_CLOEXEC);
  readonly #events = new Uint8Array(MOST_READY * EVENT_BYTES);
  readonly #view = new DataView(this.#events.buffer);
  readonly #address = system().koffi.address(this.#events);
  readonly #event = new Uint8Array(EVENT_BYTES);
  /** struct timespec: seconds, nanoseconds. */
  readonly #timeout = new BigUint64Array(2);
  readonly #timeoutAddress = addressOf(this.#timeout);

  /** @param events besides EPOLLHUP, which is always told */
  add(fd: number, events = 0): void {
    const view = new DataView(this.#event.buffer);
    view.setUint32(0, events, true);
    view.setUint32(4, fd, true);
    syscall("epoll_ctl", SYS.EPOLL_CTL, this.fd, CTL.ADD, fd, system().koffi.address(this.#event));
  }

  remove(fd: number): void {
    system().syscall(SYS.EPOLL_CTL, this.fd, CTL.DEL, fd, 0, 0, 0);
  }

  /** At most `MOST_READY`: the rest is told the next time. */
  ready(nanoseconds = 0): ReadyDescriptor[] {
    this.#timeout[1] = BigInt(nanoseconds);
    const count = Math.max(0, system().syscall(SYS.EPOLL_PWAIT2, this.fd, this.#address, MOST_READY, this.#timeoutAddress, 0, 0));
    const ready: ReadyDescriptor[] = [];
    for (let i = 0; i < count; i++) ready.push({ events: this.#view.getUint32(i * EVENT_BYTES, true), fd: this.#view.getUint32(i * EVENT_BYTES + 4, true) });
    return ready;
  }
}
