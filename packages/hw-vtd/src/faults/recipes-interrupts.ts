/** Interrupt remapping and posting (VT-d 5.1.4, 5.2). */
import type { Recipe } from "./recipe.js";
import { HOLE, INTERRUPT_INDEX } from "./scene.js";

const REMAPPED = { base: "interrupt" as const };
/** Address of a remappable message: bits 31:20, handle in 19:5, format in 4, SHV in 3 (5.1.2.2). */
const message = (handle: number, subhandleValid = 0): bigint => 0xfee0_0010n | BigInt(handle << 5) | BigInt(subhandleValid << 3);

export const INTERRUPT_RECIPES: readonly Recipe[] = [
  {
    ...REMAPPED, condition: "IRR.20", section: "5.1.4", request: { address: message(INTERRUPT_INDEX, 1), data: 0x1_0000 },
    why: "With SHV=1 the subhandle is data bits 15:0, and bits 31:16 must be 0.",
    cause: "A device that writes 32 bits of its own into the message.",
    mend: "Program MSI data with the subhandle alone.",
  },
  {
    ...REMAPPED, condition: "IRR.21", section: "5.1.4", request: { address: message(0x100) },
    why: "The index (handle, plus subhandle with SHV=1) is beyond the table: IRTA.S says 2^(S+1) entries.",
    cause: "A message that was programmed for another table, or before remapping was on.",
    mend: "Reprogram the device's MSI after the table is set up.",
  },
  {
    ...REMAPPED, condition: "IRR.22", section: "9.10", set: { IRTE: { P: 0n } },
    why: "The interrupt remapping table entry has P=0.",
    cause: "The interrupt was freed while the device still sends it.",
    mend: "Mask the interrupt in the device before its entry is freed.",
  },
  {
    ...REMAPPED, condition: "IRR.23", section: "5.1.4", registers: { IRTA: HOLE },
    why: "The interrupt remapping table lies where no memory answers.",
    cause: "IRTA was written with a virtual address, or the table was freed.",
    mend: "Write the table's physical address to IRTA, then set SIRTP and wait for IRTPS.",
  },
  {
    ...REMAPPED, condition: "IRR.24", section: "9.10", bits: { IRTE: [12] },
    why: "A reserved bit or value is set in the entry.",
    cause: "A posted entry (IM=1) on a unit without CAP.PI, an x2APIC destination with EIME=0, SVT=3.",
    mend: "Build the entry for the unit's capabilities and for IRTA.EIME.",
  },
  {
    ...REMAPPED, condition: "IRR.25", section: "5.1.2.1", request: { address: 0xfee0_0000n, data: 0x31 },
    why: "The message is in compatibility format (address bit 4 is 0), and CFIS=0 or EIME=1 blocks those.",
    cause: "An interrupt that was programmed before remapping was on: firmware's, an IOAPIC's, or a forged one.",
    mend: "Program every source in remappable format before IRE is set.",
  },
  {
    ...REMAPPED, condition: "IRR.26", section: "9.10", set: { IRTE: { SID: 0x1234n } },
    why: "The requester is not the one that SID, SQ and SVT of the entry allow.",
    cause: "A device behind a bridge sends with the bridge's id; or a device forges another one's interrupt.",
    mend: "Set SID to the id that arrives at the unit, or SVT=2 with the bus range of a bridge.",
  },
  {
    base: "posted interrupt", condition: "IRR.27", section: "5.2.3", set: { IRTE: { PDAL: HOLE << 6n } },
    why: "The posted interrupt descriptor lies where no memory answers.",
    cause: "A virtual CPU's descriptor was freed while an entry still pointed to it.",
    mend: "Change the entry and invalidate the interrupt entry cache first.",
  },
  {
    base: "posted interrupt", condition: "IRR.28", section: "9.12", bits: { descriptor: [258] },
    why: "A reserved bit is set in the posted interrupt descriptor.",
    cause: "The descriptor was not zeroed, or something else was written there.",
    mend: "Zero the 64 bytes before use.",
  },
  {
    ...REMAPPED, condition: "IRR.29", section: "3.14", request: { address: 0xfee0_0000n },
    why: "A read, an AtomicOp or a write that is no message went into the interrupt range without PASID.",
    cause: "An IOVA allocator that hands out FEE00000h to FEEFFFFFh, so that ordinary DMA goes there.",
    mend: "Reserve the range in IOVA space.",
  },
  {
    ...REMAPPED, condition: "IRR.2A", section: "5.1.4", ecap: { EIMER: 1n }, request: { address: message(INTERRUPT_INDEX) },
    why: "The unit requires extended interrupt mode (ECAP.EIMER=1), and IRTA.EIME=0.",
    cause: "Software that stays in xAPIC mode on such a unit.",
    mend: "Set IRTA.EIME.",
  },
  {
    ...REMAPPED, condition: "IRR.2B", section: "5.1.4", ecap: { IRREQ: 1n }, request: { address: message(INTERRUPT_INDEX) }, interruptsOff: true,
    why: "The unit requires interrupt remapping (ECAP.IRREQ=1), and IRES=0.",
    cause: "Remapping was turned off, or not yet turned on.",
    mend: "Set up the table and set IRE.",
  },
];
