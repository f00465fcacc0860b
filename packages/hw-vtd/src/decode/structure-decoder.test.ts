import { encodeFields } from "@iommukit/core";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { PRESETS } from "../presets.js";
import { FAULTS } from "../spec/faults.js";
import { FAULT_RECORD, IRTE_POSTED, PASID_TABLE_ENTRY, REGISTER_LAYOUTS, SS_PTE } from "../spec/index.js";
import { adviceFor } from "./advice.js";
import { vtdStructureDecoder as decoder } from "./structure-decoder.js";

const widest = 0xffff_ffff_ffff_ffffn;
const words = (bits: number): fc.Arbitrary<bigint[]> => {
  const count = Math.ceil(bits / 64);
  return fc.array(fc.bigInt({ min: 0n, max: bits === 32 ? 0xffff_ffffn : widest }), { minLength: count, maxLength: count });
};

describe("every kind of structure", () => {
  it("has a name of its own, and every register is there", () => {
    const names = decoder.kinds.map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
    for (const { table } of REGISTER_LAYOUTS) expect(names).toContain(table.structure.toLowerCase());
  });

  it.each(decoder.kinds.map((kind) => [kind.name, kind] as const))("%s: any words decode, in any unit, and the fields add up to them", (name, { bits }) => {
    fc.assert(
      fc.property(words(bits), fc.constantFrom({}, ...Object.values(decoder.presets), { HAW: 39n }, { ECAP: 0n, CAP: 0n, IRTA: 0n, RTADDR: 0x80n }), (value, unit) => {
        let decoded;
        try {
          decoded = decoder.decode(name, value, unit);
        } catch (error) {
          // A descriptor whose type is none.
          expect((error as Error).message).toContain("no invalidation descriptor has type");
          return;
        }
        for (const field of decoded.fields) {
          const [high, low = high] = field.bits.split(":").map(Number);
          const whole = decoded.words.reduce((all, word, i) => all | (word << BigInt(64 * i)), 0n);
          expect((whole >> BigInt(low)) & ((1n << BigInt(high - low + 1)) - 1n)).toBe(field.value);
        }
        expect(decoded.section).toMatch(/^VT-d/);
      }),
      { numRuns: 40 },
    );
  });

  it("refuses a kind that it lacks, and words of another length", () => {
    expect(() => decoder.decode("pasid", [0n])).toThrow('VT-d has no structure "pasid"');
    expect(() => decoder.decode("root-entry", [0n])).toThrow("root-entry has 2 words, not 1");
    expect(() => decoder.decode("cap", [0n, 0n])).toThrow("cap has 1 words, not 2");
    expect(() => decoder.decode("descriptor", [0xfn, 0n])).toThrow("no invalidation descriptor has type 0xf");
  });
});

