/**
 * GCMD and GSTS (VT-d 11.4.4): level bits take effect when they change, one-shot bits whenever they are written as 1. Drivers
 * write GSTS back with a bit added, so a command may carry one-shots that ran before; they run again.
 */
import type { RegisterBank } from "@iommukit/core";
import type { Capabilities } from "../spec/capabilities.js";
import { Gcmd, Reg } from "../spec/registers.js";

/** What a command does, each when its bit says so. */
export interface CommandEffects {
  latchRootTable(): void;
  latchInterruptTable(): void;
  translation(enabled: boolean): void;
  queue(enabled: boolean): void;
  interruptRemapping(enabled: boolean): void;
  compatibilityInterrupts(enabled: boolean): void;
}

/** One-shots first, so that what a level bit turns on finds its tables. */
export function globalCommand(bank: RegisterBank, caps: Capabilities, value: number, effects: CommandEffects): void {
  const before = Number(BigInt.asIntN(32, bank.get(Reg.GSTS)));
  let status = before;
  const level = (bit: number, effect: (enabled: boolean) => void): void => {
    if (((value ^ before) & bit) === 0) return;
    status ^= bit;
    bank.set(Reg.GSTS, BigInt(status >>> 0));
    effect((value & bit) !== 0);
  };
  const shot = (bit: number, effect: () => void): void => {
    if ((value & bit) === 0) return;
    effect();
    status |= bit;
    bank.set(Reg.GSTS, BigInt(status >>> 0));
  };
  shot(Gcmd.SRTP, () => effects.latchRootTable());
  if (caps.interruptRemapping) shot(Gcmd.SIRTP, () => effects.latchInterruptTable());
  // WBF: there is no write buffer to flush, so GSTS.WBFS, which is 1 during a flush, stays 0.
  if (caps.queuedInvalidation) level(Gcmd.QIE, (enabled) => effects.queue(enabled));
  level(Gcmd.TE, (enabled) => effects.translation(enabled));
  if (caps.interruptRemapping) {
    level(Gcmd.IRE, (enabled) => effects.interruptRemapping(enabled));
    level(Gcmd.CFI, (enabled) => effects.compatibilityInterrupts(enabled));
  }
}
