/** Each errno of each request, provoked: what is said then names the argument and the value. */
import { describe, expect, it } from "vitest";
import { IOCTLS, structLayout } from "../../abi/index.js";
import { type ErrnoName, IommuError } from "../../errors.js";
import { SimulatedClient } from "../../files/simulated-client.js";
import type { OpenFile } from "../../files/types.js";
import { IommufdFile } from "../../iommufd/file.js";
import { bareNodes } from "./index.js";

const TEST = 0x3ba0;
const ALL = 2n ** 64n - 1n;
const BASE = 0x100_0000n;
const PAGE = 4096n;

type Fields = Readonly<Record<string, number | bigint>>;

/** A client with an IOAS, a device of the mock IOMMU and everything that can be made of it. */
class World extends SimulatedClient {
  readonly iommu: number;
  readonly ioas: number;
  readonly memory4: bigint;
  descriptorsLeft = 1000;

  constructor() {
    super(bareNodes(true));
    this.iommu = this.open("/dev/iommu");
    this.ioas = this.out("IOMMU_IOAS_ALLOC", {}, "out_ioas_id");
    this.memory4 = this.memory.map(4 * 4096).address;
  }

  override install(file: OpenFile): number {
    if (this.descriptorsLeft-- <= 0) throw new IommuError("EMFILE", { message: "no descriptor is left", rule: "RLIMIT_NOFILE" });
    return super.install(file);
  }

  out(name: string, fields: Fields, field: string): number {
    return Number(this.ioctl(this.iommu, name, fields)[field]);
  }

  /** IOMMU_TEST_CMD with words from byte 16 on; returns all of them. */
  test(op: number, id: number, ...words: number[]): Uint32Array {
    const bytes = new Uint8Array(72);
    const view = new Uint32Array(bytes.buffer);
    view.set([72, op, id, 0, ...words]);
    this.rawIoctl(this.iommu, TEST, bytes);
    return view;
  }

  /** A device on the IOAS: its id and that of its page table. */
  device(): { device: number; hwpt: number } {
    const words = this.test(2, this.ioas);
    return { hwpt: words[5], device: words[6] };
  }

  map(fields: Fields = {}): void {
    this.ioctl(this.iommu, "IOMMU_IOAS_MAP", { flags: 7, ioas_id: this.ioas, user_va: this.memory4, length: 4n * PAGE, iova: BASE, ...fields });
  }

  parent(): { device: number; parent: number } {
    const { device } = this.device();
    return { device, parent: this.out("IOMMU_HWPT_ALLOC", { flags: 1, dev_id: device, pt_id: this.ioas }, "out_hwpt_id") };
  }

  viommu(): { device: number; parent: number; viommu: number } {
    const made = this.parent();
    return { ...made, viommu: this.out("IOMMU_VIOMMU_ALLOC", { type: 0xdeadbeef, dev_id: made.device, hwpt_id: made.parent }, "out_viommu_id") };
  }

  nested(): number {
    const { device, parent } = this.parent();
    this.memory.write(this.memory4, new Uint8Array(8));
    return this.out("IOMMU_HWPT_ALLOC", { dev_id: device, pt_id: parent, data_type: 0xdead, data_len: 8, data_uptr: this.memory4 }, "out_hwpt_id");
  }

  bytes(...words: number[]): bigint {
    const { address } = this.memory.map(4096);
    this.memory.write(address, new Uint8Array(Uint32Array.from(words).buffer));
    return address;
  }

  dirty(): number {
    const { device } = this.device();
    return this.out("IOMMU_HWPT_ALLOC", { flags: 2, dev_id: device, pt_id: this.ioas }, "out_hwpt_id");
  }
}

type Row = readonly [request: string, errno: ErrnoName, argument: string | undefined, says: string, fields: (world: World) => Fields];

const DMABUF = 22;
const REVOKE = 23;

