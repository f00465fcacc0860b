/** A machine's device nodes, and its part of /sys: those of its description, and those of devices that come and go. */
import { AttributeFile } from "../files/attribute-file.js";
import { SysfsTree } from "../files/sysfs-tree.js";
import type { CallContext, DeviceNodes, KernelFile, SysfsChange, SysfsEntry } from "../files/types.js";
import { refuse } from "../errors.js";
import { DeviceGroup } from "../iommufd/device.js";
import { IommufdFile } from "../iommufd/file.js";
import type { ClientWindows } from "../memory/windows.js";
import type { Tracer } from "../trace.js";
import { VfioDeviceFile } from "../vfio/device-file.js";
import { VfioGroup, VfioGroupFile } from "../vfio/group-file.js";
import type { VfioDevice } from "../vfio/open-device.js";
import { groupEntries, groupFolder, vfioEntries } from "../vfio/sysfs.js";
import { traceFile } from "./traced-file.js";

const ALWAYS = ["/dev/iommu", "/dev/vfio/vfio"];
const DEVICES = "/dev/vfio/devices";

/** A device that can be opened. */
export interface VfioPresence {
  /** "vfio3" */
  readonly node: string;
  /** Its nodes go: nobody opens it any more. Who has it open keeps it. */
  remove(): void;
}

export class MachineNodes implements DeviceNodes {
  readonly tree: SysfsTree = new SysfsTree();
  readonly #devices = new Map<string, VfioDevice>();
  readonly #groups = new Map<string, VfioGroup>();
  /** Group numbers in use, also of groups that have no device yet. */
  readonly #groupIds = new Set<number>();
  readonly #windows: ClientWindows;
  readonly #tracer: Tracer;

  constructor(windows: ClientWindows, tracer: Tracer) {
    this.#windows = windows;
    this.#tracer = tracer;
    this.tree.add([node("/dev/vfio/vfio")]);
  }

  get paths(): readonly string[] {
    return [...ALWAYS, ...[...this.#groups.keys(), ...this.#devices.keys()].sort()];
  }

  get sysfs(): readonly SysfsEntry[] {
    return this.tree.entries;
  }

  watch(listener: (change: SysfsChange) => void): () => void {
    return this.tree.watch(listener);
  }

  /** A group for a device that is to come. @param wanted its number; the lowest free one unless given */
  newGroup(wanted: number = this.#freeGroup()): DeviceGroup {
    this.#groupIds.add(wanted);
    return new DeviceGroup(wanted);
  }

  #freeGroup(): number {
    let id = 0;
    while (this.#groupIds.has(id)) id++;
    return id;
  }

  /**
   * Gives a device its node, and one to its group.
   * @param home its folder in /sys @param name the node's; the first free vfioN unless given
   */
  addDevice(device: VfioDevice, home: string, name: string = this.#freeName()): VfioPresence {
    const path = `${DEVICES}/${name}`;
    const groupPath = `/dev/vfio/${device.group.id}`;
    const known = this.#groups.get(groupPath);
    const group = known ?? new VfioGroup(device.group);
    group.devices.push(device);
    this.#groups.set(groupPath, group);
    this.#devices.set(path, device);
    const entries = vfioEntries(device, name, home);
    const shown = [`${home}/vfio-dev`, ...entries.map((entry) => entry.path)];
    this.tree.add([...(known ? [] : [...groupEntries(device.group), node(groupPath)]), ...entries, node(path)]);
    return { node: name, remove: () => this.#remove(path, group, shown) };
  }

  #freeName(): string {
    let number = 0;
    while (this.#devices.has(`${DEVICES}/vfio${number}`)) number++;
    return `vfio${number}`;
  }

  #remove(path: string, group: VfioGroup, shown: readonly string[]): void {
    const device = this.#devices.get(path);
    if (device === undefined) return;
    this.#devices.delete(path);
    group.devices.splice(group.devices.indexOf(device), 1);
    const gone = [path, ...shown];
    if (group.devices.length === 0) {
      const { id } = group.group;
      this.#groups.delete(`/dev/vfio/${id}`);
      this.#groupIds.delete(id);
      gone.push(`/dev/vfio/${id}`, groupFolder(id));
    }
    this.tree.remove(gone);
  }

  open(context: CallContext, path: string): KernelFile {
    return traceFile(this.#tracer, context, this.#create(path));
  }

  #create(path: string): KernelFile {
    if (ALWAYS.includes(path)) return new IommufdFile(path, { windows: this.#windows, container: path !== "/dev/iommu" });
    if (path.startsWith("/sys/")) return this.#attribute(path);
    const group = this.#groups.get(path);
    if (group) return new VfioGroupFile(path, group);
    const device = this.#devices.get(path);
    if (device === undefined) return refuse("ENOENT", `${path} is not a node of this machine; there are: ${this.paths.join(", ")}`, { argument: "path" });
    return new VfioDeviceFile(path, device);
  }

  #attribute(path: string): KernelFile {
    const entry = this.tree.resolve(path);
    return entry?.kind === "attribute" ? new AttributeFile(entry, () => this.tree.resolve(entry.path) === entry) : refuse("ENOENT", `${path} is not an attribute that can be written`, { argument: "path" });
  }
}

function node(path: string): SysfsEntry {
  return { path, kind: "file", content: "" };
}
