/** What iommukit adds to Linux's requests. */
import { refuse } from "../../errors.js";
import type { CallContext } from "../../files/types.js";
import { Access } from "../access.js";
import { ChildIoas, DummyRoot } from "../child-ioas.js";
import type { IommufdContext } from "../context.js";
import { IommufdDevice } from "../device.js";
import { DeviceFaultFile } from "../device-faults.js";
import { FaultQueue } from "../fault-queue.js";
import { Ioas } from "../ioas.js";
import { type Handler, mustBeZero, number } from "./command.js";

/** IOMMUKIT_IOAS_NEST.flags: the program's own memory, at its own addresses. */
const NEST_DUMMY = 1;

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
  /** An address space whose mappings are of another's addresses; or the root of such ones that is all of the program's memory. */
  IOMMUKIT_IOAS_NEST: {
    copyOut: true,
    run(context, call, values) {
      mustBeZero(values, "flags", NEST_DUMMY);
      const parentId = number(values, "parent_ioas_id");
      const ioas = number(values, "flags") === NEST_DUMMY ? dummyRoot(context, call, parentId) : childOf(context, parentId);
      values.out_ioas_id = ioas.id;
      return { publish: ioas };
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

function dummyRoot(context: IommufdContext, call: CallContext, parentId: number): DummyRoot {
  if (parentId !== 0) refuse("EINVAL", `a dummy root has no parent, and parent_ioas_id is ${parentId}`, { argument: "parent_ioas_id" });
  return new DummyRoot(context.objects.reserve(), call.process);
}

function childOf(context: IommufdContext, parentId: number): ChildIoas {
  const parent = context.objects.find(parentId, Ioas, "parent_ioas_id");
  const id = context.objects.reserve();
  try {
    return new ChildIoas(id, parent);
  } catch (error) {
    context.objects.abandon(id);
    throw error;
  }
}
