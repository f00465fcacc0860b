/** The decoder's verdict on random machines against the unit's own: same address, same event. */
import { Access, NO_PASID, PhysicalMemory, type TableSource } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { SmmuUnit } from "../hardware/index.js";
import { Builder, EVENT_QUEUE_BASE, generator, RAM } from "../reference/builder.js";
import { randomMachine } from "../reference/machine.js";
import type { Identification, Registers, Request } from "../reference/request.js";
import { UNITS } from "../reference/units.js";
import { formatAttributes } from "../spec/attributes.js";
import { Cr0, Reg } from "../spec/registers.js";
import { smmuTableDecoder } from "./index.js";

/** Machines per unit and CI run. */
const MACHINES = Number(process.env.SMMU_MACHINES ?? 1_000);
const NO_CACHES = { input: { sets: 0, ways: 1 }, intermediate: { sets: 0, ways: 1 }, configurations: 0 };

/** "0x12345000", or the event's code; "abort" when there was none. */
type Outcome = string;

class Bench {
  readonly memory: PhysicalMemory;
  readonly outcomes = new Map<Outcome, number>();
  readonly #id: Identification;
  readonly #unit: SmmuUnit;
  #consumer = 0;

  constructor(memory: PhysicalMemory, id: Identification) {
    this.memory = memory;
    this.#id = id;
    this.#unit = new SmmuUnit(memory, { identification: id, caches: NO_CACHES });
    this.#unit.write(Reg.EVENTQ_BASE, 8, BigInt(EVENT_QUEUE_BASE | 4));
  }

  start({ strtabBase, strtabCfg, cr2 }: Registers): void {
    const unit = this.#unit;
    unit.write(Reg.CR0, 4, BigInt(Cr0.EVENTQEN));
    unit.write(Reg.STRTAB_BASE, 8, strtabBase);
    unit.write(Reg.STRTAB_BASE_CFG, 4, BigInt(strtabCfg));
    unit.write(Reg.CR2, 4, BigInt(cr2 | 2));
    unit.write(Reg.CR0, 4, BigInt(Cr0.EVENTQEN | Cr0.SMMUEN));
  }

  unitSays({ stream, substream, address, read, write, fetch, privileged }: Request): { outcome: Outcome; recorded: boolean } {
    const unit = this.#unit;
    const access = (read ? Access.READ : 0) | (write ? Access.WRITE : 0) | (fetch ? Access.EXECUTE : 0) | (privileged ? Access.PRIVILEGED : 0);
    const page = unit.translate(stream, substream ?? NO_PASID, Number(address >> 12n), access, Number(address & 0xfffn));
    unit.stalls.terminate();
    const producer = Number(unit.read(Reg.EVENTQ_PROD, 4));
    if (page !== -1) {
      const carried = unit.attributes(stream, substream ?? NO_PASID, Number(address >> 12n), access);
      return { outcome: `0x${(page * 4096 + Number(address & 0xfffn)).toString(16)} ${carried ? formatAttributes(carried.memory) : ""}`, recorded: false };
    }
    if (producer === this.#consumer) return { outcome: "abort", recorded: false };
    const code = Number((this.memory.readU64(EVENT_QUEUE_BASE + (this.#consumer % 16) * 32) ?? 0n) & 0xffn);
    this.#consumer = producer;
    unit.write(Reg.EVENTQ_CONS, 4, BigInt(producer));
    return { outcome: `0x${code.toString(16).padStart(2, "0")}`, recorded: true };
  }

  decoderSays({ strtabBase, strtabCfg, cr2 }: Registers, { stream, substream, address, read, write, fetch, privileged }: Request): { outcome: Outcome; silent: boolean } {
    const { idr0, idr1, idr3, idr5, aidr } = this.#id;
    const source: TableSource = {
      iommu: "smmuv3",
      registers: {
        STRTAB_BASE: strtabBase, STRTAB_BASE_CFG: BigInt(strtabCfg), CR2: BigInt(cr2 | 2), IDR0: BigInt(idr0 >>> 0), IDR1: BigInt(idr1 >>> 0), IDR3: BigInt(idr3 >>> 0),
        IDR5: BigInt(idr5 >>> 0), AIDR: BigInt(aidr),
      },
      read: (pa, target) => this.memory.read(pa, target),
    };
    const { verdict } = smmuTableDecoder.walk(source, {
      rid: stream, iova: address, access: read && write ? "atomic" : write ? "write" : "read", execute: fetch, privileged, ...(substream === undefined ? {} : { pasid: substream }),
    });
    return { outcome: verdict.ok ? `0x${verdict.pa.toString(16)} ${verdict.attributes ?? ""}` : verdict.code.replace(/ .*/, ""), silent: verdict.note?.includes("nothing is recorded") === true };
  }
}

describe.each(Object.entries(UNITS))("a unit %s", (_name, id) => {
  it("does what the decoder says", () => {
    const memory = new PhysicalMemory();
    memory.addRam(0, RAM);
    const bench = new Bench(memory, id);
    const seen = new Set<string>();
    for (let seed = 0; seed < MACHINES; seed++) {
      const { registers, requests } = randomMachine(new Builder(memory, id, generator(seed + 77)), id);
      bench.start(registers);
      for (const request of requests) {
        // The unit's updates come after what the decoder looks at.
        const said = bench.decoderSays(registers, request);
        const did = bench.unitSays(request);
        const expected = said.silent ? "abort" : said.outcome;
        if (did.outcome !== expected) expect.fail(`machine ${seed}, ${JSON.stringify(request, (_key, value: unknown) => (typeof value === "bigint" ? `0x${value.toString(16)}` : value))}: the unit ${did.outcome}, the decoder ${expected}`);
        seen.add(did.outcome.length > 4 ? "passes" : did.outcome);
      }
    }
    expect(seen).toContain("passes");
    expect(seen.size).toBeGreaterThan(5);
  }, 120_000);
});
