/** A parent on the bus: its types by the names of their folders, and what it has left. */
import { type MdevParent, type MdevParentPlace, type MdevType, refuse } from "@iommukit/core";
import type { Instance } from "./instance.js";

export class Parent {
  readonly parent: MdevParent;
  readonly place: MdevParentPlace;
  /** "mtty-1" */
  readonly types: ReadonlyMap<string, MdevType>;
  /** Its mdevs, also those that were removed and are still open. */
  readonly instances: Set<Instance> = new Set<Instance>();
  /** It is being unregistered: it takes no more mdevs. */
  leaving = false;
  #left: number;

  constructor(parent: MdevParent, place: MdevParentPlace) {
    this.parent = parent;
    this.place = place;
    this.types = new Map(parent.types.map((type) => [`${parent.driver}-${type.name}`, type]));
    this.#left = parent.maxInstances;
  }

  available({ available }: MdevType): number {
    return available ? available() : this.#left;
  }

  /** @throws IommuError EUSERS */
  take(type: MdevType): void {
    if (type.available) return;
    if (this.#left === 0) refuse("EUSERS", `all ${this.parent.maxInstances} instances of ${this.place.name} are in use`, { argument: "type", rule: "available_instances" });
    this.#left--;
  }

  giveBack(type: MdevType): void {
    if (!type.available) this.#left++;
  }
}
