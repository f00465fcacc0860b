/** What a (device, PASID) can be attached to, and one unit as domains reach it. */
import type { FieldValues, IdPool, IommuDevice, StructureWriter } from "@iommukit/core";
import type { Capabilities } from "../spec/identification.js";
import type { CommandQueue } from "./command-queue.js";
import type { ContextTable } from "./context-table.js";

/** One unit. A page table belongs to the unit that it was made for. */
export interface UnitSide {
  readonly name: string;
  readonly caps: Capabilities;
  /** Of its page tables, as TG0 says it. */
  readonly granule: number;
  readonly queue: CommandQueue;
  readonly structures: StructureWriter;
  readonly asids: IdPool;
  readonly vmids: IdPool;
}

/** What the driver keeps of a device. */
export interface DeviceRecord {
  readonly device: IommuDevice;
  /** Physical address of its stream table entry. */
  readonly entry: number;
  readonly contexts: ContextTable | undefined;
  /** By PASID; 0 is the RID itself. */
  readonly attachments: Map<number, SmmuDomain>;
  /** Its requests can wait for software. */
  readonly canStall: boolean;
  /** Somebody takes its page faults: what it does wrong stalls. */
  takesFaults: boolean;
  /** Its translation cache is in use (EATS), and is told of what goes. */
  ats: boolean;
}

/** A (device, PASID) whose translations a domain's invalidations have to reach. */
export interface Attachment {
  readonly record: DeviceRecord;
  readonly pasid: number;
}

export abstract class SmmuDomain {
  readonly unit: UnitSide;
  readonly attachments: Set<Attachment> = new Set<Attachment>();
  /** It says of all PASIDs of its devices where they lead. */
  readonly ofEveryPasid: boolean = false;

  constructor(unit: UnitSide) {
    this.unit = unit;
  }

  /** @throws IommuError what keeps the device from using it */
  check(_record: DeviceRecord, _pasid: number): void {
    // Nothing, unless a domain says otherwise.
  }

  /** FieldValues of a stream table entry that uses it; ATS and what belongs to the device are added. */
  abstract streamFields(record: DeviceRecord): FieldValues;
  /** Of a context descriptor that uses it; absent for a domain that stands in the stream table entry alone. */
  readonly contextFields?: () => FieldValues;
  /** Gathers the invalidation of everything that caches hold of it. */
  abstract flushAll(): void;

  join(record: DeviceRecord, pasid: number): void {
    this.attachments.add({ record, pasid });
  }

  leave(record: DeviceRecord, pasid: number): void {
    for (const attachment of this.attachments) {
      if (attachment.record === record && attachment.pasid === pasid) this.attachments.delete(attachment);
    }
  }
}
