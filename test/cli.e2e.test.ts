/** The `iommu` command from outside: what it prints, and with which code it ends. */
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { findCompiler } from "@iommukit/door";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

const root = fileURLToPath(new URL("..", import.meta.url));
const main = join(root, "packages/cli/dist/main.js");
const TABLES = "conformance/tables/linux-fs.tables.json.gz";
const CORE = "conformance/tables/linux-fs-core.core.gz";

function iommu(args: readonly string[], env: Readonly<Record<string, string>> = {}): { code: number | null; out: string; err: string } {
  const { FORCE_COLOR: _, NO_COLOR: __, ...inherited } = process.env;
  const { status, stdout, stderr } = spawnSync(process.execPath, [main, ...args], { cwd: root, encoding: "utf8", env: { ...inherited, ...env }, timeout: 60_000 });
  return { code: status, out: stdout, err: stderr };
}

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "iommukit-cli-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const file = (name: string, text: string | Uint8Array): string => {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
};

describe("iommu", () => {
  it.each(["tour", "run", "walk", "dump", "decode", "fault", "acpi", "conform", "mdev", "abi", "list"])("%s --help shows examples and ends with 0", (command) => {
    const { code, out } = iommu([command, "--help"]);
    expect(code).toBe(0);
    expect(out).toContain("Examples:");
    expect(out).toContain(`iommu ${command}`);
  });

  it.each([
    ["no such command", ["dance"], "unknown command"],
    ["no such option", ["list", "--dance"], "unknown option"],
    ["a missing option", ["walk", TABLES], "--rid"],
    ["a requester that is none", ["walk", TABLES, "--rid", "xyz", "--iova", "0"], "xyz"],
    ["an address that is none", ["walk", TABLES, "--rid", "00:03.0", "--iova", "1.5"], "--iova 1.5"],
    ["a PASID too large", ["walk", TABLES, "--rid", "00:03.0", "--iova", "0", "--pasid", "0x100000"], "does not fit 20 bits"],
    ["two accesses", ["walk", TABLES, "--rid", "00:03.0", "--iova", "0", "--write", "--atomic"], "write or atomic"],
    ["privilege without a PASID", ["walk", TABLES, "--rid", "00:03.0", "--iova", "0", "--privileged"], "--privileged needs --pasid"],
    ["nothing to decode", ["decode"], "there are: vtd"],
    ["a kind that is none", ["decode", "vtd", "pasid", "0x1"], "the nearest are: pasid-entry"],
    ["a register that is not modelled", ["decode", "vtd", "MTRR", "0x1"], "MTRR is not modelled"],
    ["an IOMMU without decoder", ["decode", "riscv", "cap", "0x1"], '"riscv" is no IOMMU'],
    ["too few words", ["decode", "vtd", "frcd", "0x1"], "2 of 64 bits"],
    ["a unit's register that is none", ["decode", "vtd", "cap", "0x1", "--dance", "0x1"], "unknown option --dance"],
    ["a unit's register without value", ["decode", "vtd", "cap", "0x1", "--ecap"], "--ecap: expected"],
    ["faults of an IOMMU that has none", ["fault", "riscv"], "there are: vtd"],
    ["a fault that is none", ["fault", "vtd", "SPT.44"], "near it: SPT.4.4 (0x5b)"],
    ["a fault code that is none", ["fault", "vtd", "0x5f"], "near it: SPT.9 (0x60)"],
    ["a fault of another manual", ["fault", "smmuv3", "F_PERMISION"], "near it: F_PERMISSION (0x13)"],
    ["a request that cannot meet the fault", ["fault", "vtd", "SFS.2", "--kind", "page"], "there are: untranslated, untranslated with PASID"],
    ["a preset that is none", ["decode", "vtd", "cap", "0x1", "--preset", "none"], 'preset "none"'],
    ["an access that is none", ["walk", TABLES, "--rid", "00:03.0", "--iova", "0", "--access", "both"], "expected read or write"],
    ["a file that is not there", ["dump", "/nowhere"], "/nowhere"],
    ["a requester that the tables lack", ["dump", TABLES, "--rid", "ff:1f.7"], "no requester ff:1f.7"],
    ["a core without registers", ["dump", CORE, "--registers", "/nowhere"], "/nowhere"],
    ["a register that is none", ["dump", CORE, "--reg", "RTADDR"], "--reg RTADDR"],
    ["a plugin that is not there", ["--plugin", "./nothing.mjs", "list"], "nothing.mjs"],
    ["a machine that is not there", ["tour", "--machine", "none"], "none"],
    ["a mode that a story has not", ["tour", "page-fault", "--machine", "smmuv3", "--mode", "nested"], 'no mode "nested" on smmuv3; there are: shadowed'],
    ["a mode that is a method's name", ["tour", "guest-sva", "--mode", "toString"], 'no mode "toString"'],
    ["a mode of no story", ["tour", "--mode", "nested"], "--mode is for a story"],
    ["a program that is not there", ["run", "--", "/nowhere/program"], "/nowhere/program"],
  ])("%s: a message and code 2", (_what, args, message) => {
    const { code, out, err } = iommu(args);
    expect(err + out).toContain(message);
    expect(err).not.toContain("    at ");
    expect(code).toBe(args[0] === "run" ? 127 : 2);
  });

  it("colours only where it is asked to", () => {
    expect(iommu(["list"]).out).not.toContain("\x1b[");
    expect(iommu(["list"], { FORCE_COLOR: "0" }).out).not.toContain("\x1b[");
    expect(iommu(["list"], { FORCE_COLOR: "1" }).out).toContain("\x1b[");
    expect(iommu(["list"], { FORCE_COLOR: "1", NO_COLOR: "1" }).out).not.toContain("\x1b[");
  });

  it("ends quietly when the reader has enough", async () => {
    const child = spawn(process.execPath, [main, "dump", TABLES, "--leaves"], { cwd: root, stdio: ["ignore", "pipe", "pipe"] });
    let err = "";
    child.stderr.on("data", (chunk) => (err += chunk));
    child.stdout.once("data", () => child.stdout.destroy());
    const code = await new Promise((done) => child.on("close", done));
    expect(err).toBe("");
    expect(code).toBe(0);
  });
});

