/** Bus mastering: what a function does not send while it is off (PCI 3.0, 6.2.2). */
import { type AtsPort, CompletionStatus } from "./ats.js";
import type { WaitingPort } from "./stalls.js";
import type { DmaOptions, DmaPort, DmaResult } from "./types.js";

export function gatedPort(port: DmaPort, allowed: () => boolean): DmaPort {
  const transfer =
    (move: (address: bigint, bytes: Uint8Array, options?: DmaOptions) => DmaResult) =>
    (address: bigint, bytes: Uint8Array, options?: DmaOptions): DmaResult =>
      allowed() ? move(address, bytes, options) : { ok: false, moved: 0 };
  const { ats, openWaiting } = port;
  return {
    rid: port.rid,
    read: transfer(port.read),
    write: transfer(port.write),
    interrupt: (address, data) => allowed() && port.interrupt(address, data),
    ...(ats ? { ats: gatedAts(ats, allowed) } : {}),
    ...(openWaiting ? { openWaiting: () => gatedWaiting(openWaiting(), allowed) } : {}),
  };
}

/** What was sent before goes on. */
function gatedWaiting(port: WaitingPort, allowed: () => boolean): WaitingPort {
  return {
    access: (direction, address, bytes, options, done) => {
      if (allowed()) return port.access(direction, address, bytes, options, done);
      done(false);
      return () => undefined;
    },
  };
}

/** Translation requests and accesses are memory requests, which wait for bus mastering; page requests and completions are messages, which do not. */
function gatedAts(ats: AtsPort, allowed: () => boolean): AtsPort {
  return {
    ...ats,
    translate: (pasid, page, access, out) => {
      if (allowed()) ats.translate(pasid, page, access, out);
      else out.status = CompletionStatus.COMPLETER_ABORT;
    },
    access: (pasid, address, bytes, access) => allowed() && ats.access(pasid, address, bytes, access),
  };
}
