import { IommuError } from "@iommukit/core";
import { acpiProblems, acpiSum } from "@iommukit/core/acpi";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { PRESETS } from "../presets.js";
import { decodeIort, encodeIort, iortTable } from "./index.js";
import { type ArrayName, IORT_LAYOUTS, type IortLayout, type IortNode, type IortTable, NodeType, rowsOf } from "./structures.js";

const device = (bdf: string, iommu = 0): object => ({ model: "dma-test", bdf, vfio: `vfio${Number.parseInt(bdf.replace(/\W/g, ""), 16) % 1000}`, iommu });
const unit = (options: object = {}): object => ({ type: "smmuv3", options });
const machine = (iommus: readonly object[], devices: readonly object[] = [device("00:03.0")]): object => ({ name: "firmware", memory: { size: "256MiB" }, iommus, devices });
const emit = (iommus: readonly object[], devices?: readonly object[]): Uint8Array => iortTable.emit(machine(iommus, devices)) ?? new Uint8Array();
const lines = (bytes: Uint8Array): string[] => iortTable.decode(bytes).structures.flatMap(({ name, text, children }) => [`${name}: ${text}`, ...children.map((child) => `  ${child.text}`)]);

describe("a table", () => {
  it("is what firmware of a machine would say", () => {
    const bytes = emit([unit()]);
    expect(acpiProblems(iortTable.decode(bytes))).toEqual([]);
    expect(iortTable.decode(bytes).text).toBe("1 ITS group, 1 SMMUv3, 1 root complex");
    expect(lines(bytes)).toEqual([
      "ITS group: messages go to ITS 0", "  ITS 0",
      "SMMUv3: SMMUv3 with registers at 0xfed90000, interrupts: event 96, GERROR 98, sync 99",
      "  StreamIDs 0x0-0xffff are DeviceIDs 0x0-0xffff at the ITS group at 0x30",
      "root complex: PCI segment 0",
      "  requesters 00:00.0-ff:1f.7 are StreamIDs 0x0-0xffff at the SMMUv3 at 0x48",
    ]);
  });

  it("gives each unit the ranges of its devices", () => {
    const devices = [device("00:03.0"), device("00:04.0"), device("01:00.0", 1), device("02:00.0"), device("07:00.0", 1), device("07:00.1", 1)];
    const bytes = emit([unit({ preset: "server" }), unit({ preset: "server", iort: { its: [1], proximity: 3 } })], devices);
    expect(acpiProblems(iortTable.decode(bytes))).toEqual([]);
    expect(lines(bytes)).toEqual([
      "ITS group: messages go to ITS 0", "  ITS 0",
      "ITS group: messages go to ITS 1", "  ITS 1",
      "SMMUv3: SMMUv3 with registers at 0xfed90000, interrupts: messages",
      "  StreamIDs 0x0-0xffff are DeviceIDs 0x0-0xffff at the ITS group at 0x30", "  DeviceID 0x10000 at the ITS group at 0x30",
      "SMMUv3: SMMUv3 with registers at 0xfc040000, interrupts: messages",
      "  StreamIDs 0x0-0xffff are DeviceIDs 0x0-0xffff at the ITS group at 0x48", "  DeviceID 0x10001 at the ITS group at 0x48",
      "root complex: PCI segment 0, with ATS, page requests, 20-bit PASIDs",
      "  requesters 00:00.0-00:1f.7 are StreamIDs 0x0-0xff at the SMMUv3 at 0x60",
      "  requesters 01:00.0-01:1f.7 are StreamIDs 0x100-0x1ff at the SMMUv3 at 0xcc",
      "  requesters 02:00.0-06:1f.7 are StreamIDs 0x200-0x6ff at the SMMUv3 at 0x60",
      "  requesters 07:00.0-ff:1f.7 are StreamIDs 0x700-0xffff at the SMMUv3 at 0xcc",
    ]);
  });

  it("says what its units announce", () => {
    const node = (options: object): IortNode | undefined => decodeIort(emit([unit(options)])).table.nodes.find(({ type }) => type === NodeType.SMMUV3);
    const flags = (options: object): bigint | undefined => node(options)?.values.flags;
    expect(flags({ preset: "minimal" })).toBe(1n); // COHACC
    expect(flags({ preset: "server" })).toBe(1n | (2n << 1n) | 16n); // and HTTU, messages
    expect(flags({ preset: "server", iort: { its: [] } })).toBe(1n | (2n << 1n)); // no ITS takes messages
    expect(flags({ idr0: "0xd44100b", iort: { proximity: 0 } })).toBe(8n);
    expect(node({ preset: "server", iort: { wires: { event: 106, pri: 107, gerror: 109, sync: 108 } } })?.values).toMatchObject({ flags: 5n, "event GSIV": 106n, "PRI GSIV": 107n, "GERROR GSIV": 109n, "sync GSIV": 108n });
    for (const preset of Object.keys(PRESETS)) expect(acpiProblems(iortTable.decode(emit([unit({ preset })])))).toEqual([]);
  });

  it("leads no requester to a unit without its StreamID", () => {
    expect(lines(emit([unit({ preset: "minimal" })])).at(-1)).toBe("  requesters 00:00.0-00:07.7 are StreamIDs 0x0-0x3f at the SMMUv3 at 0x48");
    expect(() => emit([unit({ preset: "minimal" })], [device("00:08.0")])).toThrow("00:08.0 has no StreamID at the unit at 0xfed90000, which has 64");
  });

  it("leaves out what other kinds of units translate", () => {
    const bytes = emit([{ type: "vtd" }, unit()], [device("00:03.0"), device("05:00.0", 1)]);
    expect(lines(bytes).at(-1)).toBe("  requesters 05:00.0-ff:1f.7 are StreamIDs 0x500-0xffff at the SMMUv3 at 0x48");
    expect(iortTable.emit(machine([{ type: "vtd" }]))).toBeUndefined();
  });

  it.each<[string, object, string]>([
    ["an option that is none", { gic: 1 }, "iort.gic is not known"],
    ["an ITS twice", { its: [1, 2, 1] }, "iort.its[2] is 1, which the list has already"],
    ["a list that is none", { its: 3 }, "iort.its is not a list"],
    ["wires that lack one", { wires: { event: 1, gerror: 2 } }, "iort.wires.sync is undefined"],
    ["a number too large", { proximity: 2 ** 32 }, "iort.proximity"],
  ])("refuses %s", (_what, iort, message) => {
    expect(() => emit([unit({ iort })])).toThrow(IommuError);
    expect(() => emit([unit({ iort })])).toThrow(message);
  });
});

