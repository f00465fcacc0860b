/** Histories of table writes, invalidations and requests (VT-d 6.2 to 6.5): what is cached may be stale, never wrong in another way. */
import { Access, type IotlbGeometry, NO_PASID, PhysicalMemory } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { type CacheGeometry, VtdUnit } from "../hardware/index.js";
import { Reg } from "../spec/registers.js";
import { Random } from "./random.js";
import { type Invalidation, outcomeText, Staleness, STAGES } from "./staleness.js";
import { E, ReferenceUnit } from "./unit.js";
import { ADDRESSES, type Cell, legacyWorld, type Probe, RIDS, scalableWorld, type World } from "./world.js";

/** The same ones each time, so that a change is to blame when they fail; SEED=$RANDOM tries others. */
const SEED = Number(process.env.SEED ?? 20_261_124);
const HISTORIES = Number(process.env.HISTORIES ?? 1_000);
const STEPS = 20;
/** Until it is left to be stale. */
const MOST_INVALIDATIONS = 12;
const QUEUE = 0xc000;
const FRCD = 0x220;
const SRTP = 0x4000_0000n;
const TE = 0x8000_0000n;
const QIE = 0x400_0000n;

const CAP = 6n | (6n << 8n) | (47n << 16n) | (1n << 22n) | (0x22n << 24n) | (3n << 34n) | (1n << 39n) | (18n << 48n) | (3n << 54n) | (1n << 56n) | (1n << 63n);
const ecap = [0, 1, E.PT, E.NEST, E.SRS, E.PASID, E.SMTS, E.SSTS, E.FSTS, E.SMPWC, E.RPS].reduce((word, bit) => word | (1n << BigInt(bit)), (19n << 35n) | (0xfn << 8n));

const all = (geometry: IotlbGeometry): Required<CacheGeometry> => ({
  iotlb: geometry, contexts: geometry, pasids: geometry, firstStageTables: geometry, secondStageTables: geometry,
});
const GEOMETRIES = [
  { name: "no", caches: all({ sets: 0, ways: 1 }) },
  { name: "tiny", caches: all({ sets: 1, ways: 2 }) },
  { name: "large", caches: all({ sets: 256, ways: 8 }) },
];

class History {
  readonly random: Random;
  readonly unit: VtdUnit;
  readonly model: Staleness;
  readonly log: string[] = [];
  readonly #memory: PhysicalMemory;
  stale = 0;
  cleaned = 0;

  constructor(memory: PhysicalMemory, readonly world: World, seed: number, geometry: (typeof GEOMETRIES)[number], readonly registers: boolean) {
    this.random = new Random(seed);
    this.#memory = memory;
    memory.clear(0, 0x20_0000);
    const words = { version: registers ? 0x50 : 0x70, cap: CAP, ecap, haw: 48 };
    this.unit = new VtdUnit(memory, { ...words, caches: geometry.caches });
    this.model = new Staleness(world, new ReferenceUnit(words));
    for (const cell of world.cells) cell.variants[0].forEach((word, i) => memory.writeU64(cell.address + i * 8, word));
    this.unit.write(Reg.RTADDR, 8, world.rtaddr);
    this.unit.write(Reg.IQA, 8, BigInt(QUEUE) | (world.legacy ? 0n : 1n << 11n));
    this.unit.write(Reg.GCMD, 4, SRTP);
    this.unit.write(Reg.GCMD, 4, this.#on());
  }

  #on(): bigint {
    return this.registers ? TE : TE | QIE;
  }

  step(): void {
    const choice = this.random.below(12);
    if (choice < 3) this.#write(this.random.pick(this.world.cells));
    else if (choice < 5) this.#invalidate();
    else if (choice < 8) this.#change(this.random.below(this.world.probes.length));
    else this.#probe(this.random.below(this.world.probes.length));
  }

