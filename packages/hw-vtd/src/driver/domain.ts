/** What a (device, PASID) can be attached to, and who is: a domain is known to each unit's caches by an id of that unit. */
import type { FieldValues, IdPool } from "@iommukit/core";
import type { Capabilities } from "../spec/capabilities.js";
import type { DeviceRecord } from "./device-tables.js";
import type { PageBlock } from "./page-block.js";
import type { CommandQueue } from "./command-queue.js";
import type { Structures } from "./structures.js";

/** One unit, as domains reach it. */
export interface UnitSide {
  readonly name: string;
  readonly caps: Capabilities;
  readonly queue: CommandQueue;
  readonly structures: Structures;
  readonly ids: IdPool;
  /** What was written to tables reaches memory (CAP.RWBF); nothing to do in most units. */
  flushWriteBuffer(): void;
}

/** A (device, PASID) that uses a domain. */
export interface Attachment {
  readonly record: DeviceRecord;
  readonly pasid: number;
  /** Physical address of the PASID table entry, or context entry, that says so. */
  readonly entry: number;
  readonly domain: VtdDomain;
}

/** A domain behind one unit. */
export class DomainUse {
  readonly unit: UnitSide;
  readonly id: number;
  readonly attachments: Set<Attachment> = new Set<Attachment>();
  /** PASIDs that its caches may hold translations of, counted. */
  readonly pasids: Map<number, number> = new Map<number, number>();

  constructor(unit: UnitSide, id: number) {
    this.unit = unit;
    this.id = id;
  }

  /** Gathers the invalidation of the device-TLBs behind the unit. */
  flushDeviceTlbs(block?: PageBlock): void {
    for (const { record, pasid } of this.attachments) {
      if (record.deviceTlb) this.unit.queue.deviceTlb(record.device.rid, pasid, block);
    }
  }
}

export abstract class VtdDomain {
  /** By unit. */
  readonly uses: Map<UnitSide, DomainUse> = new Map<UnitSide, DomainUse>();
  /** Caches hold it by PASID and domain-id (first stage), or by domain-id alone. */
  abstract readonly byPasid: boolean;

  /** @throws IommuError EINVAL when the unit cannot do what the domain's tables need */
  abstract check(unit: UnitSide): void;

  /** FieldValues of a PASID table entry that uses it, or of a context entry in legacy mode. */
  abstract entryFields(use: DomainUse): FieldValues;

  /** The unit's use of the domain; the first one takes a domain-id. @throws IommuError ENOSPC */
  useBy(unit: UnitSide): DomainUse {
    const use = this.uses.get(unit) ?? new DomainUse(unit, unit.ids.take());
    this.uses.set(unit, use);
    return use;
  }

  /** From here on, invalidations reach the attachment's caches. */
  join(use: DomainUse, attachment: Attachment): void {
    use.attachments.add(attachment);
    use.pasids.set(attachment.pasid, (use.pasids.get(attachment.pasid) ?? 0) + 1);
  }

  /** No cache holds anything of the attachment any more. */
  leave(use: DomainUse, attachment: Attachment): void {
    use.attachments.delete(attachment);
    const left = (use.pasids.get(attachment.pasid) ?? 1) - 1;
    if (left === 0) use.pasids.delete(attachment.pasid);
    else use.pasids.set(attachment.pasid, left);
    this.release(use);
  }

  /** Gives the domain-id back when the unit does not use the domain any more. */
  release(use: DomainUse): void {
    if (use.attachments.size > 0) return;
    this.uses.delete(use.unit);
    use.unit.ids.free(use.id);
  }
}
