/** The ioctls of a VFIO device (iommufd facts, 10.1 to 10.10). */
import { decodeStruct, IOCTLS, storeFields, structLayout, type StructValues } from "../abi/index.js";
import type { PciBar } from "../devices/types.js";
import { copyTail } from "../files/copy-in.js";
import { refuse } from "../errors.js";
import type { CallContext } from "../files/types.js";
import { IommufdFile } from "../iommufd/file.js";
import { REGION_SHIFT, type VfioDeviceFile } from "./device-file.js";
import { deviceFeature } from "./feature.js";
import { IRQ_COUNT } from "./irqs.js";
import { OpenDevice } from "./open-device.js";
import { pasidCapability } from "./pasid-capability.js";
import { CONFIG_REGION, REGION_COUNT } from "./pci-function.js";

const FLAG_PASID = 1;
/** vfio_device_bind_iommufd.flags */
const FLAG_TOKEN = 1;
const TOKEN_BYTES = 16;
/** vfio_device_info.flags */
const DEVICE_RESET = 1;
const DEVICE_PCI = 2;
const DEVICE_CAPS = 0x80;
/** vfio_region_info.flags */
const REGION_READ = 1;
const REGION_WRITE = 2;
const REGION_MMAP = 4;
const REGION_CAPS = 8;
/** VFIO_REGION_INFO_CAP_…: the header alone, the header and a list of areas. */
const MSIX_MAPPABLE = 3;
const CAPABILITY_BYTES = 8;
const SPARSE_MMAP = 1;
const SPARSE_BYTES = 16;
const AREA_BYTES = 16;
const VGA_REGION = 8;
/** vfio_irq_set and vfio_device_feature without their data. */
const IRQ_SET_BYTES = 20;
const FEATURE_BYTES = 8;

type Handler = (file: VfioDeviceFile, call: CallContext, argument: bigint) => number;

export function deviceRequest(file: VfioDeviceFile, call: CallContext, request: number, argument: bigint): number {
  const row = IOCTLS.find((candidate) => candidate.node === "device" && candidate.request === request);
  if (row?.name !== "VFIO_DEVICE_BIND_IOMMUFD") file.mustBeBound();
  if (row === undefined) return refuse("ENOTTY", `request 0x${request.toString(16)} is not one of a VFIO device`, { argument: "request" });
  const handler = HANDLERS[row.name];
  if (handler === undefined || (file.viaGroup && GROUPLESS.has(row.name)) || (file.node.mediated && VFIO_PCI_ONLY.has(row.name))) return refuse("ENOTTY", `request ${row.name} is not for this device`, { argument: "request" });
  return handler(file, call, argument);
}