const MEMORY = { coherency: 1n, "memory flags": 3n, "address bits": 48n };
const at = (bytes: Uint8Array, type: number): number => decodeIort(bytes).report.structures[decodeIort(bytes).table.nodes.findIndex((node) => node.type === type)].offset;

/** A table with a node of every type, in the order of their types. Offsets: ITS 0x30, component 0x4c. */
function everyType(): Uint8Array {
  const node = (type: number, values: IortNode["values"], arrays: IortNode["arrays"], object?: string): IortNode => ({ type, revision: IORT_LAYOUTS[type].revision, identifier: type, values, arrays, ...(object === undefined ? {} : { object }) });
  const build = (smmu: bigint, smmuv3: bigint): IortTable => ({
    revision: 6, nodeOffset: 48,
    nodes: [
      node(NodeType.ITS, {}, { its: [{ id: 0n }, { id: 3n }] }),
      node(NodeType.NAMED, { ...MEMORY, flags: 1n | (8n << 1n) }, { mappings: [{ "IDs minus 1": 1n, "output base": 0x2_0000n, output: smmuv3 }] }, "\\_SB.GPU0"),
      node(NodeType.ROOT_COMPLEX, { ...MEMORY, ATS: 7n, "PASID capabilities": 20n, flags: 1n }, { mappings: [{ "IDs minus 1": 0xffn, output: smmu }, { "input base": 0x100n, "IDs minus 1": 0xfeffn, "output base": 0x100n, output: smmuv3 }] }),
      node(NodeType.SMMU, { base: 0x2b40_0000n, span: 0x1_0000n, model: 3n, flags: 2n }, { global: [{ GSIV: 74n, flags: 1n }, { GSIV: 75n }], context: [{ GSIV: 80n }, { GSIV: 81n }, { GSIV: 82n }], pmu: [{ GSIV: 90n }], mappings: [{ "IDs minus 1": 0xffn, output: 0x30n }] }),
      node(NodeType.SMMUV3, { base: 0x2b50_0000n, flags: 0b11101n, proximity: 1n, "DeviceID mapping": 1n }, { mappings: [{ "IDs minus 1": 0x2_0001n, output: 0x30n }, { "output base": 0x3_0000n, output: 0x30n, flags: 1n }] }),
      node(NodeType.PMCG, { "page 0": 0x2b50_2000n, "page 1": 0x2b51_2000n, node: smmuv3 }, { mappings: [{ "output base": 0x3_0001n, output: 0x30n, flags: 1n }] }),
      node(NodeType.RMR, { flags: 1n | (5n << 2n) }, { mappings: [{ "output base": 0x2_0000n, output: smmuv3 }], ranges: [{ base: 0x8000_0000n, bytes: 0x10_0000n }, { base: 0x9000_0000n, bytes: 0x1_0000n }] }),
    ],
  });
  const first = encodeIort(build(0n, 0n));
  return encodeIort(build(BigInt(at(first, NodeType.SMMU)), BigInt(at(first, NodeType.SMMUV3))));
}

