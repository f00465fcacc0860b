/** The same guest on a virtual SMMUv3 and on hardware of its own: the same histories, the same memory, the same events. */
import { FindingKind, findingLines, Sanitizer } from "@iommukit/core";
import { expect, it } from "vitest";
import { dataOf, DEVICES, generator, Player, STEPS } from "./guest-history.js";
import { bareGuest, smmuGuest } from "./guest-smmu.js";

/** `HISTORIES=20000` for a long run; `SEED` for others. */
const HISTORIES = Number(process.env.HISTORIES ?? 150);
const SEED = Number(process.env.SEED ?? 20_261_125);
const PASIDS = 3;

it(`${HISTORIES} histories are the same to the guest`, () => {
  const nested = smmuGuest(DEVICES);
  const bare = bareGuest(nested.identification, DEVICES);
  const sanitizer = new Sanitizer(nested.host.machine);
  const outcomes = new Map<string, number>();
  for (let i = 0; i < HISTORIES; i++) {
    const players = [nested, bare].map((guest) => new Player(guest, PASIDS));
    const numbers = [SEED + i, SEED + i].map((seed) => generator(seed));
    for (let step = 0; step < STEPS; step++) {
      const [got, wanted] = players.map((player, j) => player.step(numbers[j]));
      expect(got, `history ${SEED + i}, step ${step}`).toBe(wanted);
      const what = wanted.replace(/ .*/, "");
      outcomes.set(what, (outcomes.get(what) ?? 0) + 1);
    }
    expect(nested.log, `history ${SEED + i}`).toEqual(bare.log);
    expect(Buffer.compare(dataOf(nested), dataOf(bare)), `memory after history ${SEED + i}`).toBe(0);
    for (const player of players) player.end();
    (nested.log as string[]).length = 0;
    (bare.log as string[]).length = 0;
  }
  // No unit of the host has used what is stale. (That it holds it is another's affair: a guest's tables change before the guest says so.)
  expect(sanitizer.findings.filter(({ kind }) => kind !== FindingKind.MISSING_INVALIDATION).flatMap(findingLines)).toEqual([]);
  // Nothing of a history may be all that ever happens.
  for (const what of ["true", "false", "done"]) expect(outcomes.get(what) ?? 0, what).toBeGreaterThan(HISTORIES);
}, 3_600_000);
