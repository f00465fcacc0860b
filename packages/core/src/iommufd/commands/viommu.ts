/** VIOMMU_ALLOC, VDEVICE_ALLOC, VEVENTQ_ALLOC, HW_QUEUE_ALLOC (iommufd facts, 4.17, 4.18, 4.20, 4.21). */
import { refuse } from "../../errors.js";
import { IommufdDevice } from "../device.js";
import { HwptPaging } from "../hwpt.js";
import { CallerData } from "../user-data.js";
import { HwQueue, Vdevice, VeventFile, Veventq, Viommu } from "../viommu.js";
import { big, type Handler, hex, mustBeZero, number, rangeOf } from "./command.js";
import { installed } from "./hwpt.js";
import { U64_MAX } from "../../memory/interval.js";

/** A queue that the hardware reads by itself lies in one piece. */
function checkContiguous(hwpt: HwptPaging, iova: bigint, length: bigint, pa: number): void {
  for (let at = PAGE - (iova % PAGE); at < length; at += PAGE) {
    if (hwpt.domain.iovaToPa(iova + at) !== pa + Number(at)) refuse("EFAULT", `the memory behind IOVA ${hex(iova + at)} does not follow that before it`, { argument: "length" });
  }
}

const DEPTH_LIMIT = 2 ** 19;
const PAGE = 4096n;

