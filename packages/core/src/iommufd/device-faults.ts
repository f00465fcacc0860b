/**
 * Faults of a device that nobody can repair: an access was blocked, the IOMMU recorded it, and it is over. RFC v2 of /dev/iommu wanted
 * them told ({address space, device, address, permission}, 1.8); Linux logs them only.
 */
import { encodeStruct, structLayout } from "../abi/index.js";
import type { DeviceFault } from "../driver/types.js";
import { refuse } from "../errors.js";
import type { CallContext, KernelFile } from "../files/types.js";
import type { IommufdDevice } from "./device.js";
import { POLLIN, POLLRDNORM } from "./fault-queue.js";

const RECORD = structLayout("iommukit_device_fault").size;
const PASID_VALID = 1;
const LOST_BEFORE = 2;
const TRANSLATION_REQUEST = 4;
/** Records that wait to be read: what comes then is lost, and the next one says so. */
const DEPTH = 1024;

interface Waiting {
  readonly fault: DeviceFault;
  /** Others were lost before it. */
  readonly afterLoss: boolean;
}

/** The descriptor of a device's faults; it keeps the whole context. */
export class DeviceFaultFile implements KernelFile {
  readonly path = "anon_inode:[iommukit-device-faults]";
  readonly #device: IommufdDevice;
  readonly #waiting: Waiting[] = [];
  /** Records of the last read. */
  #read: Waiting[] = [];
  #lost = false;

  constructor(device: IommufdDevice) {
    this.#device = device;
    device.context.hold();
  }

  add(fault: DeviceFault): void {
    if (this.#waiting.length >= DEPTH) {
      this.#lost = true;
      return;
    }
    this.#waiting.push({ fault, afterLoss: this.#lost || fault.afterLoss === true });
    this.#lost = false;
  }

  ioctl(): number {
    return refuse("ENOTTY", "a device's faults take no ioctl", { argument: "request" });
  }

  read(_call: CallContext, target: Uint8Array): number {
    if (target.length === 0 || target.length % RECORD !== 0) refuse("EINVAL", `count ${target.length} is not a multiple of ${RECORD}`, { argument: "count" });
    this.#read = this.#waiting.splice(0, target.length / RECORD);
    for (const [i, { fault, afterLoss }] of this.#read.entries()) {
      const record = encodeStruct("iommukit_device_fault", {
        dev_id: this.#device.id,
        flags: (fault.pasid === undefined ? 0 : PASID_VALID) | (afterLoss ? LOST_BEFORE : 0) | (fault.translationRequest === true ? TRANSLATION_REQUEST : 0),
        pasid: fault.pasid ?? 0,
        perm: fault.permissions,
        addr: fault.address,
      });
      target.set(record, i * RECORD);
    }
    return this.#read.length * RECORD;
  }

  /** What was read but never reached the caller is queued again. */
  unread(): void {
    this.#waiting.unshift(...this.#read.splice(0));
  }

  poll(): number {
    return this.#waiting.length > 0 ? POLLIN | POLLRDNORM : 0;
  }

  release(): void {
    this.#device.stopFaultsTo(this);
    this.#device.context.put();
  }
}
