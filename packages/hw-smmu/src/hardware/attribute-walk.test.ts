/** What accesses carry (13), as the unit tells it: through GBPA, STE, both stages; and what asking does not do. */
import { Access } from "@iommukit/core";
import { expect, it } from "vitest";
import { LEAF1, LEAF2, Rig } from "../reference/rig.js";
import { identify, UNITS } from "../reference/units.js";
import { formatAttributes, Reg } from "../spec/index.js";

const full = UNITS["with everything"];
const PAGE = 0x100;
const READ = Access.READ;
const FETCH = Access.READ | Access.EXECUTE;

function carried(rig: Rig, page = PAGE, access: number = READ): string | undefined {
  const found = rig.unit.attributes(1, -1, page, access);
  return found === undefined ? undefined : formatAttributes(found.memory);
}

it("SMMUEN=0: GBPA's overrides, and nothing of what aborts", () => {
  const rig = new Rig(full);
  rig.write(Reg.GBPA, 0x8000_0000 | (2 << 12) | (1 << 4) | 10);
  expect(carried(rig)).toBe("Normal-iWT/RAWAnTR-oWT/RAWAnTR-OSH");
  expect(carried(rig, 2 ** 40)).toBeUndefined();
  rig.write(Reg.GBPA, 0x8000_0000 | (1 << 20));
  expect(carried(rig)).toBeUndefined();
});

it("Config=100: the STE's overrides where the unit has them", () => {
  for (const [id, text] of [[full, "Normal-iNC-oNC"], [UNITS["as QEMU's"], "Normal-iWB/RAWAnTR-oWB/RAWAnTR-NSH"]] as const) {
    const rig = new Rig(id);
    rig.ste({ Config: 4, MTCFG: 1, MemAttr: 5, SHCFG: 1 });
    rig.start();
    expect(carried(rig)).toBe(text);
  }
});

it("stage 1: AttrIndx into MAIR of the CD, SH of the leaf, or with LPA2 of the CD", () => {
  const rig = new Rig(full);
  rig.stage1.map(PAGE, 0x500, 1, LEAF1 | (5 << 2) | (3 << 8));
  rig.stage1Stream({ MAIR1: 0xbb00 }, { SHCFG: 1 });
  rig.start();
  expect(carried(rig)).toBe("Normal-iWT/RAWAnTR-oWT/RAWAnTR-ISH");
  const wide = new Rig(full);
  const table = wide.table({ granule: 0, outputBits: 52, ds: true, wide: true });
  table.map(PAGE, 0x500, 1, LEAF1 | (1 << 2));
  wide.stage1Stream({ MAIR0: 0xff00, SH0: 2, DS: 1, TTB0: BigInt(table.root) >> 4n }, { SHCFG: 1 });
  wide.start();
  expect(carried(wide)).toBe("Normal-iWB/RAWAnTR-oWB/RAWAnTR-OSH");
});

it("nested: stage 2 over stage 1, and S2FWB (5.2, 13.1.5, corner case 50)", () => {
  for (const [ste, text] of [[{}, "Device-nGnRE"], [{ S2FWB: 1 }, "Normal-iWB/RAWAnTR-oWB/RAWAnTR-OSH"]] as const) {
    const rig = new Rig(full);
    rig.nestedStream({ MAIR0: 0x04 }, { SHCFG: 1, ...ste });
    rig.stage1.map(PAGE, 0x1000, 1, LEAF1);
    rig.stage2.map(0x1000, 0x500, 1, (LEAF2 & ~0x3c) | (6 << 2));
    rig.start();
    // MemAttr 0110 is outer non-cacheable, inner write-through; with S2FWB, write-back whatever stage 1 says.
    expect(carried(rig)).toBe(text);
  }
});

it("INST and PRIV as overridden up to SMMUv3.3, privileged data from 3.4 on", () => {
  const id3 = identify(3, { S2P: 1n, S1P: 1n, TTF: 2n, TTENDIAN: 2n, ST_LEVEL: 1n, STALL_MODEL: 1n, Hyp: 1n }, { SIDSIZE: 16n, CMDQS: 8n, EVENTQS: 8n, ATTR_PERMS_OVR: 1n }, { HAD: 1n, XNX: 1n }, { OAS: 5n, GRAN4K: 1n });
  for (const [id, instruction, privileged] of [[id3, true, true], [full, false, true]] as const) {
    const rig = new Rig(id);
    rig.ste({ Config: 4, PRIVCFG: 3, SHCFG: 1 });
    rig.start();
    expect(rig.unit.attributes(1, -1, PAGE, FETCH)).toMatchObject({ instruction, privileged });
  }
});

it("asking records nothing, caches nothing, and sees what no cache has", () => {
  const rig = new Rig(full);
  rig.stage1.map(PAGE, 0x500, 1, LEAF1);
  rig.stage1Stream();
  rig.start();
  expect(carried(rig, PAGE + 1)).toBeUndefined();
  expect(rig.names()).toEqual([]);
  expect(carried(rig)).toBe("Device-nGnRnE");
  expect([...rig.unit.tlbs.input.entries()]).toEqual([]);
});
