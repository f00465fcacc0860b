/**
 * Objects of one context: u32 ids, the lowest free one first, reused at once
 * (iommufd object table). An id is reserved until its creation has fully succeeded.
 */
import { refuse } from "../errors.js";

const ID_MAX = 0x7fffffff;

export type ObjectType =
  | "IOAS" | "HWPT_PAGING" | "HWPT_NESTED" | "DEVICE" | "ACCESS" | "FAULT" | "VIOMMU" | "VDEVICE" | "VEVENTQ" | "HW_QUEUE" | "SELFTEST";

/** Something with an id. `users` counts what keeps DESTROY from succeeding. */
export interface TableObject {
  readonly id: number;
  readonly type: ObjectType;
  users: number;
  /** Gives back what it holds. Called once, with no users left. */
  destroy(): void;
}

/** Constructor of a kind of object, for look-ups by type. */
type Kind<T extends TableObject> = abstract new (...args: never[]) => T;

export class ObjectTable {
  readonly #objects = new Map<number, TableObject>();
  /** Ids that look-ups do not see: of objects being made, and of devices' virtual ids that outlived them. */
  readonly #reserved = new Set<number>();
  /** Every id below is in use. */
  #lowest = 1;

  /** Ids in use, reserved ones included. */
  get size(): number {
    return this.#objects.size + this.#reserved.size;
  }

  /** Takes the lowest free id, invisible to look-ups. */
  reserve(): number {
    let id = this.#lowest;
    while (this.#objects.has(id) || this.#reserved.has(id)) id++;
    if (id > ID_MAX) refuse("EBUSY", "every object id of this context is in use", { rule: "iommufd object ids" });
    this.#lowest = id + 1;
    this.#reserved.add(id);
    return id;
  }

  /** Gives a reserved id back: its creation failed. */
  abandon(id: number): void {
    this.#reserved.delete(id);
    this.#lowest = Math.min(this.#lowest, id);
  }

  publish(object: TableObject): void {
    this.#reserved.delete(object.id);
    this.#objects.set(object.id, object);
  }

  /** Destroys an object but keeps its id out of use until the context ends (2.2). */
  entomb(object: TableObject): void {
    this.remove(object);
    this.#reserved.add(object.id);
  }

  get(id: number): TableObject | undefined {
    return this.#objects.get(id);
  }

  /** Objects of one kind, in order of their ids. */
  *all<T extends TableObject>(kind: Kind<T>): Generator<T> {
    for (const object of [...this.#objects.values()].sort((a, b) => a.id - b.id)) if (object instanceof kind) yield object;
  }

  /** @throws IommuError ENOENT for an unknown id and for an object of another type */
  find<T extends TableObject>(id: number, kind: Kind<T>, argument: string): T {
    const object = this.#objects.get(id);
    if (object instanceof kind) return object;
    const there = object === undefined ? "no object has this id" : `object ${id} is of type ${object.type}`;
    return refuse("ENOENT", `${argument} ${id}: ${there}`, { argument, rule: "iommufd object ids" });
  }

  /** DESTROY. @throws IommuError ENOENT, EBUSY */
  destroy(id: number): void {
    const object = this.#objects.get(id);
    if (object === undefined) return refuse("ENOENT", `id ${id}: no object has this id`, { argument: "id", rule: "IOMMU_DESTROY" });
    if (object.users !== 0) {
      const users = object.users === 1 ? "1 user" : `${object.users} users`;
      refuse("EBUSY", `${object.type} ${id} still has ${users}`, { argument: "id", rule: "IOMMU_DESTROY" });
    }
    this.remove(object);
  }

  /** Takes an object without users out and destroys it. */
  remove(object: TableObject): void {
    this.#objects.delete(object.id);
    this.#lowest = Math.min(this.#lowest, object.id);
    object.destroy();
  }

  /** Context teardown: destroys what has no users, again and again, until nothing is left. */
  clear(): void {
    for (let progress = true; progress; ) {
      progress = false;
      for (const object of [...this.#objects.values()]) {
        if (object.users !== 0 || !this.#objects.has(object.id)) continue;
        this.remove(object);
        progress = true;
      }
    }
    this.#reserved.clear();
  }
}