const ROWS: readonly Row[] = [
  ["IOMMU_DESTROY", "ENOENT", "id", "99", () => ({ id: 99 })],
  ["IOMMU_DESTROY", "EBUSY", "id", "user", (w) => { w.device(); return { id: w.ioas }; }],
  ["IOMMU_IOAS_ALLOC", "EOPNOTSUPP", "flags", "0x4", () => ({ flags: 4 })],
  ["IOMMU_IOAS_ALLOW_IOVAS", "EOPNOTSUPP", "__reserved", "0x1", () => ({ __reserved: 1 })],
  ["IOMMU_IOAS_ALLOW_IOVAS", "ENOENT", "ioas_id", "77", () => ({ ioas_id: 77 })],
  ["IOMMU_IOAS_ALLOW_IOVAS", "EFAULT", undefined, "0x10", (w) => ({ ioas_id: w.ioas, num_iovas: 1, allowed_iovas: 0x10 })],
  ["IOMMU_IOAS_ALLOW_IOVAS", "EINVAL", "allowed_iovas", "0x9", (w) => ({ ioas_id: w.ioas, num_iovas: 1, allowed_iovas: w.bytes(9, 0, 5, 0) })],
  ["IOMMU_IOAS_ALLOW_IOVAS", "EADDRINUSE", "allowed_iovas", "aperture", (w) => { w.device(); return { ioas_id: w.ioas, num_iovas: 1, allowed_iovas: w.bytes(0, 0, 0x2000, 0) }; }],
  ["IOMMU_IOAS_COPY", "EOPNOTSUPP", "flags", "0x80", () => ({ flags: 0x80 })],
  ["IOMMU_IOAS_COPY", "EOVERFLOW", "dst_iova", "2^64", () => ({ flags: 7, dst_iova: ALL })],
  ["IOMMU_IOAS_COPY", "EINVAL", "flags", "READABLE", () => ({ flags: 1 })],
  ["IOMMU_IOAS_COPY", "ENOENT", "src_iova", "0x5000", (w) => ({ flags: 7, src_ioas_id: w.ioas, dst_ioas_id: w.ioas, src_iova: 0x5000, length: 1 })],
  ["IOMMU_IOAS_COPY", "EPERM", "flags", "WRITEABLE", (w) => { w.map({ flags: 5 }); return { flags: 7, src_ioas_id: w.ioas, dst_ioas_id: w.ioas, src_iova: BASE, dst_iova: 2n * BASE, length: 1 }; }],
  ["IOMMU_IOAS_COPY", "EEXIST", "dst_iova", "0x1000000", (w) => { w.map(); return { flags: 7, src_ioas_id: w.ioas, dst_ioas_id: w.ioas, src_iova: BASE, dst_iova: BASE, length: 1 }; }],
  ["IOMMU_IOAS_IOVA_RANGES", "EOPNOTSUPP", "__reserved", "0x2", () => ({ __reserved: 2 })],
  ["IOMMU_IOAS_IOVA_RANGES", "ENOENT", "ioas_id", "3", () => ({ ioas_id: 3 })],
  ["IOMMU_IOAS_IOVA_RANGES", "EFAULT", undefined, "0x20", (w) => ({ ioas_id: w.ioas, num_iovas: 1, allowed_iovas: 0x20 })],
  ["IOMMU_IOAS_IOVA_RANGES", "EMSGSIZE", "num_iovas", "1 ranges, room for 0", (w) => ({ ioas_id: w.ioas })],
  ["IOMMU_IOAS_MAP", "EOPNOTSUPP", "flags", "0x8", () => ({ flags: 15 })],
  ["IOMMU_IOAS_MAP", "EOVERFLOW", "user_va", "0xffff", (w) => ({ flags: 7, ioas_id: w.ioas, user_va: ALL - 1n, length: 4096 })],
  ["IOMMU_IOAS_MAP", "EINVAL", "length", "0x0", (w) => ({ flags: 7, ioas_id: w.ioas })],
  ["IOMMU_IOAS_MAP", "ENOENT", "ioas_id", "5", () => ({ flags: 7, ioas_id: 5 })],
  ["IOMMU_IOAS_MAP", "ENOSPC", "length", "0x7f001000", (w) => { w.device(); return { flags: 6, ioas_id: w.ioas, user_va: w.memory4, length: 0x7f00_1000 }; }],
  ["IOMMU_IOAS_MAP", "EEXIST", "iova", "0x1000000", (w) => { w.map(); return { flags: 7, ioas_id: w.ioas, length: 1, iova: BASE }; }],
  ["IOMMU_IOAS_MAP", "EFAULT", undefined, "0x123000", (w) => { w.device(); return { flags: 7, ioas_id: w.ioas, user_va: 0x123000, length: PAGE, iova: BASE }; }],
  ["IOMMU_IOAS_MAP", "ENOMEM", undefined, "RLIMIT_MEMLOCK", (w) => { w.device(); w.memlockLimit = PAGE; return { flags: 7, ioas_id: w.ioas, user_va: w.memory4, length: 2n * PAGE, iova: BASE }; }],
  ["IOMMU_IOAS_MAP_FILE", "EOPNOTSUPP", "flags", "0x10", () => ({ flags: 16 })],
  ["IOMMU_IOAS_MAP_FILE", "EOVERFLOW", "start", "0xffff", (w) => ({ flags: 7, ioas_id: w.ioas, start: ALL, length: 4096 })],
  ["IOMMU_IOAS_MAP_FILE", "EINVAL", "fd", "behind the file's end", (w) => { w.device(); return { flags: 7, ioas_id: w.ioas, fd: w.memfd(4096), length: 2n * PAGE, iova: BASE }; }],
  ["IOMMU_IOAS_MAP_FILE", "ENOENT", "ioas_id", "8", () => ({ flags: 7, ioas_id: 8 })],
  ["IOMMU_IOAS_MAP_FILE", "EBADF", "fd", "99", (w) => ({ flags: 7, ioas_id: w.ioas, fd: 99, length: 1 })],
  ["IOMMU_IOAS_MAP_FILE", "EEXIST", "iova", "0x1000000", (w) => { w.map(); return { flags: 7, ioas_id: w.ioas, fd: w.memfd(4096), length: 1, iova: BASE }; }],
  ["IOMMU_IOAS_MAP_FILE", "ENODEV", "fd", "revoked", (w) => { const fd = dmabuf(w); w.test(REVOKE, 0, fd, 1); return { flags: 7, ioas_id: w.ioas, fd, length: 4096, iova: BASE }; }],
  ["IOMMU_IOAS_UNMAP", "ENOENT", "iova", "0x1001000", (w) => { w.map(); return { ioas_id: w.ioas, iova: BASE + PAGE, length: PAGE }; }],
  ["IOMMU_IOAS_UNMAP", "EOVERFLOW", "iova", "0xffff", (w) => ({ ioas_id: w.ioas, iova: ALL - 1n, length: 4096 })],
  ["IOMMU_IOAS_UNMAP", "EINVAL", "length", "0", (w) => ({ ioas_id: w.ioas })],
  ["IOMMU_IOAS_UNMAP", "EBUSY", "iova", "0x1000000", (w) => { queue(w); return { ioas_id: w.ioas, iova: BASE, length: 4n * PAGE }; }],
  ["IOMMU_IOAS_UNMAP", "EDEADLK", "iova", "pinned", (w) => { stubborn(w); return { ioas_id: w.ioas, iova: BASE, length: 4n * PAGE }; }],
  ["IOMMU_OPTION", "EOPNOTSUPP", "option_id", "9", () => ({ option_id: 9 })],
  ["IOMMU_OPTION", "EPERM", "op", "SYS_RESOURCE", () => ({ op: 0, val64: 1 })],
  ["IOMMU_OPTION", "EBUSY", "op", "first object", (w) => { w.capabilities.add("SYS_RESOURCE"); return { op: 0, val64: 1 }; }],
  ["IOMMU_OPTION", "EINVAL", "val64", "7", (w) => ({ option_id: 1, object_id: w.ioas, val64: 7 })],
  ["IOMMU_OPTION", "ENOENT", "object_id", "12", () => ({ option_id: 1, object_id: 12 })],
  ["IOMMU_OPTION", "EADDRINUSE", undefined, "0x1000000", (w) => { w.map({ length: 17 }); return { option_id: 1, object_id: w.ioas }; }],
  ["IOMMU_VFIO_IOAS", "EOPNOTSUPP", "op", "6", () => ({ op: 6 })],
  ["IOMMU_VFIO_IOAS", "ENODEV", "op", "no IOAS", () => ({})],
  ["IOMMU_VFIO_IOAS", "ENOENT", "ioas_id", "31", () => ({ op: 1, ioas_id: 31 })],
  ["IOMMU_HWPT_ALLOC", "EOPNOTSUPP", "flags", "0x40", (w) => ({ flags: 0x40, dev_id: w.device().device, pt_id: w.ioas })],
  ["IOMMU_HWPT_ALLOC", "EINVAL", "pt_id", "50", (w) => ({ dev_id: w.device().device, pt_id: 50 })],
  ["IOMMU_HWPT_ALLOC", "ENOENT", "dev_id", "60", () => ({ dev_id: 60 })],
  ["IOMMU_HWPT_ALLOC", "EADDRINUSE", "pt_id", "aperture", (w) => {
    const { device } = w.device();
    const other = w.out("IOMMU_IOAS_ALLOC", {}, "out_ioas_id");
    w.map({ ioas_id: other, iova: 0 });
    return { dev_id: device, pt_id: other };
  }],
  ["IOMMU_HWPT_ALLOC", "EFAULT", undefined, "0x30", (w) => { const { device, parent } = w.parent(); return { dev_id: device, pt_id: parent, data_type: 0xdead, data_len: 8, data_uptr: 0x30 }; }],
  ["IOMMU_HWPT_ALLOC", "ENOMEM", undefined, "RLIMIT_MEMLOCK", (w) => {
    const { device } = w.device();
    const other = w.out("IOMMU_IOAS_ALLOC", {}, "out_ioas_id");
    w.map({ ioas_id: other });
    w.memlockLimit = PAGE;
    return { dev_id: device, pt_id: other };
  }],
  ["IOMMU_GET_HW_INFO", "EOPNOTSUPP", "in_data_type", "0x5", (w) => ({ flags: 1, dev_id: w.device().device, in_data_type: 5 })],
  ["IOMMU_GET_HW_INFO", "ENOENT", "dev_id", "70", () => ({ dev_id: 70 })],
  ["IOMMU_GET_HW_INFO", "EFAULT", undefined, "0x40", (w) => ({ dev_id: w.device().device, data_len: 8, data_uptr: 0x40 })],
  ["IOMMU_HWPT_SET_DIRTY_TRACKING", "EOPNOTSUPP", "hwpt_id", "DIRTY_TRACKING", (w) => ({ flags: 1, hwpt_id: w.device().hwpt })],
  ["IOMMU_HWPT_SET_DIRTY_TRACKING", "ENOENT", "hwpt_id", "81", () => ({ hwpt_id: 81 })],
  ["IOMMU_HWPT_GET_DIRTY_BITMAP", "EOPNOTSUPP", "flags", "0x8", () => ({ flags: 8 })],
  ["IOMMU_HWPT_GET_DIRTY_BITMAP", "ENOENT", "hwpt_id", "82", () => ({ hwpt_id: 82 })],
  ["IOMMU_HWPT_GET_DIRTY_BITMAP", "EOVERFLOW", "length", "0xffff", (w) => ({ hwpt_id: w.dirty(), iova: ALL - 2047n, length: 0x2000, page_size: 4096 })],
  ["IOMMU_HWPT_GET_DIRTY_BITMAP", "EINVAL", "page_size", "0", (w) => ({ hwpt_id: w.dirty(), iova: BASE, length: 4096 })],
  ["IOMMU_HWPT_INVALIDATE", "EOPNOTSUPP", "__reserved", "0x1", () => ({ __reserved: 1 })],
  ["IOMMU_HWPT_INVALIDATE", "EINVAL", "iotlb_id", "9", (w) => ({ hwpt_id: w.nested(), data_type: 0xdeadbeef, entry_len: 8, entry_num: 1, data_uptr: w.bytes(0, 9) })],
  ["IOMMU_HWPT_INVALIDATE", "ENOENT", "hwpt_id", "90", () => ({ hwpt_id: 90 })],
  ["IOMMU_HWPT_INVALIDATE", "EFAULT", undefined, "0x50", (w) => ({ hwpt_id: w.nested(), data_type: 0xdeadbeef, entry_len: 8, entry_num: 1, data_uptr: 0x50 })],
  ["IOMMU_HWPT_INVALIDATE", "E2BIG", "entry_len", "byte 12", (w) => ({ hwpt_id: w.viommu().viommu, data_type: 0xdeadbeef, entry_len: 16, entry_num: 1, data_uptr: w.bytes(0, 0, 0, 1) })],
  ["IOMMU_FAULT_QUEUE_ALLOC", "EOPNOTSUPP", "flags", "0x1", () => ({ flags: 1 })],
  ["IOMMU_FAULT_QUEUE_ALLOC", "EMFILE", undefined, "descriptor", (w) => { w.descriptorsLeft = 0; return {}; }],
  ["IOMMU_VIOMMU_ALLOC", "EOPNOTSUPP", "type", "0x7", (w) => { const { device, parent } = w.parent(); return { type: 7, dev_id: device, hwpt_id: parent }; }],
  ["IOMMU_VIOMMU_ALLOC", "ENOENT", "dev_id", "93", () => ({ type: 1, dev_id: 93 })],
  ["IOMMU_VIOMMU_ALLOC", "EINVAL", "hwpt_id", "nest parent", (w) => { const { device, hwpt } = w.device(); return { type: 0xdeadbeef, dev_id: device, hwpt_id: hwpt }; }],
  ["IOMMU_VIOMMU_ALLOC", "EFAULT", undefined, "0x60", (w) => { const { device, parent } = w.parent(); return { type: 0xdeadbeef, dev_id: device, hwpt_id: parent, data_len: 24, data_uptr: 0x60 }; }],
  ["IOMMU_VDEVICE_ALLOC", "ENOENT", "viommu_id", "94", () => ({ viommu_id: 94 })],
  ["IOMMU_VDEVICE_ALLOC", "EEXIST", "dev_id", "already", (w) => { const { viommu, device } = w.viommu(); const fields = { viommu_id: viommu, dev_id: device, virt_id: 1 }; w.ioctl(w.iommu, "IOMMU_VDEVICE_ALLOC", fields); return fields; }],
  ["IOMMU_IOAS_CHANGE_PROCESS", "EOPNOTSUPP", "__reserved", "0x3", () => ({ __reserved: 3 })],
  ["IOMMU_IOAS_CHANGE_PROCESS", "EINVAL", undefined, "0x1000000", (w) => { w.map(); return {}; }],
  ["IOMMU_VEVENTQ_ALLOC", "EOPNOTSUPP", "type", "DEFAULT", () => ({})],
  ["IOMMU_VEVENTQ_ALLOC", "EINVAL", "veventq_depth", "600000", () => ({ type: 1, veventq_depth: 600_000 })],
  ["IOMMU_VEVENTQ_ALLOC", "ENOENT", "viommu_id", "95", () => ({ type: 1, veventq_depth: 1, viommu_id: 95 })],
  ["IOMMU_VEVENTQ_ALLOC", "EEXIST", "type", "0x1", (w) => { const { viommu } = w.viommu(); const fields = { type: 1, veventq_depth: 1, viommu_id: viommu }; w.ioctl(w.iommu, "IOMMU_VEVENTQ_ALLOC", fields); return fields; }],
  ["IOMMU_VEVENTQ_ALLOC", "EMFILE", undefined, "descriptor", (w) => { const { viommu } = w.viommu(); w.descriptorsLeft = 0; return { type: 1, veventq_depth: 1, viommu_id: viommu }; }],
  ["IOMMU_HW_QUEUE_ALLOC", "EOPNOTSUPP", "type", "DEFAULT", () => ({})],
  ["IOMMU_HW_QUEUE_ALLOC", "EINVAL", "length", "0", () => ({ type: 1 })],
  ["IOMMU_HW_QUEUE_ALLOC", "EOVERFLOW", "nesting_parent_iova", "0xffff", () => ({ type: 1, nesting_parent_iova: ALL, length: 2 })],
  ["IOMMU_HW_QUEUE_ALLOC", "ENOENT", "iova", "0x1000000", (w) => queueFields(w)],
  ["IOMMU_HW_QUEUE_ALLOC", "ERANGE", "length", "0xffff", (w) => ({ ...queueFields(w), nesting_parent_iova: 0, length: ALL })],
  ["IOMMU_HW_QUEUE_ALLOC", "EADDRINUSE", undefined, "0x1000000", (w) => { w.map({ length: 2048 }); return queueFields(w); }],
  ["IOMMU_HW_QUEUE_ALLOC", "EPERM", "iova", "READABLE", (w) => { w.map({ flags: 3 }); return queueFields(w); }],
  ["IOMMU_HW_QUEUE_ALLOC", "EIO", "index", "queue 0", (w) => { w.map(); return { ...queueFields(w), index: 1 }; }],
  ["IOMMU_HW_QUEUE_ALLOC", "EEXIST", "index", "0", (w) => queue(w)],
  ["VFIO_SET_IOMMU", "EINVAL", "type", "0", () => ({})],
  ["VFIO_IOMMU_GET_INFO", "EINVAL", "argsz", "4", () => ({ argsz: 4 })],
  ["VFIO_IOMMU_GET_INFO", "ENODEV", undefined, "no IOAS", () => ({})],
  ["VFIO_IOMMU_MAP_DMA", "EINVAL", "flags", "0x4", () => ({ flags: 4 })],
  ["VFIO_IOMMU_MAP_DMA", "ENODEV", undefined, "no IOAS", () => ({})],
  ["VFIO_IOMMU_MAP_DMA", "EOVERFLOW", "vaddr", "0xffff", (w) => { compat(w); return { vaddr: ALL, size: 2 }; }],
  ["VFIO_IOMMU_MAP_DMA", "EEXIST", "iova", "0x1000000", (w) => { compat(w); w.map(); return { flags: 3, size: 1, iova: BASE }; }],
  ["VFIO_IOMMU_UNMAP_DMA", "EINVAL", "size", "0", (w) => { compat(w); return {}; }],
  ["VFIO_IOMMU_UNMAP_DMA", "ENODEV", undefined, "no IOAS", () => ({})],
  ["VFIO_IOMMU_UNMAP_DMA", "EOVERFLOW", "size", "0xffff", (w) => { compat(w); return { iova: ALL, size: 2 }; }],
  ["VFIO_IOMMU_UNMAP_DMA", "ENOENT", "iova", "0x1001000", (w) => { compat(w); w.map(); return { iova: BASE + PAGE, size: PAGE }; }],
];

