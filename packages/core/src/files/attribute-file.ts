/** An attribute of /sys while a program has it open for writing: each write is taken whole, and is carried out at once. */
import { refuse } from "../errors.js";
import type { CallContext, KernelFile, SysfsAttribute } from "./types.js";

/** sysfs hands over no more than a page. */
const LIMIT = 4096;

export class AttributeFile implements KernelFile {
  readonly path: string;
  readonly #attribute: SysfsAttribute;
  readonly #present: () => boolean;

  /** @param present it is still there */
  constructor(attribute: SysfsAttribute, present: () => boolean) {
    this.path = attribute.path;
    this.#attribute = attribute;
    this.#present = present;
  }

  ioctl(): number {
    return refuse("ENOTTY", `${this.path} takes no ioctl`, { argument: "request" });
  }

  read(): number {
    return refuse("EIO", `${this.path} can only be written`, { argument: "fd" });
  }

  write(_context: CallContext, source: Uint8Array): number {
    if (!this.#present()) refuse("ENODEV", `${this.path} is gone`, { argument: "fd" });
    const taken = source.subarray(0, LIMIT);
    this.#attribute.store(new TextDecoder("latin1").decode(taken));
    return taken.length;
  }

  /** Wherever it is written, the text is the value. */
  pwrite(context: CallContext, _position: bigint, source: Uint8Array): number {
    return this.write(context, source);
  }

  release(): void {
    // Nothing is kept between writes.
  }
}
