/** A unit as a dump shows it: its registers, and memory to read. */
import type { TableSource } from "@iommukit/core";
import { type Capabilities, readCapabilities } from "../spec/capabilities.js";
import type { UnitRules } from "../spec/conditions.js";

export interface Unit extends UnitRules {
  readonly caps: Capabilities;
  readonly source: TableSource;
  readonly rootTable: number;
  /** RTADDR.TTM */
  readonly mode: number;
  readonly ssirwe: boolean;
  /**
   * What the manual calls a fault, but real systems live with, is a fault: AW in first-stage and pass-through entries of a unit
   * without second stage, and accessed or dirty flags to be set by a walk that is not snooped. QEMU's first-stage units have both.
   */
  readonly strict: boolean;
}

/** Host address width is not in a register; without it no pointer bit below 52 is called reserved. */
export const UNKNOWN_HAW = 52;
const UNKNOWN_VERSION = 0x10n;

/** @throws RangeError when a register is missing */
export function readUnit(source: TableSource): Unit {
  const word = (name: string): bigint => {
    const value = source.registers[name];
    if (value === undefined) throw new RangeError(`register ${name} is not given; VT-d tables need RTADDR, CAP and ECAP`);
    return value;
  };
  const root = word("RTADDR");
  const caps = unitCapabilities({ ...source.registers, CAP: word("CAP"), ECAP: word("ECAP") });
  return {
    caps,
    source,
    rootTable: Number(root >> 12n) * 4096,
    mode: Number((root >> 10n) & 3n),
    // A reserved bit that stays 0 where the unit lacks it.
    ssirwe: caps.secondStageIoRights && (root & 0x80n) !== 0n,
    strict: (source.registers.STRICT ?? 0n) !== 0n,
  };
}

/** @throws RangeError for a host address width that is none */
export function unitCapabilities(registers: Readonly<Record<string, bigint>>): Capabilities {
  const haw = Number(registers.HAW ?? BigInt(UNKNOWN_HAW));
  if (haw < 32 || haw > 52) throw new RangeError(`HAW is ${haw}: a host address has 32 to 52 bits`);
  return readCapabilities(Number((registers.VER ?? UNKNOWN_VERSION) & 0xffn), registers.CAP ?? 0n, registers.ECAP ?? 0n, haw);
}