describe("iommu walk and dump", () => {
  const truth = JSON.parse(iommuJson(["dump", TABLES, "--json"])) as { rid: string; ranges: { iova: string; pa: number; permissions: string }[] }[];

  it("walk agrees with dump, from tables and from a core", () => {
    const device = truth.find((space) => space.ranges.length > 2);
    const range = device?.ranges[1];
    const { code, out } = iommu(["walk", TABLES, "--rid", device?.rid ?? "", "--iova", range?.iova ?? ""]);
    expect(out).toContain(`=> physical address 0x${range?.pa.toString(16)}`);
    expect(out).toContain("[VT-d 9.7]");
    expect(code).toBe(0);
    expect(iommu(["dump", CORE]).out).toBe(iommu(["dump", CORE.replace("core.core", "core.tables.json")]).out);
  });

  it("a blocked address ends with 1 and the reason", () => {
    const { code, out } = iommu(["walk", TABLES, "--rid", "00:03.0", "--iova", "0x100000"]);
    expect(out).toContain("=> blocked: reason 0x71 (SFS.2)");
    expect(out).not.toContain("at 0x0 ");
    expect(code).toBe(1);
  });

  it.each([
    ["text", "hello", "neither an ELF core nor JSON"],
    ["half an ELF core", readFileSync(join(root, CORE)).subarray(0, 900), ""],
    ["a list", "[]", "does not hold a JSON object"],
    ["tables of another IOMMU", '{"iommu":"riscv","registers":{},"pages":[]}', 'no decoder for tables of "riscv"'],
    ["tables without registers", '{"iommu":"vtd","registers":{},"pages":[]}', "RTADDR"],
  ])("%s: a message and code 2", (name, text, message) => {
    const { code, err } = iommu(["dump", file(`${name}.core.gz`.replaceAll(" ", "-"), text)]);
    expect(err).toContain(message);
    expect(err).not.toContain("    at ");
    expect(code).toBe(2);
  });
});