/** What the kernel may answer to each request (iommufd facts, section 4 and 11.4), beside EFAULT, EINVAL and E2BIG for the struct itself. */
const ERRNOS: Readonly<Record<string, string>> = {
  IOMMU_DESTROY: "ENOENT EBUSY",
  IOMMU_IOAS_ALLOC: "EOPNOTSUPP",
  IOMMU_IOAS_ALLOW_IOVAS: "EOPNOTSUPP ENOENT EFAULT EINVAL EADDRINUSE",
  IOMMU_IOAS_COPY: "EOPNOTSUPP EOVERFLOW EINVAL ENOENT EPERM EEXIST",
  IOMMU_IOAS_IOVA_RANGES: "EOPNOTSUPP ENOENT EFAULT EMSGSIZE",
  IOMMU_IOAS_MAP: "EOPNOTSUPP EOVERFLOW EINVAL ENOENT ENOSPC EEXIST EFAULT ENOMEM",
  IOMMU_IOAS_MAP_FILE: "EOPNOTSUPP EOVERFLOW EINVAL ENOENT EBADF EEXIST ENODEV",
  IOMMU_IOAS_UNMAP: "ENOENT EOVERFLOW EINVAL EBUSY EDEADLK",
  IOMMU_OPTION: "EOPNOTSUPP EPERM EBUSY EINVAL ENOENT EADDRINUSE",
  IOMMU_VFIO_IOAS: "EOPNOTSUPP ENODEV ENOENT",
  IOMMU_HWPT_ALLOC: "EOPNOTSUPP EINVAL ENOENT EADDRINUSE EFAULT ENOMEM",
  IOMMU_GET_HW_INFO: "EOPNOTSUPP ENOENT EFAULT",
  IOMMU_HWPT_SET_DIRTY_TRACKING: "EOPNOTSUPP ENOENT",
  IOMMU_HWPT_GET_DIRTY_BITMAP: "EOPNOTSUPP ENOENT EOVERFLOW EINVAL",
  IOMMU_HWPT_INVALIDATE: "EOPNOTSUPP EINVAL ENOENT EFAULT E2BIG",
  IOMMU_FAULT_QUEUE_ALLOC: "EOPNOTSUPP EMFILE",
  IOMMU_VIOMMU_ALLOC: "EOPNOTSUPP ENOENT EINVAL EFAULT",
  IOMMU_VDEVICE_ALLOC: "ENOENT EEXIST",
  IOMMU_IOAS_CHANGE_PROCESS: "EOPNOTSUPP EINVAL",
  IOMMU_VEVENTQ_ALLOC: "EOPNOTSUPP EINVAL ENOENT EEXIST EMFILE",
  IOMMU_HW_QUEUE_ALLOC: "EOPNOTSUPP EINVAL EOVERFLOW ENOENT ERANGE EADDRINUSE EPERM EIO EEXIST",
};

