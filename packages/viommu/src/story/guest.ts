/** A guest of the stories: the vendor's own unit and driver over the guest's memory, and the VMM's virtual IOMMU behind them. */
import { FrameAllocator, InterruptController, type IommuDriver, type IommuFactory, type IommuHardware, type Machine, type MmioHandler, PhysicalMemory, refuse, type StoryParts, Tracer } from "@iommukit/core";
import { HostObjects as SmmuHost, shownTo, VirtualSmmu } from "../smmu/index.js";
import type { GuestUnit as SmmuUnit } from "../smmu/index.js";
import { GUEST_UNITS, HostObjects as VtdHost, VirtualVtd } from "../vtd/index.js";
import type { GuestUnit as VtdUnit } from "../vtd/index.js";
import { type Assigned, HVA, Vmm } from "./vmm.js";

const RAM = 0x200_0000;
/** Where the guest's operating system has its tables, behind what it gives to devices. */
const FRAMES = 0x100_0000;
const REGISTERS = 0x9000_0000;
const PASID_BITS = 8;
const GUEST = "guest";
/** Requester ids in the guest. */
export const GUEST_RIDS: readonly number[] = [0x18, 0x20];

type Hardware = IommuHardware & Partial<MmioHandler>;
const isVtd = (unit: Hardware): unit is VtdUnit => "look" in unit && "pasids" in unit;
const isSmmu = (unit: Hardware): unit is SmmuUnit => "look" in unit && "report" in unit;

export class Guest {
  readonly vmm: Vmm;
  readonly devices: readonly Assigned[];
  readonly driver: IommuDriver;
  /** As the driver knows its devices. */
  readonly known: readonly { readonly rid: number; readonly name: string; readonly pasidBits: number; readonly ats: boolean }[];
  /** What the guest's driver has read out of its unit's fault records, or event queue. */
  readonly faults: string[] = [];
  readonly #virtual: { service(): void };

  /** Boots with both devices of the machine, on a unit of the host's kind. */
  constructor(machine: Machine, { iommus }: StoryParts) {
    const { type } = machine.spec.iommus[0];
    const factory = iommus.find(({ name }) => name === type) ?? refuse("EINVAL", `nothing here makes a guest's ${type}`, { argument: "iommus" });
    const memory = new PhysicalMemory();
    memory.addRam(0, RAM);
    this.vmm = new Vmm(machine, new Uint8Array(memory.words.buffer, 0, RAM));
    this.devices = [0, 1].map((node) => this.vmm.bind(this.vmm.open(node)));
    const tracer = new Tracer();
    tracer.listen((event) => {
      if (event.kind === "report" && event.unit === GUEST) this.faults.push(event.text);
    });
    const [driver, virtual] = this.#boot(factory, memory, tracer);
    this.driver = driver;
    this.#virtual = virtual;
    this.known = GUEST_RIDS.map((rid, i) => ({ rid, name: `device ${i + 1}`, pasidBits: PASID_BITS, ats: false }));
    for (const device of this.known) driver.addDevice(device);
  }

  #boot(factory: IommuFactory, memory: PhysicalMemory, tracer: Tracer): [IommuDriver, { service(): void }] {
    const { client: program, iommufd } = this.vmm;
    const ram = [{ base: 0n, size: BigInt(RAM), address: HVA }];
    const start = (options: Readonly<Record<string, unknown>>): ReturnType<IommuFactory["create"]> =>
      factory.create({ name: GUEST, memory, frames: new FrameAllocator(memory, FRAMES, RAM), registerBase: REGISTERS, interrupts: new InterruptController(), tracer }, options);
    if (factory.name === "vtd") {
      const devices = this.devices.map(({ fd, id }, i) => ({ fd, id, rid: GUEST_RIDS[i] }));
      const objects = new VtdHost(program, iommufd, ram, devices[0], true);
      const { version, cap, ecap, haw } = GUEST_UNITS.nested;
      const { hardware, driver } = start({ version, cap: `0x${cap.toString(16)}`, ecap: `0x${ecap.toString(16)}`, haw });
      if (!isVtd(hardware)) return refuse("EINVAL", "the guest's VT-d cannot be observed", { argument: "iommus" });
      return [driver, new VirtualVtd(hardware, { objects, devices, memory, pasidLimit: 2 ** PASID_BITS })];
    }
    const devices = this.devices.map(({ fd, id }, i) => ({ fd, id, stream: GUEST_RIDS[i] }));
    const objects = new SmmuHost(program, iommufd, ram, devices);
    const words = Object.entries(shownTo(objects.identification)).map(([name, word]) => [name, `0x${(Number(word) >>> 0).toString(16)}`]);
    const { hardware, driver } = start(Object.fromEntries(words));
    if (!isSmmu(hardware)) return refuse("EINVAL", "the guest's SMMU cannot be observed", { argument: "iommus" });
    return [driver, new VirtualSmmu(hardware, { objects, devices })];
  }

  /** A device reads; undefined: refused. Then the VMM looks at what the host tells. */
  read(device: number, address: bigint, pasid?: number): bigint | undefined {
    const value = this.vmm.read(this.devices[device], address, pasid);
    this.#virtual.service();
    return value;
  }

  /** A device writes; its STATUS. */
  write(device: number, address: bigint, value: bigint, pasid?: number): number {
    const status = this.vmm.write(this.devices[device], address, value, pasid);
    this.#virtual.service();
    return status;
  }
}
