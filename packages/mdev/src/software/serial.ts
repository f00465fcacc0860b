/**
 * A serial card as a software mdev without DMA, in the spirit of Linux's sample mtty: one or two ports that hear themselves, out of a pool
 * that all cards of the parent share. Each port is a 16550A in an I/O BAR of its own.
 */
import {
  type Mdev,
  type MdevDriver,
  type MdevEnvironment,
  type MdevParent,
  type MdevType,
  type PciBar,
  type PciCapability,
  type PciDevice,
  type PciIdentity,
  type PciInterrupts,
  refuse,
  SoftwareBinding,
} from "@iommukit/core";
import { Uart } from "./uart.js";

const BAR_BYTES = 8;
const PORTS = 24;
const MAX_PORTS = 1024;
/** MSI, 64-bit addresses, one vector. */
const MSI: PciCapability = { offset: 0x40, bytes: Uint8Array.of(0x05, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0) };

class SerialCard implements PciDevice {
  readonly identity: PciIdentity = { vendorId: 0x4348, deviceId: 0x3253, classCode: 0x070002, revision: 0x10 };
  readonly bars: readonly PciBar[];
  readonly pasidBits = 0;
  readonly ats = false;
  readonly resettable = true;
  readonly interrupts: PciInterrupts = { intx: true, msiVectors: 1, msixVectors: 0 };
  readonly capabilities: readonly PciCapability[] = [MSI];
  readonly #ports: readonly Uart[];
  readonly #interrupt: () => void;
  #asserted = false;

  constructor(ports: number, { host }: MdevEnvironment) {
    this.#interrupt = () => host.interrupt(0);
    this.#ports = Array.from({ length: ports }, () => new Uart(() => this.#update()));
    this.bars = this.#ports.map((_, index) => ({ index, size: BAR_BYTES, io: true }));
  }

  get pinAsserted(): boolean {
    return this.#asserted;
  }

  /** The ports share one line: a message goes out with its rising edge. */
  #update(): void {
    const before = this.#asserted;
    this.#asserted = this.#ports.some((port) => port.interrupts);
    if (this.#asserted && !before) this.#interrupt();
  }

  readBar(bar: number, offset: number, size: number): bigint {
    let value = 0n;
    for (let i = 0; i < size; i++) value |= BigInt(this.#ports[bar].read(offset + i)) << BigInt(8 * i);
    return value;
  }

  writeBar(bar: number, offset: number, size: number, value: bigint): void {
    for (let i = 0; i < size; i++) this.#ports[bar].write(offset + i, Number((value >> BigInt(8 * i)) & 0xffn));
  }

  reset(): void {
    for (const port of this.#ports) port.reset();
  }
}

/** Ports that are free, of all cards of a parent together. */
interface Pool {
  free: number;
}

function cardType(name: string, prettyName: string, ports: number, pool: Pool): MdevType {
  const create = (environment: MdevEnvironment): Mdev => {
    if (pool.free < ports) refuse("ENOSPC", `${ports} ports are wanted, ${pool.free} are free`, { argument: "type", rule: "available_instances" });
    pool.free -= ports;
    return {
      pci: new SerialCard(ports, environment),
      // It has no use for memory: nothing is pinned, so there is nothing to let go of.
      binding: new SoftwareBinding({ bound: () => undefined, unmapping: () => undefined, unbound: () => undefined }),
      attributes: { "vendor/ports": String(ports) },
      removed: () => void (pool.free += ports),
    };
  };
  return { name, prettyName, description: `${ports} 16550A with its wire led back, INTx or MSI`, available: () => Math.floor(pool.free / ports), create };
}

export const serialDriver: MdevDriver = {
  name: "serial",
  about: "serial cards without DMA: 16550A ports that hear themselves, out of a pool of 24 (option: ports)",
  createParent(options): MdevParent {
    const { ports = PORTS, ...rest } = options;
    const [unknown] = Object.keys(rest);
    if (unknown !== undefined) throw new RangeError(`option ${unknown} is not known; there is: ports`);
    if (typeof ports !== "number" || !Number.isInteger(ports) || ports < 1 || ports > MAX_PORTS) throw new RangeError(`option ports is ${JSON.stringify(ports)}, not a number from 1 to ${MAX_PORTS}`);
    const pool: Pool = { free: ports };
    return {
      driver: "serial",
      deviceApi: "vfio-pci",
      maxInstances: ports,
      types: [cardType("1", "Single port serial", 1, pool), cardType("2", "Dual port serial", 2, pool)],
    };
  },
};
