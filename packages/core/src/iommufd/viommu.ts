/** Virtual IOMMUs and what belongs to them: virtual devices, event queues, hardware queues (iommufd facts, 4.17 to 4.21). */
import { encodeStruct } from "../abi/index.js";
import type { DriverViommu } from "../driver/types.js";
import { refuse } from "../errors.js";
import type { CallContext, KernelFile } from "../files/types.js";
import type { Access } from "./access.js";
import type { IommufdContext } from "./context.js";
import type { IommufdDevice } from "./device.js";
import { POLLIN, POLLRDNORM } from "./fault-queue.js";
import type { HwptPaging } from "./hwpt.js";
import type { TableObject } from "./object-table.js";

const HEADER = 8;
const LOST_EVENTS = 1;
/** Sequence numbers wrap to 0 behind this. */
const SEQUENCE_LAST = 0x7fffffff;

export class Viommu implements TableObject {
  readonly type = "VIOMMU";
  readonly id: number;
  users = 0;
  readonly kind: number;
  readonly parent: HwptPaging;
  readonly vdevices: Map<bigint, Vdevice> = new Map<bigint, Vdevice>();
  readonly queues: Map<number, Veventq> = new Map<number, Veventq>();
  readonly hwQueues: Map<number, HwQueue> = new Map<number, HwQueue>();
  #driver: DriverViommu | undefined;
  readonly #onDestroy: (viommu: Viommu) => void;

  constructor(id: number, kind: number, parent: HwptPaging, onDestroy: (viommu: Viommu) => void) {
    this.id = id;
    this.kind = kind;
    this.parent = parent;
    this.#onDestroy = onDestroy;
    parent.users++;
  }

  get driver(): DriverViommu {
    return this.#driver ?? refuse("EOPNOTSUPP", `virtual IOMMU ${this.id} is not complete`, { argument: "viommu_id" });
  }

  set driver(driver: DriverViommu) {
    this.#driver = driver;
  }

  /** For drivers: an event of the virtual IOMMU. @throws IommuError EOPNOTSUPP without a queue of that type */
  report(type: number, payload: Uint8Array): void {
    const queue = this.queues.get(type) ?? refuse("EOPNOTSUPP", `virtual IOMMU ${this.id} has no event queue of type 0x${type.toString(16)}`, { argument: "type", rule: "IOMMU_VEVENTQ_ALLOC" });
    queue.push(payload);
  }

  destroy(): void {
    this.#driver?.free();
    this.#onDestroy(this);
    this.parent.users--;
  }
}

/** A device as the guest's IOMMU names it. */
export class Vdevice implements TableObject {
  readonly type = "VDEVICE";
  readonly id: number;
  users = 0;
  readonly viommu: Viommu;
  readonly device: IommufdDevice;
  readonly virtId: bigint;

  constructor(id: number, viommu: Viommu, device: IommufdDevice, virtId: bigint) {
    this.id = id;
    this.viommu = viommu;
    this.device = device;
    this.virtId = virtId;
    viommu.driver.addDevice?.(device.bindable.device, virtId);
    viommu.vdevices.set(virtId, this);
    viommu.users++;
    device.vdevice = this;
  }

  destroy(): void {
    this.viommu.driver.removeDevice?.(this.device.bindable.device);
    this.viommu.vdevices.delete(this.virtId);
    this.viommu.users--;
    this.device.vdevice = undefined;
  }
}

interface VirtualEvent {
  readonly sequence: number;
  /** undefined: events were lost. */
  readonly payload: Uint8Array | undefined;
}

export class Veventq implements TableObject {
  readonly type = "VEVENTQ";
  readonly id: number;
  users = 0;
  readonly events: VirtualEvent[] = [];
  readonly #viommu: Viommu;
  readonly #kind: number;
  readonly #depth: number;
  #sequence = 0;

  constructor(id: number, viommu: Viommu, kind: number, depth: number) {
    this.id = id;
    this.#viommu = viommu;
    this.#kind = kind;
    this.#depth = depth;
    viommu.queues.set(kind, this);
    viommu.users++;
  }

