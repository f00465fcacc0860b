/**
 * A software mdev: it is bound as an access object, attached to IOASes alone, and changes nothing in any IOMMU. What keeps it
 * from other memory is the access, and its driver.
 */
import { refuse } from "../errors.js";
import type { Interval } from "../memory/interval.js";
import type { Access } from "./access.js";
import type { BoundDevice, VfioBinding } from "./binding.js";
import type { IommufdContext } from "./context.js";
import { Ioas } from "./ioas.js";
import { SoftwareMemory } from "./software-memory.js";

/** What the driver of a software mdev is told. */
export interface SoftwareUser {
  /** It raises faults when it meets a page that it may not use: user space may tie a fault queue to it. */
  readonly raisesFaults?: boolean;
  /** This is its memory now: nothing is mapped in it before an attach. */
  bound(memory: SoftwareMemory): void;
  /** Let go of every pin in the range, before returning: UNMAP waits for it. May not map, unmap or attach. */
  unmapping(range: Interval): void;
  /** Nothing is pinned any more, and the memory is about to go. */
  unbound(): void;
}

export class SoftwareBinding implements VfioBinding {
  readonly #user: SoftwareUser;

  constructor(user: SoftwareUser) {
    this.#user = user;
  }

  bind(context: IommufdContext): BoundDevice {
    const access = context.newAccess({ pins: true, raisesFaults: this.#user.raisesFaults ?? false, unmapping: (range) => this.#user.unmapping(range) });
    this.#user.bound(new SoftwareMemory(access));
    return new SoftwareBound(access, context, this.#user);
  }
}

class SoftwareBound implements BoundDevice {
  readonly context: IommufdContext;
  readonly #access: Access;
  readonly #user: SoftwareUser;

  constructor(access: Access, context: IommufdContext, user: SoftwareUser) {
    this.#access = access;
    this.context = context;
    this.#user = user;
  }

  get id(): number {
    return this.#access.id;
  }

  attach(pasid: number | undefined, ptId: number): number {
    noPasid(pasid);
    const ioas = this.context.objects.find(ptId, Ioas, "pt_id");
    if (this.#access.ioas === undefined) this.#access.attach(ioas);
    else if (this.#access.ioas !== ioas) {
      this.#access.replace(ioas);
      this.#access.faults?.fail();
    }
    return ioas.id;
  }

  detach(pasid: number | undefined): void {
    noPasid(pasid);
    this.#access.detach();
    this.#access.faults?.fail();
  }

  unbind(): void {
    // First, so that what waits for an answer fails while there is still memory to say so in.
    this.#access.faults?.tie(undefined);
    this.#access.detach();
    this.#user.unbound();
    this.context.removeAccess(this.#access);
  }
}

function noPasid(pasid: number | undefined): void {
  if (pasid !== undefined) refuse("EOPNOTSUPP", `pasid ${pasid}: a software device sends none`, { argument: "flags", rule: "VFIO_DEVICE_ATTACH_PASID" });
}
