/** VFIO_DEVICE_FEATURE: which features a PCI device has, and what may be asked of them (iommufd facts, 10.10). */
import { refuse } from "../errors.js";

const INDEX_MASK = 0xffff;
const GET = 1 << 16;
const SET = 1 << 17;
const PROBE = 1 << 18;

const Feature = { LOW_POWER_ENTRY: 3, LOW_POWER_ENTRY_WITH_WAKEUP: 4, LOW_POWER_EXIT: 5, DMA_BUF: 11, PRECOPY_INFO: 12 } as const;

/** What each feature lets one do; a feature that is not here is ENOTTY. */
const OPERATIONS: ReadonlyMap<number, number> = new Map([
  [Feature.LOW_POWER_ENTRY, SET],
  [Feature.LOW_POWER_ENTRY_WITH_WAKEUP, SET],
  [Feature.LOW_POWER_EXIT, SET],
  [Feature.DMA_BUF, GET],
  // Known to the kernel, offered by no operation of this device.
  [Feature.PRECOPY_INFO, 0],
]);

/** Checks a request; 0 for a probe that succeeds. @throws IommuError EINVAL, ENOTTY */
export function deviceFeature(flags: number): number {
  if ((flags & ~(INDEX_MASK | GET | SET | PROBE)) !== 0) refuse("EINVAL", `flags has 0x${(flags >>> 0).toString(16)}`, { argument: "flags" });
  if ((flags & PROBE) === 0 && (flags & GET) !== 0 && (flags & SET) !== 0) refuse("EINVAL", "GET and SET together are for a probe", { argument: "flags" });
  const index = flags & INDEX_MASK;
  const offered = OPERATIONS.get(index) ?? refuse("ENOTTY", `the device has no feature ${index}`, { argument: "flags" });
  const asked = flags & (GET | SET);
  if ((asked & ~offered) !== 0) refuse("EINVAL", `feature ${index} does not offer this operation`, { argument: "flags" });
  if ((flags & PROBE) !== 0 && (index !== Feature.PRECOPY_INFO)) return 0;
  // No power management and no dma-buf export of BARs here: the payload is never looked at.
  return refuse("EINVAL", `feature ${index} cannot be used so`, { argument: "flags" });
}
