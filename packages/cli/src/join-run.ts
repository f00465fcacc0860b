/** Runs this command again as one more program of a running `iommu run`, so that it finds that machine's files. */
import { spawnSync } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";

/** What the preload door gives its programs. */
const OURS = ["LD_PRELOAD", "IOMMUKIT_DOOR", "IOMMUKIT_TOKEN", "IOMMUKIT_PARENT", "IOMMUKIT_SYSFS"] as const;

/**
 * @param pid of `iommu run` itself, or of any program in it
 * @returns the exit code @throws Error when it cannot be joined, and why
 */
export function joinRun(pid: string): number {
  if (!/^\d{1,10}$/.test(pid)) throw new Error(`--run ${pid}: expected a process id`);
  const found = search(Number(pid));
  if (found === undefined) {
    throw new Error(`--run ${pid}: neither this process nor one that it started is a program of "iommu run" with the preload door. With --door seccomp, run "iommu mdev" inside`);
  }
  const args = process.argv.slice(1).filter((arg, i, all) => arg !== "--run" && all[i - 1] !== "--run" && !arg.startsWith("--run="));
  const { status, error } = spawnSync(process.execPath, args, { stdio: "inherit", env: { ...process.env, ...found } });
  if (error) throw error;
  return status ?? 2;
}

function search(pid: number): Record<string, string> | undefined {
  const entries = read(`/proc/${pid}/environ`).split("\0").map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)]);
  const environment = Object.fromEntries(entries) as Record<string, string | undefined>;
  if (environment.IOMMUKIT_DOOR) return Object.fromEntries(OURS.flatMap((name) => (environment[name] === undefined ? [] : [[name, environment[name]]])));
  for (const child of children(pid)) {
    const found = search(child);
    if (found) return found;
  }
  return undefined;
}

function children(pid: number): number[] {
  try {
    return readdirSync(`/proc/${pid}/task`).flatMap((task) => read(`/proc/${pid}/task/${task}/children`).split(" ").filter(Boolean).map(Number));
  } catch {
    return [];
  }
}

/** Nothing when it cannot be read: it is somebody else's, or has ended. */
function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
