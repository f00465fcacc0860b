/**
 * Has the ACPI tables that we make read by somebody else: Debian's iasl disassembles each without a complaint, and makes the same
 * bytes of its own text again. The compiler puts its own name and version into the header, and so another checksum.
 * Ends with "N passed, N failed".
 */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { unpacked } from "./debian.mjs";
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
const machines = [
  machine("the default", [{ type: "vtd" }], [device("00:03.0")]),
  machine("every structure", [{ type: "vtd", options: { preset: "full", rmrr, dmar: everything } }], [device("00:03.0")]),
  machine("two units", [{ type: "vtd", options: { dmar: { proximity: 0 } } }, { type: "vtd", options: { dmar: { atsr: "all", proximity: 1 } } }], [device("00:03.0"), device("06:00.1"), device("07:00.0", 1)]),
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
/** Checksum, and the compiler's name and version. */
const neutral = (table) => Buffer.from(table.map((byte, i) => (i === 9 || (i >= 28 && i < 36) ? 0 : byte)));

const problemsOf = ({ problems, structures = [], children = [] }) => [...problems, ...[...structures, ...children].flatMap(problemsOf)];

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
  for (const described of machines) {
    const table = Buffer.from(dmarTable.emit(described));
    writeFileSync(join(work, "dmar.bin"), table);
    const problems = problemsOf(dmarTable.decode(table));
    check(`${described.name}: own decoder`, problems.length === 0, problems.join("; "));
    const taken = iasl(work, "-d", "dmar.bin");
    const text = taken.status === 0 ? readFileSync(join(work, "dmar.dsl"), "utf8") : "";
    const complaint = /^.*(warning|error|unknown|invalid|\*\*\*\*).*$/im.exec(`${taken.text}\n${text}`)?.[0];
    check(`${described.name}: disassembled without complaint`, taken.status === 0 && complaint === undefined, complaint ?? taken.text);
    const made = iasl(work, "-p", "again", "dmar.dsl");
    const same = made.status === 0 && neutral(readFileSync(join(work, "again.aml"))).equals(neutral(table));
    check(`${described.name}: assembled to the same bytes`, same, made.text);
    rmSync(join(work, "dmar.dsl"), { force: true });
    rmSync(join(work, "again.aml"), { force: true });
  }
} finally {
  rmSync(work, { recursive: true, force: true });
}
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
