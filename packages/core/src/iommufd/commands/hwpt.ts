/** Page tables: HWPT_ALLOC, GET_HW_INFO, dirty tracking, invalidation, fault queues (iommufd facts, 4.10 to 4.15, 7, 8). */
import type { IommuDriver } from "../../driver/types.js";
import { refuse } from "../../errors.js";
import type { CallContext } from "../../files/types.js";
import { IommufdDevice } from "../device.js";
import { readDirty } from "../dirty.js";
import { FaultFile, FaultQueue } from "../fault-queue.js";
import { type AnyHwpt, HwptNested, HwptPaging } from "../hwpt.js";
import { Ioas } from "../ioas.js";
import { lengthOf } from "../area.js";
import { CallerData, CallerEntries } from "../user-data.js";
import { Viommu } from "../viommu.js";
import { big, type Handler, hex, mustBeZero, number, type Values } from "./command.js";

const NEST_PARENT = 1;
const DIRTY_TRACKING = 2;
const FAULT_ID_VALID = 4;
const PASID = 8;
const HW_INFO_INPUT_TYPE = 1;
const CAP_DIRTY = 1n;
const CAP_ATS_NOT_SUPPORTED = 8n;
const DIRTY_ENABLE = 1;
const BITMAP_NO_CLEAR = 1;
const ENTRY_LIMIT = 2 ** 19;

