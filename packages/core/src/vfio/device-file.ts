/** /dev/vfio/devices/vfioN: the VFIO device file (iommufd facts, section 10). */
import { decodeStruct, IOCTLS, storeFields, structLayout, type StructValues } from "../abi/index.js";
import { refuse } from "../errors.js";
import type { CallContext, KernelFile, MmapRegion, MmapRequest } from "../files/types.js";
import type { IommufdContext } from "../iommufd/context.js";
import type { BindableDevice, IommufdDevice } from "../iommufd/device.js";
import { IommufdFile } from "../iommufd/file.js";
import { deviceFeature } from "./feature.js";
import { type InterruptRouting, IRQ_COUNT, VfioInterrupts } from "./irqs.js";
import { CONFIG_REGION, type PciFunction, REGION_COUNT } from "./pci-function.js";

/** A device node: the function and who is bound to it. */
export interface VfioDevice {
  readonly pci: PciFunction;
  readonly bindable: BindableDevice;
  /** Programs the function's message-signalled interrupts. */
  readonly route: InterruptRouting;
  bound: VfioDeviceFile | undefined;
  /** Its group is open: the node of its own does not bind. */
  groupOpen?: boolean;
}

const FLAG_PASID = 1;
/** vfio_device_info.flags */
const DEVICE_RESET = 1;
const DEVICE_PCI = 2;
/** vfio_region_info.flags */
const REGION_READ = 1;
const REGION_WRITE = 2;
const REGION_MMAP = 4;
const REGION_CAPS = 8;
/** A capability header: VFIO_REGION_INFO_CAP_MSIX_MAPPABLE, version 1, none behind it. */
const MSIX_MAPPABLE = Uint8Array.of(3, 0, 1, 0, 0, 0, 0, 0);
const REGION_SHIFT = 40n;
const VGA_REGION = 8;
/** vfio_irq_set without its data. */
const IRQ_SET_BYTES = 20;

type Handler = (file: VfioDeviceFile, call: CallContext, argument: bigint) => number;

export class VfioDeviceFile implements KernelFile {
  readonly path: string;
  readonly node: VfioDevice;
  iommufd: IommufdDevice | undefined;
  readonly irqs: VfioInterrupts;
  /** Opened through its group: bound from the beginning. */
  readonly viaGroup: boolean;
  /** The descriptor, and mappings of BARs. */
  #holders = 1;

  constructor(path: string, node: VfioDevice, viaGroup = false) {
    this.path = path;
    this.node = node;
    this.viaGroup = viaGroup;
    this.irqs = new VfioInterrupts(node.pci, node.route);
  }

  /** A device of an open group, bound and attached to the container's IOAS. */
  static ofGroup(path: string, node: VfioDevice, context: IommufdContext): VfioDeviceFile {
    if (node.bound) refuse("EBUSY", `${node.pci.name} is open already`, { argument: "name" });
    const file = new VfioDeviceFile(path, node, true);
    const device = context.bind(node.bindable);
    try {
      device.attach(0, context.needCompatIoas().id);
    } catch (error) {
      device.unbind();
      throw error;
    }
    file.take(device);
    return file;
  }

  /** The device is this file's from now on. */
  take(device: IommufdDevice): void {
    device.context.hold();
    this.iommufd = device;
    this.node.bound = this;
    this.node.pci.enable();
    this.node.pci.pinDriven = () => this.irqs.pinDriven();
  }

  ioctl(call: CallContext, request: number, argument: bigint): number {
    const row = IOCTLS.find((candidate) => candidate.node === "device" && candidate.request === request);
    if (row?.name !== "VFIO_DEVICE_BIND_IOMMUFD") this.mustBeBound();
    if (row === undefined) return refuse("ENOTTY", `request 0x${request.toString(16)} is not one of a VFIO device`, { argument: "request" });
    const handler = HANDLERS[row.name];
    if (handler === undefined || (this.viaGroup && GROUPLESS.has(row.name))) return refuse("ENOTTY", `${row.name} is not for this device`, { argument: "request" });
    return handler(this, call, argument);
  }

  mustBeBound(): IommufdDevice {
    return this.iommufd ?? refuse("EINVAL", `${this.path} is not bound to an iommufd`, { rule: "VFIO_DEVICE_BIND_IOMMUFD comes first" });
  }