describe("rules of one unit", () => {
  const violation = (name: string, value: readonly bigint[], field: string, unit: Record<string, bigint>): string | undefined =>
    decoder.decode(name, value, unit).fields.find((candidate) => candidate.name === field)?.violation;

  it("a field is reserved where the unit lacks the capability", () => {
    const entry = encodeFields(PASID_TABLE_ENTRY, { P: 1n, PGTT: 1n, SRE: 1n, FSPTPTR: 1n << 30n, DID: 0x1ffn });
    expect(decoder.decode("pasid-entry", entry).fields.filter((field) => field.violation)).toEqual([]);
    expect(violation("pasid-entry", entry, "SRE", { ECAP: 0n })).toBe("VT-d 9.6: bit 128 must be 0: ECAP.SRS=0");
    expect(violation("pasid-entry", entry, "FSPTPTR", { HAW: 39n })).toBe("VT-d 9.6: bits 191:167 must be 0: above the host address width of 39 bits");
    expect(violation("pasid-entry", entry, "DID", { CAP: 2n })).toBe("VT-d 9.6: bits 79:72 must be 0: domain ids have 8 bits (CAP.ND)");
    expect(decoder.decode("pasid-entry", entry, { ECAP: 0n }).notes).toContain("a request that meets it faults with reason 0x5a (SPT.3): bits are set that must be 0");
  });

  it("what is not given takes nothing away", () => {
    expect(violation("pasid-entry", encodeFields(PASID_TABLE_ENTRY, { P: 1n, PGTT: 2n, DID: 0xffffn, SSADE: 1n }), "DID", { ECAP: widest })).toBeUndefined();
  });

  it("a large page of a size that the unit lacks, SNP, and IW", () => {
    expect(violation("ss-pdpe", [0x83n], "PS", { CAP: 1n << 34n })).toBe("VT-d 9.8: bit 7 must be 0: CAP.SSLPS has no 1 GiB pages");
    const page = encodeFields(SS_PTE, { R: 1n, SNP: 1n, IW: 1n });
    expect(violation("ss-pte", page, "SNP", { ECAP: 0n })).toBe("VT-d 9.8: bit 11 must be 0: ECAP.SC=0");
    expect(violation("ss-pte", page, "IW", { ECAP: widest })).toBe("VT-d 9.8: bit 62 must be 0: RTADDR.SSIRWE=0");
    expect(violation("ss-pte", page, "IW", { ECAP: widest, RTADDR: 0x80n })).toBeUndefined();
  });

  it("an interrupt entry by IRTA.EIME and CAP.PI", () => {
    const entry = [0x12_3456_0000_0001n | (0xff00_0000n << 32n), 0n];
    expect(decoder.decode("irte", entry).fields.filter((field) => field.violation)).toEqual([]);
    expect(violation("irte", entry, "DST", { IRTA: 0n })).toContain("VT-d 9.10: bits 63:48 must be 0: IRTA.EIME=0");
    expect(violation("irte", entry, "DST", { IRTA: 0x800n })).toBeUndefined();
    expect(violation("irte", encodeFields(IRTE_POSTED, { P: 1n, IM: 1n }), "IM", { CAP: 0n })).toBe("VT-d 9.11: bit 15 must be 0: CAP.PI=0");
  });

  it("a descriptor of 128 bits in a queue of 256", () => {
    expect(decoder.decode("descriptor-256", [0x11n, 0n, 0n, 0n]).notes).toEqual([]);
    expect(decoder.decode("descriptor-256", [0x11n, 0n, 1n, 0n]).notes).toEqual(["the queue stops at it: IQE with IQEI 4, the upper 128 bits must be 0"]);
    expect(decoder.decode("descriptor", [0x26n, 0n])).toMatchObject({ structure: "PASID-based IOTLB invalidate descriptor", notes: ["256 bits: only in a queue with IQA.DW=1"] });
    expect(decoder.decode("wait-descriptor", [0x11n, 0n]).notes[0]).toContain("the type is 0x1, that of another descriptor: this one has 0x5");
  });
});

describe("faults", () => {
  it.each(FAULTS.map((row) => [row.name, row] as const))("%s: the record says what it means and where to look", (name, { code, text }) => {
    const record = encodeFields(FAULT_RECORD, { F: 1n, FR: BigInt(code), SID: 0x18n, FI: 0x1234n, T1: 1n });
    const { notes } = decoder.decode("frcd", record);
    expect(notes[0]).toMatch(/by 00:03\.0$/);
    expect(notes).toContain(`0x${code.toString(16)} ${name}: ${text}`);
    expect(adviceFor(name)).toBeDefined();
  });

  it.each([
    ["a write", { T1: 0n, T2: 0n }],
    ["a page request", { T1: 0n, T2: 1n }],
    ["a read", { T1: 1n, T2: 0n }],
    ["an atomic operation", { T1: 1n, T2: 1n }],
  ])("%s is told by T1 and T2", (what, bits) => {
    const { notes } = decoder.decode("frcd", encodeFields(FAULT_RECORD, { F: 1n, FR: 0x71n, SID: 0x18n, FI: 0x1234n, PP: 1n, PV: 9n, ...bits }));
    expect(notes[0]).toBe(`${what} at 0x1234000 by 00:03.0 with PASID 0x9`);
  });

  it("an interrupt's record holds its index, an empty one nothing", () => {
    const record = encodeFields(FAULT_RECORD, { F: 1n, FR: 0x22n, SID: 0xf0n, FI: 0x12n << 36n });
    expect(decoder.decode("frcd", record).notes[0]).toBe("interrupt index 0x12 by 00:1e.0");
    expect(decoder.decode("frcd", [0x1000n, 0x18n]).notes).toEqual(["F is 0: the record is empty, or was cleared"]);
  });
});

