/** /dev/vfio/devices/vfioN: the VFIO device file (iommufd facts, section 10). */
import type { PciBar } from "../devices/types.js";
import { refuse } from "../errors.js";
import type { CallContext, KernelFile, MmapRegion, MmapRequest } from "../files/types.js";
import type { OpenDevice, VfioDevice } from "./open-device.js";
import { CONFIG_REGION, REGION_COUNT } from "./pci-function.js";
import { deviceRequest } from "./requests.js";

export const REGION_SHIFT = 40n;
const OFFSET_MASK = (1n << REGION_SHIFT) - 1n;

export class VfioDeviceFile implements KernelFile {
  readonly path: string;
  readonly node: VfioDevice;
  /** Opened through its group, which it keeps open: told when it is gone. */
  readonly #leaveGroup: (() => void) | undefined;
  #open: OpenDevice | undefined;
  /** The descriptor, and mappings of BARs. */
  #holders = 1;

  constructor(path: string, node: VfioDevice, leaveGroup?: () => void) {
    this.path = path;
    this.node = node;
    this.#leaveGroup = leaveGroup;
    node.holders++;
  }

  get viaGroup(): boolean {
    return this.#leaveGroup !== undefined;
  }

  /** What was bound or opened through the group. */
  get open(): OpenDevice | undefined {
    return this.#open;
  }

  take(open: OpenDevice): void {
    open.addFile();
    this.#open = open;
  }

  ioctl(call: CallContext, request: number, argument: bigint): number {
    return deviceRequest(this, call, request, argument);
  }

  mustBeBound(): OpenDevice {
    return this.#open ?? refuse("EINVAL", `${this.path} is not bound to an iommufd`, { rule: "VFIO_DEVICE_BIND_IOMMUFD comes first" });
  }

  pread(_call: CallContext, position: bigint, target: Uint8Array): number {
    const { region, offset, length } = this.#locate(position, target.length);
    const part = target.subarray(0, length);
    if (length === 0) return 0;
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
    if (length === 0) return 0;
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

  /** Region and offset of a file position (10.11). An access is cut at the end of a BAR, and refused across that of configuration space. */
  #locate(position: bigint, wanted: number): { region: number; offset: number; length: number } {
    this.mustBeBound();
    const { pci } = this.node;
    const region = Number(position >> REGION_SHIFT);
    const offset = Number(position & OFFSET_MASK);
    if (wanted === 0) return { region, offset, length: 0 };
    const size = region < REGION_COUNT ? pci.regionSize(region) : 0;
    if (size === 0) return refuse("EINVAL", `position 0x${position.toString(16)}: region ${region} does not exist`, { argument: "position" });
    const behind = (errno: "EFAULT" | "EINVAL"): never => refuse(errno, `position 0x${position.toString(16)}: offset 0x${offset.toString(16)} + ${wanted} is behind the ${size} bytes of region ${region}`, { argument: "position" });
    if (region === CONFIG_REGION) return offset + wanted > size ? behind("EFAULT") : { region, offset, length: wanted };
    if (offset >= size) behind("EINVAL");
    if (!pci.memoryEnabled && !pci.bar(region)?.io) refuse("EIO", `memory decoding of ${pci.name} is off`, { rule: "PCI command register, bit 1" });
    return { region, offset, length: Math.min(wanted, size - offset) };
  }

  /** A BAR in the caller's memory: registers, which answer while memory decoding is on. */
  mmap(call: CallContext, request: MmapRequest): MmapRegion {
    this.mustBeBound();
    const region = Number(request.position >> REGION_SHIFT);
    const offset = Number(request.position & OFFSET_MASK);
    const bad = (why: string, argument: string): never => refuse("EINVAL", why, { argument });
    if (!request.shared) bad("a BAR is mapped with MAP_SHARED only", "flags");
    const size = region < CONFIG_REGION ? this.node.pci.regionSize(region) : 0;
    if (size === 0) bad(`region ${region} cannot be mapped`, "offset");
    if (offset + request.length > Math.ceil(size / 4096) * 4096) bad(`0x${offset.toString(16)} + ${request.length} lies behind the ${size} bytes of region ${region}`, "length");
    const { pci } = this.node;
    const pages = pci.bar(region)?.memory;
    if (!isMappable(pci.bar(region)?.mappable, offset, request.length)) bad(`0x${offset.toString(16)} + ${request.length} lies outside of what may be mapped of region ${region}`, "offset");
    if (pages === undefined && call.mapsRegisters === false) refuse("ENODEV", `BAR ${region} of ${pci.name} has registers, which act when they are touched: use pread and pwrite`, { argument: "offset" });
    const answering = (): void => {
      if (!pci.memoryEnabled) refuse("EFAULT", `memory decoding of ${pci.name} is off: SIGBUS`, { rule: "PCI command register, bit 1" });
      if (pci.lowPower) refuse("EFAULT", `${pci.name} is in low power: SIGBUS`, { rule: "VFIO_DEVICE_FEATURE_LOW_POWER_EXIT" });
    };
    this.#holders++;
    return {
      length: request.length,
      ...(pages && { memory: { pages, offset } }),
      backend: {
        read: (at, target) => {
          answering();
          pci.readBar(region, offset + at, target);
        },
        write: (at, source) => {
          answering();
          pci.writeBar(region, offset + at, source);
        },
      },
      writeBlock: (at, bytes, deferrable) => {
        answering();
        return pci.writeBlock(region, offset + at, bytes, deferrable);
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
    this.#open?.removeFile();
    this.#open = undefined;
    this.#leaveGroup?.();
    if (--this.node.holders === 0) this.node.idle?.();
  }
}

/** True when one of the parts, or no list at all, allows it. */
function isMappable(parts: PciBar["mappable"], offset: number, length: number): boolean {
  return parts === undefined || parts.some((part) => offset >= part.offset && offset + length <= part.offset + part.size);
}
