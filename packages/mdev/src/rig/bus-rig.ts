/** For tests: a bus without a machine around it, and mdevs that are nothing but mediated. */
import {
  ClientWindows,
  MachineNodes,
  type Mdev,
  type MdevEnvironment,
  type MdevParent,
  type MdevType,
  type PciDevice,
  PhysicalMemory,
  SoftwareBinding,
  Tracer,
  type TraceEvent,
} from "@iommukit/core";
import { errnoOf } from "@iommukit/core/testing";
import { MediatedBus } from "../bus/index.js";

export const HOME = "/sys/devices/virtual/mdev/one";
export const uuidOf = (n: number): string => `00000000-0000-4000-8000-${n.toString(16).padStart(12, "0")}`;

export { errnoOf as refusal };

export class BusRig {
  readonly nodes: MachineNodes;
  readonly bus: MediatedBus;
  readonly events: TraceEvent[] = [];

  constructor() {
    const tracer = new Tracer();
    tracer.listen((event) => this.events.push(event));
    this.nodes = new MachineNodes(new ClientWindows(new PhysicalMemory(), 0x10_0000_0000, 2 ** 40), tracer);
    this.bus = new MediatedBus({ nodes: this.nodes, tracer });
  }

  /** The text of a file of /sys; undefined when there is none. */
  text(path: string): string | undefined {
    const entry = this.nodes.tree.resolve(path);
    return entry?.kind === "file" ? String(entry.content) : undefined;
  }

  write(path: string, text: string): void {
    const entry = this.nodes.tree.resolve(path);
    if (entry?.kind !== "attribute") throw new Error(`${path} cannot be written`);
    entry.store(text);
  }

  get paths(): string[] {
    return this.nodes.sysfs.map(({ path }) => path).sort();
  }
}

const PLAIN: PciDevice = {
  identity: { vendorId: 0x1234, deviceId: 1, classCode: 0xff0000, revision: 0 },
  bars: [],
  pasidBits: 0,
  ats: false,
  resettable: true,
  readBar: () => 0n,
  writeBar: () => undefined,
  reset: () => undefined,
};

export function plainMdev(_environment?: MdevEnvironment): Mdev {
  return { pci: PLAIN, binding: new SoftwareBinding({ bound: () => undefined, unmapping: () => undefined, unbound: () => undefined }) };
}

export const plainType = (name: string, more: Partial<MdevType> = {}): MdevType => ({ name, create: plainMdev, ...more });

export const plainParent = (types: readonly MdevType[], maxInstances: number): MdevParent => ({ driver: "plain", deviceApi: "vfio-pci", types, maxInstances });