  pread(_call: CallContext, position: bigint, target: Uint8Array): number {
    const { region, offset, length } = this.#locate(position, target.length);
    const part = target.subarray(0, length);
    if (region === CONFIG_REGION) this.node.pci.readConfig(offset, part);
    else {
      this.node.pci.readBar(region, offset, part);
      const hidden = this.#msixTable(region, offset, length);
      part.subarray(hidden.from, hidden.to).fill(0xff);
    }
    return length;
  }

  pwrite(_call: CallContext, position: bigint, source: Uint8Array): number {
    const { region, offset, length } = this.#locate(position, source.length);
    const part = source.subarray(0, length);
    if (region === CONFIG_REGION) this.node.pci.writeConfig(offset, part);
    else {
      const hidden = this.#msixTable(region, offset, length);
      if (hidden.from > 0) this.node.pci.writeBar(region, offset, part.subarray(0, hidden.from));
      if (hidden.to < length) this.node.pci.writeBar(region, offset + hidden.to, part.subarray(hidden.to));
    }
    return length;
  }

  /** The part of an access that meets the MSI-X table: vfio-pci programs that itself, it reads as ones (10.11). */
  #msixTable(region: number, offset: number, length: number): { from: number; to: number } {
    const { start = 0, end = 0 } = this.node.pci.bar(region)?.msixTable ?? {};
    const from = Math.max(start, offset) - offset;
    const to = Math.min(end, offset + length) - offset;
    return from < to ? { from, to } : { from: length, to: length };
  }

  /** Region and offset of a file position (10.11); the length is cut at the region's end. */
  #locate(position: bigint, wanted: number): { region: number; offset: number; length: number } {
    this.mustBeBound();
    const region = Number(position >> REGION_SHIFT);
    const offset = Number(position & ((1n << REGION_SHIFT) - 1n));
    const size = region < REGION_COUNT ? this.node.pci.regionSize(region) : 0;
    if (size === 0) return refuse("EINVAL", `region ${region} does not exist`, { argument: "position" });
    if (offset >= size) {
      return refuse(region === CONFIG_REGION ? "EFAULT" : "EINVAL", `offset 0x${offset.toString(16)} is behind the ${size} bytes of region ${region}`, { argument: "position" });
    }
    if (region !== CONFIG_REGION && !this.node.pci.memoryEnabled) {
      return refuse("EIO", `memory decoding of ${this.node.pci.name} is off`, { rule: "PCI command register, bit 1" });
    }
    return { region, offset, length: Math.min(wanted, size - offset) };
  }

  /** A BAR in the caller's memory: registers, which answer while memory decoding is on. */
  mmap(call: CallContext, request: MmapRequest): MmapRegion {
    this.mustBeBound();
    const region = Number(request.position >> REGION_SHIFT);
    const offset = Number(request.position & ((1n << REGION_SHIFT) - 1n));
    const bad = (why: string, argument: string): never => refuse("EINVAL", why, { argument });
    if (!request.shared) bad("a BAR is mapped with MAP_SHARED only", "flags");
    const size = region < CONFIG_REGION ? this.node.pci.regionSize(region) : 0;
    if (size === 0) bad(`region ${region} cannot be mapped`, "offset");
    if (offset + request.length > Math.ceil(size / 4096) * 4096) bad(`0x${offset.toString(16)} + ${request.length} lies behind the ${size} bytes of region ${region}`, "length");
    const { pci } = this.node;
    const pages = pci.bar(region)?.memory;
    if (pages === undefined && call.mapsRegisters === false) refuse("ENODEV", `BAR ${region} of ${pci.name} has registers, which act when they are touched: use pread and pwrite`, { argument: "offset" });
    const decoded = (): void => {
      if (!pci.memoryEnabled) refuse("EFAULT", `memory decoding of ${pci.name} is off: SIGBUS`, { rule: "PCI command register, bit 1" });
    };
    this.#holders++;
    return {
      length: request.length,
      ...(pages && { memory: { pages, offset } }),
      backend: {
        read: (at, target) => {
          decoded();
          pci.readBar(region, offset + at, target);
        },
        write: (at, source) => {
          decoded();
          pci.writeBar(region, offset + at, source);
        },
      },
      retain: () => {
        this.#holders++;
      },
      unmapped: () => this.#drop(),
    };
  }

  release(): void {
    this.#drop();
  }

  /** The descriptor or a mapping is gone; the last one lets the device go. */
  #drop(): void {
    if (--this.#holders > 0) return;
    if (this.iommufd === undefined) return;
    this.irqs.release();
    this.node.pci.pinDriven = undefined;
    const { context } = this.iommufd;
    this.iommufd.unbind();
    context.put();
    this.iommufd = undefined;
    this.node.bound = undefined;
    this.node.pci.reset();
  }
}