export const HWPT_HANDLERS: Readonly<Record<string, Handler>> = {
  IOMMU_HWPT_ALLOC: {
    copyOut: true,
    run(context, call, values) {
      mustBeZero(values, "__reserved");
      const type = number(values, "data_type");
      const length = number(values, "data_len");
      if ((type === 0) !== (length === 0)) refuse("EINVAL", `data_type ${type} does not go with data_len ${length}`, { argument: "data_len" });
      const device = context.objects.find(number(values, "dev_id"), IommufdDevice, "dev_id");
      const target = context.objects.get(number(values, "pt_id"));
      if (target === undefined) return refuse("EINVAL", `pt_id ${number(values, "pt_id")}: no object has this id`, { argument: "pt_id" });
      const data = new CallerData(call.memory, type, length, big(values, "data_uptr"));
      const id = context.objects.reserve();
      try {
        let hwpt: AnyHwpt;
        if (target instanceof Ioas) hwpt = allocPaging(id, device, target, values, data);
        else if (target instanceof HwptPaging) hwpt = allocNested(id, device, target, values, data);
        else if (target instanceof Viommu) hwpt = allocOnViommu(id, device, target, values, data);
        else return refuse("EINVAL", `pt_id ${target.id} is a ${target.type}`, { argument: "pt_id" });
        try {
          if ((number(values, "flags") & FAULT_ID_VALID) !== 0) hwpt.faults = context.objects.find(number(values, "fault_id"), FaultQueue, "fault_id");
        } catch (error) {
          hwpt.destroy();
          throw error;
        }
        values.out_hwpt_id = id;
        return { publish: hwpt };
      } catch (error) {
        context.objects.abandon(id);
        throw error;
      }
    },
  },

  IOMMU_GET_HW_INFO: {
    copyOut: true,
    run(context, call, values, argument) {
      mustBeZero(values, "flags", HW_INFO_INPUT_TYPE);
      if (argument.bytes.subarray(29, 32).some((byte) => byte !== 0)) refuse("EOPNOTSUPP", "__reserved is not 0", { argument: "__reserved" });
      const { bindable } = context.objects.find(number(values, "dev_id"), IommufdDevice, "dev_id");
      const { driver, device } = bindable;
      const asked = (number(values, "flags") & HW_INFO_INPUT_TYPE) === 0 ? 0 : number(values, "in_data_type");
      // A driver without any has none whatever is asked for.
      const info = driver.hwInfo?.(device, asked) ?? { type: 0, data: new Uint8Array(0) };
      writeCut(call, big(values, "data_uptr"), info.data, number(values, "data_len"));
      const capabilities = driver.capabilities(device);
      values.data_len = info.data.length;
      values.out_data_type = info.type;
      values.out_max_pasid_log2 = capabilities.maxPasidLog2;
      values.out_capabilities = (capabilities.dirtyTracking ? CAP_DIRTY : 0n) | (capabilities.ats ? 0n : CAP_ATS_NOT_SUPPORTED);
      return undefined;
    },
  },

  IOMMU_HWPT_SET_DIRTY_TRACKING: {
    copyOut: false,
    run(context, _call, values) {
      mustBeZero(values, "flags", DIRTY_ENABLE);
      const hwpt = context.objects.find(number(values, "hwpt_id"), HwptPaging, "hwpt_id");
      const { dirty } = hwpt.domain;
      if (dirty === undefined || !hwpt.dirtyTracking) return refuse("EOPNOTSUPP", `page table ${hwpt.id} was not allocated with DIRTY_TRACKING`, { argument: "hwpt_id" });
      const enable = (number(values, "flags") & DIRTY_ENABLE) !== 0;
      if (enable) for (const area of hwpt.ioas.areas) dirty.read(area.start, lengthOf(area), true, () => undefined);
      dirty.set(enable);
      return undefined;
    },
  },

  IOMMU_HWPT_GET_DIRTY_BITMAP: {
    copyOut: false,
    run(context, call, values) {
      mustBeZero(values, "flags", BITMAP_NO_CLEAR);
      mustBeZero(values, "__reserved");
      const hwpt = context.objects.find(number(values, "hwpt_id"), HwptPaging, "hwpt_id");
      readDirty(hwpt, call.memory, {
        iova: big(values, "iova"),
        length: big(values, "length"),
        pageSize: big(values, "page_size"),
        bitmap: big(values, "data"),
        clear: (number(values, "flags") & BITMAP_NO_CLEAR) === 0,
      });
      return undefined;
    },
  },

  IOMMU_HWPT_INVALIDATE: {
    copyOut: true,
    copyOutOn: true,
    run(context, call, values) {
      const [length, count, address] = [number(values, "entry_len"), number(values, "entry_num"), big(values, "data_uptr")];
      values.entry_num = 0;
      mustBeZero(values, "__reserved");
      if (count !== 0 && (address === 0n || length === 0 || length > 4096 || count > ENTRY_LIMIT)) {
        refuse("EINVAL", `${count} entries of ${length} bytes at ${hex(address)}: lengths are 1 to 4096, there are ${ENTRY_LIMIT} at most`, { argument: "entry_num" });
      }
      const target = context.objects.get(number(values, "hwpt_id"));
      if (target === undefined) return refuse("ENOENT", `hwpt_id ${number(values, "hwpt_id")}: no object has this id`, { argument: "hwpt_id" });
      if (!(target instanceof HwptNested) && !(target instanceof Viommu)) {
        return refuse("EINVAL", `hwpt_id ${target.id} is a ${target.type}, neither a nested page table nor a virtual IOMMU`, { argument: "hwpt_id" });
      }
      const invalidator = target instanceof HwptNested ? target.domain : target.driver;
      const entries = new CallerEntries(call.memory, number(values, "data_type"), length, count, address);
      if (invalidator.invalidate === undefined) return refuse("EOPNOTSUPP", `${target.type} ${target.id} takes no invalidations`, { argument: "hwpt_id" });
      try {
        invalidator.invalidate(entries);
      } finally {
        values.entry_num = entries.done;
      }
      return undefined;
    },
  },

  IOMMU_FAULT_QUEUE_ALLOC: {
    copyOut: true,
    run(context, call, values) {
      mustBeZero(values, "flags");
      const queue = new FaultQueue(context.objects.reserve());
      const file = new FaultFile(queue, context);
      return installed(call, values, "out_fault_fd", file, () => context.objects.abandon(queue.id), () => {
        values.out_fault_id = queue.id;
        return queue;
      });
    },
  },
};

/** Gives the caller a descriptor for a new object's file; takes it back when the outputs cannot be stored. */
export function installed(
  call: CallContext,
  values: Values,
  field: string,
  file: FaultFile | import("../viommu.js").VeventFile,
  abandon: () => void,
  publish: () => import("../object-table.js").TableObject,
): import("./command.js").Outcome {
  let fd: number;
  try {
    fd = call.install(file);
  } catch (error) {
    file.release();
    abandon();
    throw error;
  }
  values[field] = fd;
  return { publish: publish(), undo: () => call.uninstall(fd) };
}