  /** A full queue keeps one mark of loss at its end, whose number tells how many were lost (6.2). */
  push(payload: Uint8Array): void {
    const sequence = this.#sequence;
    this.#sequence = sequence === SEQUENCE_LAST ? 0 : sequence + 1;
    const lost = this.events.at(-1)?.payload === undefined && this.events.length > 0;
    if (lost) this.events.pop();
    this.events.push({ sequence, payload: this.events.length < this.#depth ? payload : undefined });
  }

  destroy(): void {
    this.#viommu.queues.delete(this.#kind);
    this.#viommu.users--;
  }
}

/** The descriptor of an event queue; it keeps the whole context. */
export class VeventFile implements KernelFile {
  readonly path = "anon_inode:[iommufd-viommu-event]";
  readonly #queue: Veventq;
  readonly #context: IommufdContext;
  /** Events of the last read. */
  #read: VirtualEvent[] = [];

  constructor(queue: Veventq, context: IommufdContext) {
    this.#queue = queue;
    this.#context = context;
    queue.users++;
    context.hold();
  }

  ioctl(): number {
    return refuse("ENOTTY", "an event queue takes no ioctl", { argument: "request" });
  }

  read(_call: CallContext, target: Uint8Array): number {
    if (target.length < HEADER) refuse("EINVAL", `count ${target.length} is below the ${HEADER} bytes of a header`, { argument: "count" });
    let done = 0;
    this.#read = [];
    for (let event = this.#queue.events[0]; event !== undefined; event = this.#queue.events[0]) {
      const size = HEADER + (event.payload?.length ?? 0);
      if (size > target.length - done) {
        if (done === 0) refuse("EINVAL", `the next event takes ${size} bytes, count is ${target.length}`, { argument: "count" });
        break;
      }
      this.#queue.events.shift();
      this.#read.push(event);
      const header = encodeStruct("iommufd_vevent_header", { flags: event.payload === undefined ? LOST_EVENTS : 0, sequence: event.sequence });
      target.set(header, done);
      if (event.payload) target.set(event.payload, done + HEADER);
      done += size;
    }
    return done;
  }

  /** What was read but never reached the caller is queued again. */
  unread(): void {
    this.#queue.events.unshift(...this.#read.splice(0));
  }

  poll(): number {
    return this.#queue.events.length > 0 ? POLLIN | POLLRDNORM : 0;
  }

  release(): void {
    this.#queue.users--;
    this.#context.put();
  }
}

/** A queue in guest memory that the hardware reads by itself. */
export class HwQueue implements TableObject {
  readonly type = "HW_QUEUE";
  readonly id: number;
  users = 0;
  readonly #viommu: Viommu;
  readonly #index: number;
  readonly #access: Access;
  readonly #pinned: { readonly iova: bigint; readonly length: bigint };
  readonly #end: () => void;
  readonly #context: IommufdContext;

  constructor(
    id: number,
    context: IommufdContext,
    place: { readonly viommu: Viommu; readonly index: number },
    access: Access,
    pinned: { readonly iova: bigint; readonly length: bigint },
    end: () => void,
  ) {
    this.id = id;
    this.#context = context;
    this.#viommu = place.viommu;
    this.#index = place.index;
    this.#access = access;
    this.#pinned = pinned;
    this.#end = end;
    place.viommu.hwQueues.set(place.index, this);
    place.viommu.users++;
    const below = place.viommu.hwQueues.get(place.index - 1);
    if (below) below.users++;
  }

  destroy(): void {
    this.#end();
    this.#viommu.hwQueues.delete(this.#index);
    const below = this.#viommu.hwQueues.get(this.#index - 1);
    if (below) below.users--;
    this.#viommu.users--;
    this.#access.unpin(this.#pinned.iova, this.#pinned.length);
    this.#context.removeAccess(this.#access);
  }
}
