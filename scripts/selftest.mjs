/**
 * The kernel's own iommufd selftest, unmodified, through `iommu run` on the mock IOMMU. Builds it from Debian's linux-source-7.2.
 * Ends with "N passed, N failed"; a test that Linux would skip with the same resources counts as passed when it is skipped here.
 */
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { cache, unpacked } from "./debian.mjs";

const EXECUTIONS = 246;
/** Of the fixture without a virtual IOMMU: skipped by design. */
const SKIPPED = 5;
const TREE = "linux-source-7.2";
const WANTED = ["tools/testing/selftests/iommu/*", "tools/testing/selftests/*.h", "tools/testing/selftests/kselftest/*", "drivers/iommu/iommufd/iommufd_test.h"];

const folder = join(cache, "selftest");
const selftests = join(folder, TREE, "tools/testing/selftests");
if (!existsSync(join(selftests, "iommu/iommufd.c"))) {
  mkdirSync(folder, { recursive: true });
  const source = join(unpacked("linux-source-7.2"), "usr/src/linux-source-7.2.tar.xz");
  console.log("unpacking the selftests");
  execFileSync("tar", ["-xf", source, "-C", folder, "--wildcards", ...WANTED.map((path) => `${TREE}/${path}`)], { stdio: ["ignore", "inherit", "ignore"] });
}
const headers = join(unpacked("linux-libc-dev"), "usr/include");
const capability = unpacked("libcap-dev");
const program = join(folder, "iommufd");
const architecture = execFileSync("gcc", ["-print-multiarch"], { encoding: "utf8" }).trim();
execFileSync("gcc", [
  "-D_GNU_SOURCE=", "-O2", "-w", "-isystem", headers, "-isystem", join(headers, architecture), "-idirafter", join(capability, "usr/include"),
  `-I${selftests}`, "-o", program, join(selftests, "iommu/iommufd.c"), join(capability, "usr/lib", architecture, "libcap.a"),
], { stdio: "inherit" });

const iommu = resolve(import.meta.dirname, "../packages/cli/dist/main.js");
const child = spawn(process.execPath, [iommu, "run", "--machine", "mock", "--grant", "SYS_RESOURCE", "--", program], { stdio: ["ignore", "pipe", "ignore"] });
let output = "";
child.stdout.on("data", (chunk) => (output += chunk));
child.on("close", (code) => {
  const ok = output.match(/^ok \d+ .*/gm) ?? [];
  const skipped = ok.filter((line) => line.includes("# SKIP"));
  const bad = output.match(/^not ok .*/gm) ?? [];
  for (const line of bad) console.log(line);
  const missing = EXECUTIONS - ok.length - bad.length;
  if (missing > 0) console.log(`${missing} executions did not report (exit code ${code})`);
  if (skipped.length !== SKIPPED) console.log(`${skipped.length} were skipped, not ${SKIPPED}:\n${skipped.join("\n")}`);
  const failed = bad.length + Math.max(0, missing) + Math.max(0, skipped.length - SKIPPED);
  console.log(`${EXECUTIONS - failed} passed, ${failed} failed`);
  process.exitCode = failed === 0 ? 0 : 1;
});