export const VIOMMU_HANDLERS: Readonly<Record<string, Handler>> = {
  IOMMU_VIOMMU_ALLOC: {
    copyOut: true,
    run(context, call, values) {
      mustBeZero(values, "flags");
      const kind = number(values, "type");
      if (kind === 0) refuse("EOPNOTSUPP", "type DEFAULT is none", { argument: "type" });
      const { driver, device } = context.objects.find(number(values, "dev_id"), IommufdDevice, "dev_id").bindable;
      if (driver.allocViommu === undefined) return refuse("EOPNOTSUPP", `${driver.name} has no virtual IOMMU of type ${hex(kind)}`, { argument: "type" });
      driver.checkViommu?.(device, kind);
      const parent = context.objects.find(number(values, "hwpt_id"), HwptPaging, "hwpt_id");
      if (!parent.nestParent) refuse("EINVAL", `page table ${parent.id} was not allocated as a nest parent`, { argument: "hwpt_id", rule: "IOMMU_HWPT_ALLOC_NEST_PARENT" });
      const id = context.objects.reserve();
      const offsets: bigint[] = [];
      const viommu = new Viommu(id, kind, parent, () => offsets.forEach((offset) => context.regions.withdraw(offset)));
      const length = number(values, "data_len");
      const data = length === 0 ? undefined : new CallerData(call.memory, kind, length, big(values, "data_uptr"));
      const mmap = {
        offer: (size: number, backend: Parameters<typeof context.regions.offer>[1]): bigint => {
          const offset = context.regions.offer(size, backend, () => viommu);
          offsets.push(offset);
          return offset;
        },
      };
      try {
        viommu.driver = driver.allocViommu(device, kind, parent.domain, data, mmap, viommu);
      } catch (error) {
        viommu.destroy();
        context.objects.abandon(id);
        throw error;
      }
      values.out_viommu_id = id;
      return { publish: viommu };
    },
  },

  IOMMU_VDEVICE_ALLOC: {
    copyOut: true,
    run(context, _call, values) {
      const viommu = context.objects.find(number(values, "viommu_id"), Viommu, "viommu_id");
      const device = context.objects.find(number(values, "dev_id"), IommufdDevice, "dev_id");
      if (device.bindable.driver !== viommu.parent.driver) refuse("EINVAL", `device ${device.id} is behind another IOMMU than virtual IOMMU ${viommu.id}`, { argument: "dev_id" });
      if (device.vdevice) refuse("EEXIST", `device ${device.id} is virtual device ${device.vdevice.id} already`, { argument: "dev_id" });
      const virtId = big(values, "virt_id");
      if (viommu.vdevices.has(virtId)) refuse("EEXIST", `virt_id ${hex(virtId)} is in use`, { argument: "virt_id" });
      const id = context.objects.reserve();
      try {
        const vdevice = new Vdevice(id, viommu, device, virtId);
        values.out_vdevice_id = id;
        return { publish: vdevice };
      } catch (error) {
        context.objects.abandon(id);
        throw error;
      }
    },
  },

  IOMMU_VEVENTQ_ALLOC: {
    copyOut: true,
    run(context, call, values) {
      mustBeZero(values, "flags");
      mustBeZero(values, "__reserved");
      const kind = number(values, "type");
      if (kind === 0) refuse("EOPNOTSUPP", "type DEFAULT is none", { argument: "type" });
      const depth = number(values, "veventq_depth");
      if (depth === 0 || depth > DEPTH_LIMIT) refuse("EINVAL", `veventq_depth ${depth} is not between 1 and ${DEPTH_LIMIT}`, { argument: "veventq_depth" });
      const viommu = context.objects.find(number(values, "viommu_id"), Viommu, "viommu_id");
      if (viommu.queues.has(kind)) refuse("EEXIST", `virtual IOMMU ${viommu.id} has an event queue of type ${hex(kind)} already`, { argument: "type" });
      const queue = new Veventq(context.objects.reserve(), viommu, kind, depth);
      const abandon = (): void => {
        queue.destroy();
        context.objects.abandon(queue.id);
      };
      return installed(call, values, "out_veventq_fd", new VeventFile(queue, context), abandon, () => {
        values.out_veventq_id = queue.id;
        return queue;
      });
    },
  },

  IOMMU_HW_QUEUE_ALLOC: {
    copyOut: true,
    run(context, _call, values) {
      mustBeZero(values, "flags");
      const kind = number(values, "type");
      if (kind === 0) refuse("EOPNOTSUPP", "type DEFAULT is none", { argument: "type" });
      const length = big(values, "length");
      const iova = big(values, "nesting_parent_iova");
      if (length === 0n) refuse("EINVAL", "length is 0", { argument: "length" });
      rangeOf(iova, length, "nesting_parent_iova");
      const viommu = context.objects.find(number(values, "viommu_id"), Viommu, "viommu_id");
      const { driver } = viommu;
      const { addQueue } = driver;
      if (addQueue === undefined || driver.hasQueue?.(kind) !== true) return refuse("EOPNOTSUPP", `virtual IOMMU ${viommu.id} has no hardware queue of type ${hex(kind)}`, { argument: "type" });
      const pinned = { iova: iova - (iova % PAGE), length: 0n };
      pinned.length = ((iova % PAGE) + length + PAGE - 1n) / PAGE * PAGE;
      if (pinned.iova + pinned.length - 1n > U64_MAX || pinned.length > U64_MAX - PAGE) refuse("ERANGE", `length ${hex(length)} cannot be rounded to pages`, { argument: "length" });
      const id = context.objects.reserve();
      const access = context.newAccess({ pins: true, locks: true });
      const index = number(values, "index");
      try {
        access.attach(viommu.parent.ioas);
        access.pin(pinned.iova, pinned.length, false);
        try {
          const pa = viommu.parent.domain.iovaToPa(iova) ?? refuse("EFAULT", `IOVA ${hex(iova)} is not mapped in page table ${viommu.parent.id}`, { argument: "nesting_parent_iova" });
          checkContiguous(viommu.parent, iova, length, pa);
          const end = addQueue.call(driver, kind, index, pa, iova, length);
          values.out_hw_queue_id = id;
          return { publish: new HwQueue(id, context, { viommu, index }, access, pinned, end) };
        } catch (error) {
          access.unpin(pinned.iova, pinned.length);
          throw error;
        }
      } catch (error) {
        context.removeAccess(access);
        context.objects.abandon(id);
        throw error;
      }
    },
  },
};
