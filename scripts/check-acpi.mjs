/**
 * Has the ACPI tables that we make read by somebody else: Debian's iasl disassembles each without a complaint, finds in every field what
 * we meant, and makes the same bytes of its own text again. The compiler puts its own name and version into the header, and so another
 * checksum. Ends with "N passed, N failed".
 */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { unpacked } from "./debian.mjs";
import { acpiProblems } from "../packages/core/dist/acpi/index.js";
import { encodeIort, iortTable } from "../packages/hw-smmu/dist/acpi/index.js";
import { dmarTable } from "../packages/hw-vtd/dist/acpi/index.js";

const device = (bdf, iommu = 0) => ({ model: "dma-test", bdf, vfio: `vfio${Number.parseInt(bdf.replace(/\W/g, ""), 16) % 1000}`, iommu });
const machine = (name, iommus, devices) => ({ name, memory: { size: "256MiB" }, iommus, devices });
const rmrr = [{ start: "0x8d800000", end: "0x8d900000", devices: ["00:02.0", "00:14.0"] }];
const everything = {
  ioapics: [{ id: 2, bdf: "f0:1f.0" }],
  hpets: [{ id: 0, bdf: "f0:0f.0" }],
  acpi: [{ number: 1, bdf: "00:15.0", object: "\\_SB.PCI0.I2C0" }],
  atsr: ["00:1c.0", "00:1d.0"],
  satc: { required: true, devices: ["00:02.0"] },
  sidp: [{ devices: ["00:03.0"], flags: ["no-nested", "no-pwsnp"] }],
  proximity: 1,
  optIn: true,
};
const vtd = [
  machine("the default", [{ type: "vtd" }], [device("00:03.0")]),
  machine("every structure", [{ type: "vtd", options: { preset: "full", rmrr, dmar: everything } }], [device("00:03.0")]),
  machine("two units", [{ type: "vtd", options: { dmar: { proximity: 0 } } }, { type: "vtd", options: { dmar: { atsr: "all", proximity: 1 } } }], [device("00:03.0"), device("06:00.1"), device("07:00.0", 1)]),
];

const smmu = (options = {}) => ({ type: "smmuv3", options });
const arm = [
  machine("the default", [smmu()], [device("00:03.0"), device("00:04.0")]),
  machine("two units", [smmu({ preset: "server", iort: { proximity: 0 } }), smmu({ preset: "server", iort: { proximity: 1, its: [1, 2] } })], [device("00:03.0"), device("06:00.1", 1), device("07:00.0"), device("08:00.0", 1)]),
  machine("wires", [smmu({ preset: "server-52", iort: { its: [], wires: { event: 106, pri: 107, gerror: 109, sync: 108 } } })], [device("00:03.0")]),
  machine("few streams", [smmu({ preset: "minimal" })], [device("00:03.0")]),
];

/** Nodes that no machine of ours has, too. */
function everyNode() {
  const node = (type, revision, values, arrays, object) => ({ type, revision, identifier: type, values, arrays, object });
  const memory = { coherency: 1n, "memory flags": 7n, "address bits": 48n };
  const mapped = (output, more = {}) => ({ "IDs minus 1": 0xffn, output, ...more });
  const [its, smmuv3] = [0x30n, 0x4cn];
  return encodeIort({
    revision: 6, nodeOffset: 48,
    nodes: [
      node(0, 1, {}, { its: [{ id: 0n }, { id: 3n }] }),
      node(4, 5, { base: 0x2b50_0000n, flags: 0b11101n, proximity: 1n, "DeviceID mapping": 1n }, { mappings: [mapped(its), { "output base": 0x3_0000n, output: its, flags: 1n }] }),
      node(1, 4, { ...memory, flags: 17n }, { mappings: [{ "output base": 0x40n, output: smmuv3 }] }, "\\_SB.GPU0"),
      node(2, 4, { ...memory, ATS: 7n, "PASID capabilities": 20n, flags: 1n }, { mappings: [mapped(smmuv3), mapped(smmuv3, { "input base": 0x200n, "output base": 0x200n })] }),
      node(3, 3, { base: 0x2b40_0000n, span: 0x1_0000n, model: 3n, flags: 2n }, { global: [{ GSIV: 74n, flags: 1n }, { GSIV: 75n }], context: [{ GSIV: 80n }, { GSIV: 81n, flags: 1n }], pmu: [{ GSIV: 90n }], mappings: [mapped(its)] }),
      node(5, 2, { "page 0": 0x2b50_2000n, "page 1": 0x2b51_2000n, node: smmuv3 }, { mappings: [{ "output base": 0x3_0001n, output: its, flags: 1n }] }),
      node(6, 3, { flags: 21n }, { mappings: [mapped(smmuv3)], ranges: [{ base: 0x8000_0000n, bytes: 0x10_0000n }, { base: 0x9000_0000n, bytes: 0x1_0000n }] }),
    ],
  });
}

