/** A unit built from the identification registers of a recording, and how its fault record reads. */
import type { PhysicalMemory, ReplayUnit, ReplayUnitFactory } from "@iommukit/core";
import { Fsts, Reg } from "../spec/registers.js";
import { VtdUnit } from "./unit.js";

/** FRCD.F in the top dword. */
const F_BIT = 0x8000_0000n;

const NO_CACHE = { sets: 0, ways: 1 };

class VtdReplayUnit implements ReplayUnit {
  readonly hardware: VtdUnit;
  readonly #records: number;
  readonly #base: number;
  /** Records that were there before: F set and not cleared since. */
  readonly #seen = new Set<number>();

  constructor(memory: PhysicalMemory, version: number, cap: bigint, ecap: bigint, haw: number) {
    // The recorded unit keeps no tables, and recordings give one DID to different tables, which such a cache would mix up (6.2.5).
    const caches = { firstStageTables: NO_CACHE, secondStageTables: NO_CACHE };
    this.hardware = new VtdUnit(memory, { version, cap, ecap, haw, caches });
    this.#records = this.hardware.capabilities.faultRecords;
    this.#base = this.hardware.capabilities.faultRecordOffset;
  }

  read(offset: number, size: number): bigint {
    return this.hardware.read(offset, size);
  }

  write(offset: number, size: number, value: bigint): void {
    this.hardware.write(offset, size, value);
    for (const index of this.#seen) if (!this.#isValid(index)) this.#seen.delete(index);
  }

  clearFaults(): void {
    for (let index = 0; index < this.#records; index++) this.write(this.#base + index * 16 + 12, 4, F_BIT);
    this.write(Reg.FSTS, 4, BigInt(Fsts.PFO));
  }

  #isValid(index: number): boolean {
    return this.hardware.read(this.#base + index * 16 + 8, 8) >> 63n === 1n;
  }

  /** FRCD (VT-d 11.4.7.6). */
  takeFault(): Readonly<Record<string, string | boolean | number>> | undefined {
    for (let index = 0; index < this.#records; index++) {
      if (this.#seen.has(index) || !this.#isValid(index)) continue;
      this.#seen.add(index);
      const low = this.hardware.read(this.#base + index * 16, 8);
      const high = this.hardware.read(this.#base + index * 16 + 8, 8);
      const bit = (n: bigint): boolean => ((high >> n) & 1n) === 1n;
      return {
        reason: hex((high >> 32n) & 0xffn),
        address: hex(low & ~0xfffn),
        rid: hex(high & 0xffffn),
        write: !bit(62n),
        pasidPresent: bit(31n),
        pasid: hex((high >> 40n) & 0xfffffn),
        priv: bit(29n),
        exec: bit(30n),
      };
    }
    return undefined;
  }
}

const hex = (value: bigint): string => `0x${value.toString(16)}`;

export const vtdReplayUnitFactory: ReplayUnitFactory = {
  iommu: "vtd",
  create(memory, header) {
    const word = (name: string): bigint => {
      const text = header.registers[name];
      if (text === undefined) throw new RangeError(`the header gives no ${name}, which a VT-d unit is built from`);
      return BigInt(text);
    };
    return new VtdReplayUnit(memory, Number(word("VER")), word("CAP"), word("ECAP"), header.haw ?? 48);
  },
};
