/**
 * A machine with PASID mdevs on plain test devices: what they do is as much as a tester says, so that every request, fault and answer can
 * be looked at. The parents are behind a whole VT-d unit.
 */
import { buildMachine, type Machine, PasidBinding, PciFunction, PLATFORMS, type PciDevice, RequesterSlots } from "@iommukit/core";
import { DmaTestCommand, dmaTestModel, DmaTestRegister as R, DmaTestStatus } from "@iommukit/core/devices";
import { errnoOf } from "@iommukit/core/testing";
import { vtdIommuFactory } from "@iommukit/hw-vtd/plugin";
import { Program } from "../guest/program.js";
import { DevicePasids, pasidKind, type PasidKind, PasidNumberSpace, SharedPasids } from "../pasid/index.js";

const PASID_VALID = 0x8000_0000;

export interface Parent {
  readonly slots: RequesterSlots;
  readonly space: PasidNumberSpace;
  readonly device: PciDevice;
}

export class PasidRig {
  readonly machine: Machine;
  readonly parents: readonly Parent[];
  readonly global: PasidNumberSpace = new PasidNumberSpace(0, "the machine", 20, 2 ** 19);

  /** @param Slots who sits where; the real rule unless given @param pri parents ask for pages; else what they may not do is a fault */
  constructor(parents = 1, Slots: typeof RequesterSlots = RequesterSlots, pri = true) {
    const devices = Array.from({ length: parents }, (_, i) => ({ model: "dma-test", bdf: `00:0${3 + i}.0`, vfio: `vfio${i}`, options: { ats: pri, pri } }));
    const iommus = [{ type: "vtd", options: { preset: "full" } }];
    this.machine = buildMachine({ name: "mdevs", memory: { size: "64MiB" }, iommus, devices }, { iommus: [vtdIommuFactory], devices: [dmaTestModel] });
    this.parents = this.machine.devices.map(({ pci, binding }, i) => {
      pci.enable();
      pci.writeConfig(4, Uint8Array.of(6, 0));
      return { slots: new Slots(binding.bindable), space: new PasidNumberSpace(i + 1, pci.name, 19), device: pci.device };
    });
  }

  /** A virtual machine, or any other program. */
  user(): User {
    return new User(this.machine, this.global);
  }
}

/** A program, and the PASIDs of its devices that take ENQCMD. */
export class User extends Program {
  readonly shared: SharedPasids;

  constructor(machine: Machine, global: PasidNumberSpace) {
    super(machine);
    this.shared = new SharedPasids(global);
  }

  /** An mdev of a parent, opened and bound. */
  mdev(parent: Parent, type: PasidKind["type"]): Mdev {
    return new Mdev(this, parent, pasidKind(type));
  }
}

const NOTHING: Omit<PciDevice, "pasidBits" | "ats"> = {
  identity: { vendorId: 0x1d1d, deviceId: 2, classCode: 0x0880_00, revision: 0 },
  bars: [],
  resettable: true,
  readBar: () => 0n,
  writeBar: () => undefined,
  reset: () => undefined,
};

export class Mdev {
  readonly name: string;
  readonly parent: Parent;
  readonly fd: number;
  readonly id: number;
  readonly defaultPasid: number;
  pasids!: DevicePasids;
  readonly #user: User;
  static #count = 0;

  constructor(user: User, parent: Parent, kind: PasidKind) {
    const { nodes } = user.machine;
    this.#user = user;
    this.parent = parent;
    this.name = `mdev${Mdev.#count++}`;
    this.defaultPasid = parent.space.take();
    const group = nodes.newGroup();
    const pci = new PciFunction(this.name, { multiFunction: false, platform: PLATFORMS.pc }, () => ({ ...NOTHING, pasidBits: 20, ats: false }));
    const binding = new PasidBinding(parent.slots, {
      name: this.name,
      defaultPasid: this.defaultPasid,
      group,
      pasidsOf: () => (this.pasids = new DevicePasids(kind, { rid: parent.space, shared: user.shared })),
    });
    const presence = nodes.addDevice({ pci, binding, group, exportsBars: false, mediated: true, open: undefined, holders: 0 }, `/sys/devices/virtual/${this.name}`);
    this.fd = user.client.open(`/dev/vfio/devices/${presence.node}`);
    this.id = Number(user.ioctl("VFIO_DEVICE_BIND_IOMMUFD", { iommufd: user.iommufd }, this.fd).out_devid);
  }

  attach(table: number, vpasid?: number): void {
    this.#user.ioctl("VFIO_DEVICE_ATTACH_IOMMUFD_PT", { pt_id: table, ...(vpasid === undefined ? { argsz: 12 } : { flags: 1, pasid: vpasid }) }, this.fd);
  }

  detach(vpasid?: number): void {
    this.#user.ioctl("VFIO_DEVICE_DETACH_IOMMUFD_PT", vpasid === undefined ? { argsz: 8 } : { flags: 1, pasid: vpasid }, this.fd);
  }

  close(): void {
    this.#user.client.close(this.fd);
  }

  /** The parent's number for a vPASID, or for the device itself. */
  wire(vpasid?: number): number {
    return vpasid === undefined ? this.defaultPasid : (this.pasids.toWire(vpasid) ?? -1);
  }

  /** Makes the parent write 4 bytes as this mdev: a `DmaTestStatus`. */
  write(iova: bigint, vpasid?: number): number {
    return dma(this.parent, this.wire(vpasid), iova);
  }

  get status(): number {
    return Number(this.parent.device.readBar(0, R.STATUS, 4));
  }
}

/** Makes a parent write its buffer's first 4 bytes by a PASID on the wire. */
export function dma({ device }: Parent, wire: number, iova: bigint): number {
  device.writeBar(0, R.BUFFER, 4, 0x6d64_6576n);
  device.writeBar(0, R.PASID, 4, BigInt(PASID_VALID + wire));
  device.writeBar(0, R.DESTINATION, 8, iova);
  device.writeBar(0, R.LENGTH, 4, 4n);
  device.writeBar(0, R.COMMAND, 4, BigInt(DmaTestCommand.WRITE));
  return Number(device.readBar(0, R.STATUS, 4));
}

/** What an mdev has written to a page. */
export function arrived(page: Uint8Array, offset = 0): boolean {
  return page[offset] === 0x76;
}

export { DmaTestStatus };

export { errnoOf as errno };
