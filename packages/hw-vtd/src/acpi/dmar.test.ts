import { IommuError } from "@iommukit/core";
import { acpiProblems, acpiSum } from "@iommukit/core/acpi";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { decodeDmar } from "./decode.js";
import { dmarTable, type DmarTable, encodeDmar } from "./index.js";
import { DMAR_LAYOUTS, type DmarStructure } from "./structures.js";

const device = (bdf: string, vfio: string, iommu = 0): object => ({ model: "dma-test", bdf, vfio, iommu });
const machine = (iommus: readonly object[], devices: readonly object[] = [device("00:03.0", "vfio0")]): object => ({ name: "firmware", memory: { size: "256MiB" }, iommus, devices });
const emit = (dmar: object, rmrr: readonly object[] = []): Uint8Array => dmarTable.emit(machine([{ type: "vtd", options: { preset: "full", dmar, rmrr } }])) ?? new Uint8Array();

/** As firmware writes it: a unit for graphics, one for the rest with an I/O APIC and an HPET, reserved memory for USB. */
const CLIENT = Buffer.from(
  [
    "444d4152a8000000016a494e54454c2045444b322020202002000000494e544c25092020", "2605", "00000000000000000000",
    "0000180000000000" + "0000d9fe00000000" + "0108000000000200",
    "0000200001000000" + "0010d9fe00000000" + "03080000021e0700" + "04080000001e0600",
    "0100280000000000" + "00d0918b00000000" + "ffcf938b00000000" + "0108000000001400" + "0108000000001402",
    "0300140000000000" + "0010d9fe00000000" + "01000000",
    "0200080001000000",
  ].join(""),
  "hex",
);

describe("a table", () => {
  it("is what firmware of a machine would say", () => {
    const report = dmarTable.decode(dmarTable.emit(machine([{ type: "vtd" }])) ?? new Uint8Array());
    expect(acpiProblems(report)).toEqual([]);
    expect(report.text).toBe("1 remapping unit, 48-bit physical addresses");
    expect(report.structures.map(({ text }) => text)).toEqual(["unit with registers at 0xfed90000, for every PCI device that no other unit names"]);
  });

  it("gives the last unit what no other names, in the order of types", () => {
    const iommus = [{ type: "vtd", options: { rmrr: [{ start: "0x1000", end: "0x2000", devices: ["00:02.0"] }] } }, { type: "vtd", options: { haw: 39 } }];
    const report = dmarTable.decode(dmarTable.emit(machine(iommus, [device("06:00.1", "vfio0"), device("00:04.0", "vfio1", 1)])) ?? new Uint8Array());
    expect(acpiProblems(report)).toEqual([]);
    expect(report.structures.map(({ name, text }) => `${name}: ${text}`)).toEqual([
      "DRHD: unit with registers at 0xfed90000, for 1 device",
      "DRHD: unit with registers at 0xfc040000, for every PCI device that no other unit names",
      "RMRR: memory 0x1000-0x1fff that firmware uses with 1 device: software keeps it mapped one to one",
    ]);
    expect(report.structures[0].children[0].text).toBe("PCI endpoint at 06:00.1");
  });

  it("has flags by what the units can do", () => {
    const flags = (options: object): number => decodeDmar(dmarTable.emit(machine([{ type: "vtd", options }])) ?? new Uint8Array()).table.flags;
    expect(flags({ preset: "scalable" })).toBe(0);
    expect(flags({ preset: "full" })).toBe(1);
    expect(flags({ ecap: "0xf0fa0a" })).toBe(3); // IR without EIM
    expect(flags({ preset: "full", dmar: { optIn: true } })).toBe(5);
  });

  it("with every structure says each in a line", () => {
    const report = dmarTable.decode(emit({
      ioapics: [{ id: 2, bdf: "f0:1f.0" }], hpets: [{ id: 1, bdf: "f0:0f.0" }],
      acpi: [{ number: 1, bdf: "00:15.0", object: "\\_SB.PCI0.I2C0" }], atsr: "all", satc: { required: true, devices: ["00:02.0"] },
      sidp: [{ devices: ["00:03.0"], flags: ["no-nested", "atc-required"] }], proximity: 3,
    }, [{ start: "0x8d800000", end: "0x8d900000", devices: ["00:02.0"] }]));
    expect(acpiProblems(report)).toEqual([]);
    expect(report.structures.map(({ name }) => name)).toEqual(["DRHD", "RMRR", "ATSR", "RHSA", "ANDD", "SATC", "SIDP"]);
    expect(report.structures[0].children.map(({ text }) => text)).toEqual(["I/O APIC 2 at f0:1f.0", "HPET 1 at f0:0f.0", "ACPI device 1 at 00:15.0"]);
    expect(report.structures.slice(2).map(({ text }) => text)).toEqual([
      "every root port passes ATS", "the unit at 0xfed90000 belongs to proximity domain 3", "ACPI device 1 is \\_SB.PCI0.I2C0",
      "1 device inside the chip with a translation cache, which software must enable", "what software should leave out for 1 device",
    ]);
    expect(report.structures[6].children[0].text).toContain("no nested translation for requests without PASID; its translation cache is required");
  });

  it("of a machine without such a unit is none", () => {
    expect(dmarTable.emit(machine([{ type: "other" }]))).toBeUndefined();
  });

  it.each<[string, object, string]>([
    ["an option that is none", { rmr: [] }, "dmar.rmr is not known"],
    ["a device that is none", { satc: { devices: ["zebra"] } }, 'dmar.satc.devices[0] is "zebra"'],
    ["a flag that is none", { sidp: [{ devices: ["00:03.0"], flags: ["fast"] }] }, 'dmar.sidp[0].flags[0] is "fast"'],
    ["a name that is none", { acpi: [{ number: 1, bdf: "00:15.0", object: "i2c" }] }, "dmar.acpi[0].object"],
    ["a list that is none", { hpets: {} }, "dmar.hpets is not a list"],
    ["a number too large", { proximity: 65_536 }, "dmar.proximity"],
  ])("refuses %s", (_what, dmar, message) => {
    expect(() => emit(dmar)).toThrow(IommuError);
    expect(() => emit(dmar)).toThrow(message);
  });

  it("refuses a unit without devices that is not the last", () => {
    expect(() => dmarTable.emit(machine([{ type: "vtd" }, { type: "vtd" }], [device("00:03.0", "vfio0", 1)]))).toThrow("no device is behind the unit at 0xfed90000");
  });
});

