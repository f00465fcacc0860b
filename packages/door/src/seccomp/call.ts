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
  readonly nr: number;
  readonly instruction: bigint;
  readonly args: readonly bigint[];
  readonly services: Services;
  #task: Task | undefined;

  constructor(services: Services, { id, tid, nr, instruction, args }: Notification) {
    this.services = services;
    this.id = id;
    this.tid = tid;
    this.nr = nr;
    this.instruction = instruction;
    this.args = args;
  }

  /** An argument of type int. */
  int(index: number): number {
    return Number(BigInt.asIntN(32, this.args[index]));
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
    try {
      const inode = socketInode(readlinkSync(`/proc/${this.tid}/fd/${fd}`));
      return inode === undefined ? undefined : this.services.door.files.get(inode);
    } catch {
      return undefined;
    }
  }
}
