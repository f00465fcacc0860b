/**
 * A hostile guest: it boots as any other, and then its memory, queue and registers are written at random while it works on. What it has set up
 * leads on to the host, so that most of what is written is looked at. And the host refuses now and then what it may refuse.
 */
import { IommuError, type MmioHandler, type PhysicalMemory } from "@iommukit/core";
import { DEVICES, generator, type HistoryGuest, Player } from "./guest-history.js";

/** Of a guest's life. */
const ACCESSES = 100;
/** Where its driver has tables and queues: as much as one that has just booted uses. */
const TABLES = { start: 0x10_0000, end: 0x18_0000 } as const;
/** Calls that a host can refuse; one in so many. */
const REFUSABLE: ReadonlySet<string> = new Set(["IOMMU_HWPT_ALLOC", "VFIO_DEVICE_ATTACH_IOMMUFD_PT", "IOMMU_HWPT_INVALIDATE", "IOMMU_IOAS_ALLOC", "IOMMU_IOAS_MAP"]);
const REFUSED = 12;
const ALL_ONES = 2n ** 64n - 1n;

export type Random = (n: number) => number;

export interface HostileGuest extends HistoryGuest {
  readonly unit: MmioHandler;
  readonly memory: PhysicalMemory;
  /** Calls of the program that runs it, by name. */
  readonly calls: readonly string[];
  readonly bystander: () => boolean;
}

export interface Hostility {
  /** @param refuses in place of a call of the program */
  readonly boot: (refuses: (name: string) => Error | undefined) => HostileGuest;
  readonly pasids: number;
  readonly registers: readonly number[];
  /** Puts a command of the guest's own making behind its queue, and rings. */
  readonly order: (guest: HostileGuest, random: Random) => void;
  /** What clears the errors that stop the queue. */
  readonly recover: (guest: HostileGuest) => void;
}

export interface HostileRun {
  /** What came out of register accesses. */
  readonly thrown: readonly unknown[];
  /** Calls that one register access cost at the most. */
  readonly most: number;
  /** Calls of the host by name. */
  readonly calls: ReadonlyMap<string, number>;
  /** The other program's device always worked. */
  readonly undisturbed: boolean;
}

export function runHostile({ boot, pasids, registers, order, recover }: Hostility, accesses: number, seed: number): HostileRun {
  const random = generator(seed);
  const pick = <T>(list: readonly T[]): T => list[random(list.length)];
  const thrown: unknown[] = [];
  const counts = new Map<string, number>();
  let most = 0;
  let undisturbed = true;
  for (let done = 0; done < accesses; done += ACCESSES) {
    let hostile = false;
    const guest = boot((name) => (hostile && REFUSABLE.has(name) && random(REFUSED) === 0 ? new IommuError("ENOMEM", { message: "not now", rule: "test" }) : undefined));
    watch(guest, thrown, (cost) => (most = Math.max(most, cost)));
    const player = new Player(guest, pasids);
    const tables = new BigUint64Array(guest.ram.buffer, guest.ram.byteOffset + TABLES.start, (TABLES.end - TABLES.start) / 8);
    for (let i = 0; i < 20; i++) player.step(random);
    const used = [...tables.keys()].filter((i) => tables[i] !== 0n);
    const word = (): bigint => pick([0n, ALL_ONES, tables[pick(used)], BigInt(guest.page(random(24))) | 3n, BigInt(random(2 ** 31))]);
    hostile = true;
    for (let i = 0; i < ACCESSES; i++) {
      const kind = random(20);
      if (kind < 5) tables[pick(used)] = pick([word(), tables[pick(used)] ^ (1n << BigInt(random(64)))]);
      else if (kind < 9) order(guest, random);
      else if (kind < 13) attempt(() => player.step(random));
      else if (kind < 15) attempt(() => guest.dma(random(DEVICES), random(2) === 0, 0x40_0000n + BigInt(random(8) * 4096), word(), random(pasids) || undefined));
      else if (kind < 17) recover(guest);
      else attempt(() => guest.unit.write(pick(registers), pick([4, 8]), word()));
    }
    undisturbed = guest.bystander() && guest.bystander() && undisturbed;
    for (const name of guest.calls) counts.set(name.split(" ")[0], (counts.get(name.split(" ")[0]) ?? 0) + 1);
  }
  return { thrown, most, calls: counts, undisturbed };
}

/** Its own driver stumbles over what is not as it left it: that is its own affair. What a register access throws is kept. */
function attempt(action: () => unknown): void {
  try {
    action();
  } catch {
    // Of the guest's.
  }
}

function watch({ unit, calls }: HostileGuest, thrown: unknown[], told: (cost: number) => void): void {
  const write = unit.write.bind(unit);
  let deep = 0;
  unit.write = (offset, size, value) => {
    const before = calls.length;
    deep++;
    try {
      write(offset, size, value);
    } catch (error) {
      thrown.push(error);
      throw error;
    } finally {
      // An interrupt of the unit can have its driver write inside: the outermost pays.
      if (--deep === 0) told(calls.length - before);
    }
  };
}
