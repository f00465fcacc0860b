/**
 * Descriptors of this process that calls on one open file took from clients: files of memory, eventfds. They end with that file
 * at the latest; what its object forgot before goes with the garbage collector.
 */
import { closeSync } from "node:fs";

/** Closed once, by whoever comes first. */
export class OwnedDescriptor {
  readonly fd: number;
  readonly #closed: (owned: OwnedDescriptor) => void;
  #open = true;

  constructor(fd: number, closed: (owned: OwnedDescriptor) => void) {
    this.fd = fd;
    this.#closed = closed;
  }

  /** False: the number may be another file's by now. */
  get isOpen(): boolean {
    return this.#open;
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    closeSync(this.fd);
    this.#closed(this);
  }
}

const forgotten = new FinalizationRegistry<OwnedDescriptor>((owned) => owned.close());

export class HeldDescriptors {
  readonly #owned = new Set<OwnedDescriptor>();
  /** Memory files by identity: mapping one again takes no further descriptor. */
  readonly #byIdentity = new Map<string, WeakRef<object>>();

  /** @param holder as long as it is reachable the descriptor is open */
  own(fd: number, holder: object): OwnedDescriptor {
    const owned = new OwnedDescriptor(fd, (closed) => this.#owned.delete(closed));
    this.#owned.add(owned);
    forgotten.register(holder, owned);
    return owned;
  }

  /** The holder of this identity, made when there is none. */
  shared<T extends object>(identity: string, make: () => T): T {
    const known = this.#byIdentity.get(identity)?.deref() as T | undefined;
    if (known !== undefined) return known;
    const made = make();
    for (const [key, holder] of this.#byIdentity) if (holder.deref() === undefined) this.#byIdentity.delete(key);
    this.#byIdentity.set(identity, new WeakRef(made));
    return made;
  }

  close(): void {
    for (const owned of this.#owned) owned.close();
  }
}
