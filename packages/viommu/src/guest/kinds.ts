/** Kinds of IOMMUs that a guest's machine can have: what each does on the host, and how the guest's unit is made. */
import { type IommuFactory, type IommuHardware, type Machine, type MmioHandler, refuse, type Tracer } from "@iommukit/core";
import type { GuestRam } from "../host/calls.js";
import { openFaults } from "../host/device-faults.js";
import { HostFaults } from "../host/host-faults.js";
import { HostObjects as SmmuHost, shownTo, VirtualSmmu } from "../smmu/index.js";
import type { GuestUnit as SmmuUnit } from "../smmu/index.js";
import { createVirtioUnit, IommufdHost } from "../virtio/index.js";
import { GUEST_UNITS, HostObjects as VtdHost, VirtualVtd } from "../vtd/index.js";
import type { GuestUnit as VtdUnit } from "../vtd/index.js";
import type { GuestMachineOptions } from "./guest-machine.js";

/** What stands behind the guest's unit. */
export interface Behind {
  service(): void;
  readonly pollable: readonly number[];
}

export interface Kind {
  readonly host: { addRam(part: GuestRam): void };
  readonly factory: IommuFactory;
  readonly options: Readonly<Record<string, unknown>>;
  /** The guest has booted. */
  follow(machine: Machine): Behind;
}

type KindOptions = GuestMachineOptions & { readonly tracer: Tracer };

/** @throws IommuError EINVAL for a unit that nothing here stands behind; what the host refuses */
export function kindOf(options: KindOptions): Kind {
  const { name } = options.factory;
  const kind = Object.hasOwn(KINDS, name) ? KINDS[name] : refuse("EINVAL", `no virtual IOMMU here stands behind a unit of ${name}; there are: ${Object.keys(KINDS).join(", ")}`, { argument: "factory" });
  return kind(options);
}

const KINDS: Readonly<Record<string, (options: KindOptions) => Kind>> = { vtd, smmuv3, "virtio-iommu": virtio };

function vtd({ program, iommufd, devices, factory, mode = "nested", childOf, tracer }: KindOptions): Kind {
  const host = new VtdHost(program, iommufd, [], devices[0] ?? refuse("EINVAL", "a virtual VT-d on a host needs a device of the host", { argument: "devices" }), mode === "nested" || mode === "nesting");
  const { version, cap, ecap, haw } = GUEST_UNITS[mode];
  return {
    host, factory,
    options: { version, cap: `0x${cap.toString(16)}`, ecap: `0x${ecap.toString(16)}`, haw },
    follow({ units: [{ hardware }], memory }) {
      if (!isVtd(hardware)) return refuse("EINVAL", "the guest's VT-d cannot be observed", { argument: "factory" });
      return new VirtualVtd(hardware, { objects: host, devices, memory, tracer, ...(childOf ? { childOf } : {}) });
    },
  };
}

function smmuv3({ program, iommufd, devices, factory, tracer }: KindOptions): Kind {
  const streams = devices.map(({ fd, id, rid }) => ({ fd, id, stream: rid }));
  const host = new SmmuHost(program, iommufd, [], streams);
  return {
    host, factory,
    options: Object.fromEntries(Object.entries(shownTo(host.identification)).map(([name, word]) => [name, `0x${(Number(word) >>> 0).toString(16)}`])),
    follow({ units: [{ hardware }] }) {
      if (!isSmmu(hardware)) return refuse("EINVAL", "the guest's SMMU cannot be observed", { argument: "factory" });
      return new VirtualSmmu(hardware, { objects: host, devices: streams, tracer });
    },
  };
}

/** The device itself asks the host, from the first request on. */
function virtio({ program, iommufd, devices, factory }: KindOptions): Kind {
  const host = new IommufdHost(program, iommufd, [], new Map(devices.map(({ rid, fd }) => [rid, fd])));
  const endpoints = devices.map(({ rid }) => rid);
  return {
    host,
    factory: { ...factory, create: (environment, options) => createVirtioUnit(environment, options, { endpoints, host }) },
    options: {},
    follow: ({ units: [{ hardware }] }) => new HostFaults(program, hardware, new Map(devices.map(({ id, rid }) => [openFaults(program, iommufd, id), rid]))),
  };
}

type Hardware = IommuHardware & Partial<MmioHandler>;
const isVtd = (unit: Hardware): unit is VtdUnit => "look" in unit && "pasids" in unit;
const isSmmu = (unit: Hardware): unit is SmmuUnit => "look" in unit && "report" in unit;

