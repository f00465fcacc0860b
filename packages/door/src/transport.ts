/** How calls of a program reach the door. */
import type { Readable } from "node:stream";

export interface LaunchOptions {
  /** Full path. */
  readonly program: string;
  readonly argv0: string;
  readonly args: readonly string[];
  readonly env: NodeJS.ProcessEnv;
  /** Standard output and error come to us, not to this process's own. */
  readonly piped: boolean;
  /** Folder with the tree that the program sees in the place of /sys. */
  readonly sysfs: string | undefined;
  readonly warn: (text: string) => void;
}

/** A program that runs. */
export interface Launched {
  readonly outputs: readonly (Readable | null)[];
  /** Its exit code, 128 + n when signal n ended it; rejected when it cannot be executed. */
  readonly exit: Promise<number>;
  kill(signal: NodeJS.Signals): void;
}

export interface Transport {
  /** @throws Error when the system does not allow it */
  launch(options: LaunchOptions): Promise<Launched>;
  /** From now on calls of clients fail. */
  close(): Promise<void>;
}
