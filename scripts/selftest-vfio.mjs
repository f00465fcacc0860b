/**
 * The kernel's own VFIO selftests, unmodified, through `iommu run`, and the door that "--door" names. Built from Debian's
 * linux-source-7.2.
 * Ends with "N passed, N failed".
 */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, readdirSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { unpacked } from "./debian.mjs";
import { flags, folder, outcome, selftests, tree, unpackSource } from "./kernel-source.mjs";

/** Programs, and how many executions each has. */
const PROGRAMS = {
  vfio_iommufd_setup_test: 6,
  vfio_pci_device_test: 5,
  vfio_dma_mapping_test: 30,
  vfio_dma_mapping_mmio_test: 15,
  vfio_pci_device_init_perf_test: 5,
};
const DEVICES = ["0000:00:03.0", "0000:00:04.0"];
/** All devices at once. */
const PARALLEL = "vfio_pci_device_init_perf_test";

const { values: { door } } = parseArgs({ options: { door: { type: "string", default: "preload" } } });

unpackSource();
// Its header; the library itself belongs to every Debian.
const uuid = unpacked("uuid-dev");
const vfio = join(selftests, "vfio");
const out = join(folder, "vfio");
mkdirSync(out, { recursive: true });
const common = [
  // The library calls calloc_assert, which this tree declares nowhere.
  ...flags(), "-Dcalloc_assert(n,s)=calloc(n,s)", `-I${join(vfio, "lib/include")}`, `-I${join(tree, "tools/include")}`,
  "-idirafter", join(uuid, "usr/include"), "-idirafter", join(tree, "include"),
];
const drivers = process.arch === "x64" ? ["drivers/dsa/dsa.c", "drivers/ioat/ioat.c"] : [];
const sources = [...readdirSync(join(vfio, "lib")).filter((name) => name.endsWith(".c")), ...drivers].map((name) => join(vfio, "lib", name));
const objects = sources.map((source) => {
  const object = join(out, `${basename(source)}.o`);
  execFileSync("gcc", [...common, "-c", "-o", object, source], { stdio: "inherit" });
  return object;
});
for (const name of Object.keys(PROGRAMS)) {
  execFileSync("gcc", [...common, "-o", join(out, name), join(vfio, `${name}.c`), ...objects, "-pthread", "-l:libuuid.so.1"], { stdio: "inherit" });
}

const iommu = resolve(import.meta.dirname, "../packages/cli/dist/main.js");
let good = 0;
let bad = 0;
for (const [name, executions] of Object.entries(PROGRAMS)) {
  const args = name === PARALLEL ? DEVICES : DEVICES.slice(0, 1);
  const { stdout, stderr, status } = spawnSync(process.execPath, [iommu, "run", "--door", door, "--", join(out, name), ...args], { encoding: "utf8", timeout: 120_000 });
  const { passed, skipped, failed } = outcome(stdout);
  const lost = executions - passed.length - skipped.length - failed.length;
  console.log(`${name}: ${passed.length} of ${executions} passed, ${skipped.length} skipped`);
  for (const line of [...failed, ...skipped]) console.log(`  ${line}`);
  if (failed.length + lost > 0) console.log(`  exit code ${status}, ${lost} did not report\n${stdout}${stderr}`);
  good += passed.length;
  bad += executions - passed.length;
}
console.log(`${good} passed, ${bad} failed`);
process.exitCode = bad === 0 ? 0 : 1;
