/**
 * The mdev bus (Linux, drivers/vfio/mdev): parents, and mdevs under UUIDs that are unique over all of them. What can fail is checked
 * in Linux's order. Where Linux lets a removal wait until the device is closed, here it goes on in the background.
 */
import {
  type MdevBus,
  type MdevBusEnvironment,
  type MdevParent,
  type MdevParentPlace,
  type MdevStatus,
  type MdevTypeStatus,
  refuse,
  type UeventEvent,
} from "@iommukit/core";
import { activeFiles, availableFiles, BUS_FILES, instanceFiles, parentFiles } from "./files.js";
import { Instance } from "./instance.js";
import { Parent } from "./parent.js";
import { parseNumber, parseUuid } from "./text.js";

export class MediatedBus implements MdevBus {
  readonly #environment: MdevBusEnvironment;
  readonly #parents = new Map<string, Parent>();
  /** By UUID: from `create` on, until it is released. */
  readonly #instances = new Map<string, Instance>();

  constructor(environment: MdevBusEnvironment) {
    this.#environment = environment;
    environment.nodes.tree.add(BUS_FILES);
  }

  register(parent: MdevParent, place: MdevParentPlace): void {
    if (parent.deviceApi === "") refuse("EINVAL", `${parent.driver} does not say what its devices are`, { argument: "deviceApi", rule: "mdev_register_driver" });
    if (this.#parents.has(place.name)) refuse("EEXIST", `${place.name} is a parent already`, { argument: "name", rule: "mdev_register_parent" });
    const added = new Parent(parent, place);
    this.#parents.set(place.name, added);
    this.#environment.nodes.tree.add([...parentFiles(added, (type, text) => this.create(place.name, type, text)), ...availableFiles(added)]);
    this.#tell("change", place.home, { MDEV_STATE: "registered" });
  }

  unregister(name: string): void {
    const parent = this.#parent(name);
    parent.leaving = true;
    for (const instance of [...parent.instances]) if (instance.active) this.#remove(instance);
    this.#leave(parent);
  }

  /** The last mdev of a parent that is going takes it along. */
  #leave(parent: Parent): void {
    const { place } = parent;
    if (!parent.leaving || parent.instances.size > 0 || this.#parents.get(place.name) !== parent) return;
    this.#parents.delete(place.name);
    this.#environment.nodes.tree.remove([`/sys/class/mdev_bus/${place.name}`, `${place.home}/mdev_supported_types`]);
    this.#tell("change", place.home, { MDEV_STATE: "unregistered" });
  }

  create(parentName: string, typeName: string, text: string): void {
    const parent = this.#parent(parentName);
    const type = parent.types.get(typeName) ?? refuse("ENODEV", `${parentName} has no type ${typeName}; there are: ${[...parent.types.keys()].join(", ")}`, { argument: "type" });
    const uuid = parseUuid(text);
    if (this.#instances.has(uuid)) refuse("EEXIST", `${uuid} is in use, on ${this.#instances.get(uuid)?.parent.place.name}`, { argument: "uuid", rule: "mdev create" });
    parent.take(type);
    const instance = new Instance(uuid, parent, typeName, type);
    this.#instances.set(uuid, instance);
    parent.instances.add(instance);
    try {
      if (parent.leaving) refuse("ENODEV", `${parentName} is being unregistered`, { argument: "parent", rule: "mdev_unregister_parent" });
      this.#add(instance);
    } catch (error) {
      this.#release(instance);
      throw error;
    }
  }

  #add(instance: Instance): void {
    const { nodes } = this.#environment;
    const mdev = instance.probe(() => nodes.newGroup());
    if (instance.device === undefined) return;
    nodes.tree.add([
      ...instanceFiles(instance, mdev.attributes ?? {}),
      ...activeFiles(instance, (written) => this.#store(instance, written)),
      ...availableFiles(instance.parent),
    ]);
    instance.presence = nodes.addDevice(instance.device, instance.home);
    instance.active = true;
    this.#tell("add", instance.home, { SUBSYSTEM: "mdev" });
  }

  /** A write to `remove`. */
  #store(instance: Instance, text: string): void {
    if (parseNumber(text) !== 0n) this.remove(instance.uuid);
  }

  remove(uuid: string): void {
    const instance = this.#instances.get(uuid.toLowerCase()) ?? refuse("ENODEV", `there is no mdev ${uuid}`, { argument: "uuid", rule: "mdev remove" });
    if (!instance.active) refuse("EAGAIN", `${uuid} is being removed, and is still open`, { argument: "uuid", rule: "mdev remove" });
    if (instance.parent.leaving) refuse("ENODEV", `${instance.parent.place.name} is being unregistered`, { argument: "uuid", rule: "mdev_unregister_parent" });
    this.#remove(instance);
  }

  /** Nobody finds it any more; who has it open is asked to give it back. */
  #remove(instance: Instance): void {
    instance.active = false;
    const { presence, device } = instance;
    presence?.remove();
    instance.presence = undefined;
    this.#environment.nodes.tree.remove(activeFiles(instance, () => undefined).map(({ path }) => path));
    if (device === undefined || device.holders === 0) return this.#release(instance);
    device.idle = () => this.#release(instance);
    device.open?.irqs.request();
  }

  /** The last reference is gone: only now is there room for another one. */
  #release(instance: Instance): void {
    const { parent, mdev, home, uuid } = instance;
    this.#instances.delete(uuid);
    parent.instances.delete(instance);
    if (mdev) {
      mdev.removed?.();
      const { driver } = parent.parent;
      this.#environment.nodes.tree.remove([home, `/sys/bus/mdev/devices/${uuid}`, `/sys/bus/mdev/drivers/${driver}/${uuid}`]);
      this.#tell("remove", home, { SUBSYSTEM: "mdev" });
    }
    parent.giveBack(instance.mdevType);
    this.#environment.nodes.tree.add(availableFiles(parent));
    this.#leave(parent);
  }

  types(): readonly MdevTypeStatus[] {
    return [...this.#parents.values()].flatMap((parent) =>
      [...parent.types].map(([name, type]) => ({
        parent: parent.place.name,
        type: name,
        name: type.prettyName ?? type.name,
        ...(type.description === undefined ? {} : { description: type.description }),
        deviceApi: parent.parent.deviceApi,
        available: parent.available(type),
        devices: [...parent.instances].filter((instance) => instance.type === name && instance.active).map(({ uuid }) => uuid),
      })),
    );
  }

  devices(): readonly MdevStatus[] {
    return [...this.#instances.values()].map(({ uuid, parent, type, presence, device }) => ({
      uuid,
      parent: parent.place.name,
      type,
      ...(presence && { node: presence.node }),
      group: device?.group.id ?? -1,
    }));
  }

  #parent(name: string): Parent {
    return this.#parents.get(name) ?? refuse("ENODEV", `there is no parent ${name}; there are: ${[...this.#parents.keys()].join(", ") || "none"}`, { argument: "parent" });
  }

  #tell(action: UeventEvent["action"], home: string, fields: Readonly<Record<string, string>>): void {
    this.#environment.tracer.listener?.({ kind: "uevent", action, path: home.replace(/^\/sys/, ""), fields });
  }
}
