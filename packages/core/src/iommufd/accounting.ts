/** Who pays for pinned pages (iommufd facts, 3.7). */
import { refuse } from "../errors.js";
import type { CallContext, UserMemory } from "../files/types.js";

/** 0: pages locked by the user, over all processes; 1: by the process. */
export const RlimitMode = { USER: 0, MM: 1 } as const;

/** The process that mapped: whose memory, whose limit, whose counters. */
export interface Payer {
  readonly memory: UserMemory;
  readonly user: { locked: number };
  /** RLIMIT_MEMLOCK in bytes, as it is now. */
  readonly limit: () => bigint;
}

export function payerOf(call: CallContext): Payer {
  return { memory: call.process, user: call.user, limit: () => call.memlockLimit };
}

/** @param mode `RlimitMode` */
function modeOf(call: CallContext, mode: number): "none" | "user" | "mm" {
  if (call.capabilities.has("IPC_LOCK")) return "none";
  return mode === RlimitMode.MM ? "mm" : "user";
}

export class Account {
  payer: Payer;
  readonly mode: "none" | "user" | "mm";

  constructor(call: CallContext, mode: number) {
    this.payer = payerOf(call);
    this.mode = modeOf(call, mode);
  }

  /** Would a new account for this call be the same? */
  isOf(call: CallContext, mode: number): boolean {
    return this.payer.memory === call.process && this.payer.user === call.user && this.mode === modeOf(call, mode);
  }

  /** @throws IommuError ENOMEM above the limit, EINVAL when the process that should pay is gone */
  charge(pages: number): void {
    this.#lock(this.payer, pages);
    this.payer.memory.counters.pinned += pages;
  }

  refund(pages: number): void {
    this.#unlock(this.payer, pages);
    this.payer.memory.counters.pinned -= pages;
  }

  /** CHANGE_PROCESS, first half: the new process pays too. @throws IommuError ENOMEM */
  lockFor(payer: Payer, pages: number): void {
    this.#lock(payer, pages);
  }

  unlockFor(payer: Payer, pages: number): void {
    this.#unlock(payer, pages);
  }

  #lock(payer: Payer, pages: number): void {
    if (this.mode === "none") return;
    if (this.mode === "mm" && !payer.memory.alive) refuse("EINVAL", "the process that should pay for the pages is gone", { rule: "RLIMIT_MEMLOCK of the process that mapped" });
    const counter = this.mode === "user" ? payer.user : payer.memory.counters;
    const limit = payer.limit() / 4096n;
    if (BigInt(counter.locked + pages) > limit) {
      refuse("ENOMEM", `${pages} more locked pages, with ${counter.locked} locked, are more than RLIMIT_MEMLOCK allows (${limit})`, { rule: "RLIMIT_MEMLOCK" });
    }
    counter.locked += pages;
  }

  #unlock(payer: Payer, pages: number): void {
    if (this.mode === "user") payer.user.locked -= pages;
    else if (this.mode === "mm") payer.memory.counters.locked -= pages;
  }
}
