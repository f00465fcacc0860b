/**
 * The kernel's own VFIO selftests, unmodified, through `iommu run`, and the door that "--door" names. Built from Debian's
 * linux-source-7.2.
 * Ends with "N passed, N failed".
 */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { unpacked } from "./debian.mjs";
import { flags, folder, outcome, selftests, tree, unpackSource } from "./kernel-source.mjs";

const { values: { door, only } } = parseArgs({ options: { door: { type: "string", default: "preload" }, only: { type: "string" } } });

const DEVICES = ["0000:00:03.0", "0000:00:04.0"];
const DSA = "0000:00:05.0";
/** Programs, with how many executions each has and the devices that it is given. */
const PROGRAMS = {
  vfio_iommufd_setup_test: { executions: 6, devices: DEVICES.slice(0, 1) },
  vfio_pci_device_test: { executions: 5, devices: DEVICES.slice(0, 1) },
  vfio_dma_mapping_test: { executions: 30, devices: DEVICES.slice(0, 1) },
  vfio_dma_mapping_mmio_test: { executions: 15, devices: DEVICES.slice(0, 1) },
  vfio_pci_device_init_perf_test: { executions: 5, devices: DEVICES },
  // Its driver maps registers and portals, which the preload door can show. 32 batches of 16 moves of 1 MiB at the most: it uses all.
  ...(door === "preload" && process.arch === "x64" ? { vfio_pci_driver_test: { executions: 35, devices: [DSA], machine: "dsa" } } : {}),
};
/** A DSA as Linux's driver of the tests takes it. */
const MACHINES = {
  dsa: {
    name: "dsa", memory: { size: "256MiB" }, iommus: [{ type: "vtd" }],
    devices: [{ model: "dsa", bdf: "00:05.0", vfio: "vfio0", options: { maxTransferShift: 20, maxBatchShift: 4 } }],
  },
};

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
const programs = Object.entries(PROGRAMS).filter(([name]) => only === undefined || name === only);
for (const [name] of programs) {
  execFileSync("gcc", [...common, "-o", join(out, name), join(vfio, `${name}.c`), ...objects, "-pthread", "-l:libuuid.so.1"], { stdio: "inherit" });
}

const iommu = resolve(import.meta.dirname, "../packages/cli/dist/main.js");
let good = 0;
let bad = 0;
for (const [name, { executions, devices, machine }] of programs) {
  const file = join(out, `${machine}.machine.json`);
  if (machine) writeFileSync(file, JSON.stringify(MACHINES[machine]));
  const options = ["--door", door, ...(machine ? ["--machine", file] : [])];
  const { stdout, stderr, status } = spawnSync(process.execPath, [iommu, "run", ...options, "--", join(out, name), ...devices], { encoding: "utf8", timeout: 300_000 });
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
