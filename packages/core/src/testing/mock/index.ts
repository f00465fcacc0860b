/** A machine with the kernel's test command and nothing else: what its own selftest runs on. */
import { refuse } from "../../errors.js";
import type { CallContext, DeviceNodes, KernelFile } from "../../files/types.js";
import { type CommandExtension, IommufdFile } from "../../iommufd/file.js";
import { PhysicalMemory } from "../../memory/physical-memory.js";
import { ClientWindows } from "../../memory/windows.js";
import { mockExtension } from "./commands.js";

const NODES = ["/dev/iommu", "/dev/vfio/vfio"] as const;

class BareNodes implements DeviceNodes {
  readonly paths: readonly string[] = NODES;
  readonly #windows = new ClientWindows(new PhysicalMemory(), 0x10_0000_0000, 2 ** 52);
  readonly #extension: CommandExtension | undefined;

  constructor(extension: CommandExtension | undefined) {
    this.#extension = extension;
  }

  open(_context: CallContext, path: string): KernelFile {
    if (!this.paths.includes(path)) return refuse("ENOENT", `${path} is not a node of this machine; there are: ${this.paths.join(", ")}`, { argument: "path" });
    return new IommufdFile(path, { windows: this.#windows, container: path !== "/dev/iommu", extension: this.#extension });
  }
}

/** Nodes with IOMMU_TEST_CMD (request 0x3ba0) when `test` is set, and without any device. */
export function bareNodes(test: boolean): DeviceNodes {
  return new BareNodes(test ? mockExtension : undefined);
}

export { mockExtension } from "./commands.js";
