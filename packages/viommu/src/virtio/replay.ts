/** A device built from the header of a recording, with a guest's driver that has set up its queues. */
import type { ReplayUnit, ReplayUnitFactory } from "@iommukit/core";
import { DRIVER_BYTES, VirtioIommuGuestDriver } from "./guest-driver.js";
import { VirtioMmio } from "./mmio.js";
import { MmioReg } from "./spec.js";
import { VirtioIommu } from "./virtio-iommu.js";
import type { GuestMemory } from "./virtqueue.js";

type Registers = Readonly<Record<string, string>>;

/** The recorded PC's interrupts. */
const MSI_WINDOW = { start: 0xfee0_0000n, last: 0xfeef_ffffn, msi: true };

class VirtioReplayUnit implements ReplayUnit {
  readonly hardware: VirtioIommu;
  readonly #registers: VirtioMmio;
  readonly #driver: VirtioIommuGuestDriver;

  constructor(registers: Registers, endpoints: readonly number[]) {
    const word = (name: string): bigint => {
      if (registers[name] === undefined) throw new RangeError(`the header gives no ${name}, which a virtio-iommu is built from`);
      return BigInt(registers[name]);
    };
    const memory = new QueueMemory();
    this.hardware = new VirtioIommu(memory, {
      endpoints,
      mode: "qemu",
      bootBypass: word("bypass") === 1n,
      reserved: () => [MSI_WINDOW],
      limits: {
        pageSizeMask: word("page_size_mask"),
        inputRange: { start: word("input_range[0]"), last: word("input_range[1]") },
        domainRange: { start: Number(word("domain_range[0]")), last: Number(word("domain_range[1]")) },
        probeSize: Number(word("probe_size")),
      },
    });
    this.#registers = new VirtioMmio(this.hardware.transport);
    this.#driver = new VirtioIommuGuestDriver(this.#registers, memory, 0, word("negotiated"));
  }

  /** Offsets of a recording count from the device's configuration. */
  read(offset: number, size: number): bigint {
    return this.#registers.read(MmioReg.CONFIG + offset, size);
  }

  write(offset: number, size: number, value: bigint): void {
    this.#registers.write(MmioReg.CONFIG + offset, size, value);
  }

  request(bytes: Uint8Array, room: number): Uint8Array | undefined {
    return this.#driver.request(bytes, room);
  }

  takeFault(): Readonly<Record<string, string | number>> | undefined {
    const event = this.#driver.event();
    if (event === undefined) return undefined;
    const hex = (value: number | bigint): string => `0x${value.toString(16)}`;
    return { reason: hex(event.getUint8(0)), flags: hex(event.getUint32(4, true)), rid: hex(event.getUint32(8, true)), address: hex(event.getBigUint64(16, true)) };
  }

  clearFaults(): void {
    // Taking an event is all there is to it.
  }
}

/** Memory of its own for the queues, so that no recorded write can meet them. */
class QueueMemory implements GuestMemory {
  readonly #bytes = new Uint8Array(DRIVER_BYTES);

  read(address: number, target: Uint8Array): boolean {
    if (address + target.length > this.#bytes.length) return false;
    target.set(this.#bytes.subarray(address, address + target.length));
    return true;
  }

  write(address: number, source: Uint8Array): boolean {
    if (address + source.length > this.#bytes.length) return false;
    this.#bytes.set(source, address);
    return true;
  }
}

export const virtioReplayUnitFactory: ReplayUnitFactory = {
  iommu: "virtio-iommu",
  create: (_memory, { registers, endpoints = [] }) => new VirtioReplayUnit(registers, endpoints),
};
