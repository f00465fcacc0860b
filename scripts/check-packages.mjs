/**
 * Pick and choose must be true: packs every package, installs into empty projects only the
 * tarballs that each example needs, and runs the examples and the installed command there.
 * Ends with "N passed, N failed".
 */
import { execFileSync, spawnSync } from "node:child_process";
import { copyFileSync, cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

const root = resolve(import.meta.dirname, "..");
const folder = mkdtempSync(join(tmpdir(), "iommukit-packages-"));
let passed = 0;
let failed = 0;

function check(what, holds, detail = "") {
  console.log(`${holds ? "ok    " : "FAILED"} ${what}`);
  if (holds) passed++;
  else {
    failed++;
    if (detail) console.log(detail);
  }
}

function pack(name) {
  const before = new Set(readdirSync(folder));
  execFileSync("npx", ["--yes", "pnpm@12.21.0", "pack", "--pack-destination", folder], { cwd: join(root, "packages", name), stdio: ["ignore", "ignore", "inherit"] });
  const tarball = readdirSync(folder).find((file) => !before.has(file));
  const listing = execFileSync("tar", ["-tzf", join(folder, tarball)], { encoding: "utf8" }).split("\n");
  const manifest = JSON.parse(execFileSync("tar", ["-xzOf", join(folder, tarball), "package/package.json"], { encoding: "utf8" }));
  const missing = Object.values(manifest.exports)
    .flatMap((entry) => (typeof entry === "string" ? [entry] : Object.values(entry)))
    .filter((path) => !listing.includes(`package/${path.slice(2)}`));
  check(`${manifest.name}: every export is in the package`, missing.length === 0, missing.join("\n"));
  check(`${manifest.name}: no export leads to sources`, !JSON.stringify(manifest.exports).includes("/src/"));
  return join(folder, tarball);
}

/** An empty project with these tarballs and nothing else of ours. */
function project(name, tarballs) {
  const at = join(folder, name);
  mkdirSync(at);
  writeFileSync(join(at, "package.json"), JSON.stringify({ name, private: true, type: "module" }));
  execFileSync("npm", ["install", "--no-audit", "--no-fund", "--loglevel=error", ...tarballs], { cwd: at, stdio: ["ignore", "ignore", "inherit"] });
  return at;
}

function run(what, at, command, args, expected = 0) {
  const result = spawnSync(command, args, { cwd: at, encoding: "utf8" });
  check(what, result.status === expected, `exit ${result.status}\n${result.stdout}${result.stderr}`);
  return result.stdout;
}

try {
  const tarballs = Object.fromEntries(["core", "hw-vtd", "hw-smmu", "mdev", "viommu", "door", "cli"].map((name) => [name, pack(name)]));
  const example = (at, name) => {
    copyFileSync(join(root, "examples/library", name), join(at, name));
    return name;
  };

  const coreOnly = project("core-only", [tarballs.core]);
  check("core alone brings nothing else of ours", readdirSync(join(coreOnly, "node_modules/@iommukit")).join() === "core");
  run("example core-only.mjs with core alone", coreOnly, "node", [example(coreOnly, "core-only.mjs")]);

  const library = project("library", [tarballs.core, tarballs["hw-vtd"]]);
  run("example first.mjs with core and hw-vtd", library, "node", [example(library, "first.mjs")]);
  run("example decode.mjs with core and hw-vtd", library, "node", [example(library, "decode.mjs"), join(root, "conformance/tables/linux-vfio-fs.tables.json")]);

  const vendor = project("vendor", [tarballs.core]);
  for (const part of ["src", "test", "tsconfig.json"]) cpSync(join(root, "examples/vendor-driver", part), join(vendor, part), { recursive: true });
  const tsc = join(root, "node_modules/typescript/bin/tsc");
  run("an outside vendor's IOMMU builds against core alone", vendor, "node", [tsc, "-p", "."]);
  const kit = run("an outside vendor's IOMMU passes the conformance kit", vendor, "node", ["--test", "--test-reporter=tap", "test/"]);
  check("the kit has tried it", Number(/^# pass (\d+)$/m.exec(kit)?.[1] ?? 0) > 40);

  const command = project("command", Object.values(tarballs));
  const iommu = join(command, "node_modules/.bin/iommu");
  run("installed iommu --help", command, iommu, ["--help"]);
  const tour = JSON.parse(run("installed iommu tour --json", command, iommu, ["tour", "--json"]));
  check("the installed tour's checks held", tour.checks.held === tour.checks.of && tour.checks.of > 0);
  const listed = JSON.parse(run("installed iommu --plugin of an outsider", command, iommu, ["--plugin", `./${example(command, "device-plugin.mjs")}`, "list", "--json"]));
  check("the outsider's device is listed", "beacon" in listed.devices);

  const made = JSON.parse(run("an outsider's mediated device is made in a run", command, iommu, ["--plugin", `./${example(command, "mdev-driver.mjs")}`, "run", "--mdev", "sum", "--", "sh", "-c", `${iommu} mdev create sum-bytes --json`]));
  check("the outsider's mediated device has a node", /^vfio\d+$/.test(made.node));

  const acme = JSON.parse(run("installed iommu tour on the outside vendor's IOMMU", command, iommu, ["--plugin", join(vendor, "dist/plugin.js"), "tour", "--machine", "acme", "--json"]));
  check("the vendor's tour's checks held", acme.checks.held === acme.checks.of && acme.checks.of > 0);

  const shown = readFileSync(join(root, "README.md"), "utf8");
  check("README shows examples/library/first.mjs", shown.includes(readFileSync(join(root, "examples/library/first.mjs"), "utf8").trim()));
  check("every package has a README", ["core", "hw-vtd", "hw-smmu", "mdev", "viommu", "door", "cli"].every((name) => existsSync(join(root, "packages", name, "README.md"))));
} finally {
  rmSync(folder, { recursive: true, force: true });
}
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
