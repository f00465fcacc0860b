/**
 * The kernel's own iommufd selftest, unmodified, through `iommu run` on the mock IOMMU. Builds it from Debian's linux-source-7.2;
 * with "--door seccomp" as a static program, which no preloaded library reaches.
 * Ends with "N passed, N failed"; a test that Linux would skip with the same resources counts as passed when it is skipped here.
 */
import { execFileSync, spawn } from "node:child_process";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { unpacked } from "./debian.mjs";
import { architecture, flags, folder, outcome, selftests, unpackSource } from "./kernel-source.mjs";

const EXECUTIONS = 246;
/** Of the fixture without a virtual IOMMU: skipped by design. */
const SKIPPED = 5;

const { values: { door } } = parseArgs({ options: { door: { type: "string", default: "preload" } } });
const isStatic = door === "seccomp";

unpackSource();
const capability = unpacked("libcap-dev");
const program = join(folder, isStatic ? "iommufd-static" : "iommufd");
execFileSync("gcc", [
  ...flags(), ...(isStatic ? ["-static"] : []), "-idirafter", join(capability, "usr/include"), "-o", program, join(selftests, "iommu/iommufd.c"),
  join(capability, "usr/lib", architecture, "libcap.a"),
], { stdio: "inherit" });

const iommu = resolve(import.meta.dirname, "../packages/cli/dist/main.js");
const child = spawn(process.execPath, [iommu, "run", "--door", door, "--machine", "mock", "--grant", "SYS_RESOURCE", "--", program], { stdio: ["ignore", "pipe", "ignore"] });
let output = "";
child.stdout.on("data", (chunk) => (output += chunk));
child.on("close", (code) => {
  const { passed, skipped, failed: bad } = outcome(output);
  for (const line of bad) console.log(line);
  const missing = EXECUTIONS - passed.length - skipped.length - bad.length;
  if (missing > 0) console.log(`${missing} executions did not report (exit code ${code})`);
  if (skipped.length !== SKIPPED) console.log(`${skipped.length} were skipped, not ${SKIPPED}:\n${skipped.join("\n")}`);
  const failed = bad.length + Math.max(0, missing) + Math.max(0, skipped.length - SKIPPED);
  console.log(`${EXECUTIONS - failed} passed, ${failed} failed`);
  process.exitCode = failed === 0 ? 0 : 1;
});
