/** Parts of Debian's linux-source-7.2 and the flags that its selftests are built with, against newer headers than this system's. */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { cache, unpacked } from "./debian.mjs";

const TREE = "linux-source-7.2";
const WANTED = [
  "tools/testing/selftests/iommu/*", "tools/testing/selftests/vfio/*", "tools/testing/selftests/*.h", "tools/testing/selftests/kselftest/*",
  "drivers/iommu/iommufd/iommufd_test.h", "tools/include/*", "tools/arch/*/include/*", "include/linux/pci_ids.h", "drivers/dma/idxd/registers.h", "include/uapi/linux/idxd.h",
  "drivers/dma/ioat/registers.h", "drivers/dma/ioat/hw.h",
];

export const folder = join(cache, "selftest");
export const tree = join(folder, TREE);
export const selftests = join(tree, "tools/testing/selftests");

/** Unpacks the source once. */
export function unpackSource() {
  const done = join(folder, `.unpacked-${WANTED.length}`);
  if (existsSync(done)) return;
  mkdirSync(folder, { recursive: true });
  const source = join(unpacked("linux-source-7.2"), "usr/src/linux-source-7.2.tar.xz");
  console.log("unpacking the selftests");
  execFileSync("tar", ["-xf", source, "-C", folder, "--wildcards", ...WANTED.map((path) => `${TREE}/${path}`)], { stdio: ["ignore", "inherit", "ignore"] });
  writeFileSync(done, "");
}

export const architecture = execFileSync("gcc", ["-print-multiarch"], { encoding: "utf8" }).trim();

/** Flags in common. */
export function flags() {
  const headers = join(unpacked("linux-libc-dev"), "usr/include");
  return ["-D_GNU_SOURCE=", "-O2", "-w", "-isystem", headers, "-isystem", join(headers, architecture), `-I${selftests}`];
}

/** Counts the lines of a kselftest's output, in TAP. */
export function outcome(output) {
  const ok = output.match(/^ok \d+ .*/gm) ?? [];
  return { passed: ok.filter((line) => !line.includes("# SKIP")), skipped: ok.filter((line) => line.includes("# SKIP")), failed: output.match(/^not ok .*/gm) ?? [] };
}
