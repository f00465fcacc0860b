/**
 * Compares every size, offset and number of the ABI tables with the header of a real kernel: a
 * newer linux-libc-dev than this system's, unpacked into .cache/ without installing it.
 * Ends with "N passed, N failed".
 */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { IOCTLS, IOMMUFD_DEFINES, IOMMUFD_ENUMS, IOMMUFD_STRUCTS, VFIO_DEFINES, VFIO_ENUMS, VFIO_STRUCTS } from "../packages/core/dist/abi/index.js";

const root = resolve(import.meta.dirname, "..");
const cache = join(root, ".cache/linux-libc-dev");

/** The mirror that this system's own apt uses. */
function mirror() {
  const folders = ["/etc/apt/sources.list.d", "/etc/apt"];
  const files = folders.flatMap((folder) => (existsSync(folder) ? readdirSync(folder).map((name) => join(folder, name)) : []));
  for (const file of files.filter((name) => /\.(list|sources)$/.test(name))) {
    const found = /^(?:URIs:\s*|deb\s+(?:\[[^\]]*\]\s+)?)(\S+\/debian)\/?(?=\s|$)/m.exec(readFileSync(file, "utf8"));
    if (found) return found[1];
  }
  throw new Error("no Debian mirror is configured on this system: the newer header cannot be fetched");
}

function fetchHeader() {
  const header = join(cache, "root/usr/include");
  if (existsSync(join(header, "linux/iommufd.h"))) return header;
  for (const folder of ["lists/partial", "archives/partial", "root"]) mkdirSync(join(cache, folder), { recursive: true });
  writeFileSync(join(cache, "sources.list"), `deb [trusted=yes] ${mirror()} sid main\n`);
  writeFileSync(join(cache, "status"), "");
  const options = [
    `Dir::Etc::sourcelist=${cache}/sources.list`, "Dir::Etc::sourceparts=/dev/null", `Dir::State::lists=${cache}/lists`,
    `Dir::Cache::archives=${cache}/archives`, `Dir::Cache=${cache}`, `Dir::State::status=${cache}/status`, "APT::Sandbox::User=root",
  ].flatMap((option) => ["-o", option]);
  execFileSync("apt-get", [...options, "update", "-q"], { stdio: ["ignore", "ignore", "inherit"] });
  execFileSync("apt-get", [...options, "download", "-q", "linux-libc-dev"], { cwd: join(cache, "archives"), stdio: ["ignore", "ignore", "inherit"] });
  const deb = readdirSync(join(cache, "archives")).find((name) => name.endsWith(".deb"));
  console.log(`header of ${deb}`);
  execFileSync("dpkg-deb", ["-x", join(cache, "archives", deb), join(cache, "root")]);
  return header;
}

const expected = new Map();
for (const layout of [...IOMMUFD_STRUCTS, ...VFIO_STRUCTS]) {
  expected.set(`sizeof(struct ${layout.name})`, layout.size);
  for (const field of layout.fields) expected.set(`offsetof(struct ${layout.name}, ${field.name})`, field.offset);
}
for (const group of [...IOMMUFD_ENUMS, ...VFIO_ENUMS]) for (const [name, value] of Object.entries(group.values)) expected.set(name, value);
for (const [name, value] of Object.entries({ ...IOMMUFD_DEFINES, ...VFIO_DEFINES })) expected.set(name, value);
for (const row of IOCTLS) expected.set(row.name, row.request);

const include = fetchHeader();
const work = mkdtempSync(join(tmpdir(), "iommukit-abi-"));
let passed = 0;
let failed = 0;
try {
  const lines = [...expected.keys()].map((expression) => `\tprintf("%lld\\n", (long long)(${expression}));`);
  const program = ["#include <stddef.h>", "#include <stdio.h>", "#include <linux/iommufd.h>", "#include <linux/vfio.h>", "int main(void) {", ...lines, "\treturn 0;", "}"];
  writeFileSync(join(work, "t.c"), `${program.join("\n")}\n`);
  const multiarch = execFileSync("cc", ["-print-multiarch"], { encoding: "utf8" }).trim();
  execFileSync("cc", ["-w", `-I${include}`, `-I${join(include, multiarch)}`, "-o", join(work, "t"), join(work, "t.c")], { stdio: "inherit" });
  const values = execFileSync(join(work, "t"), { encoding: "utf8" }).trim().split("\n");
  for (const [i, [expression, value]] of [...expected].entries()) {
    if (Number(values[i]) === value) passed++;
    else {
      failed++;
      console.log(`FAILED ${expression}: the header says ${values[i]}, the table ${value}`);
    }
  }
} finally {
  rmSync(work, { recursive: true, force: true });
}
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
