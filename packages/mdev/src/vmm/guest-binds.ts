/**
 * A guest's binds of PASIDs, as its virtual IOMMU sees them. The guest writes an entry of a table in its memory, which cannot fail, and
 * then invalidates: only then does the host try. What the host refuses becomes an event for the guest (R16 to R18): it is late, but it is
 * told, and a request of a PASID without a bind is refused as one of an absent entry is.
 */
import { IommuError, type ErrnoName } from "@iommukit/core";

/** Where a device's binds go. */
export interface HostDevice {
  /** @throws IommuError what the host refuses */
  attach(vpasid: number, table: number): void;
  detach(vpasid: number): void;
}

/** What the guest reads from its event queue. */
export interface BindEvent {
  readonly guestRid: number;
  readonly vpasid: number;
  readonly errno: ErrnoName;
  readonly reason: string;
}

export class GuestBinds {
  /** Events that the guest has not read. */
  readonly events: BindEvent[] = [];
  /** The guest's table, by requester and PASID: what it wrote last. */
  readonly #entries = new Map<string, number>();
  readonly #devices: ReadonlyMap<number, HostDevice>;

  /** @param devices by their requester id in the guest */
  constructor(devices: ReadonlyMap<number, HostDevice>) {
    this.#devices = devices;
  }

  /** The guest writes an entry: memory takes anything. @param table undefined: the entry is made absent */
  write(guestRid: number, vpasid: number, table: number | undefined): void {
    const key = `${guestRid} ${vpasid}`;
    if (table === undefined) this.#entries.delete(key);
    else this.#entries.set(key, table);
  }

  /** The guest invalidates an entry: the host follows, or the guest gets an event. */
  invalidate(guestRid: number, vpasid: number): void {
    const device = this.#devices.get(guestRid);
    const table = this.#entries.get(`${guestRid} ${vpasid}`);
    try {
      if (table === undefined) device?.detach(vpasid);
      else device?.attach(vpasid, table);
    } catch (error) {
      if (!(error instanceof IommuError)) throw error;
      this.events.push({ guestRid, vpasid, errno: error.errno, reason: error.reason.message });
    }
  }
}
