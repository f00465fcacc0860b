/**
 * DMA of a device that can wait: a request that the IOMMU stalls goes on where it was once software has seen to it. A transfer that nothing
 * holds up ends before `transfer` returns.
 */
import type { WaitingPort } from "../bus/stalls.js";
import type { DmaOptions, DmaPort, DmaResult } from "../bus/types.js";

const PAGE = 4096n;

/** Where a transfer is. */
interface Transfer {
  readonly direction: "read" | "write";
  readonly address: bigint;
  readonly bytes: Uint8Array;
  readonly options: DmaOptions;
  readonly done: (result: DmaResult) => void;
  moved: number;
}

export class StallingDma {
  readonly #port: DmaPort;
  /** Undefined behind an IOMMU that refuses at once. */
  readonly #waiting: WaitingPort | undefined;
  /** Give up what is under way. */
  readonly #pending = new Map<Transfer, () => void>();

  constructor(port: DmaPort) {
    this.#port = port;
    this.#waiting = port.openWaiting?.();
  }

  /** Moves bytes to or from memory, page by page; `done` is called once, with what was moved before the first refusal. */
  transfer(direction: "read" | "write", address: bigint, bytes: Uint8Array, options: DmaOptions, done: (result: DmaResult) => void): void {
    if (this.#waiting === undefined || bytes.length === 0) done(this.#port[direction](address, bytes, options));
    else this.#advance({ direction, address, bytes, options, done, moved: 0 }, this.#waiting);
  }

  /** Forgets what is under way, as a reset does. */
  reset(): void {
    for (const giveUp of this.#pending.values()) giveUp();
    this.#pending.clear();
  }

  #advance(transfer: Transfer, port: WaitingPort): void {
    const { direction, bytes, options, done } = transfer;
    while (transfer.moved < bytes.length) {
      const address = BigInt.asUintN(64, transfer.address + BigInt(transfer.moved));
      const part = bytes.subarray(transfer.moved, transfer.moved + Math.min(bytes.length - transfer.moved, Number(PAGE - (address % PAGE))));
      let outcome: boolean | undefined;
      let waits = false;
      const giveUp = port.access(direction, address, part, options, (ok) => {
        outcome = ok;
        if (!waits) return;
        this.#pending.delete(transfer);
        if (ok) transfer.moved += part.length;
        if (ok) this.#advance(transfer, port);
        else done({ ok, moved: transfer.moved });
      });
      if (outcome === undefined) {
        waits = true;
        this.#pending.set(transfer, giveUp);
        return;
      }
      if (!outcome) return done({ ok: false, moved: transfer.moved });
      transfer.moved += part.length;
    }
    done({ ok: true, moved: transfer.moved });
  }
}
