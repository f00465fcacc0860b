/**
 * The interrupt of one group of events (VT-d 7.3, 6.5.2.8, 7.4.1): a control register with its mask and pending bits, and the
 * message that the three registers behind it hold. Faults, completed invalidations and page requests have one each. Such a message is
 * never remapped (5.1.2).
 */
import type { RegisterBank } from "@iommukit/core";
import { EventControl } from "../spec/registers.js";

const IP = BigInt(EventControl.IP);

export class EventMessage {
  readonly #bank: RegisterBank;
  readonly #control: number;
  readonly #send: (address: bigint, data: number) => void;

  /** @param control offset of xECTL; xEDATA, xEADDR and xEUADDR follow it */
  constructor(bank: RegisterBank, control: number, send: (address: bigint, data: number) => void) {
    this.#bank = bank;
    this.#control = control;
    this.#send = send;
  }

  /** A condition came up while no other of the group stood: message now, or when it is unmasked. */
  raise(): void {
    this.#bank.set(this.#control, this.#bank.get(this.#control) | IP);
    this.deliver();
  }

  /** Sends the pending message if it is not masked. */
  deliver(): void {
    const control = this.#bank.get(this.#control);
    if ((control & IP) === 0n || (Number(BigInt.asIntN(32, control)) & EventControl.IM) !== 0) return;
    this.drop();
    const address = this.#bank.get(this.#control + 8) | (this.#bank.get(this.#control + 12) << 32n);
    this.#send(address, Number(this.#bank.get(this.#control + 4)));
  }

  /** Every condition of the group is gone before the message went. */
  drop(): void {
    this.#bank.set(this.#control, this.#bank.get(this.#control) & ~IP);
  }
}
