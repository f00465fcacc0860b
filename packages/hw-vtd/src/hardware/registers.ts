/** The registers that a unit has, by its capabilities. */
import type { Capabilities } from "../spec/capabilities.js";
import { placedRegisters, Reg, type Register, REGISTERS, type RegisterNeed, Rtaddr } from "../spec/registers.js";

export function registersOf(caps: Capabilities): Register[] {
  const has: Readonly<Record<RegisterNeed, boolean>> = {
    QI: caps.queuedInvalidation,
    IR: caps.interruptRemapping,
    PRS: caps.pageRequests,
    PLMR: caps.protectedLow,
    PHMR: caps.protectedHigh,
    PMR: caps.protectedLow || caps.protectedHigh,
    EIM: caps.extendedInterrupts,
    "QI+EIM": caps.queuedInvalidation && caps.extendedInterrupts,
    "PRS+EIM": caps.pageRequests && caps.extendedInterrupts,
  };
  const rows = REGISTERS.filter((row) => row.needs === undefined || has[row.needs]);
  return [...rows.map((row) => adapted(row, caps)), ...placedRegisters(caps.iotlbOffset, caps.faultRecordOffset, caps.faultRecords)];
}

/** Bits of a register that exist with a capability only, or end at the host address width. */
function adapted(row: Register, caps: Capabilities): Register {
  if (row.offset === Reg.RTADDR && caps.secondStageIoRights) return { ...row, writable: row.writable | BigInt(Rtaddr.SSIRWE) };
  if (row.offset === Reg.IRTA && !caps.extendedInterrupts) return { ...row, writable: row.writable & ~0x800n };
  if (row.offset === Reg.PHMBASE || row.offset === Reg.PHMLIMIT) return { ...row, writable: row.writable & ((1n << BigInt(caps.haw)) - 1n) };
  return row;
}
