/** A device while somebody uses it: what all its descriptors share, from the first bind or group open to the last close. */
import type { CallContext } from "../files/types.js";
import { refuse } from "../errors.js";
import type { IommufdContext } from "../iommufd/context.js";
import type { BoundDevice, VfioBinding } from "../iommufd/binding.js";
import type { DeviceGroup } from "../iommufd/device.js";
import type { DmabufFile } from "../iommufd/dmabuf.js";
import { eventFile, watchEvent } from "./events.js";
import { type InterruptPath, VfioInterrupts } from "./irqs.js";
import { Migration } from "./migration.js";
import type { PasidAbilities } from "./pasid-capability.js";
import type { PciFunction } from "./pci-function.js";

/** A device node: the function and who uses it. */
export interface VfioDevice {
  readonly pci: PciFunction;
  readonly binding: VfioBinding;
  /** Whose node /dev/vfio/N is its group's. */
  readonly group: DeviceGroup;
  /** How its message-signalled interrupts travel; absent: its driver signals the eventfds. */
  readonly interruptPath?: InterruptPath;
  /** What its user may do with PASIDs, if its driver tells. */
  readonly pasids?: PasidAbilities;
  /** Its BARs can be exported as dma-bufs. */
  readonly exportsBars: boolean;
  /** Its driver is not vfio-pci: it knows none of the requests that only that has. */
  readonly mediated?: boolean;
  open: OpenDevice | undefined;
  /** Open files of it, with the mappings that outlive them. */
  holders: number;
  /** Called when the last of them is gone. */
  idle?: () => void;
  /** Its group is open: the node of its own does not bind. */
  groupOpen?: boolean;
}

const IOEVENTFD_LIMIT = 1000;

/** A register that is written whenever an eventfd is signalled. */
interface IoEvent {
  readonly bar: number;
  readonly offset: number;
  readonly width: number;
  readonly data: bigint;
  readonly end: () => void;
}

export class OpenDevice {
  readonly node: VfioDevice;
  readonly bound: BoundDevice;
  readonly irqs: VfioInterrupts;
  /** Of a device that can be moved to another machine. */
  readonly migration: Migration | undefined;
  /** dma-bufs that show its BARs. */
  readonly exports: Set<DmabufFile> = new Set<DmabufFile>();
  /** Files: one for a device node, any number through the group. */
  #files = 0;
  #events: IoEvent[] = [];
  /** What the function's enables were before the last change. */
  #answered = true;
  #intxDisabled = false;

  constructor(node: VfioDevice, bound: BoundDevice) {
    this.node = node;
    this.bound = bound;
    this.irqs = new VfioInterrupts(node.pci, node.interruptPath);
    const { migratable } = node.pci.device;
    this.migration = migratable && new Migration(migratable);
    bound.context.hold();
    node.open = this;
    node.pci.enable();
    node.pci.pinDriven = () => this.irqs.pinDriven();
    node.pci.stateChanged = () => this.#follow();
    this.#follow();
  }

  /** A device of an open group; the first descriptor binds it and attaches it to the container's IOAS. */
  static ofGroup(node: VfioDevice, context: IommufdContext): OpenDevice {
    if (node.open) return node.open;
    const bound = node.binding.bind(context);
    try {
      bound.attach(undefined, context.needCompatIoas().id);
    } catch (error) {
      bound.unbind();
      throw error;
    }
    return new OpenDevice(node, bound);
  }

  addFile(): void {
    this.#files++;
  }

  /** A descriptor and its mappings are gone; the last one lets the device go. */
  removeFile(): void {
    if (--this.#files > 0) return;
    const { pci } = this.node;
    this.irqs.release();
    for (const { end } of this.#events) end();
    for (const buffer of this.exports) buffer.revoke(true);
    pci.pinDriven = undefined;
    pci.stateChanged = undefined;
    pci.lowPower = false;
    const { context } = this.bound;
    this.bound.unbind();
    context.put();
    this.node.open = undefined;
    pci.reset();
  }

  /** @param fd the caller's eventfd, -1 to take one away @throws IommuError EEXIST, ENODEV, ENOSPC, EBADF, EINVAL */
  setIoEvent(call: CallContext, place: Omit<IoEvent, "end">, fd: number): void {
    const { bar, offset, width, data } = place;
    const known = this.#events.find((event) => event.bar === bar && event.offset === offset && event.width === width && event.data === data);
    if (known && fd !== -1) refuse("EEXIST", `an eventfd writes 0x${data.toString(16)} to 0x${offset.toString(16)} of BAR ${bar} already`, { argument: "fd" });
    if (known) {
      known.end();
      this.#events = this.#events.filter((event) => event !== known);
      return;
    }
    if (fd === -1) refuse("ENODEV", `no eventfd writes 0x${data.toString(16)} to 0x${offset.toString(16)} of BAR ${bar}`, { argument: "fd" });
    if (this.#events.length >= IOEVENTFD_LIMIT) refuse("ENOSPC", `${IOEVENTFD_LIMIT} eventfds write to registers already`, { argument: "fd", rule: "VFIO_PCI_IOEVENTFD_MAX" });
    const bytes = new Uint8Array(BigUint64Array.of(data).buffer).slice(0, width);
    const { pci } = this.node;
    const end = watchEvent(eventFile(call, fd, "fd"), () => {
      if (pci.memoryEnabled) pci.writeBar(bar, offset, bytes);
    });
    this.#events.push({ ...place, end });
  }

  /** Resets the function; who mapped its BARs through a dma-buf loses them. */
  reset(): void {
    this.migration?.reset();
    for (const buffer of this.exports) buffer.revoke(true);
    this.node.pci.resetFunction();
    for (const buffer of this.exports) buffer.revoke(!this.node.pci.answers);
  }

  /** Exports and INTx go with the function's enables. What a revocation took away does not come back to those who mapped it. */
  #follow(): void {
    const { answers, intxDisabled } = this.node.pci;
    if (answers !== this.#answered) for (const buffer of this.exports) buffer.revoke(!answers);
    if (intxDisabled !== this.#intxDisabled) this.irqs.disablePin(intxDisabled);
    this.#answered = answers;
    this.#intxDisabled = intxDisabled;
  }
}
