/** A slice of the unit for one virtual machine (iommufd facts 9.3): its devices' StreamIDs, its invalidations, its events. */
import { type DriverViommu, type EventSink, IommuError, type InvalidationEntries, type IommuDevice, type NestedDomain, type NestedDomainOptions, refuse, type UserData } from "@iommukit/core";
import { Op } from "../spec/commands.js";
import type { UnitSide } from "./domain.js";
import { NestedSmmuDomain } from "./nested-domain.js";
import type { PagingSmmuDomain } from "./paging-domain.js";

/** enum iommu_viommu_invalidate_data_type, iommu_veventq_type */
const INVALIDATE_ARM_SMMUV3 = 1;
const VEVENT_ARM_SMMUV3 = 1;
const COMMAND_BYTES = 16;
const OPCODE = 0xffn;
/** Where commands hold VMID and StreamID (SMMU 4). */
const VMID = { shift: 32n, mask: 0xffffn << 32n } as const;
const STREAM = { shift: 32n, mask: 0xffff_ffffn << 32n } as const;

/** Commands of a guest, by whose id is put in the place of the guest's. */
const BY_VMID: ReadonlySet<number> = new Set([Op.TLBI_NH_ALL, Op.TLBI_NH_ASID, Op.TLBI_NH_VA, Op.TLBI_NH_VAA]);
const BY_STREAM: ReadonlySet<number> = new Set([Op.ATC_INV, Op.CFGI_CD, Op.CFGI_CD_ALL]);

export class SmmuViommu implements DriverViommu {
  readonly #unit: UnitSide;
  readonly #parent: PagingSmmuDomain;
  readonly #events: EventSink;
  /** Virtual StreamID to device, and back. */
  readonly #devices = new Map<bigint, IommuDevice>();
  readonly #ids = new Map<number, bigint>();

  constructor(unit: UnitSide, parent: PagingSmmuDomain, events: EventSink) {
    this.#unit = unit;
    this.#parent = parent;
    this.#events = events;
  }

  allocNested(_device: IommuDevice, { pasid }: NestedDomainOptions, data: UserData): NestedDomain {
    if (pasid) refuse("EOPNOTSUPP", "a guest's stream table entry holds its PASIDs itself", { argument: "flags" });
    return new NestedSmmuDomain(this.#unit, this, this.#parent, data);
  }

  addDevice(device: IommuDevice, virtId: bigint): void {
    if (virtId >= 1n << 32n) refuse("EINVAL", `virt_id 0x${virtId.toString(16)} is no StreamID of 32 bits`, { argument: "virt_id" });
    this.#devices.set(virtId, device);
    this.#ids.set(device.rid, virtId);
  }

  removeDevice(device: IommuDevice): void {
    const id = this.#ids.get(device.rid);
    if (id === undefined) return;
    this.#devices.delete(id);
    this.#ids.delete(device.rid);
  }

  virtualId(device: IommuDevice): bigint | undefined {
    return this.#ids.get(device.rid);
  }

  /** Commands as the guest wrote them into its queue. What comes before one that is refused is done, and counted. */
  invalidate(entries: InvalidationEntries): void {
    if (entries.type !== INVALIDATE_ARM_SMMUV3) refuse("EINVAL", `data_type ${entries.type} is not ARM_SMMUV3 (${INVALIDATE_ARM_SMMUV3})`, { argument: "data_type" });
    if (entries.count === 0) refuse("EINVAL", "entry_num is 0", { argument: "entry_num" });
    const { queue } = this.#unit;
    try {
      for (const [i, bytes] of entries.readAll(COMMAND_BYTES).entries()) {
        const view = new DataView(bytes.buffer, bytes.byteOffset);
        queue.addGuest(this.#translate(i, [view.getBigUint64(0, true), view.getBigUint64(8, true)]));
        entries.handled(i + 1);
      }
    } finally {
      queue.sync();
    }
  }

  /** @throws IommuError EIO */
  #translate(index: number, [low, high]: readonly [bigint, bigint]): readonly bigint[] {
    const opcode = Number(low & OPCODE);
    const vmid = BigInt(this.#parent.id) << VMID.shift;
    if (opcode === Op.TLBI_NSNH_ALL) return [BigInt(Op.TLBI_NH_ALL) | vmid, 0n];
    if (BY_VMID.has(opcode)) return [(low & ~VMID.mask) | vmid, high];
    if (!BY_STREAM.has(opcode)) return refuse("EIO", `entry ${index}: a guest may not send command 0x${opcode.toString(16)}`, { argument: "cmd" });
    const stream = (low & STREAM.mask) >> STREAM.shift;
    const device = this.#devices.get(stream);
    if (device === undefined) return refuse("EIO", `entry ${index}: the guest has no StreamID 0x${stream.toString(16)}`, { argument: "cmd" });
    return [(low & ~STREAM.mask) | (BigInt(device.rid) << STREAM.shift), high];
  }

  /** Hands an event record to the guest, with the guest's StreamID. False when nobody would read it. */
  report(id: bigint, words: readonly bigint[]): boolean {
    const record = BigUint64Array.from([(words[0] & ~STREAM.mask) | (id << STREAM.shift), ...words.slice(1)]);
    try {
      this.#events.report(VEVENT_ARM_SMMUV3, new Uint8Array(record.buffer));
    } catch (error) {
      // Nobody has made a queue for them.
      if (!(error instanceof IommuError)) throw error;
      return false;
    }
    return true;
  }

  free(): void {
    // What it holds goes with it.
  }
}
