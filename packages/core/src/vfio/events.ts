/** Eventfds that a client hands to a device. */
import { refuse } from "../errors.js";
import type { CallContext, EventFile } from "../files/types.js";

/** @throws IommuError EBADF, EINVAL for what is no eventfd */
export function eventFile(call: CallContext, fd: number, argument: string): EventFile {
  const file = call.file(fd);
  return file?.kind === "event" ? file : refuse("EINVAL", `descriptor ${fd} is not an eventfd`, { argument });
}

/** Calls `run` whenever somebody signals the eventfd; returns what ends it. @throws IommuError EOPNOTSUPP where nobody can wait for it */
export function watchEvent(event: EventFile, run: () => void): () => void {
  if (event.watch === undefined) {
    event.close?.();
    return refuse("EOPNOTSUPP", "this door cannot wait for an eventfd", { argument: "fd" });
  }
  const end = event.watch(run);
  return () => {
    end();
    event.close?.();
  };
}
