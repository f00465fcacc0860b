/**
 * The interrupt controller of a machine, as far as an IOMMU needs one: messages are writes of a word to an address, and a
 * handler waits for each. What an address looks like is the platform's business: x86's 0xFEExxxxx with a vector in the data
 * (Intel SDM 3A, 11.11), as every unit here programs it.
 */
import { refuse } from "../errors.js";

export interface InterruptMessage {
  readonly address: bigint;
  readonly data: number;
}

/** First and last vector that is free for devices (SDM 3A, 6.2). */
const FIRST_VECTOR = 0x30;
const LAST_VECTOR = 0xef;
const BASE = 0xfee0_0000n;
/** APIC ids go up to 0xfe; 0xff is the broadcast. */
const PROCESSORS = 255;

export class InterruptController {
  readonly #handlers = new Map<string, () => void>();
  #next = 0;

  /** A message for `handler` alone. @throws IommuError ENOSPC when every vector of every processor is taken */
  allocate(handler: () => void): InterruptMessage {
    const vectors = LAST_VECTOR - FIRST_VECTOR + 1;
    const places = vectors * PROCESSORS;
    for (let tried = 0; tried < places; tried++) {
      const place = (this.#next + tried) % places;
      const message = { address: BASE | (BigInt(Math.floor(place / vectors)) << 12n), data: FIRST_VECTOR + (place % vectors) };
      if (this.#handlers.has(key(message.address, message.data))) continue;
      this.#handlers.set(key(message.address, message.data), handler);
      this.#next = place + 1;
      return message;
    }
    return refuse("ENOSPC", `all ${places} interrupt vectors are taken`, { rule: "Intel SDM 3A 6.2" });
  }

  free(message: InterruptMessage): void {
    this.#handlers.delete(key(message.address, message.data));
  }

  /** A message arrives. False when nobody waits for it: it is lost, as on a real machine. */
  deliver(address: bigint, data: number): boolean {
    const handler = this.#handlers.get(key(address, data));
    handler?.();
    return handler !== undefined;
  }
}

/** Only destination and vector count: delivery mode and redirection hint change who is interrupted, not what for. */
function key(address: bigint, data: number): string {
  return `${(address >> 12n).toString(16)} ${data & 0xff}`;
}
