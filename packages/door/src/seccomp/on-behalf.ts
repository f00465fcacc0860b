/** What this process does in a client's place. */
import { closeSync } from "node:fs";
import { SystemError } from "../system.js";
import type { Call, Outcome } from "./call.js";
import { errnoOf } from "./listener.js";

const EIO = 5;

/** Runs what Node or libc does for the client; its failure is the client's. */
export function onBehalf(run: () => Outcome): Outcome {
  try {
    return run();
  } catch (error) {
    const code = error instanceof SystemError ? -error.errno : (error as NodeJS.ErrnoException).errno;
    if (code === undefined) throw error;
    return code;
  }
}

/** Hands over a descriptor of this process, which is closed here. */
export function handOver(call: Call, fd: number, closeOnExec: boolean): Outcome {
  try {
    call.services.listener.addDescriptor(call.id, { fd, closeOnExec, answer: true });
    return "answered";
  } catch (error) {
    return -(errnoOf(error) ?? EIO);
  } finally {
    closeSync(fd);
  }
}
