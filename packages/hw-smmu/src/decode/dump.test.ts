/** What a dump lists of random machines, against walks of the same addresses. */
import { PhysicalMemory, type TableSource } from "@iommukit/core";
import { expect, it } from "vitest";
import { Builder, generator, RAM } from "../reference/builder.js";
import { randomMachine } from "../reference/machine.js";
import { UNITS } from "../reference/units.js";
import { smmuTableDecoder } from "./index.js";

it.each(["with everything", "with table access flags"])("lists what walks find, on a unit %s", (name) => {
  const id = UNITS[name];
  const memory = new PhysicalMemory();
  memory.addRam(0, RAM);
  const builder = new Builder(memory, id, generator(5));
  const passed = new Map<string, number>();
  for (let machine = 0; machine < 150; machine++) {
    const { registers } = randomMachine(builder, id);
    const source: TableSource = {
      iommu: "smmuv3",
      registers: {
        STRTAB_BASE: registers.strtabBase, STRTAB_BASE_CFG: BigInt(registers.strtabCfg), CR2: BigInt(registers.cr2), IDR0: BigInt(id.idr0), IDR1: BigInt(id.idr1), IDR3: BigInt(id.idr3),
        IDR5: BigInt(id.idr5), AIDR: BigInt(id.aidr),
      },
      read: (pa, target) => memory.read(pa, target),
    };
    for (const space of smmuTableDecoder.dump(source)) {
      let left = 200;
      for (const leaf of space.leaves()) {
        if (left-- === 0) break;
        // Its last byte: the size counts.
        const iova = leaf.iova + BigInt(leaf.size - 1);
        const { verdict } = smmuTableDecoder.walk(source, { rid: space.rid, iova, access: "read", ...(space.pasid === undefined ? {} : { pasid: space.pasid }) });
        if (!verdict.ok) continue;
        expect(verdict.pa).toBe(leaf.pa + leaf.size - 1);
        passed.set(space.type, (passed.get(space.type) ?? 0) + 1);
      }
    }
  }
  for (const type of ["stage-1", "stage-2", "nested"]) expect(passed.get(type) ?? 0).toBeGreaterThan(20);
}, 60_000);
