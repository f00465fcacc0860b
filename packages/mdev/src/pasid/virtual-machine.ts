/**
 * The hypervisor's calls about PASIDs that RFC v2 (2.3) wanted from KVM, as a typed API: KVM_CAP_PASID_TRANSLATION, KVM_MAP_PASID and
 * KVM_UNMAP_PASID. The user names its own number and the iommufd; it never sees the pPASID.
 */
import { type FrameAllocator, type PhysicalMemory, refuse } from "@iommukit/core";
import { PasidTables, translateGuestPasid } from "./cpu-translation.js";
import type { Cpu } from "./enqcmd.js";
import type { SharedPasids } from "./shared-pasids.js";

export class VirtualMachine {
  readonly #memory: PhysicalMemory;
  readonly #frames: FrameAllocator;
  #tables: PasidTables | undefined;
  readonly #mapped = new Map<number, SharedPasids>();
  readonly #waiting: (() => void)[] = [];

  constructor(memory: PhysicalMemory, frames: FrameAllocator) {
    this.#memory = memory;
    this.#frames = frames;
  }

  get translates(): boolean {
    return this.#tables !== undefined;
  }

  /** KVM_CAP_PASID_TRANSLATION: from now on its CPUs translate. Opens the portals that had to wait for it. */
  enablePasidTranslation(): void {
    if (this.#tables) return;
    this.#tables = new PasidTables(this.#memory, this.#frames);
    for (const ready of this.#waiting.splice(0)) ready();
  }

  /**
   * The link between a device and its virtual machine (kvm-vfio). Until the CPUs translate, a raw vPASID would reach any address space of
   * the parent, so `ready`, which opens the device's portal, is called only then.
   */
  link(ready: () => void): void {
    if (this.translates) ready();
    else this.#waiting.push(ready);
  }

  /**
   * KVM_MAP_PASID.
   * @throws IommuError EINVAL before `enablePasidTranslation` or for a number of more than 20 bits, ENOENT before the attach, EEXIST
   */
  mapPasid(user: number, iommufd: SharedPasids): void {
    const tables = this.#tables ?? refuse("EINVAL", "the virtual machine does not translate PASIDs", { argument: "user_pasid", rule: "KVM_CAP_PASID_TRANSLATION comes first" });
    if (this.#mapped.has(user)) refuse("EEXIST", `user_pasid ${user} is mapped`, { argument: "user_pasid" });
    const wire = iommufd.translate(user, () => this.unmapPasid(user));
    try {
      tables.map(user, wire);
    } catch (error) {
      iommufd.untranslate(user);
      throw error;
    }
    this.#mapped.set(user, iommufd);
  }

  /** KVM_UNMAP_PASID. @throws IommuError ENOENT */
  unmapPasid(user: number): void {
    const iommufd = this.#mapped.get(user) ?? refuse("ENOENT", `user_pasid ${user} is not mapped`, { argument: "user_pasid" });
    this.#tables?.unmap(user);
    this.#mapped.delete(user);
    iommufd.untranslate(user);
  }

  /** One of its CPUs, with a value of IA32_PASID that the guest wrote. */
  cpu(ia32Pasid: number): Cpu {
    const { directories } = this.#tables ?? {};
    return directories ? { ia32Pasid, translation: (guest) => translateGuestPasid(this.#memory, directories, guest) } : { ia32Pasid };
  }

  /** The virtual machine is gone, and its mappings with it. */
  free(): void {
    for (const user of [...this.#mapped.keys()]) this.unmapPasid(user);
    this.#tables?.free();
    this.#tables = undefined;
  }
}
