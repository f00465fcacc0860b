/** Answers the calls that a filter sends here, one after the other, as they came. */
import { closeSync } from "node:fs";
import { attempt } from "../calls.js";
import type { Door } from "../door.js";
import { watch } from "../system.js";
import { Call, type Outcome, type Services } from "./call.js";
import { CALLS } from "./calls.js";
import { Epoll, EPOLLIN, MOST_READY } from "./epoll.js";
import { FakeFiles } from "./fake-files.js";
import { Listener, type Notification } from "./listener.js";
import { MappedRegions } from "./mapped-regions.js";
import { Tasks } from "./tasks.js";

/** Calls in one turn of the event loop, so that timers and streams have their turns too. */
const MOST_CALLS = 64;
/** The next call often follows at once: waiting for it here, in nanoseconds, is quicker than through the event loop. */
const LINGER = 50_000;

export interface ServerOptions {
  /** Descriptor of the listener; it is closed in the end. */
  readonly listener: number;
  /** Where to say which call is being served: whoever comes after us answers it. */
  readonly serving: BigUint64Array;
  readonly sysfs: string | undefined;
  readonly warn: (text: string) => void;
}

export class SeccompServer {
  readonly #epoll = new Epoll();
  readonly #listener: Listener;
  readonly #serving: BigUint64Array;
  readonly #services: Services;
  readonly #unwatch: () => void;

  constructor(door: Door, { listener, serving, sysfs, warn }: ServerOptions) {
    this.#listener = new Listener(listener);
    this.#serving = serving;
    const tasks = new Tasks(door, this.#epoll);
    this.#services = {
      door, sysfs, warn, tasks,
      listener: this.#listener,
      fakes: new FakeFiles(door.files, this.#epoll, tasks, this.#listener),
      regions: new MappedRegions(door, this.#epoll),
    };
    this.#epoll.add(listener, EPOLLIN);
    this.#unwatch = watch(this.#epoll.fd, () => this.#pump());
  }

  close(): void {
    this.#unwatch();
    const { fakes, regions, tasks } = this.#services;
    fakes.close();
    regions.close();
    tasks.close();
    closeSync(this.#epoll.fd);
    closeSync(this.#listener.fd);
  }

  /** Between taking a call and serving it, look what has ended: a file that was closed before the call is released before it. */
  #pump(): void {
    let waiting = this.#poll(0);
    for (let served = 0; waiting && served < MOST_CALLS; served++) {
      const notification = this.#listener.receive();
      waiting = this.#poll(0);
      if (notification) this.#serve(notification);
      if (!waiting) waiting = this.#poll(LINGER);
    }
  }

  /** Deals with everything that has ended; true when a call waits. */
  #poll(nanoseconds: number): boolean {
    for (;;) {
      const ready = this.#epoll.ready(nanoseconds);
      let waiting = false;
      for (const { fd, events } of ready) {
        if (fd === this.#listener.fd) waiting = (events & EPOLLIN) !== 0;
        else if (!this.#services.fakes.hungUp(fd) && !this.#services.regions.changed(fd)) this.#services.tasks.ended(fd);
      }
      if (ready.length < MOST_READY) return waiting;
    }
  }

  #serve(notification: Notification): void {
    const { id } = notification;
    this.#serving[0] = id;
    const outcome = attempt<Outcome>(() => CALLS.get(notification.nr)?.(new Call(this.#services, notification)) ?? "proceed");
    if (outcome === "proceed") this.#listener.proceed(id);
    else if (outcome !== "answered") this.#listener.answer(id, outcome);
    this.#services.door.files.showReadable();
  }
}
