/** One system call of a client, and how it may end. */
import { readlinkSync } from "node:fs";
import type { Door } from "../door.js";
import { type ServedFile, socketInode } from "../open-files.js";
import type { FakeFiles } from "./fake-files.js";
import type { Listener, Notification } from "./listener.js";
import type { MappedRegions } from "./mapped-regions.js";
import { CallMemory } from "./remote-memory.js";
import type { Task, Tasks } from "./tasks.js";

/** A result or negative errno; or the call takes its ordinary way; or it has been answered already. */
export type Outcome = number | "proceed" | "answered";

/** What answering calls takes. */
export interface Services {
  readonly door: Door;
  readonly listener: Listener;
  readonly tasks: Tasks;
  readonly fakes: FakeFiles;
  readonly regions: MappedRegions;
  /** Folder with the tree in the place of /sys. */
  readonly sysfs: string | undefined;
  readonly warn: (text: string) => void;
}

export class Call {
  readonly id: bigint;
  readonly tid: number;
  readonly notification: Notification;
  readonly services: Services;
  #task: Task | undefined;

  constructor(services: Services, notification: Notification) {
    this.services = services;
    this.notification = notification;
    this.id = notification.id;
    this.tid = notification.tid;
  }

  /** An argument as the register has it. */
  word(index: number): bigint {
    return this.notification.word(index);
  }

  /** An argument of type int. */
  int(index: number): number {
    return this.notification.int(index);
  }

  /** @throws IommuError EFAULT when the thread has died */
  get task(): Task {
    this.#task ??= this.services.tasks.of(this.tid);
    return this.#task;
  }

  get memory(): CallMemory {
    return new CallMemory(this.services.listener, this.id, this.tid);
  }

  /** The open file of ours behind a descriptor of the client. */
  served(fd: number): ServedFile | undefined {
    const { door, tasks } = this.services;
    this.#task ??= tasks.known(this.tid);
    // The slow way is for those who have only inherited one, and for processes whose first thread has ended.
    const inode = this.#task?.socketInode(fd) ?? this.#socketInode(fd);
    return inode === undefined ? undefined : door.files.get(inode);
  }

  #socketInode(fd: number): bigint | undefined {
    try {
      return socketInode(readlinkSync(`/proc/${this.tid}/fd/${fd}`));
    } catch {
      return undefined;
    }
  }
}
