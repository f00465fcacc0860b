/** The unit's own interrupts (VT-d 7.3, 7.4): control, data, address and upper address lie side by side, whatever the event. */
import type { Deferred, DriverParts } from "@iommukit/core";
import type { RegisterAccess } from "./registers.js";

/** Has an event's interrupt call `handler`, and unmasks it. @param control offset of xECTL */
export function listen(registers: RegisterAccess, control: number, interrupts: DriverParts["interrupts"], deferred: Deferred, handler: () => void): void {
  const { address, data } = interrupts.allocate(() => deferred.interrupt(handler));
  registers.write(control + 4, 4, BigInt(data));
  registers.write(control + 8, 4, address & 0xffff_ffffn);
  registers.write(control + 12, 4, address >> 32n);
  registers.write(control, 4, 0n);
}
