import type { MmioHandler } from "@iommukit/core";
import { expect, it } from "vitest";
import { GuestPasids, VirtualCommand, VirtualCommandReg as Reg, VirtualCommands, VirtualCommandStatus } from "./virtual-commands.js";

/** A unit whose registers all read as what was written last. */
class Unit implements MmioHandler {
  written: readonly [number, number, bigint] | undefined;

  read(): bigint {
    return 0x11n;
  }

  write(offset: number, size: number, value: bigint): void {
    this.written = [offset, size, value];
  }
}

function commands(bits: number): { unit: Unit; registers: VirtualCommands; order: (command: number, operand?: number) => { status: number; pasid: number } } {
  const unit = new Unit();
  const registers = new VirtualCommands(unit, new GuestPasids(bits));
  return {
    unit,
    registers,
    order(command, operand = 0) {
      registers.write(Reg.VCMD, 8, BigInt(command) | (BigInt(operand) << 16n));
      const response = registers.read(Reg.VCRSP, 8);
      expect(response & 1n).toBe(0n);
      return { status: Number((response >> 1n) & 0x7fn), pasid: Number((response >> 16n) & 0xfffffn) };
    },
  };
}

it("PASIDs are handed out until none is left, and taken back once", () => {
  const { order } = commands(2);
  const { ALLOCATE_PASID, FREE_PASID } = VirtualCommand;
  const { SUCCESS, REFUSED } = VirtualCommandStatus;
  expect([1, 2, 3].map(() => order(ALLOCATE_PASID))).toEqual([1, 2, 3].map((pasid) => ({ status: SUCCESS, pasid })));
  expect(order(ALLOCATE_PASID).status).toBe(REFUSED);
  expect([order(FREE_PASID, 2).status, order(FREE_PASID, 2).status, order(FREE_PASID, 9).status]).toEqual([SUCCESS, REFUSED, REFUSED]);
  expect(order(ALLOCATE_PASID)).toEqual({ status: SUCCESS, pasid: 2 });
});

it("a command that is not defined says so", () => {
  expect([0, 3, 255].map((command) => commands(4).order(command).status)).toEqual([1, 1, 1].map(() => VirtualCommandStatus.UNDEFINED));
});

it("begins with the lower half, after the upper one", () => {
  const { registers } = commands(4);
  registers.write(Reg.VCMD + 4, 4, 0n);
  expect(registers.read(Reg.VCRSP, 4)).toBe(0n);
  registers.write(Reg.VCMD, 4, 1n);
  expect(registers.read(Reg.VCRSP, 4)).toBe(1n << 16n);
});

it("is announced, and other registers are the unit's", () => {
  const { registers, unit } = commands(4);
  expect([registers.read(0x10, 8), registers.read(0x14, 4), registers.read(0x10, 4), registers.read(0x18, 4)]).toEqual([0x11n | (1n << 44n), 0x1011n, 0x11n, 0x11n]);
  expect(registers.read(Reg.VCCAP, 8)).toBe(6n);
  registers.write(0x18, 4, 5n);
  expect(unit.written).toEqual([0x18, 4, 5n]);
});

it("what is read-only, too narrow or crooked changes nothing", () => {
  const { registers } = commands(4);
  registers.write(Reg.VCCAP, 8, 0n);
  registers.write(Reg.VCRSP, 8, -1n & 0xffff_ffff_ffff_ffffn);
  registers.write(Reg.VCMD, 2, 1n);
  registers.write(Reg.VCMD + 4, 8, 1n);
  expect([registers.read(Reg.VCCAP, 8), registers.read(Reg.VCRSP, 8), registers.read(Reg.VCMD, 2)]).toEqual([6n, 0n, 0xffffn]);
});
