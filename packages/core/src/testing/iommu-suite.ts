/**
 * One suite over any IOMMU with its driver: what a device may reach, at every moment, and that no cache outlives the tables. It needs
 * no test runner:
 *
 *     for (const { name, run } of iommuSuite(myIommuFactory)) test(name, run);
 *
 * Checks of an ability that the driver does not announce (PASIDs, dirty tracking) hold without looking.
 */
import type { IommuFactory } from "../machine/types.js";
import * as checks from "./iommu-checks.js";
import { IommuRig, type IommuSuiteOptions } from "./iommu-rig.js";

export type { IommuSuiteOptions } from "./iommu-rig.js";

export interface IommuCheck {
  readonly name: string;
  /** @throws Error that says what was expected and what came */
  readonly run: () => void;
}

const CHECKS: readonly (readonly [name: string, check: (rig: IommuRig) => void])[] = [
  ["a device reaches memory only while it is attached", checks.blocksUntilAttached],
  ["devices have address spaces of their own", checks.keepsDevicesApart],
  ["devices share an address space", checks.sharesAnAddressSpace],
  ["another address space takes effect at once", checks.replacesAtOnce],
  ["a read-only page cannot be written", checks.protectsReadOnly],
  ["large ranges translate from end to end, and go as a whole", checks.mapsLargeRanges],
  ["usable ranges are usable up to their ends", checks.reachesTheEnds],
  ["a map outside of the usable ranges is refused with a reason", checks.refusesOutside],
  ["PASIDs have address spaces of their own", checks.keepsPasidsApart],
  ["dirty pages are those that were written", checks.tracksDirtyPages],
  ["everything that was taken is given back", checks.givesEverythingBack],
  ["the explanation of a walk ends where the unit does", checks.explainsItself],
  ["random requests agree with a list of pages", checks.history],
];

/** The checks for one IOMMU, each on a machine of its own. */
export function iommuSuite(factory: IommuFactory, options: IommuSuiteOptions = {}): IommuCheck[] {
  const all = CHECKS.map(([name, check]) => ({
    name: `${factory.name}: ${name}`,
    run: () => {
      const rig = new IommuRig(factory, options);
      check(rig);
      rig.expectFresh();
    },
  }));
  return [...all, { name: `${factory.name}: options that nobody knows are refused`, run: () => checks.refusesUnknownOptions(factory, options) }];
}