function compat(w: World): void {
  w.ioctl(w.iommu, "IOMMU_VFIO_IOAS", { op: 1, ioas_id: w.ioas });
}

function dmabuf(w: World): number {
  const bytes = new Uint8Array(72);
  new Uint32Array(bytes.buffer).set([72, DMABUF, 0, 0, 4096]);
  return w.rawIoctl(w.iommu, TEST, bytes);
}

const queueFields = (w: World): Fields => ({ type: 0xdeadbeef, viommu_id: w.viommu().viommu, nesting_parent_iova: BASE, length: PAGE });

/** A hardware queue in mapped memory; returns what it was made with. */
function queue(w: World): Fields {
  w.map();
  const fields = queueFields(w);
  w.ioctl(w.iommu, "IOMMU_HW_QUEUE_ALLOC", fields);
  return fields;
}

/** An access that keeps its pins. */
function stubborn(w: World): void {
  w.map();
  const file = w.file(w.iommu);
  if (!(file instanceof IommufdFile)) throw new Error("not /dev/iommu");
  const access = file.context.newAccess({ pins: true });
  access.attach(file.context.needCompatIoas());
  access.detach();
  const ioas = file.context.objects.get(w.ioas);
  if (ioas?.type !== "IOAS") throw new Error("no IOAS");
  access.attach(ioas as Parameters<typeof access.attach>[0]);
  access.pin(BASE, PAGE, false);
}

