/**
 * pnpm bench: speed as ratios against C compiled in place, in one run. Ratios are what counts: the
 * machine's own speed cancels out. Medians of interleaved repetitions.
 */
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { buildShim, findCompiler } from "../packages/door/dist/preload/shim.js";
import { cHeader } from "../packages/core/dist/abi/index.js";

const here = import.meta.dirname;
const { values: options } = parseArgs({
  options: { json: { type: "string" }, only: { type: "string" }, repeat: { type: "string", default: "7" }, help: { type: "boolean" } },
});
if (options.help) {
  console.log("node bench/run.mjs [--json FILE] [--only PREFIX] [--repeat N]\n\nExamples:\n  pnpm bench --json bench.json\n  pnpm bench --only walk-64MiB");
  process.exit(0);
}
const compiler = findCompiler();
if (compiler === undefined) {
  console.error("bench: the C baseline needs a compiler (cc, gcc or clang), and none is on the PATH");
  process.exit(2);
}

const folder = mkdtempSync(join(tmpdir(), "iommukit-bench-"));
const baseline = join(folder, "baseline");
execFileSync(compiler, ["-O2", "-Wall", "-o", baseline, join(here, "native/baseline.c")]);

const c = (...args) => Number(execFileSync(baseline, args.map(String), { encoding: "utf8" }));
/** A job in a process of its own: one benchmark's objects do not shape another's code. */
const js = (job, ...args) =>
  JSON.parse(execFileSync(process.execPath, ["--expose-gc", join(here, `jobs/${job}.mjs`), ...args.map(String)], { encoding: "utf8" }));
const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1];

/** Runs two measurements in turn and returns the median of each. */
async function interleave(first, second) {
  const a = [];
  const b = [];
  for (let i = 0; i < Number(options.repeat); i++) {
    a.push(await first());
    b.push(await second());
    process.stderr.write(process.stderr.isTTY ? "." : "");
  }
  return [median(a), median(b)];
}

const rate = (ns) => 1000 / ns;
const speed = (job, cJob) => async () => {
  const [mine, theirs] = await interleave(() => js(...job).ns, () => c(...cJob));
  return { value: rate(mine), unit: "M/s", baseline: rate(theirs), ratio: theirs / mine };
};

/** Milliseconds from start to exit. */
const start = (...args) => {
  const before = process.hrtime.bigint();
  execFileSync(process.execPath, args, { stdio: "ignore" });
  return Number(process.hrtime.bigint() - before) / 1e6;
};

const guest = (mode, unit) => async () => {
  const bare = mode.endsWith("smmu") ? ["bare-smmu"] : ["bare", unit];
  const [mine, theirs] = await interleave(() => js("guest", mode).ns / 1000, () => js("guest", ...bare).ns / 1000);
  return { value: mine, unit: "us", baseline: theirs, ratio: mine / theirs };
};

const doorIoctl = (door) => async () => {
  writeFileSync(join(folder, "iommukit-abi.h"), cHeader());
  const client = join(folder, "door-client");
  execFileSync(compiler, ["-O2", "-Wall", `-I${folder}`, "-o", client, join(here, "native/door-client.c")]);
  buildShim();
  const through = () =>
    new Promise((done, fail) => {
      const child = spawn(process.execPath, [resolve(here, "../packages/cli/dist/main.js"), "run", "--door", door, "--", client], { stdio: ["ignore", "pipe", "inherit"] });
      let output = "";
      child.stdout.on("data", (chunk) => (output += chunk));
      child.on("close", (code) => (code === 0 ? done(Number(output) / 1000) : fail(new Error(`door-client ended with ${code}`))));
    });
  const [mine, theirs] = await interleave(through, () => c("pingpong") / 1000);
  return { value: mine, unit: "us", baseline: theirs, ratio: mine / theirs };
};

