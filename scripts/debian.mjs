/** Packages of Debian's sid, unpacked into .cache/ without installing them: newer headers and sources than this system's. */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";

export const cache = resolve(import.meta.dirname, "../.cache");

/** The mirror that this system's own apt uses. */
function mirror() {
  const folders = ["/etc/apt/sources.list.d", "/etc/apt"];
  const files = folders.flatMap((folder) => (existsSync(folder) ? readdirSync(folder).map((name) => join(folder, name)) : []));
  for (const file of files.filter((name) => /\.(list|sources)$/.test(name))) {
    const found = /^(?:URIs:\s*|deb\s+(?:\[[^\]]*\]\s+)?)(\S+\/debian)\/?(?=\s|$)/m.exec(readFileSync(file, "utf8"));
    if (found) return found[1];
  }
  throw new Error("no Debian mirror is configured on this system: the packages cannot be fetched");
}

let updated = false;

/** Downloads a package once and unpacks it; returns its root folder. */
export function unpacked(name) {
  const root = join(cache, "debian", name);
  const done = join(root, ".unpacked");
  if (existsSync(done)) return root;
  const apt = join(cache, "apt");
  for (const folder of [join(apt, "lists/partial"), join(apt, "archives/partial"), root]) mkdirSync(folder, { recursive: true });
  writeFileSync(join(apt, "sources.list"), `deb [trusted=yes] ${mirror()} sid main\n`);
  writeFileSync(join(apt, "status"), "");
  const options = [
    `Dir::Etc::sourcelist=${apt}/sources.list`, "Dir::Etc::sourceparts=/dev/null", `Dir::State::lists=${apt}/lists`,
    `Dir::Cache::archives=${apt}/archives`, `Dir::Cache=${apt}`, `Dir::State::status=${apt}/status`, "APT::Sandbox::User=root",
  ].flatMap((option) => ["-o", option]);
  const quiet = { stdio: ["ignore", "ignore", "inherit"] };
  if (!updated) execFileSync("apt-get", [...options, "update", "-q"], quiet);
  updated = true;
  execFileSync("apt-get", [...options, "download", "-q", name], { cwd: join(apt, "archives"), ...quiet });
  const deb = readdirSync(join(apt, "archives")).find((file) => file.startsWith(`${name}_`));
  console.log(`unpacking ${deb}`);
  execFileSync("dpkg-deb", ["-x", join(apt, "archives", deb), root]);
  writeFileSync(done, "");
  return root;
}