describe("iommu fault", () => {
  it("lists every fault with the requests that meet it", () => {
    const { code, out } = iommu(["fault", "vtd"]);
    expect(code).toBe(0);
    expect(out).toContain("0x5a  SPT.3   a reserved bit is set in the PASID table entry  (silent with FPD=1)  [untranslated, untranslated with PASID, translation,");
    expect(out).toContain("SPD.1   the PASID directory entry could not be read  [");
  });

  it.each(["0x5A", "90", "5Ah", "spt.3"])("causes and explains %s", (name) => {
    const { code, out } = iommu(["fault", "vtd", name]);
    expect(code).toBe(0);
    expect(out).toContain("        5  reserved     0x1  VT-d 9.6: bit 5 must be 0");
    expect(out).toContain("   103:96  FR           0x5a  SPT.3: a reserved bit is set in the PASID table entry");
    expect(out).toContain("=> as the manual says");
  });

  it("runs every condition that shares a code, and marks the field that was changed", () => {
    const { code, out } = iommu(["fault", "vtd", "0x5b"]);
    expect(code).toBe(0);
    for (const name of ["SPT.4.1", "SPT.4.2", "SPT.4.3", "SPT.4.4"]) expect(out).toContain(`${name}, reason 0x5b`);
    expect(out).toMatch(/PGTT +0x5 +reserved +<- this/);
  });

  it("shows a qualified fault stay silent with --suppress, and one that is not, recorded", () => {
    expect(iommu(["fault", "vtd", "SPT.2", "--suppress"]).out).toContain("record    none: FPD=1");
    const [shown] = JSON.parse(iommu(["fault", "vtd", "SPT.1", "--suppress", "--json"]).out) as { asExpected: boolean; record: { fields: { name: string; value: string }[] } }[];
    expect(shown.asExpected).toBe(true);
    expect(shown.record.fields).toContainEqual(expect.objectContaining({ name: "FR", value: "0x58" }));
  });
});

describe("iommu fault smmuv3", () => {
  it.each(["F_PERMISSION", "0x13", "19", "f_permission"])("causes and explains %s, and names its variants", (name) => {
    const { code, out } = iommu(["fault", "smmuv3", name]);
    expect(code).toBe(0);
    expect(out).toMatch(/ {6}7:6 {2}AP +0x3 {2}r {2}<- this/);
    expect(out).toMatch(/record +F_PERMISSION {2}\[SMMU 7.3.16\]/);
    expect(out).toContain("=> as the manual says");
    expect(out).toContain("F_PERMISSION:TT-write      a flag must be set in a stage-1 table that stage 2 protects");
  });

  it("runs every variant with --all", () => {
    const { code, out } = iommu(["fault", "smmuv3", "C_BAD_CD", "--all", "--json"]);
    expect(code).toBe(0);
    const shown = JSON.parse(out) as { fault: { name: string }; asExpected: boolean }[];
    expect(shown.map(({ fault }) => fault.name)).toContain("C_BAD_CD:TTBx");
    expect(shown.every(({ asExpected }) => asExpected)).toBe(true);
  });

  it("shows ATS meet a configuration error, and the record stay off", () => {
    expect(iommu(["fault", "smmuv3", "C_BAD_STE:S2TG", "--kind", "translation"]).out).toContain("response  Completer Abort");
    expect(iommu(["fault", "smmuv3", "C_BAD_STE:S2TG", "--kind", "translation", "--suppress"]).out).toContain("record    none: CR2.REC_CFG_ATS=0");
  });

  it("says why nothing causes a fault, with a code of its own", () => {
    const { code, out } = iommu(["fault", "smmuv3", "F_VMS_FETCH"]);
    expect(code).toBe(3);
    expect(out).toContain("Nothing here causes it: only a unit with memory partitioning (IDR3.MPAM)");
  });
});

