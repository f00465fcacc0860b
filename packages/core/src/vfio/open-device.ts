/** A device while somebody uses it: what all its descriptors share, from the first bind or group open to the last close. */
import type { CallContext } from "../files/types.js";
import { refuse } from "../errors.js";
import type { IommufdContext } from "../iommufd/context.js";
import type { BindableDevice, IommufdDevice } from "../iommufd/device.js";
import type { DmabufFile } from "../iommufd/dmabuf.js";
import { eventFile, watchEvent } from "./events.js";
import { type InterruptRouting, VfioInterrupts } from "./irqs.js";
import type { PciFunction } from "./pci-function.js";

/** A device node: the function and who uses it. */
export interface VfioDevice {
  readonly pci: PciFunction;
  readonly bindable: BindableDevice;
  /** Programs the function's message-signalled interrupts. */
  readonly route: InterruptRouting;
  /** Its BARs can be exported as dma-bufs. */
  readonly exportsBars: boolean;
  open: OpenDevice | undefined;
  /** Its group is open: the node of its own does not bind. */
  groupOpen?: boolean;
}

const PASID_LIMIT = 2 ** 31;
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
  readonly device: IommufdDevice;
  readonly irqs: VfioInterrupts;
  /** dma-bufs that show its BARs. */
  readonly exports: Set<DmabufFile> = new Set<DmabufFile>();
  /** Files: one for a device node, any number through the group. */
  #files = 0;
  /** Attached without a PASID. The calls with one keep their own list, in which PASID 0 is not the RID (10.2). */
  #attached = false;
  readonly #pasids = new Set<number>();
  #events: IoEvent[] = [];
  /** What the function's enables were before the last change. */
  #answered = true;
  #intxDisabled = false;

  constructor(node: VfioDevice, device: IommufdDevice) {
    this.node = node;
    this.device = device;
    this.irqs = new VfioInterrupts(node.pci, node.route);
    device.context.hold();
    node.open = this;
    node.pci.enable();
    node.pci.pinDriven = () => this.irqs.pinDriven();
    node.pci.stateChanged = () => this.#follow();
    this.#follow();
  }

  /** A device of an open group; the first descriptor binds it and attaches it to the container's IOAS. */
  static ofGroup(node: VfioDevice, context: IommufdContext): OpenDevice {
    if (node.open) return node.open;
    const device = context.bind(node.bindable);
    try {
      device.attach(0, context.needCompatIoas().id);
    } catch (error) {
      device.unbind();
      throw error;
    }
    const open = new OpenDevice(node, device);
    open.#attached = true;
    return open;
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
    const { context } = this.device;
    this.device.unbind();
    context.put();
    this.node.open = undefined;
    pci.reset();
  }

  /** Attaches, or replaces what the same kind of call attached; returns the page table's id. */
  attach(pasid: number | undefined, ptId: number): number {
    if (pasid === undefined) {
      const hwpt = this.#attached ? this.device.replace(0, ptId) : this.device.attach(0, ptId);
      this.#attached = true;
      return hwpt;
    }
    if (this.#pasids.has(pasid)) return this.device.replace(pasid, ptId);
    if (pasid >= PASID_LIMIT) refuse("ENOSPC", `pasid ${pasid} is not below 2^31`, { argument: "pasid" });
    const hwpt = this.device.attach(pasid, ptId);
    this.#pasids.add(pasid);
    return hwpt;
  }

  /** Nothing happens when the same kind of call attached nothing. */
  detach(pasid: number | undefined): void {
    const attached = pasid === undefined ? this.#attached : this.#pasids.delete(pasid);
    if (pasid === undefined) this.#attached = false;
    if (attached) this.device.detach(pasid ?? 0);
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
