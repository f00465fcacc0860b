/** The same guest on a virtual VT-d and on hardware of its own: the same histories, the same memory, the same faults. */
import { FindingKind, findingLines, Sanitizer } from "@iommukit/core";
import { smmuIommuFactory } from "@iommukit/hw-smmu/plugin";
import { expect, it } from "vitest";
import { dataOf, DEVICES, generator, Player, STEPS } from "./guest-history.js";
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
  const hosted = vtdGuest(mode, { ...options, devices: DEVICES });
  const bare = bareGuest(mode, DEVICES);
  const sanitizer = new Sanitizer(hosted.host.machine);
  const outcomes = new Map<string, number>();
  for (let i = 0; i < HISTORIES; i++) {
    const players = [hosted, bare].map((guest) => new Player(guest, pasids));
    const numbers = [SEED + i, SEED + i].map((seed) => generator(seed));
    for (let step = 0; step < STEPS; step++) {
      const [got, wanted] = players.map((player, j) => player.step(numbers[j]));
      expect(got, `history ${SEED + i}, step ${step}`).toBe(wanted);
      const what = wanted.replace(/ .*/, "");
      outcomes.set(what, (outcomes.get(what) ?? 0) + 1);
    }
    expect(hosted.log, `history ${SEED + i}`).toEqual(bare.log);
    expect(Buffer.compare(dataOf(hosted), dataOf(bare)), `memory after history ${SEED + i}`).toBe(0);
    for (const player of players) player.end();
    hosted.log.length = 0;
    bare.log.length = 0;
  }
  // No unit of the host has used what is stale. (That it holds it is another's affair: a guest's tables change before the guest says so.)
  expect(sanitizer.findings.filter(({ kind }) => kind !== FindingKind.MISSING_INVALIDATION).flatMap(findingLines)).toEqual([]);
  expect(hosted.bystander()).toBe(true);
  for (const what of ["true", "false", "done"]) expect(outcomes.get(what) ?? 0, what).toBeGreaterThan(HISTORIES);
}, 3_600_000);