describe("iommu decode", () => {
  it("a fault record, with what it means", () => {
    const { code, out } = iommu(["decode", "vtd", "frcd", "0xfffff000", "0xc000007100000018"]);
    expect(out).toContain("a read at 0xfffff000 by 00:03.0");
    expect(out).toContain("SFS.2: a first-stage entry is not present");
    expect(code).toBe(0);
  });

  it("the same from words, bytes, a text file, a binary file and standard input", () => {
    const expected = iommu(["decode", "vtd", "frcd", "0xfffff000", "0xc000007100000018"]).out;
    const bytes = Buffer.from("00f0ffff00000000180000007100 00c0".replaceAll(" ", ""), "hex");
    expect(iommu(["decode", "vtd", "frcd", bytes.toString("hex")]).out).toBe(expected);
    expect(iommu(["decode", "vtd", "frcd", file("frcd.txt", "0xfffff000 0xc000007100000018\n")]).out).toBe(expected);
    expect(iommu(["decode", "vtd", "frcd", file("frcd.bin", bytes)]).out).toBe(expected);
    const piped = spawnSync(process.execPath, [main, "decode", "vtd", "frcd", "-"], { cwd: root, encoding: "utf8", input: bytes });
    expect(piped.stdout).toBe(expected);
  });

  it("a table of entries, those that are not empty", () => {
    const table = Buffer.alloc(4096);
    table.writeBigUInt64LE(0x8003n, 24);
    const { out } = iommu(["decode", "vtd", "ss-pte", file("table.bin", table)]);
    expect(out).toContain("SS-PTE  index 3");
    expect(out).toContain("511 of 512 are all zero");
  });

  it("ends with 1 when a bit is set that this unit calls reserved, and names it", () => {
    const entry = ["0x81", "0x5", "0x1", "0", "0", "0", "0", "0"];
    expect(iommu(["decode", "vtd", "pasid-entry", ...entry]).code).toBe(0);
    const { code, out } = iommu(["decode", "vtd", "pasid-entry", ...entry, "--ecap", "0x400000000000"]);
    expect(out).toContain("bit 128 must be 0: ECAP.SRS=0");
    expect(out).toContain("reason 0x5a (SPT.3)");
    expect(code).toBe(1);
    expect(iommu(["decode", "vtd", "pasid-entry", ...entry, "--preset", "second-stage"]).code).toBe(1);
  });

  it("a line of the log, and a log", () => {
    const line = "DMAR: [DMA Read NO_PASID] Request device [00:02.0] fault addr 0x0 [fault reason 0x06] PTE Read access is not set";
    expect(iommu(["decode", "vtd", line]).out).toContain("no read permission in the second stage");
    const log = file("dmesg.txt", `usb 1-1: something else\n[ 1.0] ${line}\n`);
    const found = JSON.parse(iommuJson(["decode", "vtd", "log", log, "--json"])) as { event: string }[];
    expect(found.map(({ event }) => event)).toEqual(["dma-fault"]);
    expect(iommu(["decode", "vtd", "log", file("empty.txt", "nothing\n")]).code).toBe(1);
  });

  it("lists every kind, for people and machines", () => {
    expect(iommu(["decode", "--list"]).out).toMatch(/pasid-entry +512 bits +PASID table entry +\[VT-d 9\.6\]/);
    const [vtd] = JSON.parse(iommuJson(["decode", "vtd", "--list", "--json"])) as { kinds: { name: string }[] }[];
    expect(vtd.kinds.length).toBeGreaterThan(80);
  });
});

describe("iommu list", () => {
  it("shows presets with what they announce", () => {
    const { out } = iommu(["list", "--presets"]);
    expect(out).toContain("vtd: qemu-11.1-fs");
    expect(out).toContain("VER=0x10 CAP=0x81d2008c222f0606 ECAP=0x880000f00f4a");
    const presets = JSON.parse(iommuJson(["list", "--presets", "--json"])) as { name: string; announces: string[] }[];
    expect(presets.find(({ name }) => name === "server-spr")?.announces).toContain("NEST: nested translation");
  });
});

