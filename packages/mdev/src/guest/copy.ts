/** A guest's driver of a copy channel: a ring of one page, descriptors one at a time. */
import { CopyControl, CopyRegister as R, Descriptor, DESCRIPTOR_BYTES } from "../software/copy-layout.js";
import type { Program } from "./program.js";

const CONFIG = 7n << 40n;
const ENTRIES = 64;

export class CopyChannel {
  readonly fd: number;
  readonly id: number;
  readonly ioas: number;
  readonly #program: Program;
  readonly #ring: DataView;
  #next = 0;

  constructor(program: Program, uuid: string, ring: bigint) {
    const node = program.machine.mdev?.devices().find((device) => device.uuid === uuid)?.node;
    this.#program = program;
    this.fd = program.client.open(`/dev/vfio/devices/${node}`);
    this.id = Number(program.ioctl("VFIO_DEVICE_BIND_IOMMUFD", { iommufd: program.iommufd }, this.fd).out_devid);
    this.ioas = program.ioas();
    program.ioctl("VFIO_DEVICE_ATTACH_IOMMUFD_PT", { pt_id: this.ioas, argsz: 12 }, this.fd);
    const page = program.page(this.ioas, ring);
    this.#ring = new DataView(page.buffer, page.byteOffset, page.length);
    program.client.pwrite(this.fd, CONFIG + 4n, Uint8Array.of(6, 0));
    this.#put(R.RING, ring, 8);
    this.#put(R.SIZE, BigInt(ENTRIES), 4);
    this.#put(R.CONTROL, BigInt(CopyControl.RUN), 4);
  }

  #put(register: number, value: bigint, size: 4 | 8): void {
    this.#program.client.pwrite(this.fd, BigInt(register), new Uint8Array(BigUint64Array.of(value).buffer).subarray(0, size));
  }

  /** Rings the bell for one copy; returns its place in the ring. */
  copy(source: bigint, destination: bigint, length: number): number {
    const at = this.#next * DESCRIPTOR_BYTES;
    this.#ring.setBigUint64(at + Descriptor.SOURCE, source, true);
    this.#ring.setBigUint64(at + Descriptor.DESTINATION, destination, true);
    this.#ring.setUint32(at + Descriptor.LENGTH, length, true);
    this.#ring.setUint32(at + Descriptor.STATUS, 0, true);
    const place = this.#next;
    this.#next = (this.#next + 1) % ENTRIES;
    this.#put(R.TAIL, BigInt(this.#next), 4);
    return place;
  }

  /** `DescriptorStatus` */
  status(place: number): number {
    return this.#ring.getUint32(place * DESCRIPTOR_BYTES + Descriptor.STATUS, true);
  }
}
