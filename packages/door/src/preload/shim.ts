/** Builds the native shim at first use, once for each source and compiler, into the user's cache. */
import { execFileSync, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { accessSync, constants, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";

const SOURCES = fileURLToPath(new URL("../../native/", import.meta.url));
const FLAGS = ["-O2", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror"];

/** Full path of cc, gcc or clang; undefined when none is on the PATH. */
export function findCompiler(): string | undefined {
  for (const folder of (process.env.PATH ?? "").split(delimiter)) {
    for (const name of ["cc", "gcc", "clang"]) {
      const path = join(folder, name);
      try {
        accessSync(path, constants.X_OK);
        return path;
      } catch {
        // not here
      }
    }
  }
  return undefined;
}

function cacheFolder(): string {
  const candidates = [process.env.XDG_CACHE_HOME, join(homedir(), ".cache"), join(tmpdir(), `iommukit-${process.getuid?.() ?? 0}`)];
  for (const base of candidates) {
    if (!base) continue;
    try {
      const folder = join(base, "iommukit");
      mkdirSync(folder, { recursive: true, mode: 0o700 });
      accessSync(folder, constants.W_OK);
      return folder;
    } catch {
      // the next one
    }
  }
  throw new Error("no folder to keep the native shim in: set XDG_CACHE_HOME to one that can be written");
}

/**
 * Path of the shared object.
 * @throws Error that says what is missing, or what the compiler said
 */
export function buildShim(): string {
  const compiler = findCompiler();
  if (compiler === undefined) {
    throw new Error("running a native program needs a C compiler for the preload shim: none of cc, gcc, clang is on the PATH (Debian: apt install gcc libc6-dev)");
  }
  const files = readdirSync(SOURCES).filter((name) => /\.[ch]$/.test(name)).sort();
  const hash = createHash("sha256").update(execFileSync(compiler, ["--version"])).update(FLAGS.join(" "));
  for (const name of files) hash.update(name).update(readFileSync(join(SOURCES, name)));
  const folder = cacheFolder();
  const target = join(folder, `shim-${hash.digest("hex").slice(0, 16)}.so`);
  if (existsSync(target)) return target;
  // A name of its own, then a rename: two runs at once do not meet half a file.
  const fresh = `${target}.${process.pid}`;
  const sources = files.filter((name) => name.endsWith(".c")).map((name) => join(SOURCES, name));
  const result = spawnSync(compiler, [...FLAGS, "-o", fresh, ...sources, "-ldl"], { encoding: "utf8" });
  if (result.status !== 0) {
    rmSync(fresh, { force: true });
    throw new Error(`the preload shim does not compile with ${compiler}:\n${result.stderr}`);
  }
  renameSync(fresh, target);
  return target;
}
