/** For tests: a process that opens mdevs and gives them memory. */
import { type DeviceNodes, type OpenFile, SimulatedClient } from "@iommukit/core";

const FIXED = 1;
const PERMISSIONS = { r: 4, w: 2, rw: 6 } as const;
const CONFIG_REGION = 7n << 40n;
const COMMAND = 4n;
export const SET_IRQS = 0x3b6e;
/** VFIO_IRQ_SET_DATA_EVENTFD | ACTION_TRIGGER, DATA_NONE | ACTION_UNMASK */
const EVENTFD_TRIGGER = 0x24;
const UNMASK = 0x11;
export const Irq = { INTX: 0, MSI: 1 } as const;

export interface BoundMdev {
  readonly fd: number;
  /** `out_devid` */
  readonly id: number;
}

/** One record of a fault queue. */
export interface FaultRecord {
  readonly flags: number;
  readonly dev_id: number;
  readonly pasid: number;
  readonly grpid: number;
  readonly perm: number;
  readonly addr: bigint;
  readonly length: number;
  readonly cookie: number;
}

export class MdevClient extends SimulatedClient {
  readonly iommufd: number;
  /** What `mapMemory` returned last. */
  lastMapped: Uint8Array | undefined;
  readonly #open = new Set<number>();

  constructor(nodes: DeviceNodes) {
    super(nodes);
    this.iommufd = this.open("/dev/iommu");
  }

  /** Every descriptor that it has. */
  get fds(): readonly number[] {
    return [...this.#open];
  }

  override install(file: OpenFile): number {
    const fd = super.install(file);
    this.#open.add(fd);
    return fd;
  }

  override close(fd: number): void {
    super.close(fd);
    this.#open.delete(fd);
  }

  bind(node: string): BoundMdev {
    const fd = this.open(`/dev/vfio/devices/${node}`);
    return { fd, id: Number(this.ioctl(fd, "VFIO_DEVICE_BIND_IOMMUFD", { iommufd: this.iommufd }).out_devid) };
  }

  ioas(): number {
    return Number(this.ioctl(this.iommufd, "IOMMU_IOAS_ALLOC").out_ioas_id);
  }

  attach({ fd }: BoundMdev, ptId: number): number {
    return Number(this.ioctl(fd, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { pt_id: ptId }).pt_id);
  }

  detach({ fd }: BoundMdev): void {
    this.ioctl(fd, "VFIO_DEVICE_DETACH_IOMMUFD_PT");
  }

  /** Maps fresh memory, and returns it. */
  mapMemory(ioas: number, iova: bigint, length: number, permissions: keyof typeof PERMISSIONS = "rw"): Uint8Array {
    const { address, bytes } = this.memory.map(length);
    this.ioctl(this.iommufd, "IOMMU_IOAS_MAP", { flags: FIXED | PERMISSIONS[permissions], ioas_id: ioas, user_va: address, length: BigInt(length), iova });
    this.lastMapped = bytes;
    return bytes;
  }

  unmapMemory(ioas: number, iova: bigint, length: number): void {
    this.ioctl(this.iommufd, "IOMMU_IOAS_UNMAP", { ioas_id: ioas, iova, length: BigInt(length) });
  }

  /** Bus mastering, spaces, and what else the command register has. */
  command({ fd }: BoundMdev, value: number): void {
    this.pwrite(fd, CONFIG_REGION + COMMAND, new Uint8Array(Uint16Array.of(value).buffer));
  }

  get({ fd }: BoundMdev, offset: number, size = 4, bar = 0): number {
    const bytes = new Uint8Array(8);
    bytes.set(this.pread(fd, (BigInt(bar) << 40n) + BigInt(offset), size));
    return Number(new DataView(bytes.buffer).getBigUint64(0, true));
  }

  put({ fd }: BoundMdev, offset: number, value: number | bigint, size = 4, bar = 0): void {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, BigInt(value), true);
    this.pwrite(fd, (BigInt(bar) << 40n) + BigInt(offset), bytes.subarray(0, size));
  }

  /** Turns an interrupt on; returns its eventfd. */
  interruptOn({ fd }: BoundMdev, index: number): number {
    const event = this.eventfd();
    const request = new Uint8Array(24);
    new Uint32Array(request.buffer).set([24, EVENTFD_TRIGGER, index, 0, 1, event]);
    this.rawIoctl(fd, SET_IRQS, request);
    return event;
  }

  unmaskIntx({ fd }: BoundMdev): void {
    const request = new Uint8Array(20);
    new Uint32Array(request.buffer).set([20, UNMASK, Irq.INTX, 0, 1]);
    this.rawIoctl(fd, SET_IRQS, request);
  }

  faultQueue(): { readonly id: number; readonly fd: number } {
    const { out_fault_id: id, out_fault_fd: fd } = this.ioctl(this.iommufd, "IOMMU_FAULT_QUEUE_ALLOC");
    return { id: Number(id), fd: Number(fd) };
  }

  tie({ id }: BoundMdev, faultId: number): void {
    this.ioctl(this.iommufd, "IOMMUKIT_ACCESS_FAULT_QUEUE", { access_id: id, fault_id: faultId });
  }

  faults(fd: number): FaultRecord[] {
    const bytes = this.read(fd, 40 * 16);
    const records: FaultRecord[] = [];
    for (let at = 0; at < bytes.length; at += 40) {
      const view = new DataView(bytes.buffer, bytes.byteOffset + at);
      const [flags, dev_id, pasid, grpid, perm] = [0, 4, 8, 12, 16].map((offset) => view.getUint32(offset, true));
      records.push({ flags, dev_id, pasid, grpid, perm, addr: view.getBigUint64(24, true), length: view.getUint32(32, true), cookie: view.getUint32(36, true) });
    }
    return records;
  }

  answer(fd: number, cookie: number, code: "success" | "invalid"): void {
    this.write(fd, new Uint8Array(Uint32Array.of(cookie, code === "success" ? 0 : 1).buffer));
  }
}