/** Reads a struct that begins with argsz; EINVAL when it is short (section 10). */
function copyIn(call: CallContext, argument: bigint, struct: string, least: number): { values: StructValues; bytes: Uint8Array } {
  const bytes = new Uint8Array(structLayout(struct).size);
  call.memory.read(argument, bytes.subarray(0, least));
  const argsz = new DataView(bytes.buffer).getUint32(0, true);
  if (argsz < least) refuse("EINVAL", `argsz ${argsz} is below ${least}`, { argument: "argsz" });
  const all = Math.min(argsz, bytes.length);
  if (all > least) call.memory.read(argument, bytes.subarray(0, all));
  return { values: decodeStruct(struct, bytes), bytes };
}

/** Writes the first `length` bytes of the struct back. */
function copyOut(call: CallContext, argument: bigint, struct: string, bytes: Uint8Array, values: StructValues, length: number): void {
  storeFields(struct, bytes, values);
  call.memory.write(argument, bytes.subarray(0, length));
}

function unknownFlags(values: StructValues, allowed: number): void {
  const rest = Number(values.flags) & ~allowed;
  if (rest !== 0) refuse("EINVAL", `flags has 0x${(rest >>> 0).toString(16)} set, which means nothing here`, { argument: "flags" });
}

function bind(file: VfioDeviceFile, call: CallContext, argument: bigint): number {
  const struct = "vfio_device_bind_iommufd";
  // This request alone reads its size first.
  const head = new Uint8Array(4);
  call.memory.read(argument, head);
  const size = new DataView(head.buffer).getUint32(0, true);
  if (size < 16) refuse("EINVAL", `argsz ${size} is below 16`, { argument: "argsz" });
  const { values, bytes } = copyIn(call, argument, struct, 16);
  const argsz = Number(values.argsz);
  for (let at = bytes.length; at < argsz; at += 4096) {
    const tail = new Uint8Array(Math.min(4096, argsz - at));
    call.memory.read(argument + BigInt(at), tail);
    if (tail.some((byte) => byte !== 0)) refuse("E2BIG", `a byte behind the ${bytes.length} that are known is not 0`, { argument: "argsz" });
  }
  unknownFlags(values, 1);
  const fd = Number(values.iommufd);
  if (fd < 0) refuse("EINVAL", `iommufd is ${fd}`, { argument: "iommufd" });
  if (file.viaGroup) refuse("EINVAL", `${file.path} was opened through its group`, { argument: "iommufd" });
  if (file.iommufd !== undefined) refuse("EINVAL", `${file.path} is bound already by this open`, { argument: "iommufd" });
  if (file.node.groupOpen) refuse("EBUSY", `the group of ${file.path} is open`, { argument: "iommufd" });
  if (Number(values.flags) === 1) refuse("EINVAL", `${file.node.pci.name} has no VF token`, { argument: "token_uuid_ptr" });
  const target = call.file(fd);
  if (!(target instanceof IommufdFile)) return refuse("EBADFD", `descriptor ${fd} is not an open /dev/iommu`, { argument: "iommufd" });
  if (file.node.bound !== undefined) refuse("EINVAL", `another open of ${file.path} is bound`, { argument: "iommufd" });
  const device = target.context.bind(file.node.bindable);
  try {
    copyOut(call, argument, struct, bytes, { out_devid: device.id }, 16);
  } catch (error) {
    device.unbind();
    throw error;
  }
  file.take(device);
  return 0;
}