/** Changes bytes at offsets of a node, and mends the checksum. */
const patched = (type: number, patches: readonly (readonly [at: number, ...bytes: number[]])[]): Uint8Array => {
  const bytes = everyType();
  const base = type === -1 ? 0 : at(bytes, type);
  for (const [offset, ...values] of patches) bytes.set(values, base + offset);
  bytes[9] = (bytes[9] - acpiSum(bytes)) & 0xff;
  return bytes;
};

describe("reading", () => {
  it("every type of node", () => {
    const report = iortTable.decode(everyType());
    expect(acpiProblems(report)).toEqual([]);
    expect(report.structures.map(({ name, text }) => `${name}: ${text}`)).toEqual([
      "ITS group: messages go to ITS 0, ITS 3",
      "named component: device \\_SB.GPU0, 8-bit SubstreamIDs, can be stalled",
      "root complex: PCI segment 0, with ATS, page requests, 20-bit PASIDs",
      "SMMU: MMU-500 with registers at 0x2b400000",
      "SMMUv3: SMMUv3 with registers at 0x2b500000, interrupts: messages",
      "PMCG: counters at 0x2b502000 of the SMMUv3 at 0x158",
      "RMR: memory that firmware uses with devices, Normal write-back: software may remap it",
    ]);
    expect(report.structures.at(-1)?.children.map(({ text }) => text)).toEqual(["memory 0x80000000-0x800fffff", "memory 0x90000000-0x9000ffff", "StreamIDs 0x20000 at the SMMUv3 at 0x158"]);
    expect(report.structures[3].children[0].text).toBe("interrupt 74, edge");
    expect(report.structures[4].fields.find(({ name }) => name === "flags")?.meaning).toBe("COHACC, HTTU: access flag and dirty state, proximity valid, DeviceID valid");
  });

  it("an old table, with nodes of the revisions of its time", () => {
    // As firmware of 2016 writes it: revision 0 throughout, a root complex of 32 bytes, an SMMUv3 of 60.
    const node = (type: number, values: IortNode["values"], arrays: IortNode["arrays"]): IortNode => ({ type, revision: 0, identifier: 0, values, arrays });
    const mappings = [{ "IDs minus 1": 0xffffn, output: 0x30n }];
    const wires = { "event GSIV": 74n, "PRI GSIV": 75n, "GERROR GSIV": 77n, "sync GSIV": 76n };
    const bytes = encodeIort({ revision: 0, nodeOffset: 48, nodes: [node(NodeType.ITS, {}, { its: [{ id: 0n }] }), node(NodeType.SMMUV3, { base: 0x905_0000n, flags: 1n, ...wires }, { mappings }), node(NodeType.ROOT_COMPLEX, { coherency: 1n, "memory flags": 3n }, { mappings: [{ "IDs minus 1": 0xffffn, output: 0x48n }] })] });
    const report = iortTable.decode(bytes);
    expect(acpiProblems(report)).toEqual([]);
    expect(report.structures.map(({ length }) => length)).toEqual([24, 60 + 20, 32 + 20]);
  });

  it("keeps a node of a type that it does not know", () => {
    const iwb: IortNode = { type: 7, revision: 1, identifier: 9, values: {}, arrays: {}, raw: Uint8Array.from({ length: 61 }, (_, i) => (i === 0 ? 1 : i)) };
    const bytes = encodeIort({ revision: 7, nodeOffset: 48, nodes: [iwb] });
    const { report, table } = decodeIort(bytes);
    expect(acpiProblems(report)).toEqual([]);
    expect(report.structures[0].text).toBe("node of type 7, kept as 64 bytes");
    expect(encodeIort(table)).toEqual(bytes);
    expect(acpiProblems(iortTable.decode(encodeIort({ revision: 6, nodeOffset: 48, nodes: [iwb] })))).toEqual(["type 7 is reserved in a table of revision 6: software skips the node"]);
  });

  it.each<[string, number, readonly (readonly [number, ...number[]])[], string]>([
    ["a withdrawn table", -1, [[8, 4]], "revision 4 of the table was withdrawn"],
    ["reserved bytes of the header", -1, [[44, 1]], "reserved bytes at offset 0x2c are not 0"],
    ["nodes that begin in the header", -1, [[40, 8]], "the first node is said to be at offset 0x8"],
    ["nodes that begin behind the table", -1, [[42, 8]], "the first node is said to be at offset 0x80030"],
    ["too few nodes", -1, [[36, 200]], "the header says 200 nodes; 7 nodes are there"],
    ["too many nodes", -1, [[36, 6]], "bytes follow the last node"],
    ["a node without length", 0, [[1, 0, 0]], "the ITS group at offset 0x30 has length 0; 16 is the least: nothing behind it can be read"],
    ["a node that is too long", 6, [[1, 0, 9]], "the RMR at offset 0x200 has length 2304; but"],
    ["a node that is too short", 5, [[1, 20, 0]], "length 20 is less than the 40 bytes of a PMCG node of revision 2"],
    ["an identifier that is taken", 2, [[4, 1]], "the root complex at 0x88 has identifier 1, as the named component at 0x4c has"],
    ["ID mappings beyond the node", 2, [[8, 9]], "9 ID mappings at offset 0x28 of the node reach beyond its 80 bytes"],
    ["ID mappings beyond everything", 2, [[8, 0xff, 0xff, 0xff, 0xff]], "4294967295 ID mappings at offset 0x28 of the node reach beyond its 80 bytes"],
    ["ID mappings in the rows", 2, [[12, 8]], "2 ID mappings at offset 0x8 of the node overlap its rows"],
    ["arrays one over the other", 3, [[48, 0x3c]], "3 context interrupts at offset 0x3c of the node overlap 2 global interrupts"],
    ["bytes that belong to nothing", 2, [[8, 1], [12, 0x28]], "of the node belong to nothing and are not 0"],
    ["a reserved bit", 4, [[27, 0x80]], "flags 0x8000001d: bits 31:5 are reserved"],
    ["a reserved byte", 4, [[28, 1]], "reserved bytes at offset 0x174 are not 0"],
    ["an ITS group of none", 0, [[16, 0]], "it names no ITS"],
    ["an ITS twice", 0, [[20, 3]], "it names an ITS twice"],
    ["a name without end", 1, [[29, ...Array.from({ length: 35 }, () => 0x41)]], "the object name does not end with a 0 byte"],
    ["a name that is none", 1, [[30, 0x20]], "\"\\ SB.GPU0\" is no path in the ACPI namespace"],
    ["SubstreamIDs that are too wide", 1, [[16, 21 << 1]], "SubstreamIDs of 21 bits are none: 20 is the most"],
    ["addresses without bits", 2, [[32, 0]], "addresses of 0 bits are none"],
    ["addresses that are too wide", 2, [[32, 65]], "addresses of 65 bits are none"],
    ["PASIDs that are too wide", 2, [[33, 21]], "PASIDs of 21 bits are none: 20 is the most"],
    ["a segment of 17 bits", 2, [[30, 1]], "segment 0x10000 has more than 16 bits"],
    ["an ID mapping that leads nowhere", 2, [[40 + 12, 0x31]], "no node begins at offset 0x31"],
    ["an ID mapping that leads to the wrong node", 2, [[40 + 12, 0x4c, 0]], "it leads to the named component at 0x4c: from here IDs do not go there"],
    ["an ID mapping beyond the last ID", 2, [[40, 0xff, 0xff, 0xff, 0xff]], "256 IDs from 0xffffffff on are more than there are"],
    ["an ID mapping to beyond the last ID", 2, [[40 + 8, 0xff, 0xff, 0xff, 0xff]], "256 IDs from 0xffffffff on are more than there are"],
    ["ID mappings that overlap", 2, [[40 + 4, 0xff, 1]], "ID mappings 0 and 1 overlap: 0x100-0x1ff"],
    ["a number of IDs that is not minus 1", 2, [[40 + 4, 0, 1]], "ID mappings 0 and 1 overlap: 0x100-0x100; the number of IDs is given minus 1"],
    ["a single mapping where there is none", 6, [[68 + 16, 1]], "SINGLE is not for an RMR node"],
    ["a unit without registers", 4, [[16, 0, 0, 0, 0]], "base is 0: it has no registers"],
    ["an unaligned unit", 4, [[16, 0, 0x10]], "base 0x2b501000 is not aligned to 64 KiB"],
    ["a unit in another's place", 4, [[16, 0, 0, 0x40]], "the SMMUv3 at 0x158 has its registers at 0x2b400000, as the SMMU at 0xd8 has"],
    ["a model that is none", 4, [[40, 3]], "model 3 is reserved"],
    ["an SMMUv2 model that is none", 3, [[32, 6]], "model 6 is reserved"],
    ["an SMMUv2 without span", 3, [[24, 0, 0, 0]], "span is 0: it has no registers"],
    ["HTTU 3", 4, [[24, 0x1f]], "HTTU 3 is reserved"],
    ["a DeviceID mapping that is none", 4, [[64, 2]], "DeviceID mapping 2 is none of its 2 ID mappings"],
    ["a DeviceID mapping of many", 4, [[64, 0]], "DeviceID mapping 0 is not SINGLE"],
    ["counters of nothing", 5, [[28, 1]], "no node begins at offset 0x101"],
    ["counters of an ITS", 5, [[28, 0x30, 0]], "it counts for the ITS group at 0x30, which has no counters"],
    ["counters that are not aligned", 5, [[17, 1]], "page 0 0x2b500100 is not aligned to 4 KiB"],
    ["a counter's mapping of many", 5, [[40 + 16, 0]], "its interrupt's ID mapping is SINGLE"],
    ["a withdrawn node", 6, [[3, 2]], "revision 2 of the node was withdrawn"],
    ["attributes that are none", 6, [[16, 6 << 2]], "attributes 0x6 are reserved"],
    ["reserved memory that is not aligned", 6, [[28 + 1, 0x10]], "base 0x80001000 is not aligned to 64 KiB"],
    ["reserved memory of nothing", 6, [[28 + 8, 0, 0, 0]], "0x0 bytes are no multiple of 64 KiB"],
    ["reserved memory twice", 6, [[48 + 2, 0, 0x80]], "memory ranges 0 and 1 overlap: 0x80000000-0x8000ffff"],
    ["reserved memory for nobody", 6, [[8, 0]], "it names no stream"],
    ["no reserved memory", 6, [[20, 0]], "it reserves no memory"],
    ["more memory than there is", 6, [[28, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]], "reach beyond the address space"],
  ])("names %s", (_what, type, patches, message) => {
    expect(acpiProblems(iortTable.decode(patched(type, patches))).join("\n")).toContain(message);
  });

  it("names what is wrong with the table's bytes", () => {
    const problems = (bytes: Uint8Array): string => acpiProblems(iortTable.decode(bytes)).join("\n");
    expect(problems(new Uint8Array())).toBe("0 bytes are given; an ACPI header takes 36");
    expect(problems(Uint8Array.from([0x41, ...everyType().subarray(1)]))).toContain('the signature is "AORT", not "IORT"');
    expect(problems(everyType().subarray(0, 40))).toContain("its header alone takes 48");
    expect(problems(everyType().subarray(0, 100))).toContain("but only 100 are given");
    expect(problems(Uint8Array.from([...everyType(), 0]))).toContain("and 1 more follow");
    const wrong = everyType();
    wrong[30] ^= 1;
    expect(problems(wrong)).toContain("the checksum is 0x");
  });

  it("names identifiers in a table from before there were any", () => {
    expect(acpiProblems(iortTable.decode(patched(-1, [[8, 0]])))).toContain("bytes 4 to 7 of the named component at 0x4c are reserved in a table of revision 0");
  });

  it("names the DeviceID mapping of an older unit when it needs one", () => {
    expect(acpiProblems(iortTable.decode(patched(4, [[3, 4], [24, 0xd], [64, 5]])))).toEqual(["DeviceID mapping 5 is none of its 2 ID mappings"]);
    expect(acpiProblems(iortTable.decode(patched(4, [[3, 4], [24, 0xd], [44, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1], [64, 5]])))).toEqual([]);
  });
});