describe("iommu acpi", () => {
  it("makes a table and reads it again, from a file and from standard input", () => {
    const table = file("dmar.bin", "");
    expect(iommu(["acpi", "emit", "-o", table]).code).toBe(0);
    const { code, out } = iommu(["acpi", "decode", table]);
    expect(out).toContain("DRHD  unit with registers at 0xfed90000");
    expect(code).toBe(0);
    const piped = spawnSync(process.execPath, [main, "acpi", "decode", "-"], { cwd: root, encoding: "utf8", input: readFileSync(table) });
    expect(piped.stdout).toBe(out);
    expect(iommu(["acpi", "decode", "--brief", table]).out.split("\n").length).toBeLessThan(5);
  });

  it("makes the table of the machine's kind of units", () => {
    const table = file("iort.bin", "");
    expect(iommu(["acpi", "emit", "--machine", "smmuv3", "-o", table]).code).toBe(0);
    const { code, out } = iommu(["acpi", "decode", table]);
    expect(out).toContain("ID mapping  requesters 00:00.0-ff:1f.7 are StreamIDs 0x0-0xffff at the SMMUv3 at 0x48");
    expect(code).toBe(0);
    const report = JSON.parse(iommuJson(["acpi", "decode", "--json", table])) as { structures: { name: string }[] };
    expect(report.structures.map(({ name }) => name)).toEqual(["ITS group", "SMMUv3", "root complex"]);
  });

  it("ends with 1 when a table breaks a rule, and names it", () => {
    const table = file("bad.bin", "");
    iommu(["acpi", "emit", "-o", table]);
    const bytes = readFileSync(table);
    bytes[37] |= 0x80;
    const { code, out } = iommu(["acpi", "decode", file("bad.bin", bytes)]);
    expect(out).toContain("bits 7:3 are reserved");
    expect(out).toContain("the checksum is");
    expect(code).toBe(1);
  });

  it("says which tables there are", () => {
    const { code, err } = iommu(["acpi", "decode", file("ssdt.bin", "SSDT and more")]);
    expect(err).toContain('begins with "SSDT", which no loaded table has; there are: DMAR, IORT');
    expect(code).toBe(2);
    expect(iommu(["acpi", "emit", "--table", "ivrs", "-o", "-"]).err).toContain('no table "ivrs"');
    expect(iommu(["acpi", "emit", "--table", "iort", "-o", "-"]).err).toContain("no unit of the machine belongs in a table that is loaded (IORT)");
  });
});

function iommuJson(args: readonly string[]): string {
  const { code, out, err } = iommu(args);
  if (code !== 0) throw new Error(err);
  return out;
}

describe("iommu conform", () => {
  it("counts cases, and files that cannot be played", () => {
    const { code, out } = iommu(["conform", "conformance/vectors/vtd-legacy.jsonl.gz", file("x.jsonl", '{"format":"y/1","iommu":"vtd"}')]);
    expect(out).toContain('the format "y/1" is not known');
    expect(out.trimEnd().split("\n").at(-1)).toMatch(/^\d+ passed, 1 failed$/);
    expect(code).toBe(1);
  });

  it("says case, step, expected and got of a failure", () => {
    const bent = file("bent.json", readFileSync(join(root, "conformance/tables/linux-vfio-fs.tables.json"), "utf8").replace(/"perm": ?"rw"/, '"perm":"r"'));
    const { code, out } = iommu(["conform", bent]);
    expect(out).toMatch(/case 0x[0-9a-f]+, step \d+/);
    expect(out).toContain("expected");
    expect(out).toContain("got");
    expect(code).toBe(1);
    const json = JSON.parse(iommu(["conform", "--json", bent]).out) as { failed: number };
    expect(json.failed).toBe(1);
  });
});

