/**
 * PASIDs of the devices that take ENQCMD from one virtual machine. Its CPU has one translation for all of them, so a vPASID has one pPASID,
 * whatever device it is for (RFC v2, 1.4.2): the first device that needs it allocates, the others share. The pPASID is not a place yet:
 * two of these devices behind one requester still clash, and the IOMMU layer refuses the second (requirements R4, R10, R15).
 */
import { refuse } from "@iommukit/core";
import type { PasidKind } from "./kinds.js";
import type { PasidNumberSpace } from "./number-space.js";

interface SharedPasid {
  readonly wire: number;
  devices: number;
  /** The virtual machine's CPU translates to it; this ends it. */
  revoke: (() => void) | undefined;
}

export class SharedPasids {
  readonly #global: PasidNumberSpace;
  readonly #pasids = new Map<number, SharedPasid>();
  /** Devices with work queues for ENQCMD, by whether their vPASIDs are translated. */
  readonly #devices = { same: 0, translated: 0 };

  constructor(global: PasidNumberSpace) {
    this.#global = global;
  }

  /**
   * A device joins. With one translation per CPU the same value of IA32_PASID cannot be right for both classes of devices.
   * @throws IommuError EINVAL when devices of the other class are there
   */
  join(kind: PasidKind): () => void {
    if (!kind.enqcmd) return () => undefined;
    const [own, other] = kind.translated ? (["translated", "same"] as const) : (["same", "translated"] as const);
    if (this.#devices[other] > 0) {
      refuse("EINVAL", `a ${kind.about} cannot be used beside one whose PASIDs are ${kind.translated ? "not translated" : "translated"}`, { argument: "pasid", rule: "RFC v2 1.4.3: types 7 and 8 do not mix" });
    }
    this.#devices[own]++;
    return () => void this.#devices[own]--;
  }

  /** @throws IommuError ENOSPC */
  acquire(user: number): number {
    let pasid = this.#pasids.get(user);
    if (pasid === undefined) {
      pasid = { wire: this.#global.take(), devices: 0, revoke: undefined };
      this.#pasids.set(user, pasid);
    }
    pasid.devices++;
    return pasid.wire;
  }

  /** A detach may follow. @throws IommuError EBUSY while the CPU translates to it and no other device is left */
  mayRelease(user: number): void {
    const pasid = this.#pasids.get(user);
    if (pasid?.devices === 1 && pasid.revoke) refuse("EBUSY", `vPASID ${user} is still mapped in its virtual machine`, { argument: "pasid", rule: "KVM_UNMAP_PASID before the last detach" });
  }

  /** A device needs it no more. With the last one the CPU's translation goes, if it is still there: the device was closed. */
  release(user: number): void {
    const pasid = this.#pasids.get(user);
    if (pasid === undefined) return;
    if (pasid.devices === 1) pasid.revoke?.();
    if (--pasid.devices > 0) return;
    this.#pasids.delete(user);
    this.#global.free(pasid.wire);
  }

  /**
   * The pPASID for a virtual machine's CPU.
   * @param revoke ends the CPU's translation, and calls `untranslate`
   * @throws IommuError ENOENT when no device is attached by it, EEXIST
   */
  translate(user: number, revoke: () => void): number {
    const pasid = this.#pasids.get(user) ?? refuse("ENOENT", `no device is attached by vPASID ${user}`, { argument: "user_pasid", rule: "KVM_MAP_PASID after the attach" });
    if (pasid.revoke) refuse("EEXIST", `vPASID ${user} is mapped in a virtual machine already`, { argument: "user_pasid" });
    pasid.revoke = revoke;
    return pasid.wire;
  }

  untranslate(user: number): void {
    const pasid = this.#pasids.get(user);
    if (pasid) pasid.revoke = undefined;
  }
}
