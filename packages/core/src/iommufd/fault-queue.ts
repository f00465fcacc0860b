/** Page requests on their way to user space, and the answers back (iommufd facts, 6.1). */
import { encodeStruct, structLayout } from "../abi/index.js";
import type { PageFault } from "../driver/types.js";
import { refuse } from "../errors.js";
import type { CallContext, KernelFile } from "../files/types.js";
import type { IommufdContext } from "./context.js";
import type { TableObject } from "./object-table.js";

const RECORD = structLayout("iommu_hwpt_pgfault").size;
const RESPONSE = structLayout("iommu_hwpt_page_response").size;
const PASID_VALID = 1;
const LAST_PAGE = 2;
const CODE_LAST = 1;
/** poll(2) events. */
export const POLLIN = 1;
export const POLLOUT = 4;
export const POLLRDNORM = 0x40;

/** All requests of one page request group. */
interface FaultGroup {
  /** Who is attached: its detach drops the group. */
  readonly attachment: object;
  readonly deviceId: number;
  readonly faults: readonly PageFault[];
  cookie: number;
}

export class FaultQueue implements TableObject {
  readonly type = "FAULT";
  readonly id: number;
  users = 0;
  /** Groups that nobody has read, oldest first. */
  waiting: FaultGroup[] = [];
  /** Groups that were read and wait for their answer, by cookie. */
  readonly answering: Map<number, FaultGroup> = new Map<number, FaultGroup>();

  constructor(id: number) {
    this.id = id;
  }

  /** A group whose last request has come. */
  deliver(attachment: object, deviceId: number, faults: readonly PageFault[]): void {
    this.waiting.push({ attachment, deviceId, faults, cookie: 0 });
  }

  /** Answers and drops what a detached device still has here. */
  drop(attachment: object): void {
    this.waiting = this.waiting.filter((group) => group.attachment !== attachment);
    for (const [cookie, group] of this.answering) if (group.attachment === attachment) this.answering.delete(cookie);
  }

  /** Takes the lowest free cookie for a group that is being read. */
  take(group: FaultGroup): void {
    let cookie = 1;
    while (this.answering.has(cookie)) cookie++;
    group.cookie = cookie;
    this.answering.set(cookie, group);
  }

  destroy(): void {
    this.waiting = [];
    this.answering.clear();
  }
}

/** Bytes of a group's records. */
function encodeGroup(group: FaultGroup): Uint8Array {
  const bytes = new Uint8Array(group.faults.length * RECORD);
  for (const [i, fault] of group.faults.entries()) {
    const record = encodeStruct("iommu_hwpt_pgfault", {
      flags: (fault.pasid === undefined ? 0 : PASID_VALID) | (fault.last ? LAST_PAGE : 0),
      dev_id: group.deviceId,
      pasid: fault.pasid ?? 0,
      grpid: fault.group,
      perm: fault.permissions,
      addr: fault.address,
      cookie: group.cookie,
    });
    bytes.set(record, i * RECORD);
  }
  return bytes;
}

/** The descriptor of a fault queue; it keeps the whole context. */
export class FaultFile implements KernelFile {
  readonly path = "anon_inode:[iommufd-pgfault]";
  readonly #queue: FaultQueue;
  readonly #context: IommufdContext;

  constructor(queue: FaultQueue, context: IommufdContext) {
    this.#queue = queue;
    this.#context = context;
    queue.users++;
    context.hold();
  }

  ioctl(): number {
    return refuse("ENOTTY", "a fault queue takes no ioctl", { argument: "request" });
  }

  read(_call: CallContext, target: Uint8Array): number {
    if (target.length % RECORD !== 0) refuse("ESPIPE", `count ${target.length} is not a multiple of ${RECORD}`, { argument: "count" });
    let done = 0;
    for (let group = this.#queue.waiting[0]; group !== undefined; group = this.#queue.waiting[0]) {
      if (group.faults.length * RECORD > target.length - done) {
        if (done === 0) refuse("EINVAL", `the next group takes ${group.faults.length * RECORD} bytes, count is ${target.length}`, { argument: "count" });
        break;
      }
      this.#queue.waiting.shift();
      this.#queue.take(group);
      const bytes = encodeGroup(group);
      target.set(bytes, done);
      done += bytes.length;
    }
    return done;
  }

  /** What was read but never reached the caller is queued again. */
  unread(): void {
    for (const [cookie, group] of [...this.#queue.answering].reverse()) {
      this.#queue.answering.delete(cookie);
      this.#queue.waiting.unshift(group);
    }
  }

  write(_call: CallContext, source: Uint8Array): number {
    if (source.length % RESPONSE !== 0) refuse("ESPIPE", `count ${source.length} is not a multiple of ${RESPONSE}`, { argument: "count" });
    const view = new DataView(source.buffer, source.byteOffset, source.byteLength);
    for (let done = 0; done < source.length; done += RESPONSE) {
      const cookie = view.getUint32(done, true);
      const code = view.getUint32(done + 4, true);
      const wrong = code > CODE_LAST ? `code ${code} is neither SUCCESS nor INVALID` : this.#queue.answering.has(cookie) ? undefined : `cookie ${cookie} is not one that waits for an answer`;
      if (wrong === undefined) this.#queue.answering.delete(cookie);
      else if (done > 0) return done;
      else refuse("EINVAL", wrong, { argument: code > CODE_LAST ? "code" : "cookie" });
    }
    return source.length;
  }

  poll(): number {
    return POLLOUT | (this.#queue.waiting.length > 0 ? POLLIN | POLLRDNORM : 0);
  }

  release(): void {
    this.#queue.users--;
    this.#context.put();
  }
}
