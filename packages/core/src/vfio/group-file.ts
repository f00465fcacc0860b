/** /dev/vfio/N: the group interface, with an iommufd as its container (iommufd facts, 11.1 to 11.3). */
import { refuse } from "../errors.js";
import type { CallContext, KernelFile } from "../files/types.js";
import type { IommufdContext } from "../iommufd/context.js";
import type { DeviceGroup } from "../iommufd/device.js";
import { IommufdFile } from "../iommufd/file.js";
import { VfioDeviceFile } from "./device-file.js";
import { OpenDevice, type VfioDevice } from "./open-device.js";

const REQUEST = { GET_STATUS: 0x3b67, SET_CONTAINER: 0x3b68, UNSET_CONTAINER: 0x3b69, GET_DEVICE_FD: 0x3b6a } as const;
const VIABLE = 1;
const CONTAINER_SET = 2;
const NAME_LIMIT = 4096;

export class VfioGroup {
  readonly group: DeviceGroup;
  readonly devices: VfioDevice[] = [];
  opened: VfioGroupFile | undefined;

  constructor(group: DeviceGroup) {
    this.group = group;
  }
}

export class VfioGroupFile implements KernelFile {
  readonly path: string;
  readonly #group: VfioGroup;
  #container: IommufdContext | undefined;
  /** The descriptor, and every descriptor of a device that came from it. */
  #holders = 1;

  /** @throws IommuError EBUSY when it is open already, or a device of the group is bound by itself */
  constructor(path: string, group: VfioGroup) {
    if (group.opened) refuse("EBUSY", `${path} is open already`, { argument: "path" });
    const bound = group.devices.find((device) => device.open);
    if (bound) refuse("EBUSY", `${bound.pci.name} of this group is bound through its own node`, { argument: "path" });
    this.path = path;
    this.#group = group;
    group.opened = this;
    for (const device of group.devices) device.groupOpen = true;
  }

  ioctl(call: CallContext, request: number, argument: bigint): number {
    switch (request) {
      case REQUEST.GET_STATUS:
        return this.#status(call, argument);
      case REQUEST.SET_CONTAINER:
        return this.#setContainer(call, argument);
      case REQUEST.UNSET_CONTAINER:
        if (this.#container === undefined) refuse("EINVAL", "no container is set", { rule: "VFIO_GROUP_SET_CONTAINER" });
        this.#dropContainer();
        return 0;
      case REQUEST.GET_DEVICE_FD:
        return this.#deviceFd(call, argument);
      default:
        return refuse("ENOTTY", `request 0x${request.toString(16)} is not one of a VFIO group`, { argument: "request" });
    }
  }

  #status(call: CallContext, argument: bigint): number {
    const bytes = new Uint8Array(8);
    call.memory.read(argument, bytes);
    const view = new DataView(bytes.buffer);
    if (view.getUint32(0, true) < 8) refuse("EINVAL", `argsz ${view.getUint32(0, true)} is below 8`, { argument: "argsz" });
    const set = this.#container !== undefined;
    const free = this.#group.group.owner === undefined;
    view.setUint32(4, set ? VIABLE | CONTAINER_SET : free ? VIABLE : 0, true);
    call.memory.write(argument, bytes);
    return 0;
  }

  #setContainer(call: CallContext, argument: bigint): number {
    const bytes = new Uint8Array(4);
    call.memory.read(argument, bytes);
    const fd = new DataView(bytes.buffer).getInt32(0, true);
    if (fd < 0) refuse("EBADF", `fd is ${fd}`, { argument: "fd" });
    const file = call.file(fd);
    if (this.#container) refuse("EINVAL", "a container is set already", { argument: "fd" });
    if (!(file instanceof IommufdFile)) return refuse("EBADFD", `descriptor ${fd} is neither a container nor an iommufd`, { argument: "fd" });
    file.context.needCompatIoas();
    file.context.hold();
    this.#container = file.context;
    return 0;
  }

  #deviceFd(call: CallContext, argument: bigint): number {
    const name = readName(call, argument);
    const device = this.#find(name);
    const context = this.#container ?? refuse("EINVAL", "no container is set", { rule: "VFIO_GROUP_SET_CONTAINER" });
    this.#holders++;
    const file = new VfioDeviceFile(`/dev/vfio/${device.pci.name}`, device, () => this.release());
    try {
      file.take(OpenDevice.ofGroup(device, context));
      return call.install(file);
    } catch (error) {
      file.release();
      throw error;
    }
  }

  /** Behind the name, options may follow. @throws IommuError ENODEV, EINVAL for options: these devices take none */
  #find(name: string): VfioDevice {
    const device = this.#group.devices.find(({ pci }) => name === pci.name || name.startsWith(`${pci.name} `));
    if (device === undefined) return refuse("ENODEV", `name ${JSON.stringify(name)} is not a device of ${this.path}`, { argument: "name" });
    const options = name.slice(device.pci.name.length).replace(/^ +/, "");
    if (options !== "") refuse("EINVAL", `name has ${JSON.stringify(options)} behind ${device.pci.name}, which takes no VF token`, { argument: "name" });
    return device;
  }

  #dropContainer(): void {
    this.#container?.put();
    this.#container = undefined;
  }

  release(): void {
    if (--this.#holders > 0) return;
    this.#dropContainer();
    this.#group.opened = undefined;
    for (const device of this.#group.devices) device.groupOpen = false;
  }
}

/** A string in user memory. @throws IommuError EFAULT, EINVAL when it does not end */
function readName(call: CallContext, address: bigint): string {
  const byte = new Uint8Array(1);
  let name = "";
  for (let i = 0n; name.length < NAME_LIMIT; i++) {
    call.memory.read(address + i, byte);
    if (byte[0] === 0) return name;
    name += String.fromCharCode(byte[0]);
  }
  return refuse("EINVAL", `name does not end within ${NAME_LIMIT} bytes`, { argument: "name" });
}
