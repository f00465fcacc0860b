/** A guest's driver of virtual DSAs: what it does to registers, portals and memory. */
import { Command } from "../dsa/spec/commands.js";
import { RECORD_BYTES } from "../dsa/spec/completion.js";
import { Field, Flag, Opcode } from "../dsa/spec/descriptor.js";
import { WqMode, WqWord } from "../dsa/spec/queues.js";
import { Register, Table } from "../dsa/spec/registers.js";
import { Program } from "./program.js";

const CONFIG = 7n << 40n;
const PORTALS = 2n << 40n;
const PAGE = 4096;
const GET_INFO = 0x3b6b;
/** vfio_device_info with its PASID capability, and where the number space is in that. */
const INFO_BYTES = 40;
const CAP_OFFSET = 16;
const NUMBER_SPACE = 12;

export type AdiType = "idxd-1dwq-v1" | "idxd-1swq-v1";

/** A program, or a virtual machine, with virtual DSAs. */
export class Guest extends Program {
  /** @param parent "0000:00:05.0" */
  create(type: AdiType, parent: string, uuid: string): Adi {
    this.machine.mdev?.create(parent, type, uuid);
    return this.open(uuid);
  }

  open(uuid: string): Adi {
    const node = this.machine.mdev?.devices().find((device) => device.uuid === uuid)?.node;
    return new Adi(this, uuid, this.client.open(`/dev/vfio/devices/${node}`));
  }
}

export class Adi {
  readonly guest: Guest;
  readonly uuid: string;
  readonly fd: number;
  readonly id: number;

  constructor(guest: Guest, uuid: string, fd: number) {
    this.guest = guest;
    this.uuid = uuid;
    this.fd = fd;
    this.id = Number(guest.ioctl("VFIO_DEVICE_BIND_IOMMUFD", { iommufd: guest.iommufd }, fd).out_devid);
    guest.client.pwrite(fd, CONFIG + 4n, Uint8Array.of(6, 0));
  }

  attach(table: number, vpasid?: number): void {
    this.guest.ioctl("VFIO_DEVICE_ATTACH_IOMMUFD_PT", { pt_id: table, ...(vpasid === undefined ? { argsz: 12 } : { flags: 1, pasid: vpasid }) }, this.fd);
  }

  detach(vpasid?: number): void {
    this.guest.ioctl("VFIO_DEVICE_DETACH_IOMMUFD_PT", vpasid === undefined ? { argsz: 8 } : { flags: 1, pasid: vpasid }, this.fd);
  }

  table(ioas: number, queue?: number): number {
    return this.guest.table(this, ioas, queue);
  }

  /** Id of its PASID number space, as VFIO_DEVICE_GET_INFO tells it. */
  get pasidSpace(): number {
    const bytes = new Uint8Array(INFO_BYTES);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, INFO_BYTES, true);
    this.guest.client.rawIoctl(this.fd, GET_INFO, bytes);
    return view.getUint32(view.getUint32(CAP_OFFSET, true) + NUMBER_SPACE, true);
  }

  reset(): void {
    this.guest.ioctl("VFIO_DEVICE_RESET", {}, this.fd);
  }

  close(): void {
    this.guest.client.close(this.fd);
  }

  remove(): void {
    this.close();
    this.guest.machine.mdev?.remove(this.uuid);
  }

  read(register: number, size: 4 | 8 = 4): bigint {
    const bytes = new Uint8Array(8);
    bytes.set(this.guest.client.pread(this.fd, BigInt(register), size));
    return new DataView(bytes.buffer).getBigUint64(0, true);
  }

  write(register: number, value: number): void {
    this.guest.client.pwrite(this.fd, BigInt(register), new Uint8Array(Uint32Array.of(value).buffer));
  }

  /** Issues a command; its error, or -1 while it is active. */
  command(command: number, operand = 0): number {
    this.write(Register.CMD, (command << 20) | operand);
    return this.commandError;
  }

  get commandError(): number {
    const status = Number(this.read(Register.CMDSTS));
    return status >= 0x8000_0000 ? -1 : status & 0xff;
  }

  /** Result of the last command. */
  get result(): number {
    return Number(this.read(Register.CMDSTS) >> 8n) & 0xffff;
  }

  /** WQCFG's third word: what PASID the queue works with, if any. */
  configure({ pasid, blockOnFault = false }: { pasid?: number; blockOnFault?: boolean }): void {
    this.write(Table.WQCFG + 4 * WqWord.MODE, (pasid === undefined ? 0 : WqMode.PASID_ENABLE | (pasid << WqMode.PASID_SHIFT)) | (blockOnFault ? WqMode.BLOCK_ON_FAULT : 0));
  }

  /** Device and queue on; the error of whichever failed. */
  start(config: { pasid?: number; blockOnFault?: boolean } = {}): number {
    this.configure(config);
    return this.command(Command.ENABLE_DEVICE) || this.command(Command.ENABLE_WQ, 0);
  }

  /** One 64-byte store to the limited portal. */
  submit(bytes: Uint8Array, deferrable: boolean): boolean {
    const file = this.guest.client.file(this.fd);
    if (file === undefined || file.kind !== undefined) throw new Error("not a device file");
    const region = file.mmap?.(this.guest.client, { position: PORTALS + BigInt(PAGE), length: PAGE, shared: true, executable: false });
    const taken = region?.writeBlock?.(0, bytes, deferrable) ?? false;
    region?.unmapped();
    return taken;
  }

  get swerr(): { error: number; queue: number; pasid: number } | undefined {
    const word = this.read(Register.SWERR, 8);
    if ((word & 1n) === 0n) return undefined;
    return { error: Number((word >> 8n) & 0xffn), queue: Number((word >> 16n) & 0xffn), pasid: Number((word >> 40n) & 0xf_ffffn) };
  }
}

/** A move of `size` bytes, with its record at `completion`. */
export function move({ source, destination, size, completion, pasid = 0, flags = 0, handle = 0, opcode = Opcode.MEMMOVE }: { source: number; destination: number; size: number; completion: number; pasid?: number; flags?: number; handle?: number; opcode?: number }): Uint8Array {
  const bytes = new Uint8Array(64);
  const view = new DataView(bytes.buffer);
  view.setUint32(Field.PASID, pasid, true);
  view.setUint32(Field.FLAGS, Flag.COMPLETION_VALID | Flag.REQUEST_COMPLETION | flags, true);
  bytes[Field.OPCODE] = opcode;
  view.setBigUint64(Field.COMPLETION, BigInt(completion), true);
  view.setBigUint64(Field.SOURCE, BigInt(source), true);
  view.setBigUint64(Field.DESTINATION, BigInt(destination), true);
  view.setUint32(Field.SIZE, size, true);
  view.setUint16(Field.HANDLE, handle, true);
  return bytes;
}

/** Status of the record at an offset of a page, 0 for none. */
export function recordStatus(page: Uint8Array, offset = 0): number {
  return page.subarray(offset, offset + RECORD_BYTES)[0];
}