describe("reading", () => {
  it("a client's table", () => {
    const bytes = Uint8Array.from(CLIENT);
    bytes[4] = bytes.length;
    bytes[9] = (bytes[9] - acpiSum(bytes)) & 0xff;
    const report = dmarTable.decode(bytes);
    expect(report.text).toBe("2 remapping units, 39-bit physical addresses, INTR_REMAP, DMA_CTRL_PLATFORM_OPT_IN");
    // It has ATSR behind RHSA.
    expect(acpiProblems(report)).toEqual([expect.stringMatching(/^the ATSR at offset 0x[0-9a-f]+ follows a RHSA: structures come in the order of their types/)]);
    expect(report.structures.map(({ name }) => name)).toEqual(["DRHD", "DRHD", "RMRR", "RHSA", "ATSR"]);
    expect(report.structures[2].text).toBe("memory 0x8b91d000-0x8b93cfff that firmware uses with 2 devices: software keeps it mapped one to one");
  });

  const good = (): Uint8Array => emit({ acpi: [{ number: 1, bdf: "00:15.0", object: "\\_SB.I2C0" }], atsr: ["00:1c.0"], proximity: 0, satc: { devices: ["00:02.0"] } }, [{ start: "0x1000", end: "0x2000", devices: ["00:02.0"] }]);
  /** Offset of the first structure of a name. */
  const offsetOf = (name: string): number => dmarTable.decode(good()).structures.find((structure) => structure.name === name)?.offset ?? 0;
  it.each<[string, (bytes: Uint8Array) => Uint8Array | void, string]>([
    ["nothing", () => new Uint8Array(), "0 bytes are given; an ACPI header takes 36"],
    ["another table", (b) => void b.set([0x41], 0), 'the signature is "AMAR", not "DMAR"'],
    ["a cut table", (b) => b.subarray(0, 60), "but only 60 are given"],
    ["a header that is too short", (b) => b.subarray(0, 40), "its header alone takes 48"],
    ["more than the table", (b) => Uint8Array.from([...b, 0, 0]), "and 2 more follow"],
    ["a wrong checksum", (b) => void (b[37] |= 4), "the checksum is 0x"],
    ["reserved bytes of the header", (b) => void (b[40] = 1), "reserved bytes 38 to 47 are not 0"],
    ["reserved flags", (b) => void (b[37] |= 0x80), "bits 7:3 are reserved"],
    ["a host address width that is none", (b) => void (b[36] = 9), "a host address width of 10 bits"],
    ["length 0", (b) => void b.set([0, 0], 50), "the DRHD at offset 0x30 has length 0: nothing behind it can be read"],
    ["a length beyond the table", (b) => void b.set([0xff, 0xff], 50), "has length 65535, but"],
    ["a length below the least", (b) => void b.set([8, 0], offsetOf("RHSA") + 2), "has length 8; 20 is the least"],
    ["an unknown type", (b) => void b.set([77, 0], offsetOf("RHSA")), "has the reserved type 77"],
    ["structures out of order", (b) => void b.set([6], offsetOf("RMRR")), "follows a SIDP: structures come in the order of their types"],
    ["an unaligned unit", (b) => void (b[57] = 0x10), "is not aligned to the 32768 bytes"],
    ["no unit", (b) => void b.set([6, 0], 48), "there is no DRHD"],
    ["a unit for nobody", (b) => { b[52] = 0; b[50] = 16; return Uint8Array.from([...b.subarray(0, 64), ...b.subarray(72)]); }, "it names no device and is not INCLUDE_PCI_ALL"],
    ["PCI devices with INCLUDE_PCI_ALL", (b) => void (b[64] = 1), "INCLUDE_PCI_ALL names no PCI devices"],
    ["a scope of a reserved type", (b) => void (b[64] = 9), "scope type 9 is reserved"],
    ["a scope that is too long", (b) => void (b[65] = 40), "has length 40, of 8 bytes that are left"],
    ["a scope of odd length", (b) => void (b[65] = 7), "has the odd length 7"],
    ["flags of a scope outside SIDP", (b) => void (b[66] = 1), "reserved bits of the scope"],
    ["a device that is none", (b) => void (b[70] = 32), "20.0 is no PCI device and function"],
    ["a reserved region that ends before it begins", (b) => void b.set([0xff, 0x0f], offsetOf("RMRR") + 16), "limit 0xfff lies below base 0x1000"],
    ["a reserved region of half a page", (b) => void (b[offsetOf("RMRR") + 8] = 4), "base 0x1004 is not aligned to 4 KiB"],
    ["a root port that is no bridge", (b) => void (b[offsetOf("ATSR") + 8] = 1), "a root port is a PCI bridge"],
    ["affinity of no unit", (b) => void (b[offsetOf("RHSA") + 9] = 7), "no DRHD has registers at"],
    ["a name without end", (b) => void (b[offsetOf("ANDD") + 17] = 0x41), "the object name does not end with a 0 byte"],
    ["an ACPI device that no scope has", (b) => void (b[offsetOf("ANDD") + 7] = 2), "no device scope refers to ACPI device 2"],
    ["a translation cache in a bridge", (b) => void (b[offsetOf("SATC") + 8] = 2), "is a PCI endpoint"],
  ])("names %s", (_what, change, message) => {
    const bytes = good();
    const table = change(bytes) ?? bytes;
    expect(acpiProblems(dmarTable.decode(table)).join("\n")).toContain(message);
  });

  it("crashes on no bytes", () => {
    const start = good();
    fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), (noise) => {
      acpiProblems(dmarTable.decode(Uint8Array.from([...start.subarray(0, 48), ...noise])));
      acpiProblems(dmarTable.decode(noise));
    }));
    fc.assert(fc.property(fc.array(fc.tuple(fc.nat(200), fc.nat(255)), { maxLength: 6 }), (changes) => {
      const bytes = start.slice();
      for (const [at, value] of changes) bytes[at % bytes.length] = value;
      acpiProblems(dmarTable.decode(bytes));
    }));
  });
});

