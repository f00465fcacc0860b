/** Eventfds of simulated processes. */
import { refuse } from "../errors.js";
import type { EventFile } from "./types.js";

/** eventfd(0, EFD_NONBLOCK) of a process inside this one. */
export class SimulatedEventfd implements EventFile {
  readonly kind = "event";
  count = 0;
  readonly #watchers = new Set<() => void>();

  signal(): void {
    this.count++;
    this.#wake();
  }

  watch(run: () => void): () => void {
    this.#watchers.add(run);
    this.#wake();
    return () => this.#watchers.delete(run);
  }

  /** @throws IommuError EINVAL below 8 bytes and for 2^64 - 1 */
  write(source: Uint8Array): number {
    if (source.length < 8) refuse("EINVAL", `count ${source.length} is below 8`, { argument: "count" });
    const add = new DataView(source.buffer, source.byteOffset).getBigUint64(0, true);
    if (add === 0xffff_ffff_ffff_ffffn) refuse("EINVAL", "the value is 2^64 - 1, which a counter cannot take", { argument: "value" });
    this.count += Number(add);
    this.#wake();
    return 8;
  }

  /** The first who waits takes the count. */
  #wake(): void {
    const [run] = this.#watchers;
    if (run === undefined || this.count === 0) return;
    this.count = 0;
    run();
  }

  /** @throws IommuError EAGAIN when nothing was signalled */
  read(target: Uint8Array): number {
    if (this.count === 0) refuse("EAGAIN", "the count is 0: nothing was signalled", { rule: "eventfd(2)" });
    new DataView(target.buffer, target.byteOffset).setBigUint64(0, BigInt(this.count), true);
    this.count = 0;
    return 8;
  }
}
