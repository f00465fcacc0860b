/** Random histories of a guest, for tests that compare where it runs. */
import { FindingKind, findingLines, type IommuDevice, IommuError, type PagingDomain, Prot, Sanitizer } from "@iommukit/core";
import { expect } from "vitest";
import type { Host } from "./host-program.js";

const STEPS = 60;
export const DEVICES = 2;
/** Of the guest's data. */
const PAGES = 24;

/** What a history needs of a guest. */
export interface HistoryGuest {
  readonly driver: {
    attach(device: IommuDevice, pasid: number, domain: PagingDomain): void;
    detach(device: IommuDevice, pasid: number): void;
  };
  readonly devices: readonly IommuDevice[];
  readonly ram: Uint8Array;
  /** What its driver reads of faults. */
  readonly log: string[];
  page(index: number): number;
  domain(pasid?: boolean): PagingDomain;
  dma(device: number, write: boolean, iova: bigint, value?: bigint, pasid?: number): boolean;
  buffer(device: number): bigint;
  /** Makes something else of what its tables say of a device, past its driver. */
  tamper?(device: number, random: (n: number) => number): void;
}

/** A number from 0 to below `n`. */
export function generator(seed: number): (n: number) => number {
  let state = seed >>> 0;
  return (n) => {
    state = (Math.imul(state ^ (state >>> 15), 0x2c1b_3c6d) + 0x9e37_79b9) >>> 0;
    state = (state ^ (state >>> 12)) >>> 0;
    return state % n;
  };
}

/** What can be asked of either guest; the answer is all that the guest sees. */
export class Player {
  readonly guest: HistoryGuest;
  readonly #domains: PagingDomain[];
  readonly #pasids: number;

  /** @param pasids that the guest uses, 0 for requests without one among them */
  constructor(guest: HistoryGuest, pasids: number) {
    this.#pasids = pasids;
    this.guest = guest;
    this.#domains = Array.from({ length: 4 }, () => guest.domain(true));
  }

  /** @param a number below any bound, the same for both */
  step(a: (n: number) => number): string {
    const { guest } = this;
    const domain = this.#domains[a(4)];
    const device = a(DEVICES);
    const pasid = a(this.#pasids);
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
      else if (kind < 12 && guest.tamper) guest.tamper(device, a);
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
    for (const device of this.guest.devices) for (let pasid = this.#pasids - 1; pasid >= 0; pasid--) this.guest.driver.detach(device, pasid);
    for (const domain of this.#domains) domain.free();
  }
}

/** The guest's data, wherever it runs. */
function dataOf(guest: HistoryGuest): Uint8Array {
  return guest.ram.subarray(guest.page(0), guest.page(PAGES));
}

export interface HostedGuest extends HistoryGuest {
  readonly host: Host;
  readonly bystander: () => boolean;
}

/** Plays the same histories on both: whatever a guest can see is the same. */
export function compareHistories(hosted: HostedGuest, bare: HistoryGuest, pasids: number, histories: number, seed: number): void {
  const sanitizer = new Sanitizer(hosted.host.machine);
  const outcomes = new Map<string, number>();
  for (let i = 0; i < histories; i++) {
    const players = [hosted, bare].map((guest) => new Player(guest, pasids));
    const numbers = [seed + i, seed + i].map((start) => generator(start));
    for (let step = 0; step < STEPS; step++) {
      const [got, wanted] = players.map((player, j) => player.step(numbers[j]));
      expect(got, `history ${seed + i}, step ${step}`).toBe(wanted);
      const what = wanted.replace(/ .*/, "");
      outcomes.set(what, (outcomes.get(what) ?? 0) + 1);
    }
    expect(hosted.log, `history ${seed + i}`).toEqual(bare.log);
    expect(Buffer.compare(dataOf(hosted), dataOf(bare)), `memory after history ${seed + i}`).toBe(0);
    for (const player of players) player.end();
    for (const { log } of [hosted, bare]) log.length = 0;
  }
  // No unit of the host has used what is stale. (That it holds it is another's affair: a guest's tables change before the guest says so.)
  expect(sanitizer.findings.filter(({ kind }) => kind !== FindingKind.MISSING_INVALIDATION).flatMap(findingLines)).toEqual([]);
  expect(hosted.bystander()).toBe(true);
  // Nothing of a history may be all that ever happens.
  for (const what of ["true", "false", "done"]) expect(outcomes.get(what) ?? 0, what).toBeGreaterThan(histories);
}
