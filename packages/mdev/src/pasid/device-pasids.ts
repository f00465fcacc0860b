/** vPASIDs of one device in use: what each stands for on the wire. */
import { refuse, type UserPasids } from "@iommukit/core";
import type { PasidKind } from "./kinds.js";
import type { PasidNumberSpace } from "./number-space.js";
import type { SharedPasids } from "./shared-pasids.js";

export interface PasidScopes {
  /** Numbers of the requester. */
  readonly rid: PasidNumberSpace;
  /** Of the user's devices that take ENQCMD. */
  readonly shared: SharedPasids;
}

export class DevicePasids implements UserPasids {
  readonly kind: PasidKind;
  readonly #scopes: PasidScopes;
  readonly #wire = new Map<number, number>();
  readonly #leave: () => void;

  /** @throws IommuError EINVAL when a device of a class that does not go with it is there */
  constructor(kind: PasidKind, scopes: PasidScopes) {
    this.kind = kind;
    this.#scopes = scopes;
    this.#leave = scopes.shared.join(kind);
  }

  /** The pPASID of a vPASID that is attached. */
  toWire(user: number): number | undefined {
    return this.#wire.get(user);
  }

  /** The vPASID behind a pPASID, for faults. */
  toUser(wire: number): number | undefined {
    for (const [user, own] of this.#wire) if (own === wire) return user;
    return undefined;
  }

  /** vPASIDs that are attached. */
  get users(): readonly number[] {
    return [...this.#wire.keys()];
  }

  /**
   * Finds the number for the wire and attaches by it. What the attach refuses leaves nothing behind: to have a number is not to have a place (R17).
   * @throws IommuError EOPNOTSUPP, EINVAL, ENOSPC, and what `attach` refuses: EBUSY where a sibling sits at the pPASID
   */
  attach<T>(user: number, attach: (wire: number) => T): T {
    const { kind } = this;
    if (!kind.offersPasids) refuse("EOPNOTSUPP", `a ${kind.about} has one address space`, { argument: "pasid", rule: "VFIO_DEVICE_INFO_CAP_PASID is absent" });
    if (kind.delegated) refuse("EINVAL", "the PASID table is the user's: a nested page table of the RID brings it", { argument: "pasid", rule: "PASID_DELEGATED" });
    if (this.#wire.has(user)) refuse("EEXIST", `vPASID ${user} is attached`, { argument: "pasid" });
    const wire = this.#take(user);
    try {
      const result = attach(wire);
      this.#wire.set(user, wire);
      return result;
    } catch (error) {
      this.#give(user, wire);
      throw error;
    }
  }

  /** @throws IommuError EBUSY while a virtual machine's CPU translates to it and no other device is left at it */
  mayDetach(user: number): void {
    if (this.kind.pool === "global" && this.#wire.has(user)) this.#scopes.shared.mayRelease(user);
  }

  close(): void {
    this.#leave();
  }

  /** The CPU's translation goes before the place that it leads to. */
  detach(user: number, detach: (wire: number) => void): void {
    const wire = this.#wire.get(user);
    if (wire === undefined) return;
    this.#wire.delete(user);
    this.#give(user, wire);
    detach(wire);
  }

  #take(user: number): number {
    if (!this.kind.translated) return user;
    return this.kind.pool === "global" ? this.#scopes.shared.acquire(user) : this.#scopes.rid.take();
  }

  #give(user: number, wire: number): void {
    if (!this.kind.translated) return;
    if (this.kind.pool === "global") this.#scopes.shared.release(user);
    else this.#scopes.rid.free(wire);
  }
}
