/** The types of mediated devices that a DSA offers. */
import { type Machine, type Mdev, type MdevEnvironment, type MdevFoundation, type MdevParent, type MdevType, PasidBinding } from "@iommukit/core";
import type { DsaParent } from "../dsa/parent.js";
import { pasidFlags } from "../pasid/kinds.js";
import { VirtualDsa } from "./device.js";
import { DsaHostDriver, MachinePasids } from "./host-driver.js";

const TYPES = [
  { name: "1dwq-v1", prettyName: "virtual DSA with a dedicated work queue", dedicated: true },
  { name: "1swq-v1", prettyName: "virtual DSA on a shared work queue", dedicated: false },
] as const;

export function mediateDsa(device: DsaParent, foundation: MdevFoundation): MdevParent {
  const host = new DsaHostDriver(device, foundation);
  return {
    driver: "idxd",
    deviceApi: "vfio-pci",
    maxInstances: device.queueCount,
    types: TYPES.map(({ name, prettyName, dedicated }): MdevType => ({
      name,
      prettyName,
      description: dedicated ? "RFC v2 type 6: vPASIDs get numbers of the parent's" : "RFC v2 type 8: ENQCMD, vPASIDs get numbers of the machine's",
      available: () => host.available(dedicated),
      create: (environment) => create(host, dedicated, environment),
    })),
  };
}

function create(host: DsaHostDriver, dedicated: boolean, environment: MdevEnvironment): Mdev {
  const { queue, slots } = host.lease(dedicated);
  try {
    const pci = new VirtualDsa(host, queue, dedicated, environment);
    const binding = new PasidBinding(slots, {
      name: environment.uuid,
      defaultPasid: pci.defaultPasid,
      group: environment.group(),
      pasidsOf: (context) => pci.pasidsOf(context),
      drain: (wire) => pci.release(wire),
    });
    host.devices.set(environment.uuid, pci);
    const removed = (): void => {
      host.devices.delete(environment.uuid);
      pci.removed();
    };
    return { pci, binding, pasids: { flags: pasidFlags(pci.kind), space: host.pasids.id }, removed };
  } catch (error) {
    host.giveBack(queue);
    throw error;
  }
}

/** A virtual DSA for a hypervisor, which maps its portal: undefined when there is none of that UUID. */
export function virtualDsa({ nodes }: Pick<Machine, "nodes">, uuid: string): VirtualDsa | undefined {
  return MachinePasids.of(nodes).devices.get(uuid);
}