function refusal(run: () => unknown): IommuError {
  try {
    run();
  } catch (error) {
    if (error instanceof IommuError) return error;
    throw error;
  }
  throw new Error("nothing was refused");
}

describe("a refusal names what is to blame", () => {
  it.each(ROWS)("%s: %s", (request, errno, argument, says, fields) => {
    const world = new World();
    const values = fields(world);
    const error = refusal(() => world.ioctl(world.iommu, request, values));
    expect(error.errno, error.message).toBe(errno);
    if (argument === undefined) expect(error.reason.rule ?? error.reason.argument).toBeTruthy();
    else expect(error.reason.argument, error.message).toBe(argument);
    expect(error.reason.message).toContain(says);
  });

  it("for every errno of every request", () => {
    for (const { name, node } of IOCTLS) {
      if (node !== "iommufd") continue;
      const provoked = ROWS.filter(([request]) => request === name).map(([, errno]) => errno);
      expect([...new Set(provoked)].sort(), name).toEqual(ERRNOS[name].split(" ").sort());
    }
  });

  it("and of every struct that is too short, too long or out of reach", () => {
    for (const { name, request, node, struct = "", minSize } of IOCTLS) {
      if (node !== "iommufd") continue;
      const world = new World();
      const { size } = structLayout(struct);
      const short = refusal(() => world.ioctl(world.iommu, name, { size: (minSize ?? size) - 1 }));
      expect([short.errno, short.reason.argument]).toEqual(["EINVAL", "size"]);
      expect(short.message).toContain(`${name}: size ${(minSize ?? size) - 1}`);
      const bytes = new Uint8Array(size + 4);
      new DataView(bytes.buffer).setUint32(0, size + 4, true);
      bytes[size + 2] = 1;
      const long = refusal(() => world.rawIoctl(world.iommu, request, bytes));
      expect([long.errno, long.reason.argument]).toEqual(["E2BIG", "size"]);
      expect(long.message).toContain(`byte ${size + 2}`);
      const away = refusal(() => world.rawIoctl(world.iommu, request, 0x70n));
      expect([away.errno, away.reason.message.includes("0x70")]).toEqual(["EFAULT", true]);
    }
    const world = new World();
    const unknown = refusal(() => world.rawIoctl(world.iommu, 0x3b9f, new Uint8Array(8)));
    expect([unknown.errno, unknown.reason.argument]).toEqual(["ENOTTY", "request"]);
  });

  it("and a byte that is set counts before a page that is missing", () => {
    const world = new World();
    const end = world.memory.map(4096).address + PAGE;
    world.memory.write(end - 16n, new Uint8Array(Uint32Array.of(100, 0, 0, 1).buffer));
    expect(refusal(() => world.rawIoctl(world.iommu, 0x3b81, end - 16n)).errno).toBe("E2BIG");
    world.memory.write(end - 4n, new Uint8Array(4));
    expect(refusal(() => world.rawIoctl(world.iommu, 0x3b81, end - 16n)).errno).toBe("EFAULT");
  });
});
