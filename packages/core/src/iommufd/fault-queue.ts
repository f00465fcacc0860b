/** Page requests on their way to user space, and the answers back (iommufd facts, 6.1). */
import { encodeStruct, structLayout } from "../abi/index.js";
import type { PageFault, PageFaultResponse } from "../driver/types.js";
import { refuse } from "../errors.js";
import type { CallContext, KernelFile } from "../files/types.js";
import type { IommufdContext } from "./context.js";
import type { TableObject } from "./object-table.js";

const RECORD = structLayout("iommu_hwpt_pgfault").size;
const RESPONSE = structLayout("iommu_hwpt_page_response").size;
const PASID_VALID = 1;
const LAST_PAGE = 2;
/** By `iommufd_page_response_code`. */
const CODES = ["success", "invalid"] as const;
/** poll(2) events. */
export const POLLIN = 1;
export const POLLOUT = 4;
export const POLLRDNORM = 0x40;

/** A device that makes page requests, and is told the answers. */
export interface FaultSource {
  respond(response: PageFaultResponse): void;
}

/** Groups that a queue holds at the most: a device that asks without end is answered INVALID. */
const GROUP_LIMIT = 2 ** 16;

/** All requests of one page request group. */
interface FaultGroup {
  readonly source: FaultSource;
  /** PASID of the attachment that it came through, 0 for the RID's: its end drops the group. */
  readonly attachment: number;
  readonly faults: readonly PageFault[];
  /** `dev_id` of its records. */
  readonly deviceId: number;
  cookie: number;
}

function answer(group: FaultGroup, code: PageFaultResponse["code"]): void {
  const [last] = group.faults.slice(-1);
  group.source.respond({ pasid: last.pasid, group: last.group, code });
}

export class FaultQueue implements TableObject {
  readonly type = "FAULT";
  readonly id: number;
  users = 0;
  /** Groups that nobody has read, oldest first. */
  waiting: FaultGroup[] = [];
  /** Groups that were read and wait for their answer, by cookie. */
  readonly #answering = new Map<number, FaultGroup>();
  /** No lower cookie is free. */
  #next = 1;

  constructor(id: number) {
    this.id = id;
  }

  /**
   * A group whose last request has come. False: there is no room for it, it was answered INVALID.
   * @param deviceId object id of who is said to ask
   */
  deliver(source: FaultSource, attachment: number, faults: readonly PageFault[], deviceId: number): boolean {
    const group = { source, attachment, faults, deviceId, cookie: 0 };
    const room = this.waiting.length + this.#answering.size < GROUP_LIMIT;
    if (room) this.waiting.push(group);
    else answer(group, "invalid");
    return room;
  }

  /** An attachment ends: what it still has here is answered INVALID. */
  drop(source: FaultSource, attachment: number): void {
    this.#dropIf((group) => group.source === source && group.attachment === attachment);
  }

  #dropIf(ends: (group: FaultGroup) => boolean): void {
    const dropped = [...this.#answering.values(), ...this.waiting].filter(ends);
    this.waiting = this.waiting.filter((group) => !ends(group));
    for (const group of dropped) {
      if (group.cookie !== 0) this.#release(group.cookie);
      answer(group, "invalid");
    }
  }

  /** Takes the lowest free cookie for a group that is being read. */
  take(group: FaultGroup): void {
    while (this.#answering.has(this.#next)) this.#next++;
    group.cookie = this.#next;
    this.#answering.set(group.cookie, group);
  }

  /** Puts groups that were read back at the head. */
  restore(groups: readonly FaultGroup[]): void {
    for (const group of groups) {
      this.#release(group.cookie);
      group.cookie = 0;
    }
    this.waiting.unshift(...groups);
  }

  #release(cookie: number): void {
    this.#answering.delete(cookie);
    this.#next = Math.min(this.#next, cookie);
  }

  /** The caller answers a group. False when no group waits under that cookie. */
  answer(cookie: number, code: PageFaultResponse["code"]): boolean {
    const group = this.#answering.get(cookie);
    if (group === undefined) return false;
    this.#release(cookie);
    answer(group, code);
    return true;
  }

  destroy(): void {
    this.#dropIf(() => true);
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
  /** Groups of the last read. */
  #read: FaultGroup[] = [];

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
    this.#read = [];
    for (let group = this.#queue.waiting[0]; group !== undefined; group = this.#queue.waiting[0]) {
      if (group.faults.length * RECORD > target.length - done) {
        if (done === 0) refuse("EINVAL", `the next group takes ${group.faults.length * RECORD} bytes, count is ${target.length}`, { argument: "count" });
        break;
      }
      this.#queue.waiting.shift();
      this.#queue.take(group);
      this.#read.push(group);
      const bytes = encodeGroup(group);
      target.set(bytes, done);
      done += bytes.length;
    }
    return done;
  }

  /** What was read but never reached the caller is queued again. */
  unread(): void {
    this.#queue.restore(this.#read.splice(0));
  }

  write(_call: CallContext, source: Uint8Array): number {
    if (source.length % RESPONSE !== 0) refuse("ESPIPE", `count ${source.length} is not a multiple of ${RESPONSE}`, { argument: "count" });
    const view = new DataView(source.buffer, source.byteOffset, source.byteLength);
    for (let done = 0; done < source.length; done += RESPONSE) {
      const cookie = view.getUint32(done, true);
      const code = view.getUint32(done + 4, true);
      const known = code < CODES.length;
      if (known && this.#queue.answer(cookie, CODES[code])) continue;
      if (done > 0) return done;
      if (!known) refuse("EINVAL", `code ${code} is neither SUCCESS nor INVALID`, { argument: "code" });
      refuse("EINVAL", `cookie ${cookie} is not one that waits for an answer`, { argument: "cookie" });
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
