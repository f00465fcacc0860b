/**
 * Compares every size, offset and number of the ABI tables with the header of a real kernel: a
 * newer linux-libc-dev than this system's, unpacked into .cache/ without installing it.
 * Ends with "N passed, N failed".
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { unpacked } from "./debian.mjs";
import { IOCTLS, IOMMUFD_DEFINES, IOMMUFD_ENUMS, IOMMUFD_STRUCTS, VFIO_DEFINES, VFIO_ENUMS, VFIO_STRUCTS } from "../packages/core/dist/abi/index.js";

const expected = new Map();
for (const layout of [...IOMMUFD_STRUCTS, ...VFIO_STRUCTS]) {
  expected.set(`sizeof(struct ${layout.name})`, layout.size);
  for (const field of layout.fields) expected.set(`offsetof(struct ${layout.name}, ${field.name})`, field.offset);
}
for (const group of [...IOMMUFD_ENUMS, ...VFIO_ENUMS]) for (const [name, value] of Object.entries(group.values)) expected.set(name, value);
for (const [name, value] of Object.entries({ ...IOMMUFD_DEFINES, ...VFIO_DEFINES })) expected.set(name, value);
for (const row of IOCTLS) expected.set(row.name, row.request);

const include = join(unpacked("linux-libc-dev"), "usr/include");
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
