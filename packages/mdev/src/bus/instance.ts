/** An mdev on the bus, from its creation to its release: removed, and nobody has it open. */
import { type Mdev, type MdevType, PciFunction, type Platform, type VfioDevice, type VfioPresence } from "@iommukit/core";
import type { Parent } from "./parent.js";

/** No firmware has seen it. */
const PLACE: { readonly multiFunction: boolean; readonly platform: Platform } = { multiFunction: false, platform: { barBase: 0, command: 0, enables: 1, line: 0, exportsBars: false } };

export class Instance {
  readonly uuid: string;
  readonly parent: Parent;
  /** "mtty-1" */
  readonly type: string;
  readonly mdevType: MdevType;
  /** It can be removed. */
  active = false;
  /** What its type made, and the nodes that show it. */
  mdev: Mdev | undefined;
  device: VfioDevice | undefined;
  presence: VfioPresence | undefined;

  constructor(uuid: string, parent: Parent, type: string, mdevType: MdevType) {
    this.uuid = uuid;
    this.parent = parent;
    this.type = type;
    this.mdevType = mdevType;
  }

  get home(): string {
    return `${this.parent.place.home}/${this.uuid}`;
  }

  /** Lets its type make it. @throws IommuError what the type refuses */
  probe(group: () => VfioDevice["group"]): Mdev {
    const made: Mdev[] = [];
    let own: VfioDevice["group"] | undefined;
    const ownGroup = (): VfioDevice["group"] => (own ??= group());
    const pci = new PciFunction(this.uuid, PLACE, (host, mastering) => {
      const mdev = this.mdevType.create({ uuid: this.uuid, host, mastering, group: ownGroup });
      made.push(mdev);
      return mdev.pci;
    });
    const [mdev] = made;
    const { binding, interruptPath, pasids } = mdev;
    this.mdev = mdev;
    this.device = { pci, binding, group: ownGroup(), ...(interruptPath && { interruptPath }), ...(pasids && { pasids }), exportsBars: false, mediated: true, open: undefined, holders: 0 };
    return mdev;
  }
}