function attach(file: VfioDeviceFile, call: CallContext, argument: bigint): number {
  const struct = "vfio_device_attach_iommufd_pt";
  const { values, bytes } = pasidStruct(call, argument, struct, 12);
  const device = file.mustBeBound();
  const pasid = (Number(values.flags) & FLAG_PASID) === 0 ? 0 : Number(values.pasid);
  if (pasid >= 2 ** 31) refuse("ENOSPC", `PASID ${pasid} is not below 2^31`, { argument: "pasid" });
  // Only the RID and PASIDs that are attached are replaced: a flagged PASID 0 is attached anew, and is EBUSY (10.2).
  const flagged = (Number(values.flags) & FLAG_PASID) !== 0;
  const attached = device.attachments.has(pasid) && !(flagged && pasid === 0);
  const hwpt = attached ? device.replace(pasid, Number(values.pt_id)) : device.attach(pasid, Number(values.pt_id));
  try {
    copyOut(call, argument, struct, bytes, { pt_id: hwpt }, 12);
  } catch (error) {
    device.detach(0); // as Linux: the RID, also for a PASID attach (10.2)
    throw error;
  }
  return 0;
}

function detach(file: VfioDeviceFile, call: CallContext, argument: bigint): number {
  const { values } = pasidStruct(call, argument, "vfio_device_detach_iommufd_pt", 8);
  file.mustBeBound().detach((Number(values.flags) & FLAG_PASID) === 0 ? 0 : Number(values.pasid));
  return 0;
}

/** A struct whose last field, pasid, is there only with the PASID flag. */
function pasidStruct(call: CallContext, argument: bigint, struct: string, least: number): { values: StructValues; bytes: Uint8Array } {
  const head = copyIn(call, argument, struct, least);
  unknownFlags(head.values, FLAG_PASID);
  return (Number(head.values.flags) & FLAG_PASID) === 0 ? head : copyIn(call, argument, struct, least + 4);
}

function getInfo(file: VfioDeviceFile, call: CallContext, argument: bigint): number {
  const struct = "vfio_device_info";
  const { values, bytes } = copyIn(call, argument, struct, 16);
  const answer = { flags: DEVICE_PCI | (file.node.pci.device.resettable ? DEVICE_RESET : 0), num_regions: REGION_COUNT, num_irqs: IRQ_COUNT, cap_offset: 0 };
  copyOut(call, argument, struct, bytes, answer, Math.min(Number(values.argsz), bytes.length));
  return 0;
}

function getRegionInfo(file: VfioDeviceFile, call: CallContext, argument: bigint): number {
  const struct = "vfio_region_info";
  const { values, bytes } = copyIn(call, argument, struct, 32);
  const index = Number(values.index);
  if (index >= REGION_COUNT || index === VGA_REGION) refuse("EINVAL", `region ${index} does not exist`, { argument: "index" });
  const { pci } = file.node;
  const size = pci.regionSize(index);
  const bar = pci.bar(index);
  const mappable = index < CONFIG_REGION && size >= 4096 && (bar?.memory !== undefined || call.mapsRegisters !== false) ? REGION_MMAP : 0;
  let flags = size === 0 ? 0 : REGION_READ | REGION_WRITE | mappable;
  const answer = { flags, size: BigInt(size), offset: BigInt(index) << REGION_SHIFT, cap_offset: 0, argsz: Number(values.argsz) };
  if (mappable !== 0 && bar?.msixTable) {
    // One capability, without data: the table's page may be mapped too.
    flags |= REGION_CAPS;
    answer.flags = flags;
    if (answer.argsz < bytes.length + MSIX_MAPPABLE.length) answer.argsz = bytes.length + MSIX_MAPPABLE.length;
    else {
      call.memory.write(argument + BigInt(bytes.length), MSIX_MAPPABLE);
      answer.cap_offset = bytes.length;
    }
  }
  copyOut(call, argument, struct, bytes, answer, bytes.length);
  return 0;
}

function getIrqInfo(file: VfioDeviceFile, call: CallContext, argument: bigint): number {
  const struct = "vfio_irq_info";
  const { values, bytes } = copyIn(call, argument, struct, 16);
  copyOut(call, argument, struct, bytes, file.irqs.info(Number(values.index)), 16);
  return 0;
}

