/**
 * First-stage and second-stage paging entries (VT-d 9.7, 9.8) as formats of the
 * page-table engine.
 *
 * | level | first stage | second stage |
 * | --- | --- | --- |
 * | 4 | PML5E | SS-PML5E |
 * | 3 | PML4E | SS-PML4E |
 * | 2 | PDPE | SS-PDPE |
 * | 1 | PDE | SS-PDE |
 * | 0 | PTE | SS-PTE |
 */
import { createFormat, type PageTableFormat } from "@iommukit/core";
import type { Capabilities } from "./capabilities.js";

/** Bits of a first-stage entry (9.7). */
export const FirstStage = { P: 1, RW: 2, US: 4, A: 0x20, D: 0x40, PS: 0x80, EA: 0x400 } as const;
/** Bits of a second-stage entry (9.8). */
export const SecondStage = { R: 1, W: 2, PS: 0x80, A: 0x100, D: 0x200, SNP: 0x800, /** IR and IW, in the high word. */ IO_HI: 0x6000_0000 } as const;

/** The manual's name of an entry at `level`. */
export function entryName(firstStage: boolean, level: number): string {
  const name = ["PTE", "PDE", "PDPE", "PML4E", "PML5E"][level];
  return firstStage ? `FS-${name}` : `SS-${name}`;
}

const range = (high: number, low: number): bigint => high < low ? 0n : ((1n << BigInt(high - low + 1)) - 1n) << BigInt(low);

/** First stage, 4 or 5 levels: the walker starts at level 3 or 4. */
export function firstStageFormat(capabilities: Capabilities): PageTableFormat {
  return createFormat({
    name: "VT-d first stage",
    maxLevel: 4,
    presentMask: FirstStage.P,
    leafMask: FirstStage.PS,
    leafValue: FirstStage.PS,
    leafLevels: capabilities.firstStage1G ? [1, 2] : [1],
    addressWidth: 52,
    reserved: (level, leaf) => {
      const tooWide = range(51, capabilities.haw);
      if (level === 0) return tooWide;
      // Bit 12 of a large leaf is PAT, the address bits above it must be 0.
      return leaf ? tooWide | range(11 + level * 9, 13) : tooWide | BigInt(FirstStage.PS);
    },
    // Accessed already, so that a walk has nothing to write.
    tableLo: FirstStage.P | FirstStage.RW | FirstStage.US | FirstStage.A,
    blockLo: FirstStage.PS,
  });
}

/** Second stage, 3 to 5 levels. With `io` (SSIRWE), read and write are bits 61 and 62, and bits 1:0 are ignored. */
export function secondStageFormat(capabilities: Capabilities, io = false): PageTableFormat {
  const leafLevels = [1, 2].filter((level) => (capabilities.secondStageLargePages >> (level - 1)) & 1);
  return createFormat({
    name: "VT-d second stage",
    maxLevel: 4,
    presentMask: io ? 0 : SecondStage.R | SecondStage.W,
    presentHi: io ? SecondStage.IO_HI : 0,
    leafMask: SecondStage.PS,
    leafValue: SecondStage.PS,
    leafLevels,
    addressWidth: 52,
    reserved: (level, leaf) => {
      // Without SSIRWE bit 62 is reserved, and bit 61 ignored.
      const always = range(51, capabilities.haw) | (io ? 0n : 1n << 62n);
      const snoop = capabilities.snoopControl ? 0n : BigInt(SecondStage.SNP);
      if (!leaf) return always | BigInt(SecondStage.PS) | BigInt(SecondStage.SNP);
      return level === 0 ? always | snoop : always | snoop | range(11 + level * 9, 12);
    },
    tableLo: SecondStage.R | SecondStage.W,
    blockLo: SecondStage.PS,
  });
}