describe("lines of Linux's log", () => {
  const explain = (line: string): string => {
    const found = decoder.explainLine(line);
    return found === undefined ? "" : [found.event, ...found.text, ...found.structures.flatMap(({ structure, fields }) => [structure, ...fields.map(({ name, value }) => `${name}=${value.toString(16)}`)])].join("\n");
  };

  it.each([
    ["DMAR: [DMA Read NO_PASID] Request device [00:02.0] fault addr 0x0 [fault reason 0x06] PTE Read access is not set", ["a read of 0x0 by 00:02.0", "LGN.3"]],
    ["[  12.5] DMAR: [DMA Write PASID 0x1a] Request device [6a:01.0] fault addr 0x7f0012345000 [fault reason 0x71] SM: Present bit is clear", ["a write of 0x7f0012345000 by 6a:01.0 with PASID 0x1a", "SFS.2"]],
    ["DMAR: [DMA Write] Request device [03:00.0] fault addr bb000 [fault reason 05] PTE Write access is not set", ["a write of 0xbb000 by 03:00.0", "LGN.2"]],
    ["DMAR: [DMA Read] Request device [00:1f.2] PASID ffffffff fault addr fffe0000 [fault reason 0c] non-zero reserved fields in PTE", ["a read of 0xfffe0000 by 00:1f.2\n", "LSS.2"]],
    ["DMAR: [INTR-REMAP] Request device [f0:1f.7] fault index 0x12 [fault reason 0x26] Blocked an interrupt request due to source-id verification failure", ["an interrupt of f0:1f.7 with index 0x12", "IRR.26"]],
    ["DMAR: DRHD: handling fault status reg 3", ["PFO: overflow", "PPF: a fault is recorded"]],
    ["DMAR: VT-d detected Invalidation Queue Error: Reason 4", ["IQEI 0x4: a reserved field is set"]],
    ["DMAR: QI HEAD: IOTLB Invalidation qw0 = 0x100000000000031, qw1 = 0x0", ["Context-cache invalidate descriptor", "G=3"]],
    ["DMAR: VT-d detected Invalidation Time-out Error: SID 18", ["00:03.0 did not answer"]],
    ["DMAR: dmar0: reg_base_addr fed90000 ver 1:0 cap 1c0000c40660462 ecap 19e2ff0505e", ["dmar0 has its registers at 0xfed90000", "SAGAW=4", "NEST=1"]],
    ["DMAR: DRHD base: 0x000000fed91000 flags: 0x1", ["INCLUDE_PCI_ALL"]],
    ["DMAR: RMRR base: 0x0000008d800000 end: 0x0000008fffffff", ["0x8d800000-0x8fffffff"]],
    ["DMAR: Host address width 39", ["39 bits"]],
    ["DMAR: root entry: 0x0000000111e9e001", ["Root entry", "CTP=111e9e"]],
    ["DMAR: context entry: hi 0x0000000000000102, low 0x0000000111e9f001", ["Context entry", "AW=2", "DID=1", "Scalable-mode context entry"]],
    ["DMAR: scalable mode root entry: hi 0x0, low 0x0000000111e9e001", ["Scalable-mode root entry", "LCTP=111e9e"]],
    ["DMAR: pasid dir entry: 0x0000000101b5c001", ["PASID directory entry", "SMPTBLPTR=101b5c"]],
    ["DMAR: pasid table entry[1]: 0x0000000000800005", ["word 1 of a PASID table entry", "DID (bits 79:64) 0x5", "PWSNP (bits 87) 0x1"]],
    ["DMAR: pte level: 1, pte value: 0x0000000012345003", ["FS-PTE", "SS-PTE", "ADDR=12345"]],
  ])("%s", (line, expected) => {
    for (const part of expected) expect(explain(`${line}\n`)).toContain(part);
  });

  it("says nothing of other lines, and crashes on none", () => {
    expect(decoder.explainLine("usb 1-1: new high-speed USB device number 2")).toBeUndefined();
    expect(decoder.explainLine(`DMAR: root entry: 0x${"f".repeat(5000)}`)).toBeUndefined();
    expect(explain(`DMAR: pte level: 1, pte value: 0x${"f".repeat(40)}`)).not.toBe("");
    fc.assert(fc.property(fc.string(), fc.constantFrom("DMAR: [DMA Read] Request device [", "DMAR: root entry: 0x", "QI HEAD: x qw0 = 0x", "pasid table entry[1]: 0x"), (noise, start) => void explain(start + noise)));
  });
});

it("knows the presets", () => {
  expect(Object.keys(decoder.presets)).toEqual(Object.keys(PRESETS));
});