const compiler = findCompiler();
describe.skipIf(compiler === undefined)("iommu run and tour (needs a C compiler)", () => {
  const program = (name: string, source: string): string => {
    const path = join(folder, name);
    const { status, stderr } = spawnSync(compiler ?? "cc", ["-x", "c", "-o", path, "-"], { input: source, encoding: "utf8" });
    if (status !== 0) throw new Error(stderr);
    return path;
  };

  it("passes the program's code on, and 128 + n for a signal", () => {
    expect(iommu(["run", "--", program("seven", "int main(void) { return 7; }")]).code).toBe(7);
    expect(iommu(["run", "--", program("abrt", "#include <stdlib.h>\nint main(void) { abort(); }")]).code).toBe(134);
  });

  it("logs every call with its answer, and the reason of a refusal", () => {
    const source = `#include <fcntl.h>\n#include <sys/ioctl.h>
struct { unsigned size, id; } d = { 8, 77 };
struct { unsigned size, flags, id; } a = { 12, 0, 0 };
int main(void) { int fd = open("/dev/iommu", O_RDWR); ioctl(fd, 0x3b80, &d); ioctl(fd, 0x3b81, &a); return 0; }`;
    const { code, err } = iommu(["run", "--log", "--", program("calls", source)]);
    expect(err).toMatch(/IOMMU_DESTROY\(\/dev\/iommu, id=0x4d\) = -1 ENOENT: .+/);
    expect(err).toMatch(/IOMMU_IOAS_ALLOC\(\/dev\/iommu.*\) = 0/);
    expect(code).toBe(0);
  });

  it("Ctrl-C ends the program and leaves nothing behind", async () => {
    const sleeper = program("sleeper", `#include <fcntl.h>\n#include <unistd.h>\n#include <stdio.h>
int main(void) { open("/dev/iommu", O_RDWR); printf("%d\\n", (int)getpid()); fflush(stdout); pause(); return 0; }`);
    const child = spawn(process.execPath, [main, "run", "--", sleeper], { cwd: root, stdio: ["ignore", "pipe", "inherit"], detached: true });
    const pid = await new Promise<number>((done) => child.stdout.once("data", (chunk) => done(Number(chunk))));
    // A terminal signals the whole process group.
    process.kill(-(child.pid ?? 0), "SIGINT");
    const code = await new Promise((done) => child.on("close", (status) => done(status)));
    expect(code).toBe(130);
    expect(() => process.kill(pid, 0)).toThrow("ESRCH");
  });

  it.each(["vtd", "smmuv3"])("tour mdev tells its story on %s", (machine) => {
    const { code, out } = iommu(["tour", "mdev", "--machine", machine, "--sanitize", "--json"]);
    const { checks, steps } = JSON.parse(out) as { checks: { held: number; of: number }; steps: { title: string }[] };
    expect([code, checks.held, steps.length]).toEqual([0, checks.of, 6]);
  });

  it.each([["one-space", 5], ["two-spaces", 5], ["software-nesting", 5], ["nested", 5], ["guest-sva", 5], ["page-fault", 4], ["guest-in-guest", 5]].flatMap(([story, steps]) => ["vtd", "smmuv3"].map((machine) => [story, machine, steps] as const)))("tour %s tells its story on %s", (story, machine, count) => {
    const { code, out } = iommu(["tour", String(story), "--machine", machine, "--sanitize", "--json"]);
    const { checks, steps } = JSON.parse(out) as { checks: { held: number; of: number }; steps: { title: string }[] };
    expect([code, checks.held, steps.length]).toEqual([0, checks.of, count]);
  });

  it.each(["guest-sva", "page-fault"])("tour %s is told of another guest with --mode", (story) => {
    const { code, out } = iommu(["tour", story, "--mode", "kernel", "--json"]);
    const { mode, steps, checks } = JSON.parse(out);
    expect([code, mode, checks.held]).toEqual([0, "kernel", checks.of]);
    expect(steps[0].lines).toContainEqual(expect.stringContaining("kept by the host's kernel"));
  });

  it("tour holds every check, and says so to machines", () => {
    const { code, out } = iommu(["tour", "--json"]);
    const { checks } = JSON.parse(out) as { checks: { held: number; of: number } };
    expect(checks).toEqual({ held: 12, of: 12 });
    expect(code).toBe(0);
  });
});
