/** The same guest on a virtual SMMUv3 and on hardware of its own: the same histories, the same memory, the same events. */
import { it } from "vitest";
import { compareHistories, DEVICES } from "./guest-history.js";
import { bareGuest, smmuGuest } from "./guest-smmu.js";

/** `HISTORIES=20000` for a long run; `SEED` for others. */
const HISTORIES = Number(process.env.HISTORIES ?? 150);
const SEED = Number(process.env.SEED ?? 20_261_125);

it(`${HISTORIES} histories are the same to the guest`, () => {
  const nested = smmuGuest({ devices: DEVICES });
  compareHistories(nested, bareGuest(nested.identification, DEVICES), 3, HISTORIES, SEED);
}, 3_600_000);