/** iasl's names of what ours are called. */
const IORT_NAMES = {
  Type: "type", Length: "length", Revision: "revision", Identifier: "identifier", "Mapping Count": "mapping count", "Mapping Offset": "mapping offset",
  "Input base": "input base", "ID Count": "IDs minus 1", "Output Base": "output base", "Output Reference": "output", Flags: "flags", ItsCount: "count", Identifiers: "id",
  "Base Address": "base", "VATOS Address": "VATOS", Model: "model", "Event GSIV": "event GSIV", "PRI GSIV": "PRI GSIV", "GERR GSIV": "GERROR GSIV", "Sync GSIV": "sync GSIV",
  "Proximity Domain": "proximity", "Device ID Mapping Index": "DeviceID mapping", "Cache Coherency": "coherency", Hints: "hints", "Memory Flags": "memory flags", "ATS Attribute": "ATS",
  "PCI Segment Number": "segment", "Memory Size Limit": "address bits", "PASID Capabilities": "PASID capabilities", "Node Flags": "flags", "Device Name": "object", Span: "span",
  "Global Interrupt Offset": "global offset", "Context Interrupt Count": "context count", "Context Interrupt Offset": "context offset", "PMU Interrupt Count": "PMU count",
  "PMU Interrupt Offset": "PMU offset", NSgIrpt: "GSIV", "NSgIrpt Flags": "flags", NSgCfgIrpt: "GSIV", "NSgCfgIrpt Flags": "flags", "Context Interrupt": "GSIV", "PMU Interrupt": "GSIV",
  "Page 0 Base Address": "page 0", "Page 1 Base Address": "page 1", "Overflow Interrupt GSIV": "overflow GSIV", "Node Reference": "node", "Number of RMR Descriptors": "range count",
  "RMR Descriptor Offset": "range offset", "Base Address of RMR": "base", "Length of RMR": "bytes", "Node Count": "nodes", "Node Offset": "node offset",
};

const fieldsOf = ({ fields = [], structures = [], children = [] }) => [...fields, ...[...structures, ...children].flatMap(fieldsOf)];

/**
 * Two faults of iasl 20260408. It does not know the second word of flags of a root complex (since its revision 4), and leaves it out when
 * it assembles. And what it shows as padding behind the name of a named component are the table's first bytes.
 */
const unknownToIasl = ({ structures }) => structures.flatMap(({ name, fields }) => (name === "root complex" ? fields.filter((field) => field.name === "flags") : []));

function asIaslAssembles(table, { structures }) {
  const bytes = Buffer.from(table);
  const left = [];
  for (const { name, offset, length, fields, children } of structures) {
    const last = fields.at(-1);
    const end = last.offset + last.size;
    if (name === "named component") bytes.copy(bytes, end, 0, (children[0]?.offset ?? offset + length) - end);
    if (name !== "root complex") continue;
    left.push(last.offset);
    bytes.writeUInt16LE(length - last.size, offset + 1);
    bytes.writeUInt32LE(children[0].offset - offset - last.size, offset + 12);
  }
  return bytes.filter((_, i) => !left.some((at) => i >= at && i < at + 4));
}

/** "[060h 0096 004h]       Flags (decoded below) : 00000015" */
const IASL_FIELD = /^\[([0-9A-F]+)h \d+ +([0-9A-F]+)h\] +(.+?)(?: \(decoded below\))? : (?:"(.*)"|([0-9A-F]+))?.*$/gm;

