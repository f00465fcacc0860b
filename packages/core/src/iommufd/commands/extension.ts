/** What iommukit adds to Linux's requests. */
import { refuse } from "../../errors.js";
import { Access } from "../access.js";
import { IommufdDevice } from "../device.js";
import { DeviceFaultFile } from "../device-faults.js";
import { FaultQueue } from "../fault-queue.js";
import { type Handler, mustBeZero, number } from "./command.js";

export const EXTENSION_HANDLERS: Readonly<Record<string, Handler>> = {
  /** Faults of a software mdev go to a fault queue; `fault_id` 0: nowhere any more. */
  IOMMUKIT_ACCESS_FAULT_QUEUE: {
    copyOut: false,
    run(context, _call, values) {
      mustBeZero(values, "flags");
      const access = context.objects.find(number(values, "access_id"), Access, "access_id");
      const id = number(values, "fault_id");
      const queue = id === 0 ? undefined : context.objects.find(id, FaultQueue, "fault_id");
      if (access.faults === undefined) return refuse("EOPNOTSUPP", `access ${access.id} belongs to a driver that raises no faults`, { argument: "access_id" });
      access.faults.tie(queue);
      return undefined;
    },
  },
  /** A descriptor that tells of a device's faults, until it is closed or the device is. */
  IOMMUKIT_DEVICE_FAULTS: {
    copyOut: true,
    run(context, call, values) {
      mustBeZero(values, "flags");
      const device = context.objects.find(number(values, "dev_id"), IommufdDevice, "dev_id");
      const file = new DeviceFaultFile(device);
      try {
        device.reportFaultsTo(file);
        const fd = call.install(file);
        values.out_faults_fd = fd;
        return { undo: () => call.uninstall(fd) };
      } catch (error) {
        file.release();
        throw error;
      }
    },
  },
};
