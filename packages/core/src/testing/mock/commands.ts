/** IOMMU_TEST_CMD: what the kernel's selftest asks of the mock IOMMU (selftest inventory, section 3). */
import { refuse } from "../../errors.js";
import type { CallContext, FrameIdentity, UserMemory } from "../../files/types.js";
import type { Command } from "../../iommufd/commands/command.js";
import type { IommufdContext } from "../../iommufd/context.js";
import { DeviceGroup, IommufdDevice } from "../../iommufd/device.js";
import { DmabufFile } from "../../iommufd/dmabuf.js";
import type { CommandExtension } from "../../iommufd/file.js";
import { HwptNested, HwptPaging } from "../../iommufd/hwpt.js";
import { firstByte } from "../../iommufd/area.js";
import { U64_MAX } from "../../memory/interval.js";
import { Ioas } from "../../iommufd/ioas.js";
import type { TableObject } from "../../iommufd/object-table.js";
import { AccessFile } from "./access-file.js";
import { MockDomain, MockNested } from "./domain.js";
import { CACHE_ENTRIES, MockDevice, MockDriver } from "./driver.js";

const SIZE = 72;
const PAGE = 4096n;
const DEVICE_NO_DIRTY = 1;
const DEVICE_PASID = 4;
const ACCESS_NEEDS_PIN = 1;
const ACCESS_WRITE = 1;
const ACCESS_SYZ = 0x10000;
const RW_WRITE = 1;
const RW_SLOW = 4;
const ACCESS_LIMIT = 16n * 1024n * 1024n;
const MEMORY_LIMIT_LEAST = 12;
const DMABUF_LIMIT = 512 * 4096;
const DIRTY_BITS_LIMIT = 134217728n;

const driver = new MockDriver();

/** A device that the test command made: it goes with its object. */
class SelftestDevice implements TableObject {
  readonly type = "SELFTEST";
  readonly id: number;
  users = 0;
  readonly device: IommufdDevice;

  constructor(id: number, device: IommufdDevice) {
    this.id = id;
    this.device = device;
  }

  /** As in Linux, a device that still uses PASIDs cannot be unbound: it and its id stay. */
  destroy(): void {
    this.device.detach(0);
    if (this.device.attachments.size === 0) this.device.unbind();
  }
}

/** One call: the struct's fields by offset. */
class TestCall {
  readonly context: IommufdContext;
  readonly call: CallContext;
  readonly id: number;
  readonly #view: DataView;
  readonly #bytes: Uint8Array;
  readonly #address: bigint;

  constructor(context: IommufdContext, call: CallContext, bytes: Uint8Array, address: bigint) {
    this.context = context;
    this.call = call;
    this.#bytes = bytes;
    this.#address = address;
    const whole = new Uint8Array(SIZE);
    whole.set(bytes);
    this.#view = new DataView(whole.buffer);
    this.id = this.u32(8);
  }

  u32(offset: number): number {
    return this.#view.getUint32(offset, true);
  }

  u64(offset: number): bigint {
    return this.#view.getBigUint64(offset, true);
  }

  set32(offset: number, value: number): void {
    this.#view.setUint32(offset, value, true);
  }

  set64(offset: number, value: bigint): void {
    this.#view.setBigUint64(offset, value, true);
  }