describe("hostile bytes", () => {
  /** A table without problems says all that its bytes say. */
  const check = (bytes: Uint8Array): void => {
    const { table, report } = decodeIort(bytes);
    if (acpiProblems(report).length === 0) expect(Buffer.compare(encodeIort(table), bytes)).toBe(0);
  };

  it("crash nothing, and what has no problem comes back as it was", () => {
    const start = everyType();
    fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), (noise) => {
      check(noise);
      check(Uint8Array.from([...start.subarray(0, 48), ...noise]));
    }), { numRuns: 500 });
    let clean = 0;
    fc.assert(fc.property(fc.array(fc.tuple(fc.nat(start.length - 1), fc.nat(255)), { maxLength: 4 }), (changes) => {
      const bytes = start.slice();
      for (const [offset, value] of changes) if (offset !== 9) bytes[offset] = value;
      bytes[9] = (bytes[9] - acpiSum(bytes)) & 0xff;
      if (changes.length > 0 && acpiProblems(decodeIort(bytes).report).length === 0) clean++;
      check(bytes);
    }), { numRuns: 1500 });
    expect(clean).toBeGreaterThan(30);
  });

  it("are read, however many nodes they are", () => {
    const node: IortNode = { type: NodeType.SMMUV3, revision: 5, identifier: 0, values: { base: 0x1_0000n }, arrays: {} };
    const bytes = encodeIort({ revision: 6, nodeOffset: 48, nodes: Array.from({ length: 5000 }, () => node) });
    expect(acpiProblems(iortTable.decode(bytes)).length).toBe(2 * 4999);
  });
});

