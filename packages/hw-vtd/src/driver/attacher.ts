/**
 * Who uses which domain. Each change of a table entry is followed by the invalidations that the manual asks for (VT-d 6.2.2 to
 * 6.2.4, tables 27 and 28), in its order: context, PASID, IOTLB, device-TLB.
 */
import { type FieldValues, formatRid, type IommuDevice, refuse, type Tracer } from "@iommukit/core";
import type { ContextFlags, DeviceRecord, DeviceTables } from "./device-tables.js";
import type { Attachment, DomainUse, UnitSide, VtdDomain } from "./domain.js";
import type { PageRequests } from "./page-requests.js";
import type { PagingVtdDomain } from "./paging-domain.js";

/** Caches hold what was absent under this domain-id (6.1). */
const ABSENT = 0;
/** Legacy context entries: second stage for untranslated requests, and for a device-TLB, too (9.3). */
const TT = { UNTRANSLATED: 0n, DEVICE_TLB: 1n } as const;
/** Flags of context entries: TT, or DTE and PRE, in the first word. */
const LEGACY_DEVICE_TLB = 1n << 2n;
const SCALABLE_DEVICE_TLB = (1n << 2n) | (1n << 4n);

export class Attacher {
  readonly #unit: UnitSide;
  readonly #tables: DeviceTables;
  readonly #requests: PageRequests | undefined;
  readonly #tracer: Tracer | undefined;
  readonly #devices = new Map<number, DeviceRecord>();
  /** Device-TLBs that did not answer. */
  #lost = 0;

  constructor(unit: UnitSide, tables: DeviceTables, requests: PageRequests | undefined, tracer: Tracer | undefined) {
    this.#unit = unit;
    this.#tables = tables;
    this.#requests = requests;
    this.#tracer = tracer;
  }

  /** Takes a device in. In scalable mode its context entry is there from now on, with nothing present behind it. */
  addDevice(device: IommuDevice, flags: ContextFlags): void {
    const { caps, queue } = this.#unit;
    this.#devices.set(device.rid, this.#tables.create(device, flags));
    if (!caps.scalableMode || !caps.cachingMode) return;
    queue.contextDevice(device.rid, ABSENT);
    queue.iotlb(ABSENT);
    queue.sync();
  }

  removeDevice(device: IommuDevice): void {
    const { structures } = this.#unit;
    const record = this.#record(device);
    for (const pasid of [...record.attachments.keys()]) this.#end(record, pasid);
    record.fallback?.free();
    structures.setAbsent(this.#tables.contextTable, record.context);
    // Nothing is present behind it any more, so no other cache holds anything of the device.
    this.#forgetContext(record);
    structures.clear(this.#tables.contextTable, record.context);
    this.#tables.free(record);
    this.#devices.delete(device.rid);
  }

  #record(device: IommuDevice): DeviceRecord {
    return this.#devices.get(device.rid) ?? refuse("ENODEV", `${device.name} is not behind ${this.#unit.name}`, { argument: "dev_id" });
  }

  /** What can be refused comes first: the old domain stays until nothing can go wrong any more. */
  attach(device: IommuDevice, pasid: number, domain: VtdDomain): void {
    const record = this.#record(device);
    domain.check(this.#unit);
    const use = domain.useBy(this.#unit);
    let entry: number;
    try {
      entry = this.#tables.entry(record, pasid, () => this.#forgetContext(record));
    } catch (error) {
      domain.release(use);
      throw error;
    }
    const attachment = { record, pasid, entry, domain };
    domain.join(use, attachment);
    this.#end(record, pasid);
    record.attachments.set(pasid, attachment);
    this.#unit.structures.write(this.#tables.entryTable, entry, { P: 1n, ...domain.entryFields(use), ...this.#translationType(record) });
    if (this.#unit.caps.cachingMode) this.#forgetAbsent(attachment, use);
    else this.#unit.flushWriteBuffer();
  }

  #translationType(record: DeviceRecord): FieldValues {
    if (this.#unit.caps.scalableMode) return {};
    return { TT: record.deviceTlb ? TT.DEVICE_TLB : TT.UNTRANSLATED };
  }

  /** With caching mode, absent entries may be cached, and their becoming present is to be told (6.1). */
  #forgetAbsent({ record, pasid }: Attachment, { id }: DomainUse): void {
    const { queue, caps } = this.#unit;
    if (caps.scalableMode) {
      queue.pasidCache(id, pasid);
      queue.pasidIotlb(id, pasid);
    } else {
      queue.contextDevice(record.device.rid, ABSENT);
      queue.iotlb(id);
    }
    queue.sync();
  }

  /** A context entry has changed, and says the same of every PASID as before: only the entry itself is in no cache any more. */
  #forgetContext(record: DeviceRecord): void {
    const { queue, caps } = this.#unit;
    queue.contextDevice(record.device.rid, caps.scalableMode ? ABSENT : this.#legacyDomain(record));
    queue.sync();
  }

  #legacyDomain(record: DeviceRecord): number {
    return record.attachments.get(0)?.domain.uses.get(this.#unit)?.id ?? ABSENT;
  }

  detach(device: IommuDevice, pasid: number): void {
    const record = this.#record(device);
    if (record.fallback === undefined || pasid !== 0) this.#end(record, pasid);
    else this.attach(device, pasid, record.fallback);
  }

  /** From now on the RID uses `domain` whenever nothing else is attached. It goes with the device. */
  setFallback(device: IommuDevice, domain: PagingVtdDomain): void {
    this.#record(device).fallback = domain;
    this.attach(device, 0, domain);
  }

  /** Present bit off, every cache, page requests that were under way, then the rest of the entry. */
  #end(record: DeviceRecord, pasid: number): void {
    const attachment = record.attachments.get(pasid);
    const use = attachment?.domain.uses.get(this.#unit);
    if (attachment === undefined || use === undefined) return;
    const { structures, queue } = this.#unit;
    structures.setAbsent(this.#tables.entryTable, attachment.entry);
    if (record.pageRequests && this.#requests) this.#requests.drain(() => this.#forget(attachment, use));
    else {
      this.#forget(attachment, use);
      queue.sync();
    }
    structures.clear(this.#tables.entryTable, attachment.entry);
    record.attachments.delete(pasid);
    attachment.domain.leave(use, attachment);
  }

  /** Gathers what table 28 asks for when an entry stops being present. */
  #forget({ record, pasid, domain }: Attachment, { id }: DomainUse): void {
    const { queue, caps } = this.#unit;
    if (caps.scalableMode) queue.pasidCache(id, pasid);
    else queue.contextDevice(record.device.rid, id);
    if (domain.byPasid) queue.pasidIotlb(id, pasid);
    else queue.iotlb(id);
    if (record.deviceTlb) queue.deviceTlb(record.device.rid, pasid);
  }

  /**
   * A device did not answer an invalidation of its device-TLB, so nobody knows what is in it: from here on its translated
   * requests are blocked, and it is asked nothing any more.
   */
  deviceTlbLost(rid: number): void {
    const record = this.#devices.get(rid);
    if (record === undefined || !record.deviceTlb) return;
    const { structures, name, caps } = this.#unit;
    record.deviceTlb = false;
    const bits = caps.scalableMode ? SCALABLE_DEVICE_TLB : LEGACY_DEVICE_TLB;
    structures.writeWord(this.#tables.contextTable, record.context, 0, structures.word(record.context) & ~bits);
    this.#forgetContext(record);
    this.#lost++;
    this.#tracer?.listener?.({ kind: "report", unit: name, text: `the device-TLB of ${formatRid(rid)} does not answer: its ATS is off`, count: this.#lost });
  }
}