function setIrqs(file: VfioDeviceFile, call: CallContext, argument: bigint): number {
  const { values } = copyIn(call, argument, "vfio_irq_set", IRQ_SET_BYTES);
  const [flags, index, start, count] = [Number(values.flags), Number(values.index), Number(values.start), Number(values.count)];
  const data = new Uint8Array(file.irqs.check(flags, index, start, count, Number(values.argsz) - IRQ_SET_BYTES));
  call.memory.read(argument + BigInt(IRQ_SET_BYTES), data);
  file.irqs.set(call, { flags, index, start, count, data });
  return 0;
}

/** There is no slot or bus to reset with the device. */
function hotReset(file: VfioDeviceFile, call: CallContext, argument: bigint): number {
  const { values } = copyIn(call, argument, "vfio_pci_hot_reset", 12);
  if (Number(values.flags) !== 0) refuse("EINVAL", `flags is ${Number(values.flags)}`, { argument: "flags" });
  if ((Number(values.count) !== 0) !== file.viaGroup) refuse("EINVAL", `count ${Number(values.count)}: groups are named when the device was opened through one`, { argument: "count" });
  return refuse("ENODEV", "the device is on a root bus: neither slot nor bus can be reset");
}

function ioeventfd(file: VfioDeviceFile, call: CallContext, argument: bigint): number {
  const { values } = copyIn(call, argument, "vfio_device_ioeventfd", 28);
  const width = Number(values.flags);
  const bad = (why: string, name: string): never => refuse("EINVAL", why, { argument: name });
  if ((width & ~15) !== 0 || width === 0 || (width & (width - 1)) !== 0 || width === 8) bad(`flags ${width} is not one width of 1, 2 or 4 bytes`, "flags");
  const region = Number(BigInt(values.offset) >> REGION_SHIFT);
  const offset = Number(BigInt(values.offset) & ((1n << REGION_SHIFT) - 1n));
  if (region >= CONFIG_REGION - 1) bad(`region ${region} is not a BAR`, "offset");
  if (offset + width > file.node.pci.regionSize(region) || offset % width !== 0) bad(`offset 0x${offset.toString(16)} does not name a register of BAR ${region}`, "offset");
  if (Number(values.fd) < -1) bad(`fd is ${Number(values.fd)}`, "fd");
  if (Number(values.fd) === -1) return refuse("ENODEV", "no such eventfd is set", { argument: "fd" });
  return refuse("ENOSPC", "this device takes no eventfds for its registers", { argument: "fd" });
}

function feature(_file: VfioDeviceFile, call: CallContext, argument: bigint): number {
  const { values } = copyIn(call, argument, "vfio_device_feature", 8);
  return deviceFeature(Number(values.flags));
}

/** Requests that a device opened through its group does not know. */
const GROUPLESS: ReadonlySet<string> = new Set(["VFIO_DEVICE_ATTACH_IOMMUFD_PT", "VFIO_DEVICE_DETACH_IOMMUFD_PT"]);

const HANDLERS: Readonly<Record<string, Handler>> = {
  VFIO_DEVICE_BIND_IOMMUFD: bind,
  VFIO_DEVICE_ATTACH_IOMMUFD_PT: attach,
  VFIO_DEVICE_DETACH_IOMMUFD_PT: detach,
  VFIO_DEVICE_GET_INFO: getInfo,
  VFIO_DEVICE_GET_REGION_INFO: getRegionInfo,
  VFIO_DEVICE_GET_IRQ_INFO: getIrqInfo,
  VFIO_DEVICE_SET_IRQS: setIrqs,
  VFIO_DEVICE_GET_PCI_HOT_RESET_INFO: (_file, call, argument) => {
    copyIn(call, argument, "vfio_pci_hot_reset_info", 12);
    return refuse("ENODEV", "the device is on a root bus: neither slot nor bus can be reset");
  },
  VFIO_DEVICE_PCI_HOT_RESET: hotReset,
  VFIO_DEVICE_IOEVENTFD: ioeventfd,
  VFIO_DEVICE_FEATURE: feature,
  VFIO_DEVICE_RESET: (file) => {
    if (!file.node.pci.device.resettable) refuse("EINVAL", `${file.node.pci.name} cannot be reset by itself`);
    const enabled = file.node.pci.command;
    file.node.pci.reset();
    // vfio-pci restores the command register after a reset.
    file.node.pci.writeConfig(4, Uint8Array.of(enabled & 0xff, enabled >> 8));
    return 0;
  },
};
