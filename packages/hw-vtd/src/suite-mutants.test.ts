/** The IOMMU suite sees drivers that are wrong: each has one fault, and some check fails for it. */
import type { Domain, IommuFactory, IommuUnit, PagingDomain, PagingDomainOptions } from "@iommukit/core";
import { iommuSuite } from "@iommukit/core/testing";
import { describe, expect, it } from "vitest";
import { vtdIommuFactory } from "./plugin.js";

/** A unit whose driver is changed after it was made. */
function mutant(change: (unit: IommuUnit) => void): IommuFactory {
  return {
    ...vtdIommuFactory,
    create(environment, options) {
      const unit = vtdIommuFactory.create(environment, options);
      const changed = { ...unit };
      change(changed);
      return changed;
    },
  };
}

function domains(change: (domain: PagingDomain, options: PagingDomainOptions) => void): IommuFactory {
  return mutant(({ driver }) => {
    const alloc = driver.allocPaging.bind(driver);
    driver.allocPaging = (device, options, data) => {
      const domain = alloc(device, options, data);
      change(domain, options);
      return domain;
    };
  });
}

/** What is wrong, and the check that says so. */
const MUTANTS: readonly (readonly [fault: string, check: string, factory: IommuFactory])[] = [
  ["leaves what is unmapped", "devices have address spaces of their own", domains((domain) => (domain.unmap = () => undefined))],
  ["unmaps the first page of a range only", "large ranges translate from end to end, and go as a whole", domains((domain) => {
    const unmap = domain.unmap.bind(domain);
    domain.unmap = (iova) => unmap(iova, 4096);
  })],
  ["maps everything writable", "a read-only page cannot be written", domains((domain) => {
    const map = domain.map.bind(domain);
    domain.map = (iova, pa, length) => map(iova, pa, length, 3);
  })],
  ["maps the first 2 MiB of a range only", "large ranges translate from end to end, and go as a whole", domains((domain) => {
    const map = domain.map.bind(domain);
    domain.map = (iova, pa, length, prot) => map(iova, pa, Math.min(length, 2 ** 21), prot);
  })],
  ["keeps tables of what is gone", "everything that was taken is given back", domains((domain) => (domain.free = () => undefined))],
  ["announces more than it maps", "usable ranges are usable up to their ends", domains((domain) => Object.defineProperty(domain, "aperture", { value: { start: 0n, last: 2n ** 60n - 1n } }))],
  ["never clears a dirty flag", "dirty pages are those that were written", domains((domain) => {
    const { dirty } = domain;
    if (dirty) Object.defineProperty(domain, "dirty", { value: { set: dirty.set.bind(dirty), read: (iova: bigint, length: bigint, _: boolean, report: (at: bigint, size: bigint) => void) => dirty.read(iova, length, false, report) } });
  })],
  ["does not detach", "a device reaches memory only while it is attached", mutant(({ driver }) => (driver.detach = () => undefined))],
  ["takes every PASID for the first", "PASIDs have address spaces of their own", mutant(({ driver }) => {
    const attach = driver.attach.bind(driver);
    driver.attach = (device, pasid, domain) => attach(device, Math.min(pasid, 1), domain);
  })],
  ["gives every device the first one's domain", "devices have address spaces of their own", mutant(({ driver }) => {
    const attach = driver.attach.bind(driver);
    let first: Domain | undefined;
    driver.attach = (device, pasid, domain) => attach(device, pasid, (first ??= domain));
  })],
  ["explains another unit", "the explanation of a walk ends where the unit does", mutant((unit) => Object.assign(unit, { explain: () => ({ steps: [], verdict: { ok: false, code: "", reason: "", section: "" } }) }))],
  ["takes options that it does not know", "options that nobody knows are refused", { ...vtdIommuFactory, create: (environment) => vtdIommuFactory.create(environment, { preset: "scalable" }) }],
];

function fails(factory: IommuFactory, check: string): boolean {
  const found = iommuSuite(factory, { unit: { preset: "scalable" } }).find(({ name }) => name.endsWith(check));
  if (found === undefined) throw new Error(`the suite has no check "${check}"`);
  try {
    found.run();
    return false;
  } catch {
    return true;
  }
}

describe("a driver that", () => {
  it.each(MUTANTS)("%s fails: %s", (_, check, factory) => {
    expect(fails(mutant(() => undefined), check)).toBe(false);
    expect(fails(factory, check)).toBe(true);
  });
});