/** Areas of one IOAS, by how many there are; measured once, reported by several rows. */
const AREAS = [1000, 10_000, 100_000, 262_144, 1_000_000];
let curve;
function areaCurve() {
  curve ??= AREAS.map((count) => {
    const runs = Array.from({ length: 3 }, () => js("areas", count));
    const [map, unmap, lookup, bytes] = ["map", "unmap", "lookup", "bytes"].map((key) => median(runs.map((run) => run[key])));
    return { count, map, unmap, lookup, bytes, tree: median(Array.from({ length: 3 }, () => c("rbtree", count))) };
  });
  return curve;
}

/** How much slower among a million areas than among a thousand; log n doubles. */
const growth = (key) => () => {
  const [first, last] = [areaCurve()[0], areaCurve().at(-1)];
  return { value: last[key] / 1000, unit: "us", baseline: first[key] / 1000, ratio: last[key] / first[key] };
};

/** name, bar, whether the ratio has to be above or below it, how to measure. */
const benches = [
  ["walk-64MiB", 0.6, "above", speed(["walk", 16384], ["walk", 16384])],
  ["walk-1GiB", 0.6, "above", speed(["walk", 262144], ["walk", 262144])],
  ["iotlb-hit", 0.4, "above", speed(["iotlb"], ["iotlb"])],
  ["translate-hit", 0.25, "above", speed(["translate"], ["walk", 16384])],
  // A miss reads every level: 4 entries, and 24 of a first stage that is read through a second one.
  ["translate-miss", 0.2, "above", speed(["translate-miss", "first-stage"], ["walk", 16384])],
  ["translate-nested", 0.08, "above", speed(["translate-miss", "nested"], ["walk", 16384])],
  // 4,096 devices with 1,000 PASIDs each behind 64 units, in less than 1 GiB; beside what the tables alone take.
  ["pasids-memory", 1024, "below", () => {
    const { mib, tables } = js("pasids");
    return { value: mib, unit: "MiB", baseline: tables, ratio: mib };
  }],
  // The same of an SMMUv3: stage 1, and stage 1 through stage 2.
  ["smmu-hit", 0.25, "above", speed(["smmu", "hit"], ["walk", 16384])],
  ["smmu-miss", 0.2, "above", speed(["smmu", "miss"], ["walk", 16384])],
  ["smmu-nested", 0.08, "above", speed(["smmu", "nested"], ["walk", 16384])],
  ["formats-5-6", 1.2, "below", async () => {
    const runs = Array.from({ length: Number(options.repeat) }, () => js("formats"));
    const [four, six] = [median(runs.map((run) => run.four)), median(runs.map((run) => run.six))];
    return { value: rate(six), unit: "M/s", baseline: rate(four), ratio: median(runs.map((run) => run.six / run.four)) };
  }],
  ["map-1GiB", 0.3, "above", speed(["map", 262144], ["map", 262144])],
  ["area-map", 2, "below", growth("map")],
  ["area-unmap", 2, "below", growth("unmap")],
  // Random look-ups miss the processor's caches more, the more there are, in any language: so beside a tree in C.
  ["area-lookup", 1, "above", () => {
    const { lookup, tree } = areaCurve().at(-1);
    return { value: rate(lookup), unit: "M/s", baseline: rate(tree), ratio: tree / lookup };
  }],
  // libvfio-user's look-up among as many regions: 0.0093 of a C walk.
  ["area-lookup-256K", 0.0186, "above", async () => {
    const { lookup } = areaCurve().find(({ count }) => count === 262_144);
    const walk = median(Array.from({ length: 3 }, () => c("walk", 16384)));
    return { value: rate(lookup), unit: "M/s", baseline: rate(walk), ratio: walk / lookup };
  }],
  ["area-bytes", 200, "below", () => {
    const attached = js("areas", 1_000_000, "device").bytes;
    return { value: attached, unit: "B", baseline: areaCurve().at(-1).bytes, ratio: attached };
  }],
  // KiB of each of 1,000 opens of /dev/iommu with 16 areas, 64 of them with a device; how long it takes to set one up and to close it.
  ["contexts-1000", 16, "below", () => {
    const { open, close, kib } = js("contexts");
    return { value: open, unit: "us", baseline: close, ratio: kib };
  }],
  // MB/s of a DSA engine through nested translation; beside it the same through the device's own translation cache.
  ["dsa-move", 200, "above", () => {
    const rates = ["move", "ats"].map((job) => median(Array.from({ length: 3 }, () => js("dsa", job).rate)));
    return { value: rates[0], unit: "MB/s", baseline: rates[1], ratio: rates[0] };
  }],
  // Descriptors that are in the device at once, in batches; how long each takes.
  ["dsa-flight", 100_000, "above", () => {
    const { waiting, ns } = js("dsa", "flight");
    return { value: ns / 1000, unit: "us", baseline: ns / 1000, ratio: waiting };
  }],
  // KiB of heap that 10 million descriptors leave behind.
  // Virtual DSAs of one parent, and software mdevs, that work at once; milliseconds for a page each, and beside it KiB of a virtual DSA.
  ["mdevs", 1024 + 64, "above", () => {
    const { arrived, copied, us, kib } = js("mdevs");
    return { value: us / 1000, unit: "ms", baseline: kib, ratio: arrived + copied };
  }],
  ["dsa-heap", 256, "below", () => {
    const { bytes, ns } = js("dsa", "heap");
    return { value: ns / 1000, unit: "us", baseline: ns / 1000, ratio: bytes / 1024 };
  }],
  // A guest's driver maps and unmaps a page behind a virtual IOMMU, beside the same on hardware of its own.
  ["guest-nested", 3, "below", guest("nested", "nested")],
  ["guest-shadowed", 8, "below", guest("shadowed", "shadowed")],
  ["guest-smmu", 3, "below", guest("nested-smmu")],
  ["door-ioctl", 2.5, "below", doorIoctl("preload")],
  ["door-ioctl-seccomp", 2.5, "below", doorIoctl("seccomp")],
  ["cli-start", 2.5, "below", async () => {
    const [mine, theirs] = await interleave(() => start(resolve(here, "../packages/cli/dist/main.js"), "--help"), () => start("-e", "0"));
    return { value: mine, unit: "ms", baseline: theirs, ratio: mine / theirs };
  }],
];

