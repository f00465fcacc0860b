/** Faults of the host's hardware for a guest whose unit meets the same in its own tables, and records it (`IOMMUKIT_DEVICE_FAULTS`). */
import type { IommuHardware } from "@iommukit/core";
import type { Program } from "./calls.js";
import { takeFaults } from "./device-faults.js";

export class HostFaults {
  readonly #program: Program;
  readonly #unit: IommuHardware;
  /** By descriptor: requester id in the guest. */
  readonly #requesters: ReadonlyMap<number, number>;

  /** @throws IommuError what the host refuses */
  constructor(program: Program, iommufd: number, unit: IommuHardware, devices: readonly { readonly id: number; readonly rid: number }[]) {
    this.#program = program;
    this.#unit = unit;
    this.#requesters = new Map(devices.map(({ id, rid }) => [Number(program.ioctl(iommufd, "IOMMUKIT_DEVICE_FAULTS", { dev_id: id }).out_faults_fd), rid]));
  }

  /** Descriptors that become readable when `service` has something to do. */
  get pollable(): readonly number[] {
    return [...this.#requesters.keys()];
  }

  service(): void {
    for (const [fd, rid] of this.#requesters) {
      for (const { pasid, page, access, offset } of takeFaults(this.#program, fd)) this.#unit.translate(rid, pasid, page, access, offset);
    }
  }
}