describe("round trips", () => {
  const scope = fc.record({
    type: fc.integer({ min: 1, max: 5 }), flags: fc.integer({ min: 0, max: 31 }), id: fc.nat(255), bus: fc.nat(255),
    path: fc.array(fc.tuple(fc.nat(31), fc.nat(7)), { minLength: 1, maxLength: 4 }),
  });
  const structure = fc.constantFrom(...DMAR_LAYOUTS).chain((layout): fc.Arbitrary<DmarStructure> => {
    const rows = layout.rows.filter(({ name }) => name !== "");
    const values = fc.tuple(...rows.map(({ size }) => fc.bigInt({ min: 0n, max: (1n << BigInt(8 * size)) - 1n }))).map((list) => Object.fromEntries(rows.map(({ name }, i) => [name, list[i]])));
    const scopes = layout.tail === "scopes" ? fc.array(scope, { maxLength: 5 }) : fc.constant([]);
    if (layout.tail !== "name") return fc.record({ name: fc.constant(layout.name), values, scopes });
    return fc.record({ name: fc.constant(layout.name), values, scopes, object: fc.stringMatching(/^\\[A-Z_]{4}(\.[A-Z0-9]{4}){0,3}$/) });
  });
  const table: fc.Arbitrary<DmarTable> = fc.record({ hostAddressWidth: fc.integer({ min: 32, max: 64 }), flags: fc.nat(7), structures: fc.array(structure, { maxLength: 12 }) });

  it("values, bytes, values, bytes", () => {
    fc.assert(fc.property(table, (values) => {
      const bytes = encodeDmar(values);
      expect(acpiSum(bytes)).toBe(0);
      const decoded = decodeDmar(bytes);
      expect(JSON.parse(JSON.stringify(decoded.table, bigints))).toEqual(JSON.parse(JSON.stringify(values, bigints)));
      expect(encodeDmar(decoded.table)).toEqual(bytes);
    }));
  });
});

/** fast-check's records have no prototype. */
const bigints = (_key: string, value: unknown): unknown => (typeof value === "bigint" ? value.toString() : value);