/** Reads the first `least` bytes of a struct that begins with argsz, as vfio does however long argsz says it is; EINVAL when that is shorter. */
function copyIn(call: CallContext, argument: bigint, struct: string, least: number): { values: StructValues; bytes: Uint8Array } {
  const bytes = new Uint8Array(structLayout(struct).size);
  call.memory.read(argument, bytes.subarray(0, least));
  const values = decodeStruct(struct, bytes);
  if (Number(values.argsz) < least) refuse("EINVAL", `argsz ${Number(values.argsz)} is below ${least}`, { argument: "argsz" });
  return { values, bytes };
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

/** This request alone takes its struct as iommufd does: longer ones are fine while the rest is 0. */
function bind(file: VfioDeviceFile, call: CallContext, argument: bigint): number {
  const struct = "vfio_device_bind_iommufd";
  const head = new Uint8Array(4);
  call.memory.read(argument, head);
  const argsz = new DataView(head.buffer).getUint32(0, true);
  if (argsz < 16) refuse("EINVAL", `argsz ${argsz} is below 16`, { argument: "argsz" });
  const bytes = new Uint8Array(structLayout(struct).size);
  copyTail(call.memory, argument, bytes.length, argsz, "argsz");
  call.memory.read(argument, bytes.subarray(0, Math.min(argsz, bytes.length)));
  const values = decodeStruct(struct, bytes);
  unknownFlags(values, FLAG_TOKEN);
  const fd = Number(values.iommufd);
  if (fd < 0) refuse("EINVAL", `iommufd is ${fd}`, { argument: "iommufd" });
  if (file.viaGroup) refuse("EINVAL", `${file.path} was opened through its group`, { argument: "iommufd" });
  if (file.node.groupOpen) refuse("EBUSY", `the group of ${file.path} is open`, { argument: "iommufd" });
  if (file.open !== undefined) refuse("EINVAL", `${file.path} is bound already by this open`, { argument: "iommufd" });
  if ((Number(values.flags) & FLAG_TOKEN) !== 0) {
    call.memory.read(BigInt(values.token_uuid_ptr), new Uint8Array(TOKEN_BYTES));
    refuse("EINVAL", `flags name a VF token, ${file.node.pci.name} takes none`, { argument: "flags" });
  }
  const target = call.file(fd);
  if (!(target instanceof IommufdFile)) return refuse("EBADFD", `descriptor ${fd} is not an open /dev/iommu`, { argument: "iommufd" });
  if (file.node.open !== undefined) refuse("EINVAL", `another open of ${file.path} is bound`, { argument: "iommufd" });
  const bound = file.node.binding.bind(target.context);
  try {
    copyOut(call, argument, struct, bytes, { out_devid: bound.id }, 16);
  } catch (error) {
    bound.unbind();
    throw error;
  }
  file.take(new OpenDevice(file.node, bound));
  return 0;
}

function attach(file: VfioDeviceFile, call: CallContext, argument: bigint): number {
  const struct = "vfio_device_attach_iommufd_pt";
  const { values, bytes, pasid } = pasidStruct(call, argument, struct, 12);
  const { bound } = file.mustBeBound();
  const used = bound.attach(pasid, Number(values.pt_id));
  try {
    copyOut(call, argument, struct, bytes, { pt_id: used }, 12);
  } catch (error) {
    bound.detach(undefined); // as Linux: the RID, also for a PASID attach (10.2)
    throw error;
  }
  return 0;
}

function detach(file: VfioDeviceFile, call: CallContext, argument: bigint): number {
  const { pasid } = pasidStruct(call, argument, "vfio_device_detach_iommufd_pt", 8);
  file.mustBeBound().bound.detach(pasid);
  return 0;
}

/** A struct whose last field, pasid, is there only with the PASID flag; undefined without it. */
function pasidStruct(call: CallContext, argument: bigint, struct: string, least: number): { values: StructValues; bytes: Uint8Array; pasid: number | undefined } {
  const head = copyIn(call, argument, struct, least);
  unknownFlags(head.values, FLAG_PASID);
  if ((Number(head.values.flags) & FLAG_PASID) === 0) return { ...head, pasid: undefined };
  const whole = copyIn(call, argument, struct, least + 4);
  return { ...whole, pasid: Number(whole.values.pasid) };
}

function getInfo(file: VfioDeviceFile, call: CallContext, argument: bigint): number {
  const struct = "vfio_device_info";
  const { values, bytes } = copyIn(call, argument, struct, 16);
  const { pci, pasids } = file.node;
  const chain = pasids ? pasidCapability(pasids) : new Uint8Array(0);
  const flags = DEVICE_PCI | (pci.device.resettable ? DEVICE_RESET : 0) | (pasids ? DEVICE_CAPS : 0);
  const answer = { flags, num_regions: REGION_COUNT, num_irqs: IRQ_COUNT, cap_offset: 0, argsz: Number(values.argsz) };
  if (pasids) {
    const whole = bytes.length + chain.length;
    if (answer.argsz < whole) answer.argsz = whole;
    else {
      call.memory.write(argument + BigInt(bytes.length), chain);
      answer.cap_offset = bytes.length;
    }
  }
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
  const mappable = size >= 4096 && bar !== undefined && bar.mappable?.length !== 0 && (bar.memory !== undefined || call.mapsRegisters !== false);
  const chain = mappable ? regionCapabilities(bar) : new Uint8Array(0);
  let flags = size === 0 ? 0 : REGION_READ | REGION_WRITE;
  if (mappable) flags |= REGION_MMAP;
  if (chain.length > 0) flags |= REGION_CAPS;
  const answer = { flags, size: BigInt(size), offset: BigInt(index) << REGION_SHIFT, cap_offset: 0, argsz: Number(values.argsz) };
  if (chain.length > 0) {
    const whole = bytes.length + chain.length;
    if (answer.argsz < whole) answer.argsz = whole;
    else {
      call.memory.write(argument + BigInt(bytes.length), chain);
      answer.cap_offset = bytes.length;
    }
  }
  copyOut(call, argument, struct, bytes, answer, bytes.length);
  return 0;
}

/** What is behind struct vfio_region_info: which parts may be mapped, when not all; that the MSI-X table's page may. */
function regionCapabilities({ mappable, msixTable }: PciBar): Uint8Array {
  const sparse = mappable ? SPARSE_BYTES + AREA_BYTES * mappable.length : 0;
  const chain = new Uint8Array(sparse + (msixTable ? CAPABILITY_BYTES : 0));
  const view = new DataView(chain.buffer);
  const header = (at: number, id: number, next: number): void => {
    view.setUint16(at, id, true);
    view.setUint16(at + 2, 1, true); // version
    view.setUint32(at + 4, next, true);
  };
  if (mappable) {
    header(0, SPARSE_MMAP, msixTable ? structLayout("vfio_region_info").size + sparse : 0);
    view.setUint32(8, mappable.length, true);
    for (const [i, area] of mappable.entries()) {
      view.setBigUint64(SPARSE_BYTES + AREA_BYTES * i, BigInt(area.offset), true);
      view.setBigUint64(SPARSE_BYTES + AREA_BYTES * i + 8, BigInt(area.size), true);
    }
  }
  if (msixTable) header(sparse, MSIX_MAPPABLE, 0);
  return chain;
}

function getIrqInfo(file: VfioDeviceFile, call: CallContext, argument: bigint): number {
  const struct = "vfio_irq_info";
  const { values, bytes } = copyIn(call, argument, struct, 16);
  copyOut(call, argument, struct, bytes, file.mustBeBound().irqs.info(Number(values.index)), 16);
  return 0;
}

function setIrqs(file: VfioDeviceFile, call: CallContext, argument: bigint): number {
  const { values } = copyIn(call, argument, "vfio_irq_set", IRQ_SET_BYTES);
  const [flags, index, start, count] = [Number(values.flags), Number(values.index), Number(values.start), Number(values.count)];
  const { irqs } = file.mustBeBound();
  const data = new Uint8Array(irqs.check(flags, index, start, count, Number(values.argsz) - IRQ_SET_BYTES));
  call.memory.read(argument + BigInt(IRQ_SET_BYTES), data);
  irqs.set(call, { flags, index, start, count, data });
  return 0;
}

/** There is no slot or bus to reset with the device. */
function hotReset(file: VfioDeviceFile, call: CallContext, argument: bigint): number {
  const { values } = copyIn(call, argument, "vfio_pci_hot_reset", 12);
  if (Number(values.flags) !== 0) refuse("EINVAL", `flags is ${Number(values.flags)}`, { argument: "flags" });
  if ((Number(values.count) !== 0) !== file.viaGroup) refuse("EINVAL", `count ${Number(values.count)}: groups are named when the device was opened through one`, { argument: "count" });
  return refuse("ENODEV", "the device is on a root bus: neither slot nor bus can be reset", { rule: "pci_probe_reset_slot, pci_probe_reset_bus" });
}

function ioeventfd(file: VfioDeviceFile, call: CallContext, argument: bigint): number {
  const { values } = copyIn(call, argument, "vfio_device_ioeventfd", 28);
  const [flags, fd, place] = [Number(values.flags), Number(values.fd), BigInt(values.offset)];
  const bad = (why: string, name: string): never => refuse("EINVAL", why, { argument: name });
  if (![1, 2, 4, 8].includes(flags)) bad(`flags 0x${(flags >>> 0).toString(16)} is not one width of 1, 2, 4 or 8 bytes`, "flags");
  if (fd < -1) bad(`fd is ${fd}`, "fd");
  const bar = Number(place >> REGION_SHIFT);
  const offset = Number(place & ((1n << REGION_SHIFT) - 1n));
  const { pci } = file.node;
  if (bar >= CONFIG_REGION - 1) bad(`offset 0x${place.toString(16)}: region ${bar} is not a BAR`, "offset");
  if (offset + flags > pci.regionSize(bar)) bad(`offset 0x${offset.toString(16)} + ${flags} lies behind the ${pci.regionSize(bar)} bytes of BAR ${bar}`, "offset");
  const table = pci.bar(bar)?.msixTable;
  if (table && offset < table.end && offset + flags > table.start) bad(`offset 0x${offset.toString(16)} lies in the MSI-X table`, "offset");
  if (flags === 8) bad("flags ask for writes of 8 bytes, which are not done", "flags");
  file.mustBeBound().setIoEvent(call, { bar, offset, width: flags, data: BigInt(values.data) }, fd);
  return 0;
}

function feature(file: VfioDeviceFile, call: CallContext, argument: bigint): number {
  const { values } = copyIn(call, argument, "vfio_device_feature", FEATURE_BYTES);
  return deviceFeature(file.mustBeBound(), call, Number(values.flags), argument + BigInt(FEATURE_BYTES), Number(values.argsz) - FEATURE_BYTES);
}

/** Requests that a device opened through its group does not know. */
const GROUPLESS: ReadonlySet<string> = new Set(["VFIO_DEVICE_ATTACH_IOMMUFD_PT", "VFIO_DEVICE_DETACH_IOMMUFD_PT"]);

/** Requests of vfio-pci itself. */
const VFIO_PCI_ONLY: ReadonlySet<string> = new Set(["VFIO_DEVICE_GET_PCI_HOT_RESET_INFO", "VFIO_DEVICE_PCI_HOT_RESET", "VFIO_DEVICE_IOEVENTFD"]);

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
    return refuse("ENODEV", "the device is on a root bus: neither slot nor bus can be reset", { rule: "pci_probe_reset_slot, pci_probe_reset_bus" });
  },
  VFIO_DEVICE_PCI_HOT_RESET: hotReset,
  VFIO_DEVICE_IOEVENTFD: ioeventfd,
  VFIO_DEVICE_FEATURE: feature,
  VFIO_DEVICE_RESET: (file) => {
    if (!file.node.pci.device.resettable) refuse("EINVAL", `${file.node.pci.name} cannot be reset by itself`, { rule: "VFIO_DEVICE_FLAGS_RESET" });
    file.mustBeBound().reset();
    return 0;
  },
};
