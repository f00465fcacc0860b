/**
 * The command table: one row an ioctl. A handler checks its arguments in the order
 * that decides which errno wins (iommufd facts, section 4) and stores its outputs into the
 * decoded struct. What Linux knows and this table lacks is refused as "not built yet".
 */
import { type IoctlRow, IOCTLS, structLayout, type StructValues } from "../abi/index.js";
import type { CallContext } from "../files/types.js";
import { IommuError, refuse } from "../errors.js";
import type { IommufdContext } from "./context.js";
import { IommufdDevice } from "./device.js";
import { HwptPaging } from "./hwpt.js";
import { type Interval, SortedIntervals, U64_MAX } from "./interval.js";
import { Ioas, protOf } from "./ioas.js";
import { Pages } from "./pages.js";
import type { TableObject } from "./object-table.js";

/** A struct's values; handlers store outputs in place. */
type Values = StructValues;

/** An object to publish once the outputs have reached the caller. */
type Created = TableObject | undefined;

export interface Command {
  readonly row: IoctlRow;
  readonly size: number;
  readonly run: (context: IommufdContext, call: CallContext, values: Values) => Created;
  /** The whole struct is written back on success. */
  readonly copyOut: boolean;
  /** An errno with which the struct is written back all the same. */
  readonly copyOutOn?: "EMSGSIZE";
}

const MAP_FIXED = 1;
const MAP_WRITEABLE = 2;
const MAP_READABLE = 4;
const HWPT_NEST_PARENT = 1;
const HWPT_DIRTY = 2;
const HWPT_FAULT = 4;
const HWPT_PASID = 8;
const HW_INFO_INPUT_TYPE = 1;

const number = (values: Values, name: string): number => Number(values[name]);
const big = (values: Values, name: string): bigint => BigInt(values[name]);
const hex = (value: bigint | number): string => `0x${value.toString(16)}`;

/** A flag or reserved field that must be 0: EOPNOTSUPP (1.4). */
function mustBeZero(values: Values, name: string, allowed = 0): void {
  const rest = number(values, name) & ~allowed;
  if (rest !== 0) refuse("EOPNOTSUPP", `${name} has ${hex(rest >>> 0)} set, which means nothing here`, { argument: name });
}

function range(start: bigint, length: bigint, argument: string): Interval {
  if (start + length - 1n > U64_MAX) refuse("EOVERFLOW", `${argument} ${hex(start)} + ${hex(length)} wraps`, { argument });
  return { start, last: start + length - 1n };
}

