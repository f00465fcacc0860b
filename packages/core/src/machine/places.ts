/** Where a machine's units lie and who is behind them: for the builder, and for firmware tables. */
import { parseRid } from "../bus/rid.js";
import { readMachineSpec } from "./spec.js";
import type { MachineSpec } from "./types.js";

const FIRST_REGISTERS = 0xfed9_0000;
/** Clear of 0xfee00000, where interrupts go. */
const MORE_REGISTERS = 0xfc00_0000;
/** Room for the register set of any unit. */
const REGISTER_STRIDE = 0x4_0000;

export function registerBaseOf(unit: number): number {
  return unit === 0 ? FIRST_REGISTERS : MORE_REGISTERS + unit * REGISTER_STRIDE;
}

export interface UnitPlace {
  /** Name of its `IommuFactory`. */
  readonly type: string;
  readonly options: Readonly<Record<string, unknown>>;
  readonly registerBase: number;
  /** Requesters behind it. */
  readonly rids: readonly number[];
}

/**
 * @param description a `MachineSpec`, checked here
 * @throws IommuError EINVAL
 */
export function unitPlaces(description: unknown): UnitPlace[] {
  const { iommus, devices } = readMachineSpec(description);
  return iommus.map(({ type, options = {} }, i) => ({
    type,
    options,
    registerBase: registerBaseOf(i),
    rids: devices.filter(({ iommu = 0 }) => iommu === i).map(({ bdf }) => parseRid(bdf)),
  }));
}

/** The machine that `--machine NAME` gives: one unit, two devices. */
export function smallMachine(type: string): MachineSpec {
  return {
    name: type,
    memory: { size: "256MiB" },
    iommus: [{ type }],
    devices: [
      { model: "dma-test", bdf: "00:03.0", vfio: "vfio0" },
      { model: "dma-test", bdf: "00:04.0", vfio: "vfio1" },
    ],
  };
}
