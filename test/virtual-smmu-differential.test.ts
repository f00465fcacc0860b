/** The same guest on a virtual SMMUv3 and on hardware of its own: the same histories, the same memory, the same events. */
import { IommuError, type PagingDomain, Prot } from "@iommukit/core";
import { expect, it } from "vitest";
import { bareGuest, type Guest, smmuGuest } from "./guest-smmu.js";

/** `HISTORIES=20000` for a long run; `SEED` for others. */
const HISTORIES = Number(process.env.HISTORIES ?? 150);
const SEED = Number(process.env.SEED ?? 20_261_125);
const STEPS = 60;
const DEVICES = 2;
const PAGES = 24;
const PASIDS = 3;

/** A number from 0 to below `n`. */
function generator(seed: number): (n: number) => number {
  let state = seed >>> 0;
  return (n) => {
    state = (Math.imul(state ^ (state >>> 15), 0x2c1b_3c6d) + 0x9e37_79b9) >>> 0;
    state = (state ^ (state >>> 12)) >>> 0;
    return state % n;
  };
}

/** What can be asked of either guest; the answer is all that the guest sees. */
class Player {
  readonly guest: Guest;
  readonly #domains: PagingDomain[];

  constructor(guest: Guest) {
    this.guest = guest;
    this.#domains = Array.from({ length: 4 }, () => guest.domain(true));
  }

  /** @param a number below any bound, the same for both */
  step(a: (n: number) => number): string {
    const { guest } = this;
    const domain = this.#domains[a(4)];
    const device = a(DEVICES);
    const pasid = a(PASIDS);
    const iova = 0x40_0000n + BigInt(a(6)) * 4096n + (a(8) === 0 ? 0x20_0000n : 0n);
    const length = (1 + a(3)) * 4096;
    const prot = [Prot.READ, Prot.READ | Prot.WRITE, Prot.READ | Prot.WRITE][a(3)];
    const page = guest.page(a(PAGES - 3));
    const [value, kind, offset] = [BigInt(a(1_000_000)), a(20), BigInt(a(512) * 8)];
    const write = a(2) === 0;
    try {
      if (kind < 5) {
        if (domain.iovaToPa(iova) !== undefined || domain.iovaToPa(iova + BigInt(length) - 4096n) !== undefined || domain.iovaToPa(iova + 4096n) !== undefined) return "taken";
        domain.map(iova, page, length, prot);
      } else if (kind < 8) domain.unmap(iova, length);
      else if (kind < 10) guest.driver.attach(guest.devices[device], pasid, domain);
      else if (kind < 11) guest.driver.detach(guest.devices[device], pasid);
      else {
        const passed = guest.dma(device, write, iova + offset, value, pasid === 0 ? undefined : pasid);
        return passed && !write ? `true ${guest.buffer(device)}` : `${passed}`;
      }
      return "done";
    } catch (error) {
      if (error instanceof IommuError) return error.errno;
      throw error;
    }
  }

  end(): void {
    for (const device of this.guest.devices) for (let pasid = PASIDS - 1; pasid >= 0; pasid--) this.guest.driver.detach(device, pasid);
    for (const domain of this.#domains) domain.free();
  }
}

it(`${HISTORIES} histories are the same to the guest`, () => {
  const nested = smmuGuest(DEVICES);
  const bare = bareGuest(nested.identification, DEVICES);
  const outcomes = new Map<string, number>();
  for (let i = 0; i < HISTORIES; i++) {
    const players = [nested, bare].map((guest) => new Player(guest));
    const numbers = [SEED + i, SEED + i].map((seed) => generator(seed));
    for (let step = 0; step < STEPS; step++) {
      const [got, wanted] = players.map((player, j) => player.step(numbers[j]));
      expect(got, `history ${SEED + i}, step ${step}`).toBe(wanted);
      const what = wanted.replace(/ .*/, "");
      outcomes.set(what, (outcomes.get(what) ?? 0) + 1);
    }
    expect(nested.log, `history ${SEED + i}`).toEqual(bare.log);
    const [from, to] = [nested.page(0), nested.page(PAGES)];
    expect(Buffer.compare(nested.ram.subarray(from, to), bare.ram.subarray(from, to)), `memory after history ${SEED + i}`).toBe(0);
    for (const player of players) player.end();
    (nested.log as string[]).length = 0;
    (bare.log as string[]).length = 0;
  }
  // Nothing of a history may be all that ever happens.
  for (const what of ["true", "false", "done"]) expect(outcomes.get(what) ?? 0, what).toBeGreaterThan(HISTORIES);
}, 3_600_000);