  /** What software does: changes something that a device uses, and invalidates what is due; then the new must be seen. */
  #change(index: number): void {
    this.#probe(index);
    const cell = this.random.pick(this.model.path(index));
    this.#write(cell);
    for (let tries = 0; tries < MOST_INVALIDATIONS; tries++) {
      const { stage, waiting } = this.model.standing(index, cell);
      if (stage === STAGES.clean) {
        this.cleaned++;
        break;
      }
      this.#execute(this.#due(this.world.probes[index], cell, stage, waiting));
    }
    this.#probe(index);
  }

  /** One of the invalidations that may be due for a cell, by the cache that it is still in. */
  #due(probe: Probe, cell: Cell, stage: number, waiting: ReadonlySet<bigint>): Invalidation {
    const random = this.random;
    const { legacy } = this.world;
    const domain = waiting.size === 0 ? 1n : random.pick([...waiting]);
    const pasid = probe.pasid === -1 ? 0 : probe.pasid;
    if (stage === STAGES.context) {
      if (cell.kind === "root" || random.chance(0.2)) return { cache: "context", global: true, did: undefined, rid: undefined, mask: 0 };
      const mask = random.pick([0, 4, 6, 7]);
      if (random.chance(0.3)) return { cache: "context", global: !legacy, did: legacy ? domain : undefined, rid: undefined, mask: 0 };
      return { cache: "context", global: false, did: legacy ? domain : undefined, rid: probe.rid ^ (random.below(8) & mask), mask };
    }
    if (stage === STAGES.pasid) {
      if (cell.kind === "root" || random.chance(0.2)) return { cache: "pasid", did: undefined, pasid: undefined };
      return { cache: "pasid", did: domain, pasid: random.chance(0.5) ? pasid : undefined };
    }
    const size = random.pick([0x1000n, 0x20_0000n, 0x20_0000n, 0x4000_0000n]);
    const page = { start: probe.address & ~(size - 1n), size, leaves: cell.leaf && random.chance(0.5) };
    if (legacy || random.chance(0.5)) {
      const granularity = cell.kind === "root" ? 0 : random.below(5);
      return { cache: "iotlb", did: granularity === 0 ? undefined : domain, page: granularity > 2 ? page : undefined };
    }
    return { cache: "pasid-iotlb", did: domain, pasid, page: random.chance(0.6) ? page : undefined };
  }

  #write(cell: Cell): void {
    const value = this.random.pick(cell.variants);
    this.log.push(`write ${cell.name}: ${value.map((word) => word.toString(16)).join(" ")}`);
    value.forEach((word, i) => this.#memory.writeU64(cell.address + i * 8, word));
    this.model.wrote(cell, value);
  }

  #probe(index: number): void {
    const { rid, pasid, address, write } = this.world.probes[index];
    const out = this.unit.translate(rid, pasid === -1 ? NO_PASID : pasid, Number(address >> 12n), write ? Access.WRITE : Access.READ);
    const high = this.unit.read(FRCD + 8, 8);
    this.unit.write(FRCD + 12, 4, 0x8000_0000n);
    const seen = outcomeText(out === -1 ? undefined : BigInt(out) << 12n, Number((high >> 32n) & 0xffn));
    this.log.push(`probe ${index}: ${seen}`);
    if (seen === this.model.fresh(index)) return;
    this.stale++;
    const allowed = this.model.allowed(index);
    if (allowed?.has(seen) === false) throw new Error(`probe ${index} saw ${seen}; now right is ${this.model.fresh(index)}, allowed are ${[...allowed].join(", ")}`);
  }

  #invalidate(): void {
    const random = this.random;
    if (random.chance(0.05)) {
      this.log.push("SRTP");
      this.unit.write(Reg.GCMD, 4, SRTP | this.#on());
      this.model.invalidated({ cache: "all" });
      return;
    }
    const domain = BigInt(1 + random.below(9));
    const page = { start: random.pick(ADDRESSES), size: 0x1000n << BigInt(random.pick([0, 1, 9, 9, 18])), leaves: random.chance(0.4) };
    const aligned = { ...page, start: page.start & ~(page.size - 1n) };
    this.#execute(this.#choose(domain, aligned));
  }

  #execute(chosen: Invalidation): void {
    this.log.push(`invalidate ${JSON.stringify(chosen, (_, value: unknown) => (typeof value === "bigint" ? value.toString(16) : value))}`);
    if (this.registers) this.#byRegister(chosen);
    else this.#byDescriptor(chosen);
    this.model.invalidated(chosen);
  }

  #choose(domain: bigint, page: Exclude<(Invalidation & { cache: "iotlb" })["page"], undefined>): Invalidation {
    const random = this.random;
    const { legacy } = this.world;
    const kind = random.below(legacy ? 2 : 4);
    if (kind === 0) {
      const granularity = random.below(3);
      if (granularity === 0) return { cache: "context", global: true, did: undefined, rid: undefined, mask: 0 };
      // 6.5.2.1: in scalable mode a domain's invalidation is global, and a device's ignores the domain.
      if (granularity === 1) return { cache: "context", global: !legacy, did: legacy ? domain : undefined, rid: undefined, mask: 0 };
      return { cache: "context", global: false, did: legacy ? domain : undefined, rid: random.pick(RIDS), mask: random.pick([0, 4, 6, 7]) };
    }
    if (kind === 1) {
      const granularity = random.below(3);
      return { cache: "iotlb", did: granularity === 0 ? undefined : domain, page: granularity === 2 ? page : undefined };
    }
    if (kind === 2) {
      const granularity = random.below(3);
      return { cache: "pasid", did: granularity === 0 ? undefined : domain, pasid: granularity === 2 ? random.pick([0, 5]) : undefined };
    }
    return { cache: "pasid-iotlb", did: domain, pasid: random.pick([0, 5]), page: random.chance(0.6) ? page : undefined };
  }

  /** FM counts bits of the function number from the highest on: 4, 6, 7 (table 22). */
  #descriptor(chosen: Exclude<Invalidation, { cache: "all" }>): [bigint, bigint] {
    const address = (page: { start: bigint; size: bigint; leaves: boolean } | undefined): bigint =>
      page === undefined ? 0n : page.start | (page.leaves ? 0x40n : 0n) | BigInt(page.size.toString(2).length - 13);
    switch (chosen.cache) {
      case "context": {
        const granularity = chosen.rid !== undefined ? 3n : chosen.did !== undefined || (chosen.global && !this.world.legacy && this.random.chance(0.5)) ? 2n : 1n;
        const mask = BigInt([0, 4, 6, 7].indexOf(chosen.mask));
        return [1n | (granularity << 4n) | ((chosen.did ?? 0n) << 16n) | (BigInt(chosen.rid ?? 0) << 32n) | (mask << 48n), 0n];
      }
      case "pasid": {
        const granularity = chosen.did === undefined ? 3n : chosen.pasid === undefined ? 0n : 1n;
        return [7n | (granularity << 4n) | ((chosen.did ?? 0n) << 16n) | (BigInt(chosen.pasid ?? 0) << 32n), 0n];
      }
      case "iotlb": {
        const granularity = chosen.did === undefined ? 1n : chosen.page === undefined ? 2n : 3n;
        return [2n | (granularity << 4n) | ((chosen.did ?? 0n) << 16n), address(chosen.page)];
      }
      default:
        return [6n | ((chosen.page ? 3n : 2n) << 4n) | (chosen.did << 16n) | (BigInt(chosen.pasid) << 32n), address(chosen.page)];
    }
  }

  #byDescriptor(chosen: Invalidation): void {
    if (chosen.cache === "all") return;
    const bytes = this.world.legacy ? 16 : 32;
    const tail = Number(this.unit.read(Reg.IQT, 8));
    this.#descriptor(chosen).forEach((word, i) => this.#memory.writeU64(QUEUE + tail + i * 8, word));
    const next = (tail + bytes) % 4096;
    this.unit.write(Reg.IQT, 8, BigInt(next));
    if (Number(this.unit.read(Reg.IQH, 8)) !== next) throw new Error(`the descriptor was refused: FSTS ${this.unit.read(Reg.FSTS, 4).toString(16)}`);
  }

  #byRegister(chosen: Invalidation): void {
    if (chosen.cache === "context") {
      const granularity = chosen.rid !== undefined ? 3n : chosen.did !== undefined ? 2n : 1n;
      const mask = BigInt([0, 4, 6, 7].indexOf(chosen.mask));
      this.unit.write(Reg.CCMD, 8, (1n << 63n) | (granularity << 61n) | (mask << 32n) | (BigInt(chosen.rid ?? 0) << 16n) | (chosen.did ?? 0n));
      // CAIG tells what was done; 0 is nothing.
      if (((this.unit.read(Reg.CCMD, 8) >> 59n) & 3n) === 0n) throw new Error("CCMD was refused");
    } else if (chosen.cache === "iotlb") {
      const granularity = chosen.did === undefined ? 1n : chosen.page === undefined ? 2n : 3n;
      if (chosen.page) this.unit.write(0xf0, 8, this.#descriptor(chosen)[1]);
      this.unit.write(0xf8, 8, (1n << 63n) | (granularity << 60n) | ((chosen.did ?? 0n) << 32n));
      if (((this.unit.read(0xf8, 8) >> 57n) & 3n) === 0n) throw new Error("IOTLB was refused");
    }
  }
}