  /** Writes the struct back. */
  respond(): void {
    this.call.memory.write(this.#address, new Uint8Array(this.#view.buffer).subarray(0, this.#bytes.length));
  }

  ioas(id: number = this.id): Ioas {
    return this.context.objects.find(id, Ioas, "id");
  }

  paging(): { hwpt: HwptPaging; domain: MockDomain } {
    const hwpt = this.context.objects.find(this.id, HwptPaging, "id");
    return hwpt.domain instanceof MockDomain ? { hwpt, domain: hwpt.domain } : refuse("EINVAL", `page table ${hwpt.id} is not one of the mock IOMMU`, { argument: "id" });
  }

  selftest(): IommufdDevice {
    return this.context.objects.find(this.id, SelftestDevice, "id").device;
  }

  device(id: number): { idev: IommufdDevice; device: MockDevice } {
    const idev = this.context.objects.find(id, IommufdDevice, "dev_id");
    const { device } = idev.bindable;
    return device instanceof MockDevice ? { idev, device } : refuse("EINVAL", `device ${id} is not a mock device`, { argument: "dev_id" });
  }

  access(): AccessFile {
    let file: unknown;
    try {
      file = this.call.file(this.id | 0);
    } catch {
      file = undefined;
    }
    return file instanceof AccessFile ? file : refuse("EBADFD", `id ${this.id} is not the descriptor of an access`, { argument: "id" });
  }
}

type Operation = (call: TestCall) => number | undefined;

function mockDomain(call: TestCall, flags: number): undefined {
  if ((flags & ~(DEVICE_NO_DIRTY | DEVICE_PASID)) !== 0) refuse("EINVAL", `dev_flags 0x${flags.toString(16)} has bits that mean nothing here`, { argument: "dev_flags" });
  const { objects } = call.context;
  const id = objects.reserve();
  const group = new DeviceGroup(id);
  const bindable = { device: new MockDevice((flags & DEVICE_NO_DIRTY) !== 0, (flags & DEVICE_PASID) !== 0), driver, group };
  group.members.push(bindable);
  const device = call.context.bind(bindable);
  try {
    const hwpt = device.attach(0, call.id);
    call.set32(16, id);
    call.set32(20, hwpt);
    call.set32(24, device.id);
    call.respond();
  } catch (error) {
    device.unbind();
    objects.abandon(id);
    throw error;
  }
  objects.publish(new SelftestDevice(id, device));
}

/** Test kernels: a code in place of an IOVA means an area by its number. */
function convert(ioas: Ioas | undefined, iova: bigint): bigint {
  const area = ioas && [...ioas.areas][Number(iova & 0xffff_ffffn)];
  return area === undefined ? iova : area.start + (iova >> 32n);
}

function accessPages(call: TestCall): undefined {
  const flags = call.u32(16);
  const length = call.u64(32);
  if (length > ACCESS_LIMIT) refuse("ENOMEM", `length 0x${length.toString(16)} is above 16 MiB`, { argument: "length" });
  if ((flags & ~(ACCESS_WRITE | ACCESS_SYZ)) !== 0) refuse("EOPNOTSUPP", `flags 0x${flags.toString(16)} has bits that mean nothing here`, { argument: "flags" });
  const file = call.access();
  if (!file.access.pins) refuse("EOPNOTSUPP", "the access was made without NEEDS_PIN_PAGES", { argument: "id" });
  const iova = (flags & ACCESS_SYZ) !== 0 ? convert(file.access.ioas, call.u64(24)) : call.u64(24);
  const pages = file.access.pin(iova, length, (flags & ACCESS_WRITE) !== 0);
  try {
    const user = call.u64(40);
    if (user !== 0n) {
      const from = user - (iova % PAGE);
      pages.forEach(({ pages: memory, page }, i) => {
        const frame = call.call.process.frame?.(from + BigInt(i) * PAGE, false);
        if (frame?.key !== memory.frame(page)?.key) refuse("EBADE", `page ${i} is not the one at the caller's address`, { argument: "uptr" });
      });
    }
    call.set32(20, file.nextItem);
    call.respond();
  } catch (error) {
    file.access.unpin(iova, length);
    throw error;
  }
  file.add(iova, length);
}

function accessRw(call: TestCall): undefined {
  const [length, user, flags] = [call.u64(24), call.u64(32), call.u32(40)];
  if (length > ACCESS_LIMIT) refuse("ENOMEM", `length 0x${length.toString(16)} is above 16 MiB`, { argument: "length" });
  if ((flags & ~(RW_WRITE | RW_SLOW | ACCESS_SYZ)) !== 0) refuse("EOPNOTSUPP", `flags 0x${flags.toString(16)} has bits that mean nothing here`, { argument: "flags" });
  const { access } = call.access();
  const iova = (flags & ACCESS_SYZ) !== 0 ? convert(access.ioas, call.u64(16)) : call.u64(16);
  const bytes = new Uint8Array(Number(length));
  const write = (flags & RW_WRITE) !== 0;
  if (write) call.call.process.read(user, bytes);
  access.copy(iova, bytes, write, call.call.process, (flags & RW_SLOW) !== 0);
  if (!write) call.call.process.write(user, bytes);
}

function checkMap(call: TestCall): undefined {
  const { hwpt, domain } = call.paging();
  const [iova, length, user] = [call.u64(16), call.u64(24), call.u64(32)];
  const page = domain.pageSizes & -domain.pageSizes;
  if (iova % page !== 0n || length % page !== 0n || user % page !== 0n || user + length > U64_MAX) refuse("EINVAL", "iova, length or uptr is not made of whole pages", { argument: "iova" });
  for (let done = 0n; done < length; done += page) {
    const frame = frameAt(call.call.process, user + done);
    const area = hwpt.ioas.areas.first(iova + done, iova + done);
    const mapped = domain.iovaToPa(iova + done) !== undefined && area !== undefined;
    const byte = area && firstByte(area) + (iova + done - area.start);
    const same = mapped && byte !== undefined && area.value.pages.frame(Number(byte / PAGE))?.key === frame?.key && byte % PAGE === (user + done) % PAGE;
    if (!same) refuse("EINVAL", `IOVA 0x${(iova + done).toString(16)} does not lead to the memory at 0x${(user + done).toString(16)}`, { argument: "iova" });
  }
}

/** @throws IommuError EFAULT where nothing is mapped, also when the door cannot tell frames */
function frameAt(memory: UserMemory, address: bigint): FrameIdentity | undefined {
  if (memory.frame) return memory.frame(address, false);
  memory.read(address, new Uint8Array(1));
  return undefined;
}

function checkRefs(call: TestCall): undefined {
  const [length, user, refs] = [call.u64(16), call.u64(24), call.u32(32)];
  if (length % PAGE !== 0n || user % PAGE !== 0n || user + length > U64_MAX) refuse("EINVAL", "length or uptr is not made of whole pages", { argument: "uptr" });
  for (let done = 0n; done < length; done += PAGE) {
    const frame = frameAt(call.call.process, user + done);
    if (frame && !frame.compound && frame.pins !== refs) refuse("EIO", `the page at 0x${(user + done).toString(16)} is pinned ${frame.pins} times, not ${refs}`, { argument: "refs" });
  }
}

function setDirty(call: TestCall): undefined {
  const [iova, length, page, user] = [call.u64(24), call.u64(32), call.u64(40), call.u64(48)];
  if (page === 0n || length === 0n || iova % page !== 0n || length % page !== 0n || user === 0n) refuse("EINVAL", "iova, length, page_size and uptr do not go together", { argument: "page_size" });
  const { domain } = call.paging();
  if (!domain.tracking) refuse("EINVAL", "dirty tracking is off", { argument: "id" });
  const bits = length / page;
  if (bits > DIRTY_BITS_LIMIT) refuse("EOVERFLOW", `length and page_size make ${bits} bits, more than ${DIRTY_BITS_LIMIT}`, { argument: "length" });
  const bitmap = new Uint8Array(Number((bits + 7n) / 8n));
  call.call.process.read(user, bitmap);
  let count = 0n;
  for (let i = 0; i < Number(bits); i++) {
    if (((bitmap[i >> 3] >> (i & 7)) & 1) === 0) continue;
    domain.setDirty(iova + BigInt(i) * page);
    count++;
  }
  call.set64(56, count);
  call.respond();
}

const OPERATIONS: ReadonlyMap<number, Operation> = new Map<number, Operation>([
  [1, (call) => {
    const [start, length] = [call.u64(16), call.u64(24)];
    if (length === 0n) refuse("EINVAL", "length is 0", { argument: "length" });
    if (start + length - 1n > U64_MAX) refuse("EOVERFLOW", "start + length wraps", { argument: "length" });
    call.ioas().reserve({ start, last: start + length - 1n }, OPERATIONS, "the test command");
    return undefined;
  }],
  [2, (call) => mockDomain(call, 0)],
  [3, checkMap],
  [4, checkRefs],
  [5, (call) => {
    const flags = call.u32(20);
    if ((flags & ~ACCESS_NEEDS_PIN) !== 0) refuse("EOPNOTSUPP", `flags 0x${flags.toString(16)} has bits that mean nothing here`, { argument: "flags" });
    const file = new AccessFile(call.context, (flags & ACCESS_NEEDS_PIN) !== 0);
    try {
      file.access.attach(call.ioas());
      const fd = call.call.install(file);
      try {
        call.set32(16, fd);
        call.respond();
      } catch (error) {
        call.call.uninstall(fd);
        return refuseAgain(error);
      }
    } catch (error) {
      file.release();
      throw error;
    }
    return undefined;
  }],
  [6, (call) => {
    call.access().remove(call.u32(16));
    return undefined;
  }],
  [7, accessPages],
  [8, accessRw],
  [9, (call) => (call.u32(16) < MEMORY_LIMIT_LEAST ? refuse("EINVAL", `limit ${call.u32(16)} is below ${MEMORY_LIMIT_LEAST}`, { argument: "limit" }) : undefined)],
  [10, (call) => {
    call.set32(16, call.selftest().replace(0, call.u32(16)));
    call.respond();
    return undefined;
  }],
  [11, (call) => {
    const file = call.access();
    file.access.replace(call.ioas(call.u32(16)));
    return undefined;
  }],
  [12, (call) => mockDomain(call, call.u32(28))],
  [13, setDirty],
  [14, (call) => {
    const hwpt = call.context.objects.find(call.id, HwptNested, "id");
    const [id, value] = [call.u32(16), call.u32(20)];
    const { domain } = hwpt;
    if (!(domain instanceof MockNested) || id >= domain.iotlb.length || domain.iotlb[id] !== value) refuse("EINVAL", `IOTLB entry ${id} is not 0x${value.toString(16)}`, { argument: "iotlb" });
    return undefined;
  }],
  [15, (call) => {
    const { idev } = call.device(call.u32(16));
    const pasid = call.u32(20);
    idev.report({ pasid: pasid === 0 ? undefined : pasid, group: call.u32(24), permissions: call.u32(28), address: call.u64(32), last: true });
    return undefined;
  }],
  [16, (call) => {
    const { device } = call.device(call.id);
    const [id, value] = [call.u32(16), call.u32(20)];
    if (id >= CACHE_ENTRIES || device.cache[id] !== value) refuse("EINVAL", `cache entry ${id} is not 0x${value.toString(16)}`, { argument: "cache" });
    return undefined;
  }],
  [17, (call) => {
    const { device } = call.device(call.u32(16));
    const viommu = device.viommu ?? refuse("ENOENT", "the device uses no page table of a virtual IOMMU", { argument: "dev_id" });
    viommu.trigger(device);
    return undefined;
  }],
  [18, (call) => {
    call.set32(20, call.selftest().attach(call.u32(16), call.u32(20)));
    call.respond();
    return undefined;
  }],
  [19, (call) => {
    call.set32(20, call.selftest().replace(call.u32(16), call.u32(20)));
    call.respond();
    return undefined;
  }],
  [20, (call) => {
    call.selftest().detach(call.u32(16));
    return undefined;
  }],
  [21, (call) => {
    const attached = call.selftest().attachments.get(call.u32(16));
    const expected = call.u32(20) === 0 ? undefined : call.context.objects.get(call.u32(20));
    if (call.u32(20) !== 0 && !(expected instanceof HwptPaging || expected instanceof HwptNested)) refuse("ENOENT", `hwpt_id ${call.u32(20)} is not a page table`, { argument: "hwpt_id" });
    if ((attached?.id ?? 0) !== call.u32(20)) refuse("EINVAL", `page table ${attached?.id ?? 0} is attached, not ${call.u32(20)}`, { argument: "hwpt_id" });
    return undefined;
  }],
  [22, (call) => {
    const asked = call.u32(16);
    if (asked === 0 || asked > DMABUF_LIMIT) refuse("EINVAL", `length ${asked} is not between 1 and ${DMABUF_LIMIT}`, { argument: "length" });
    const length = Math.ceil(asked / 4096) * 4096;
    const bytes = new Uint8Array(length);
    const backend = {
      read: (at: number, target: Uint8Array) => target.set(bytes.subarray(at, at + target.length)),
      write: (at: number, source: Uint8Array) => bytes.set(source, at),
    };
    return call.call.install(new MockDmabuf(length, backend));
  }],
  [23, (call) => {
    const file = call.call.file(call.u32(16) | 0);
    if (!(file instanceof DmabufFile)) return refuse("EINVAL", "dmabuf_fd is not a dma-buf", { argument: "dmabuf_fd" });
    if (!(file instanceof MockDmabuf)) return refuse("EOPNOTSUPP", "the dma-buf is not one of the test command", { argument: "dmabuf_fd" });
    file.revoke(call.u32(20) !== 0);
    return undefined;
  }],
]);

class MockDmabuf extends DmabufFile {}

function refuseAgain(error: unknown): never {
  throw error;
}

const testCommand: Command = {
  row: { name: "IOMMU_TEST_CMD", request: 0x3ba0, node: "iommufd", minSize: 68 },
  size: SIZE,
  copyOut: false,
  run(context, call, values, argument) {
    const operation = new DataView(argument.bytes.buffer, argument.bytes.byteOffset).getUint32(4, true);
    const run = OPERATIONS.get(operation) ?? refuse("EOPNOTSUPP", `op ${operation} is not known`, { argument: "op" });
    return run(new TestCall(context, call, argument.bytes.subarray(0, Math.min(Number(values.size), SIZE)), argument.address));
  },
};

/** What a kernel with CONFIG_IOMMUFD_TEST has. */
export const mockExtension: CommandExtension = { commands: new Map([[0x3ba0, testCommand]]), lastNumber: 0xa0 };
