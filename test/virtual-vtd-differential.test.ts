/** The same guest on a virtual VT-d and on hardware of its own: the same histories, the same memory, the same faults. */
import { smmuIommuFactory } from "@iommukit/hw-smmu/plugin";
import { it } from "vitest";
import { compareHistories, DEVICES } from "./guest-history.js";
import { bareGuest, type GuestOptions, type Mode, vtdGuest } from "./guest-vtd.js";

/** `HISTORIES=20000` for a long run; `SEED` for others. */
const HISTORIES = Number(process.env.HISTORIES ?? 60);
const SEED = Number(process.env.SEED ?? 20_261_125);

const PLACES: readonly (readonly [name: string, mode: Mode, pasids: number, options: GuestOptions])[] = [
  ["nested", "nested", 3, {}],
  ["shadowed", "shadowed", 3, {}],
  ["legacy, shadowed", "legacy", 1, {}],
  ["shadowed by the kernel", "shadowed", 3, { children: true }],
  ["legacy, shadowed on an SMMUv3", "legacy", 1, { factory: smmuIommuFactory }],
];

it.each(PLACES)(`${HISTORIES} histories are the same to the guest, %s`, (_name, mode, pasids, options) => {
  compareHistories(vtdGuest(mode, { ...options, devices: DEVICES }), bareGuest(mode, DEVICES), pasids, HISTORIES, SEED);
}, 3_600_000);