/** What iasl's text says otherwise than our report: fields by their place, size, name and value. */
function differences(text, report) {
  const ours = new Map([...report.header, ...fieldsOf(report)].filter(({ offset }) => offset >= 36).map((field) => [field.offset, field]));
  const wrong = [];
  for (const [, hexAt, hexSize, name, string, number] of text.matchAll(IASL_FIELD)) {
    const at = Number.parseInt(hexAt, 16);
    const size = Number.parseInt(hexSize, 16);
    const mine = ours.get(at);
    if (at < 36 || (name === "Reserved" && mine === undefined) || name === "Memory Properties" || name === "Padding") continue;
    ours.delete(at);
    // iasl shows an interrupt and its flags as one number.
    const flags = mine?.size === 4 && size === 8 ? ours.get(at + 4) : undefined;
    if (flags) ours.delete(at + 4);
    const whole = typeof mine?.value === "bigint" ? mine.value | ((flags?.value ?? 0n) << 32n) : mine?.value;
    const theirs = string === undefined ? BigInt(`0x${number}`) : string;
    if (mine?.name !== IORT_NAMES[name] || size !== (flags ? 8 : mine?.size) || whole !== theirs) wrong.push(`${name} at ${at} is ${theirs}, ours: ${mine?.name} ${whole}`);
  }
  const unknown = unknownToIasl(report);
  return [...wrong, ...[...ours.values()].filter((field) => !unknown.includes(field)).map(({ name, offset }) => `${name} at ${offset} is not there`)];
}

const tables = [
  ...vtd.map((described) => ({ name: `DMAR of ${described.name}`, table: dmarTable, bytes: dmarTable.emit(described) })),
  ...arm.map((described) => ({ name: `IORT of ${described.name}`, table: iortTable, bytes: iortTable.emit(described) })),
  { name: "IORT with every node", table: iortTable, bytes: everyNode() },
];

/** iasl of sid, which knows SATC and SIDP, with the C library that it was built for; else this system's. */
function findIasl() {
  try {
    const library = join(unpacked("libc6"), "usr/lib/x86_64-linux-gnu");
    const command = [join(library, "ld-linux-x86-64.so.2"), "--library-path", library, join(unpacked("acpica-tools"), "usr/bin/iasl")];
    execFileSync(command[0], [...command.slice(1), "-v"], { stdio: "ignore" });
    return command;
  } catch (error) {
    console.log(`iasl of Debian sid cannot be had (${error.message.split("\n")[0]}); trying this system's`);
  }
  if (spawnSync("iasl", ["-v"]).error) throw new Error("there is no iasl: install acpica-tools, or let apt reach a Debian mirror");
  return ["iasl"];
}

const [command, ...first] = findIasl();
const iasl = (cwd, ...args) => {
  const { stdout, stderr, status, error } = spawnSync(command, [...first, ...args], { cwd, encoding: "utf8", timeout: 60_000 });
  if (error) throw error;
  return { status, text: stdout + stderr };
};
/** Without length and checksum, and the compiler's name and version. */
const neutral = (table) => Buffer.from(table.map((byte, i) => (i === 9 || (i >= 28 && i < 36) || (i >= 4 && i < 8) ? 0 : byte)));

let passed = 0;
let failed = 0;
const check = (what, good, detail) => {
  if (good) passed++;
  else {
    failed++;
    console.log(`FAILED ${what}: ${detail}`);
  }
};
const work = mkdtempSync(join(tmpdir(), "iommukit-acpi-"));
try {
  console.log(/version (\d+)/.exec(iasl(work, "-v").text)?.[0] ?? "iasl of an unknown version");
  for (const { name, table, bytes } of tables) {
    writeFileSync(join(work, "table.bin"), bytes);
    const report = table.decode(bytes);
    const problems = acpiProblems(report);
    check(`${name}: own decoder`, problems.length === 0, problems.join("; "));
    const taken = iasl(work, "-d", "table.bin");
    const text = taken.status === 0 ? readFileSync(join(work, "table.dsl"), "utf8") : "";
    const complaint = /^.*(warning|error|unknown|invalid|\*\*\*\*).*$/im.exec(`${taken.text}\n${text}`)?.[0];
    check(`${name}: disassembled without complaint`, taken.status === 0 && complaint === undefined, complaint ?? taken.text);
    if (table === iortTable) {
      const wrong = differences(text, report);
      check(`${name}: every field is what we meant`, wrong.length === 0, wrong.join("; "));
    }
    const made = iasl(work, "-p", "again", "table.dsl");
    const expected = table === iortTable ? asIaslAssembles(bytes, report) : bytes;
    const same = made.status === 0 && neutral(readFileSync(join(work, "again.aml"))).equals(neutral(expected));
    check(`${name}: assembled to the same bytes`, same, made.text);
    for (const file of ["table.dsl", "again.aml"]) rmSync(join(work, file), { force: true });
  }
} finally {
  rmSync(work, { recursive: true, force: true });
}
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
