#!/usr/bin/env node
/** Random configurations and queue contents against the units: `pnpm fuzz [--seed N] [--count N | --minutes N]`. */
import { spawnSync } from "node:child_process";
import { parseArgs } from "node:util";

const { values } = parseArgs({
  options: {
    seed: { type: "string" },
    count: { type: "string" },
    minutes: { type: "string" },
    help: { type: "boolean", short: "h" },
  },
});
if (values.help) {
  console.log("pnpm fuzz [--seed N] [--count N | --minutes N]\n\nDefault: a seed of the clock, 1,000,000 configurations. A failure prints the seed and the count that repeat it.");
  process.exit(0);
}
const env = { ...process.env, PROGRESS: "1", COUNT: "1000000" };
for (const [name, value] of Object.entries(values)) {
  if (!/^\d+(\.\d+)?$/.test(value)) {
    console.error(`fuzz: --${name} ${value} is not a number`);
    process.exit(2);
  }
  env[name.toUpperCase()] = value;
}
const { status } = spawnSync("npx", ["vitest", "run", "packages/hw-vtd/src/fuzz/", "--maxWorkers=1"], { env, stdio: "inherit" });
process.exit(status ?? 1);
