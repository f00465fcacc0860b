/** Host permission tables (VT-d 3.12, 9.9): what translated requests may reach. Not cached: there is nothing to invalidate. */
import { Access, type PhysicalMemory } from "@iommukit/core";
import type { Capabilities } from "../spec/capabilities.js";
import { faultIndex } from "../spec/faults.js";
import { type Configuration, NONE } from "./configuration.js";

const F = {
  SPT9: faultIndex("SPT.9"), HPT1: faultIndex("HPT.1"), HPT2: faultIndex("HPT.2"), HPT3: faultIndex("HPT.3"), HPT4: faultIndex("HPT.4"),
  HPT5: faultIndex("HPT.5"), HPT6: faultIndex("HPT.6"),
} as const;

interface Level {
  /** log2 of the pages that one entry covers, and that one permission of it does. */
  readonly entry: number;
  readonly permission: number;
  /** Permissions of four bits, from bit 0 on. */
  readonly permissions: number;
  /** Entries below the top come 256 to a table. */
  readonly indexMask: number;
}

/** Permissions: R, W, and two reserved bits each. */
const PERMISSION_RESERVED = 0xcccc_cccc | 0;

export class HostPermissions {
  readonly #memory: PhysicalMemory;
  readonly #caps: Capabilities;
  readonly #levels: readonly Level[];
  readonly #words = new Int32Array(4);

  constructor(memory: PhysicalMemory, caps: Capabilities) {
    this.#memory = memory;
    this.#caps = caps;
    this.#levels = [
      { entry: 29, permission: 0, permissions: 0, indexMask: 0x7ff },
      { entry: 21, permission: 18, permissions: caps.hostPermission1G ? 8 : 0, indexMask: 255 },
      { entry: 13, permission: 9, permissions: 16, indexMask: 255 },
      { entry: 5, permission: 0, permissions: 32, indexMask: 255 },
    ];
  }

  /** Whether a translated request may reach `page`: NONE or a fault condition. */
  check(c: Configuration, page: number, access: number): number {
    if (page >= 2 ** (c.hostBits - 12)) return F.SPT9;
    let table = c.hostTable;
    for (const level of this.#levels) {
      const index = Math.floor(page / 2 ** level.entry) & level.indexMask;
      if (!this.#load(table + index * 16)) return level === this.#levels[0] ? F.HPT3 : F.HPT1;
      if (this.#hasReserved(level)) return F.HPT2;
      const rights = this.#rights(level, page);
      const valid = level.permissions < 32 && (this.#words[2] & 1) !== 0;
      if (rights !== 0 || !valid) return this.#judge(rights, access);
      table = (this.#words[3] >>> 0) * 0x1_0000_0000 + ((this.#words[2] & ~0xfff) >>> 0);
    }
    return NONE;
  }

  #judge(rights: number, access: number): number {
    if ((access & Access.ZERO_LENGTH) !== 0 && this.#caps.zeroLengthRead) return rights === 0 ? F.HPT4 : NONE;
    if ((access & Access.WRITE) !== 0 && (rights & 2) === 0) return F.HPT5;
    return (access & Access.READ) !== 0 && (rights & 1) === 0 ? F.HPT6 : NONE;
  }

  /** The permission of `page` in the entry, 0 when it has none. */
  #rights(level: Level, page: number): number {
    if (level.permissions === 0) return 0;
    const place = Math.floor(page / 2 ** level.permission) % level.permissions;
    return (this.#words[place >> 3] >>> ((place & 7) * 4)) & 3;
  }

  #hasReserved(level: Level): boolean {
    const permissionWords = level.permissions / 8;
    for (let i = 0; i < (level.permissions === 32 ? 4 : 2); i++) {
      if ((this.#words[i] & (i < permissionWords ? PERMISSION_RESERVED : -1)) !== 0) return true;
    }
    if (level.permissions === 32) return false;
    return (this.#words[2] & 0xffe) !== 0 || Math.floor((this.#words[3] >>> 0) / 2 ** (this.#caps.haw - 32)) !== 0;
  }

  #load(pa: number): boolean {
    for (let i = 0; i < 4; i += 2) {
      if (!this.#memory.load64(pa + i * 4)) return false;
      this.#words[i] = this.#memory.lo;
      this.#words[i + 1] = this.#memory.hi;
    }
    return true;
  }
}