const handlers: Readonly<Record<string, Omit<Command, "row" | "size">>> = {
  IOMMU_DESTROY: {
    copyOut: false,
    run(context, _call, values) {
      context.objects.destroy(number(values, "id"));
      return undefined;
    },
  },

  IOMMU_IOAS_ALLOC: {
    copyOut: true,
    run(context, _call, values) {
      mustBeZero(values, "flags");
      const ioas = new Ioas(context.objects.reserve());
      values.out_ioas_id = ioas.id;
      return ioas;
    },
  },

  IOMMU_IOAS_ALLOW_IOVAS: {
    copyOut: false,
    run(context, call, values) {
      mustBeZero(values, "__reserved");
      const ioas = context.objects.find(number(values, "ioas_id"), Ioas, "ioas_id");
      const allowed = new SortedIntervals<Interval>();
      const bytes = new Uint8Array(16);
      const view = new DataView(bytes.buffer);
      for (let i = 0; i < number(values, "num_iovas"); i++) {
        call.memory.read(big(values, "allowed_iovas") + BigInt(16 * i), bytes);
        const next = { start: view.getBigUint64(0, true), last: view.getBigUint64(8, true) };
        if (next.start >= next.last) refuse("EINVAL", `allowed_iovas[${i}]: start ${hex(next.start)} is not below last ${hex(next.last)}`, { argument: "allowed_iovas" });
        const other = allowed.first(next);
        if (other) refuse("EINVAL", `allowed_iovas[${i}] overlaps ${hex(other.start)}-${hex(other.last)}`, { argument: "allowed_iovas" });
        allowed.add(next);
      }
      ioas.allow([...allowed]);
      return undefined;
    },
  },

  IOMMU_IOAS_IOVA_RANGES: {
    copyOut: true,
    copyOutOn: "EMSGSIZE",
    run(context, call, values) {
      mustBeZero(values, "__reserved");
      const ioas = context.objects.find(number(values, "ioas_id"), Ioas, "ioas_id");
      const ranges = ioas.usableRanges();
      const room = number(values, "num_iovas");
      const bytes = new Uint8Array(16);
      const view = new DataView(bytes.buffer);
      for (const [i, { start, last }] of ranges.slice(0, room).entries()) {
        view.setBigUint64(0, start, true);
        view.setBigUint64(8, last, true);
        call.memory.write(big(values, "allowed_iovas") + BigInt(16 * i), bytes);
      }
      values.num_iovas = ranges.length;
      values.out_iova_alignment = ioas.alignment;
      if (ranges.length > room) refuse("EMSGSIZE", `there are ${ranges.length} ranges, room for ${room}`, { argument: "num_iovas" });
      return undefined;
    },
  },

  IOMMU_IOAS_MAP: {
    copyOut: true,
    run(context, call, values) {
      mustBeZero(values, "flags", MAP_FIXED | MAP_WRITEABLE | MAP_READABLE);
      mustBeZero(values, "__reserved");
      const flags = number(values, "flags");
      const address = big(values, "user_va");
      const length = big(values, "length");
      const iova = big(values, "iova");
      for (const name of ["iova", "length"]) {
        if (big(values, name) === U64_MAX) refuse("EOVERFLOW", `${name} is 2^64 - 1`, { argument: name });
      }
      if ((flags & (MAP_WRITEABLE | MAP_READABLE)) === 0) refuse("EINVAL", "flags ask for neither READABLE nor WRITEABLE", { argument: "flags" });
      const ioas = context.objects.find(number(values, "ioas_id"), Ioas, "ioas_id");
      if (address + length > U64_MAX) refuse("EOVERFLOW", `user_va ${hex(address)} + length ${hex(length)} wraps`, { argument: "user_va" });
      if (length === 0n || length > U64_MAX - 4096n) refuse("EINVAL", `length is ${hex(length)}`, { argument: "length" });
      ioas.checkLength(length);
      const place = (flags & MAP_FIXED) !== 0 ? ioas.checkFixed(iova, length) : ioas.chooseIova(address, length);
      ioas.checkOffset(address, "user_va");
      const writable = (flags & MAP_WRITEABLE) !== 0;
      const pages = new Pages(call.memory, context.windows, address, length, writable);
      ioas.map({ ...place, pages, prot: protOf((flags & MAP_READABLE) !== 0, writable) });
      values.iova = place.start;
      return undefined;
    },
  },

  IOMMU_IOAS_UNMAP: {
    copyOut: true,
    run(context, _call, values) {
      const ioas = context.objects.find(number(values, "ioas_id"), Ioas, "ioas_id");
      const iova = big(values, "iova");
      const length = big(values, "length");
      if (iova === 0n && length === U64_MAX) {
        values.length = ioas.unmap({ start: 0n, last: U64_MAX });
        return undefined;
      }
      for (const name of ["iova", "length"]) {
        if (big(values, name) === U64_MAX) refuse("EOVERFLOW", `${name} is 2^64 - 1, which goes with iova 0 only`, { argument: name });
      }
      if (length === 0n) refuse("EINVAL", "length is 0", { argument: "length" });
      const bytes = ioas.unmap(range(iova, length, "iova"));
      if (bytes === 0n) refuse("ENOENT", `nothing is mapped in ${hex(iova)} + ${hex(length)} of IOAS ${ioas.id}`, { argument: "iova" });
      values.length = bytes;
      return undefined;
    },
  },

  IOMMU_HWPT_ALLOC: {
    copyOut: true,
    run(context, _call, values) {
      mustBeZero(values, "__reserved");
      const data = number(values, "data_type");
      if ((data === 0) !== (number(values, "data_len") === 0)) {
        refuse("EINVAL", `data_type ${data} does not go with data_len ${number(values, "data_len")}`, { argument: "data_len" });
      }
      const device = context.objects.find(number(values, "dev_id"), IommufdDevice, "dev_id");
      const target = context.objects.get(number(values, "pt_id"));
      if (target === undefined) return refuse("EINVAL", `pt_id ${number(values, "pt_id")}: no object has this id`, { argument: "pt_id" });
      if (target instanceof HwptPaging) return refuse("EOPNOTSUPP", "nested page tables are not built yet", { argument: "pt_id" });
      if (!(target instanceof Ioas)) return refuse("EINVAL", `pt_id ${target.id} is a ${target.type}`, { argument: "pt_id" });
      const hwpt = allocPaging(context, device, target, values);
      values.out_hwpt_id = hwpt.id;
      return hwpt;
    },
  },

  IOMMU_GET_HW_INFO: {
    copyOut: true,
    run(context, call, values) {
      mustBeZero(values, "flags", HW_INFO_INPUT_TYPE);
      if (number(values, "reservedBytes") !== 0) refuse("EOPNOTSUPP", "__reserved is not 0", { argument: "__reserved" });
      const { bindable } = context.objects.find(number(values, "dev_id"), IommufdDevice, "dev_id");
      const info = bindable.driver.hwInfo?.(bindable.device) ?? { type: 0, data: new Uint8Array(0) };
      const asked = (number(values, "flags") & HW_INFO_INPUT_TYPE) === 0 ? 0 : number(values, "in_data_type");
      if (asked !== 0 && asked !== info.type) {
        refuse("EOPNOTSUPP", `in_data_type ${asked} is not what this device has, ${info.type}`, { argument: "in_data_type" });
      }
      const room = number(values, "data_len");
      const bytes = new Uint8Array(Math.min(room, 4096));
      bytes.set(info.data.subarray(0, bytes.length));
      if (room > 0) call.memory.write(big(values, "data_uptr"), bytes);
      zeroFill(call, big(values, "data_uptr"), bytes.length, room);
      const capabilities = bindable.driver.capabilities(bindable.device);
      values.data_len = info.data.length;
      values.out_data_type = info.type;
      values.out_max_pasid_log2 = capabilities.maxPasidLog2;
      values.out_capabilities = BigInt(capabilities.dirtyTracking ? 1 : 0) | (capabilities.ats ? 0n : 8n);
      return undefined;
    },
  },
};