/** The kernel's bytes, cut to the caller's room or followed by zeros. */
function writeCut(call: CallContext, address: bigint, bytes: Uint8Array, room: number): void {
  if (room === 0) return;
  const first = new Uint8Array(Math.min(room, bytes.length));
  first.set(bytes.subarray(0, first.length));
  call.memory.write(address, first);
  const zeros = new Uint8Array(4096);
  for (let at = first.length; at < room; at += zeros.length) call.memory.write(address + BigInt(at), zeros.subarray(0, Math.min(zeros.length, room - at)));
}

function allocPaging(id: number, device: IommufdDevice, ioas: Ioas, values: Values, data: CallerData): HwptPaging {
  const flags = number(values, "flags");
  mustBeZero(values, "flags", NEST_PARENT | DIRTY_TRACKING | FAULT_ID_VALID | PASID);
  const { driver, device: hardware } = device.bindable;
  if ((flags & DIRTY_TRACKING) !== 0 && !driver.capabilities(hardware).dirtyTracking) {
    refuse("EOPNOTSUPP", `${hardware.name} cannot track dirty pages`, { argument: "flags", rule: "IOMMU_HW_CAP_DIRTY_TRACKING" });
  }
  if ((flags & FAULT_ID_VALID) !== 0 && (flags & NEST_PARENT) !== 0) refuse("EOPNOTSUPP", "a nest parent takes no fault queue", { argument: "flags" });
  const options = { nestParent: (flags & NEST_PARENT) !== 0, dirtyTracking: (flags & DIRTY_TRACKING) !== 0, pasid: (flags & PASID) !== 0 };
  const domain = driver.allocPaging(hardware, options, data.length === 0 ? undefined : data);
  const hwpt = new HwptPaging(id, ioas, driver, domain, options);
  try {
    ioas.addHwpt(hwpt);
  } catch (error) {
    domain.free();
    throw error;
  }
  return hwpt;
}

function checkNestedFlags(values: Values, data: CallerData): boolean {
  mustBeZero(values, "flags", FAULT_ID_VALID | PASID);
  if (data.length === 0) refuse("EOPNOTSUPP", "a nested page table needs vendor data", { argument: "data_len" });
  return (number(values, "flags") & PASID) !== 0;
}

function isSameKind(a: IommuDriver, b: IommuDriver): boolean {
  return a === b || (a.kind !== undefined && a.kind === b.kind);
}

function allocNested(id: number, device: IommufdDevice, parent: HwptPaging, values: Values, data: CallerData): HwptNested {
  const pasid = checkNestedFlags(values, data);
  const { driver, device: hardware } = device.bindable;
  if (driver.allocNested === undefined) return refuse("EOPNOTSUPP", `${driver.name} has no nested translation`, { argument: "pt_id" });
  if (parent.automatic || !parent.nestParent || !isSameKind(parent.driver, driver)) {
    refuse("EINVAL", `page table ${parent.id} was not allocated as a nest parent of this IOMMU`, { argument: "pt_id", rule: "IOMMU_HWPT_ALLOC_NEST_PARENT" });
  }
  return new HwptNested(id, parent, undefined, driver.allocNested(hardware, parent.domain, { pasid }, data), pasid);
}

function allocOnViommu(id: number, device: IommufdDevice, viommu: Viommu, values: Values, data: CallerData): HwptNested {
  if (device.bindable.driver !== viommu.parent.driver) refuse("EINVAL", `device ${device.id} is behind another IOMMU than virtual IOMMU ${viommu.id}`, { argument: "dev_id" });
  const pasid = checkNestedFlags(values, data);
  if (viommu.driver.allocNested === undefined) return refuse("EOPNOTSUPP", `virtual IOMMU ${viommu.id} has no nested translation`, { argument: "pt_id" });
  return new HwptNested(id, viommu.parent, viommu, viommu.driver.allocNested(device.bindable.device, { pasid }, data), pasid);
}