describe.each(GEOMETRIES)("histories with $name caches", (geometry) => {
  it.each([
    { mode: "scalable", registers: false, share: 1 },
    { mode: "legacy", registers: false, share: 0.5 },
    { mode: "legacy, by registers,", registers: true, share: 0.5 },
  ])("in $mode mode never show what was not there", ({ mode, registers, share }) => {
    const memory = new PhysicalMemory();
    memory.addRam(0, 0x1000_0000);
    let stale = 0;
    let cleaned = 0;
    for (let i = 0; i < HISTORIES * share; i++) {
      const seed = SEED + i;
      const random = new Random(seed);
      const world = mode === "scalable" ? scalableWorld(random) : legacyWorld(random);
      const history = new History(memory, world, seed, geometry, registers);
      try {
        for (let step = 0; step < STEPS; step++) history.step();
      } catch (error) {
        const probes = world.probes.map((probe, n) => `probe ${n}: rid ${probe.rid.toString(16)} pasid ${probe.pasid} 0x${probe.address.toString(16)} ${probe.write ? "write" : "read"}`);
        throw new Error([`SEED=${seed}`, ...probes, ...history.log, String(error)].join("\n"), { cause: error });
      }
      stale += history.stale;
      cleaned += history.cleaned;
    }
    expect(cleaned).toBeGreaterThan(HISTORIES * share);
    // A cache that holds something is stale now and then, else these histories try nothing.
    if (geometry.name === "no") expect(stale).toBe(0);
    else expect(stale).toBeGreaterThan(HISTORIES * share * 0.02);
  }, 300_000);
});
