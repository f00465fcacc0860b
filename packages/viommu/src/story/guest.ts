/** The guest of the stories: a machine of its own, with both devices of the host. */
import { type IommuDevice, type IommuDriver, type IommuFactory, type Machine, refuse, type StoryParts } from "@iommukit/core";
import { GuestMachine } from "../guest/index.js";
import { type Assigned, Vmm } from "./vmm.js";

/** Requester ids in the guest. */
export const GUEST_RIDS: readonly number[] = [0x18, 0x20];

/** What the guest has, by `--mode`. */
export const MODES = {
  nested: "a unit of the host's kind, whose tables the host's hardware walks",
  shadowed: "a VT-d, whose tables the VMM keeps again as mappings of the host",
  kernel: "the same, kept by the host's kernel (IOMMUKIT_IOAS_NEST)",
} as const;

export type Mode = keyof typeof MODES;
const isMode = (name: string | undefined): name is Mode => name !== undefined && Object.hasOwn(MODES, name);

/** The mode that is asked for, else the first of those that there are. */
export function modeOf({ mode }: StoryParts, modes: Readonly<Record<string, string>>): Mode {
  const name = mode ?? Object.keys(modes)[0];
  return isMode(name) && Object.hasOwn(modes, name) ? name : refuse("EINVAL", `there is no mode "${name}"`, { argument: "mode" });
}

export interface GuestOptions {
  /** Of `MODES`; or one that can have guests whose tables the host's hardware walks. */
  readonly mode?: Mode | "nesting";
  /** Devices may ask for pages. */
  readonly pageRequests?: boolean;
}

export class Guest {
  readonly vmm: Vmm;
  /** As the VMM has them. */
  readonly devices: readonly Assigned[];
  readonly inside: GuestMachine;

  /** Boots. */
  constructor(machine: Machine, { iommus }: StoryParts, { mode = "nested", pageRequests = false }: GuestOptions = {}) {
    const factory = factoryOf(iommus, mode === "nested" ? machine.spec.iommus[0].type : "vtd");
    const vmm = new Vmm(machine, 0);
    this.vmm = vmm;
    this.devices = [0, 1].map((node) => vmm.bind(vmm.open(node)));
    this.inside = new GuestMachine({
      factory,
      mode: mode === "kernel" ? "shadowed" : mode,
      program: vmm.client,
      iommufd: vmm.iommufd,
      devices: this.devices.map((device, i) => ({ ...device, rid: GUEST_RIDS[i], pageRequests })),
      share: (bytes) => vmm.share(bytes),
      ...(mode === "kernel" ? { childOf: (ioas: number) => vmm.nest(ioas) } : {}),
    });
  }

  get driver(): IommuDriver {
    return this.inside.driver;
  }

  /** As the driver knows its devices. */
  get known(): readonly IommuDevice[] {
    return this.inside.devices;
  }

  /** What the guest's driver has read out of its unit's fault records, or event queue. */
  get faults(): string[] {
    return this.inside.faults;
  }

  /** Boots a guest that a program of this one runs, with the first device, on a VT-d. @param rid of the device in it */
  guestOf(program: Vmm, { iommus }: StoryParts, mode: "nested" | "shadowed", rid: number): GuestMachine {
    const { client, iommufd } = program;
    return new GuestMachine({
      factory: factoryOf(iommus, "vtd"), mode, program: client, iommufd,
      devices: [{ ...program.bind(program.open(0)), rid }],
      share: (bytes) => client.memory.map(bytes.length, { bytes, physical: this.inside.plug(bytes) }).address,
    });
  }

  /** A device reads; undefined: refused. Then the VMM looks at what the host tells. */
  read(device: number, address: bigint, pasid?: number): bigint | undefined {
    const value = this.vmm.read(this.devices[device], address, pasid);
    this.inside.service();
    return value;
  }

  /** A device writes; its STATUS. */
  write(device: number, address: bigint, value: bigint, pasid?: number): number {
    const status = this.vmm.write(this.devices[device], address, value, pasid);
    this.inside.service();
    return status;
  }
}

function factoryOf(iommus: StoryParts["iommus"], type: string): IommuFactory {
  return iommus.find(({ name }) => name === type) ?? refuse("EINVAL", `nothing here makes a guest's ${type}`, { argument: "iommus" });
}
