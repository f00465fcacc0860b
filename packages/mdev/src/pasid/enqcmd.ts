/**
 * ENQCMD and ENQCMDS as a CPU runs them (Intel ISE reference, "Enqueue Stores"): 64 bytes go to a portal as a deferrable write, and the
 * CPU supplies the PASID. In a virtual machine the PASID is translated, and one without a translation leaves the machine.
 */

/** Where the 64 bytes go; false: retry. */
export type Portal = (command: Uint8Array) => boolean;

/** A guest's PASID to the host's, or undefined. */
export type GuestTranslation = (guest: number) => number | undefined;

export interface Cpu {
  /** IA32_PASID: bits 19:0, and bit 31 that says they mean something. */
  readonly ia32Pasid: number;
  /** In a virtual machine with PASID translation. */
  readonly translation?: GuestTranslation;
}

export type EnqueueOutcome =
  /** ZF = 0. */
  | { readonly kind: "accepted" }
  /** ZF = 1. */
  | { readonly kind: "retry" }
  /** #GP(0): nothing was sent. */
  | { readonly kind: "general-protection"; readonly reason: string }
  /** VM exit 72 (ENQCMD) or 73 (ENQCMDS): the guest's PASID has no translation, nothing was sent. */
  | { readonly kind: "vm-exit"; readonly exit: 72 | 73; readonly guestPasid: number };

const MSR_VALID = 0x8000_0000;
const PASID = 0xf_ffff;
const RESERVED = 0x7ff0_0000;
const PRIVILEGED = 0x8000_0000;
const COMMAND_BYTES = 64;

/** ENQCMD: any privilege. The PASID is IA32_PASID's, the command's own and its privilege bit are overwritten. */
export function enqcmd(cpu: Cpu, command: Uint8Array, portal: Portal): EnqueueOutcome {
  if (cpu.ia32Pasid >>> 0 < MSR_VALID) return { kind: "general-protection", reason: "IA32_PASID is not valid" };
  return send(cpu, command, cpu.ia32Pasid & PASID, 0, 72, portal);
}

/** ENQCMDS: ring 0. PASID and privilege bit are the command's. */
export function enqcmds(cpu: Cpu, command: Uint8Array, portal: Portal): EnqueueOutcome {
  const word = new DataView(command.buffer, command.byteOffset, COMMAND_BYTES).getUint32(0, true);
  if ((word & RESERVED) !== 0) return { kind: "general-protection", reason: "bits 30:20 of the command are not 0" };
  return send(cpu, command, word & PASID, word & PRIVILEGED, 73, portal);
}

function send(cpu: Cpu, command: Uint8Array, pasid: number, privileged: number, exit: 72 | 73, portal: Portal): EnqueueOutcome {
  const host = cpu.translation ? cpu.translation(pasid) : pasid;
  if (host === undefined) return { kind: "vm-exit", exit, guestPasid: pasid };
  const sent = command.slice(0, COMMAND_BYTES);
  new DataView(sent.buffer).setUint32(0, (host | privileged) >>> 0, true);
  return { kind: portal(sent) ? "accepted" : "retry" };
}
