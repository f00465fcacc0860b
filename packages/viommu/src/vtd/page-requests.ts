/**
 * Page requests of a host's devices on their way to the guest, and the guest's answers back (RFC v2, 4.6): records of the host's fault queue
 * become requests of the guest's own unit, which puts them on the guest's queue; its page group responses go back by the record's cookie. What
 * the guest's unit answers by itself, because its queue is full or off, goes back the same way: no request stays without an answer.
 */
import { type AtsHardware, type AtsInvalidation, IommuError, NO_PASID, type PageResponse, PageResponseCode } from "@iommukit/core";
import { decodeStruct, encodeStruct, structLayout } from "@iommukit/core/abi";
import { accessOf } from "../host/device-faults.js";
import type { HostDevice, HostObjects } from "./host-objects.js";

const RECORD_BYTES = structLayout("iommu_hwpt_pgfault").size;
/** iommu_hwpt_pgfault.flags */
const PASID_VALID = 1;
const LAST_PAGE = 2;
/** iommufd_page_response_code */
const [SUCCESS, INVALID] = [0, 1];
/** Records that are taken at once. The longest group of requests that iommufd hands over has 4,096, and is read whole or not at all. */
const BUDGET = 8192;

export class PageRequestBridge {
  /** `fault_id` for page tables of the guest's first stages. */
  readonly faultId: number;
  readonly fd: number;
  readonly #objects: HostObjects;
  readonly #ats: AtsHardware;
  readonly #rids: ReadonlyMap<number, number>;
  /** Groups that the guest has to answer: their cookies, by requester, PASID and group. */
  readonly #waiting = new Map<string, number>();

  /** @throws IommuError what the host refuses */
  constructor(objects: HostObjects, ats: AtsHardware, devices: readonly HostDevice[]) {
    this.#objects = objects;
    this.#ats = ats;
    const { faultId, fd } = objects.faultQueue();
    this.faultId = faultId;
    this.fd = fd;
    this.#rids = new Map(devices.map(({ id, rid }) => [id, rid]));
    for (const { rid } of devices) {
      ats.connectEndpoint(rid, { invalidate: (request) => this.#invalidated(rid, request), respond: (response) => this.#respond(rid, response) });
    }
  }

  /** The host invalidates the device's cache together with the guest's first stage: here it is done already (VT-d 6.5.2.5). */
  #invalidated(rid: number, { tag }: AtsInvalidation): void {
    this.#ats.completeInvalidation(rid, 1 << tag, 1);
  }

  service(): void {
    const bytes = this.#objects.program.read(this.fd, BUDGET * RECORD_BYTES);
    for (let at = 0; at < bytes.length; at += RECORD_BYTES) {
      const { flags, dev_id, pasid, grpid, perm, addr, cookie } = decodeStruct("iommu_hwpt_pgfault", bytes.subarray(at, at + RECORD_BYTES));
      const rid = this.#rids.get(Number(dev_id));
      const group = Number(grpid);
      const last = (Number(flags) & LAST_PAGE) !== 0;
      const named = (Number(flags) & PASID_VALID) !== 0 ? Number(pasid) : NO_PASID;
      if (rid === undefined) continue;
      if (last) this.#waiting.set(key(rid, named, group), Number(cookie));
      this.#ats.requestPage({ rid, pasid: named, page: Number(BigInt(addr) >> 12n), access: accessOf(Number(perm)), group, last });
    }
  }

  #respond(rid: number, { pasid, group, code }: PageResponse): void {
    const name = key(rid, pasid, group);
    const cookie = this.#waiting.get(name);
    if (cookie === undefined) return;
    this.#waiting.delete(name);
    try {
      this.#objects.program.write(this.fd, encodeStruct("iommu_hwpt_page_response", { cookie, code: code === PageResponseCode.SUCCESS ? SUCCESS : INVALID }));
    } catch (error) {
      // Answered already: the page table that it came through has gone.
      if (!(error instanceof IommuError)) throw error;
    }
  }
}

function key(rid: number, pasid: number, group: number): string {
  return `${rid} ${pasid} ${group}`;
}