describe("round trips", () => {
  const element = (layout: IortLayout, name: ArrayName): fc.Arbitrary<Record<string, bigint>> => rows(layout.arrays.find((array) => array.name === name)?.rows ?? []);
  const rows = (list: readonly { readonly name: string; readonly size: number }[]): fc.Arbitrary<Record<string, bigint>> => {
    const named = list.filter(({ name }) => name !== "");
    return fc.tuple(...named.map(({ size }) => fc.bigInt({ min: 0n, max: (1n << BigInt(8 * size)) - 1n }))).map((values) => Object.fromEntries(named.map(({ name }, i) => [name, values[i]])));
  };
  const node = fc.tuple(fc.constantFrom(...IORT_LAYOUTS), fc.nat(6)).chain(([layout, revision]): fc.Arbitrary<IortNode> => {
    const counted = new Set(layout.arrays.flatMap(({ count, offset }) => [count, offset]));
    const arrays = Object.fromEntries(layout.arrays.map(({ name, count }) => [name, fc.array(element(layout, name), typeof count === "number" ? { minLength: count, maxLength: count } : { maxLength: 4 })]));
    return fc.record({
      type: fc.constant(layout.type), revision: fc.constant(revision), identifier: fc.nat(), arrays: fc.record(arrays),
      values: rows(rowsOf(layout, revision).filter(({ name }) => !counted.has(name))),
      ...(layout.named ? { object: fc.stringMatching(/^\\[A-Z_]{4}(\.[A-Z0-9]{4}){0,3}$/) } : {}),
    });
  });
  const identity = fc.record({ oemId: fc.stringMatching(/^[A-Z]{6}$/), oemTableId: fc.stringMatching(/^[A-Z]{8}$/), oemRevision: fc.nat(), creatorId: fc.stringMatching(/^[A-Z]{4}$/), creatorRevision: fc.nat() });
  const table = fc.record({ revision: fc.nat(255), nodeOffset: fc.integer({ min: 48, max: 64 }), nodes: fc.array(node, { maxLength: 6 }), identity });

  it("values, bytes, values, bytes", () => {
    fc.assert(fc.property(table, (values) => {
      const bytes = encodeIort(values);
      expect(acpiSum(bytes)).toBe(0);
      const decoded = decodeIort(bytes).table;
      // Places in the node come on top.
      const plain = { ...decoded, nodes: decoded.nodes.map(({ offsets: _offsets, length: _length, ...rest }) => rest) };
      expect(JSON.parse(JSON.stringify(plain, bigints))).toEqual(JSON.parse(JSON.stringify(values, bigints)));
      expect(Buffer.compare(encodeIort(decoded), bytes)).toBe(0);
    }), { numRuns: 100 });
  });
});

/** fast-check's records have no prototype. */
const bigints = (_key: string, value: unknown): unknown => (typeof value === "bigint" ? value.toString() : value);