const results = [];
let missed = 0;
try {
  console.log("name             value        baseline     ratio   bar");
  for (const [name, bar, side, measure] of benches) {
    if (options.only && !name.startsWith(options.only)) continue;
    const result = await measure();
    const good = side === "above" ? result.ratio >= bar : result.ratio <= bar;
    if (!good) missed++;
    results.push({ name, ...result });
    const show = (value) => `${value.toFixed(1)} ${result.unit}`.padEnd(12);
    console.log(`${name.padEnd(16)} ${show(result.value)} ${show(result.baseline)} ${result.ratio.toFixed(2).padStart(5)}   ${side === "above" ? ">=" : "<="} ${bar} ${good ? "" : "MISSED"}`);
  }
  if (!options.only || options.only === "translate-hit") {
    const { bytesPerTranslation } = js("translate");
    console.log(`heap growth: ${bytesPerTranslation.toFixed(4)} bytes a translation`);
    if (bytesPerTranslation > 0.01) missed++;
  }
  if (curve) {
    console.log("areas in one IOAS: ns for a map, an unmap, a look-up by range; the same look-up in a red-black tree in C");
    for (const { count, map, unmap, lookup, tree } of curve) {
      console.log([count, map, unmap, lookup, tree].map((number) => number.toFixed(0).padStart(9)).join(" "));
    }
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
if (options.json) writeFileSync(options.json, `${JSON.stringify(curve ? [...results, { name: "area-curve", rows: curve }] : results, null, 2)}\n`);
process.exitCode = missed === 0 ? 0 : 1;
