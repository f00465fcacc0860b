/** What a virtual SMMUv3 may say of itself on a given host: the host's hardware walks the guest's tables, and does no more than it can. */
import { encodeFields, type FieldTable, fieldValue, refuse } from "@iommukit/core";
import { AIDR, type Capabilities, IDR0, IDR1, IDR3, IDR5, type Identification, readCapabilities } from "@iommukit/hw-smmu/spec";

/** Queues of a guest: 2^this entries at the most. */
const QUEUE_BITS = 10n;
const SID_BITS = 16n;

const word = (table: FieldTable, values: Readonly<Record<string, bigint>>): number => Number(encodeFields(table, values)[0]);

/** The most that a guest can be shown: stage 1 alone, without stalls and page requests, for which the host has no way to a guest. */
export function shownTo(host: Identification): Identification {
  const of = (table: FieldTable, value: number, ...names: readonly string[]): Record<string, bigint> => Object.fromEntries(names.map((name) => [name, fieldValue(table, [BigInt(value >>> 0)], name)]));
  return {
    idr0: word(IDR0, { ...of(IDR0, host.idr0, "COHACC", "HTTU", "ASID16", "CD2L", "TTENDIAN", "ATS", "TERM_MODEL"), S1P: 1n, TTF: 2n, MSI: 1n, SEV: 1n, STALL_MODEL: 1n, ST_LEVEL: 1n }),
    idr1: word(IDR1, { ...of(IDR1, host.idr1, "SSIDSIZE"), SIDSIZE: SID_BITS, CMDQS: QUEUE_BITS, EVENTQS: QUEUE_BITS }),
    idr3: word(IDR3, of(IDR3, host.idr3, "HAD", "STT", "RIL", "BBML", "E0PD", "EPAN")),
    idr5: word(IDR5, of(IDR5, host.idr5, "OAS", "GRAN4K", "GRAN16K", "GRAN64K", "DS", "VAX")),
    aidr: word(AIDR, of(AIDR, host.aidr, "ArchMinorRev")),
  };
}

interface Limit {
  readonly name: string;
  readonly broken: (guest: Capabilities, host: Capabilities) => boolean;
}

/** What a guest may not be shown (iommufd facts 9.3; VMMs check the same list). */
const LIMITS: readonly Limit[] = [
  { name: "IDR0.S1P", broken: (guest) => !guest.stage1 },
  { name: "IDR0.S2P", broken: (guest) => guest.stage2 },
  { name: "IDR0.TTF", broken: (guest, host) => guest.aarch32 || (guest.aarch64 && !host.aarch64) },
  { name: "IDR0.TTENDIAN", broken: (guest, host) => guest.endian !== host.endian },
  { name: "IDR0.HTTU", broken: (guest, host) => guest.httu > host.httu },
  { name: "IDR0.ATS", broken: (guest, host) => guest.ats && !host.ats },
  { name: "IDR0.PRI", broken: (guest) => guest.pri },
  { name: "IDR0.STALL_MODEL", broken: (guest) => guest.stallModel !== 1 },
  { name: "IDR0.TERM_MODEL", broken: (guest, host) => !guest.abortOnly && host.abortOnly },
  { name: "IDR0.ATSRECERR", broken: (guest) => guest.atsRecordErrors },
  // What an STE says beyond stage 1 of EL1, the host takes of no guest.
  { name: "IDR0.Hyp", broken: (guest) => guest.hyp },
  { name: "IDR1.ATTR_PERMS_OVR", broken: (guest) => guest.permissionOverride },
  { name: "IDR1.ATTR_TYPES_OVR", broken: (guest) => guest.typeOverride },
  { name: "IDR0.ASID16", broken: (guest, host) => guest.asid16 && !host.asid16 },
  { name: "IDR0.CD2L", broken: (guest, host) => guest.twoLevelCd && !host.twoLevelCd },
  { name: "IDR1.SSIDSIZE", broken: (guest, host) => guest.ssidBits > host.ssidBits },
  { name: "IDR3.RIL", broken: (guest, host) => guest.rangeInvalidation && !host.rangeInvalidation },
  { name: "IDR3.BBML", broken: (guest, host) => guest.breakBeforeMake > host.breakBeforeMake },
  { name: "IDR3.HAD", broken: (guest, host) => guest.hierarchicalDisable && !host.hierarchicalDisable },
  { name: "IDR3.STT", broken: (guest, host) => guest.smallTables && !host.smallTables },
  { name: "IDR3.EPAN", broken: (guest, host) => guest.enhancedPan && !host.enhancedPan },
  { name: "IDR3.E0PD", broken: (guest, host) => guest.e0pd && !host.e0pd },
  { name: "IDR5.OAS", broken: (guest, host) => guest.oas > host.oas },
  { name: "IDR5.GRAN", broken: (guest, host) => guest.granules.some((there, i) => there && !host.granules[i]) },
  { name: "IDR5.DS", broken: (guest, host) => guest.ds && !host.ds },
  { name: "IDR5.VAX", broken: (guest, host) => guest.vax > host.vax },
];

/** @throws IommuError EINVAL naming what the host has not, before a guest starts */
export function checkShown(guest: Capabilities, host: Identification): void {
  const own = readCapabilities(host);
  const broken = LIMITS.filter((limit) => limit.broken(guest, own)).map(({ name }) => name);
  if (broken.length > 0) refuse("EINVAL", `the guest's SMMU says more than the host's can do: ${broken.join(", ")}`, { argument: "identification", rule: "IOMMU_HW_INFO_TYPE_ARM_SMMUV3" });
}