/** The rest of a buffer that is larger than a page. */
function zeroFill(call: CallContext, address: bigint, from: number, end: number): void {
  const zeros = new Uint8Array(4096);
  for (let at = from; at < end; at += 4096) call.memory.write(address + BigInt(at), zeros.subarray(0, Math.min(4096, end - at)));
}

/** HWPT_ALLOC on an IOAS (4.10). */
function allocPaging(context: IommufdContext, device: IommufdDevice, ioas: Ioas, values: Values): HwptPaging {
  const flags = number(values, "flags");
  mustBeZero(values, "flags", HWPT_NEST_PARENT | HWPT_DIRTY | HWPT_FAULT | HWPT_PASID);
  if ((flags & HWPT_FAULT) !== 0 && (flags & HWPT_NEST_PARENT) !== 0) {
    refuse("EOPNOTSUPP", "a nest parent takes no fault queue", { argument: "flags" });
  }
  if (number(values, "data_type") !== 0) refuse("EOPNOTSUPP", "a page table of an IOAS takes no vendor data", { argument: "data_type" });
  const id = context.objects.reserve();
  try {
    const hwpt = context.buildHwpt(id, ioas, device, {
      automatic: false,
      nestParent: (flags & HWPT_NEST_PARENT) !== 0,
      dirtyTracking: (flags & HWPT_DIRTY) !== 0,
      pasid: (flags & HWPT_PASID) !== 0,
    });
    if ((flags & HWPT_FAULT) === 0) return hwpt;
    hwpt.destroy();
    return refuse("ENOENT", `fault_id ${number(values, "fault_id")}: no fault queue has this id`, { argument: "fault_id" });
  } catch (error) {
    context.objects.abandon(id);
    throw error;
  }
}

/** Every request of /dev/iommu that Linux 7.2 knows. */
export const COMMANDS: ReadonlyMap<number, Command> = new Map(
  IOCTLS.filter((row) => row.node === "iommufd").map((row) => {
    const handler = handlers[row.name] ?? notBuilt(row.name);
    return [row.request, { ...handler, row, size: structLayout(row.struct ?? "").size }];
  }),
);

function notBuilt(name: string): Omit<Command, "row" | "size"> {
  return {
    copyOut: false,
    run() {
      throw new IommuError("EOPNOTSUPP", { message: `${name} is not built yet`, argument: "request" });
    },
  };
}

