// Hand-written exports: what a user of @iommukit/core may rely on, by file.
export { findingLines } from "./sanitize/lines.js";
export { Sanitizer } from "./sanitize/sanitizer.js";
export type { SanitizedMachine } from "./sanitize/sanitizer.js";
export { FindingKind } from "./sanitize/types.js";
export type { ChangedStructure, DueInvalidation, Finding } from "./sanitize/types.js";
export { CompletionStatus, invalidationCovers, PageResponseCode, TranslationCompletion } from "./bus/ats.js";
export type { AtsEndpoint, AtsHardware, AtsInvalidation, AtsPort, PageRequest, PageResponse } from "./bus/ats.js";
export { formatRid, parseRid } from "./bus/rid.js";
export { StallEnd } from "./bus/stalls.js";
export type { StallHardware, WaitingPort } from "./bus/stalls.js";
export { Access, NO_PASID } from "./bus/types.js";
export type { CachedTranslation, DmaOptions, DmaPort, DmaResult, IommuHardware } from "./bus/types.js";
export type {
  AddressSpaceDump,
  DecodedField,
  MappedLeaf,
  TableDecoder,
  TableSource,
  WalkAccess,
  WalkReport,
  WalkRequest,
  WalkStep,
} from "./decode/types.js";
export type { DeviceModel, PciBar, PciCapability, PciDevice, PciExtendedCapability, PciHost, PciIdentity, PciInterrupts } from "./devices/types.js";
export type { FaultCatalogue, FaultDemonstration, FaultOptions, FaultSummary } from "./decode/faults.js";
export { Deferred } from "./driver/deferred.js";
export { IdPool } from "./driver/id-pool.js";
export { MmioRegisters } from "./driver/mmio-registers.js";
export type { RegisterName } from "./driver/mmio-registers.js";
export { FaultPermission, PageRequestService } from "./driver/page-requests.js";
export type { DeviceRequest, PageRequestSource } from "./driver/page-requests.js";
export { StructureWriter } from "./driver/structure-writer.js";
export { tableListener } from "./driver/table-trace.js";
export type { TableWords } from "./driver/table-trace.js";
export { Prot } from "./driver/types.js";
export type {
  DeviceCapabilities,
  DeviceFault,
  DirtyTracking,
  Domain,
  DomainParts,
  DriverParts,
  DriverViommu,
  EventSink,
  HwInfo,
  InvalidationEntries,
  IommuDevice,
  IommuDriver,
  MmapOwner,
  NestedDomain,
  NestedDomainOptions,
  PageFault,
  PageFaultResponse,
  PageFaultSink,
  PagingDomain,
  PagingDomainOptions,
  ReservedRegion,
  RoutedInterrupt,
  UserData,
} from "./driver/types.js";
export { isRegisterAccess, RegisterBank } from "./hardware/register-bank.js";
export type { BankRegister } from "./hardware/register-bank.js";
export { Errno, IommuError, refuse } from "./errors.js";
export type { ErrnoName, Reason } from "./errors.js";
export type {
  CallContext,
  DeviceNodes,
  EventFile,
  FrameIdentity,
  KernelFile,
  MemoryFile,
  MmapRegion,
  MmapRequest,
  OpenFile,
  SysfsAttribute,
  SysfsChange,
  SysfsEntry,
  PageCounters,
  PinnedMemory,
  UserBytes,
  UserMemory,
} from "./files/types.js";
export { InterruptController } from "./machine/interrupts.js";
export type { InterruptMessage } from "./machine/interrupts.js";
export type {
  DeviceSpec,
  IommuEnvironment,
  IommuFactory,
  IommuSpec,
  IommuUnit,
  MachineSpec,
  ReplayUnit,
  ReplayUnitFactory,
  UnitPreset,
} from "./machine/types.js";
export type { MemoryBackend, MmioHandler } from "./memory/types.js";
export type { Plugin, PluginContainer } from "./plugin.js";
export type { Story, StoryParts, StoryStep, StoryTeller } from "./story/types.js";
export { TOKENS } from "./tokens.js";
export { Tracer } from "./trace.js";
export type {
  CallEvent,
  FaultEvent,
  ReportEvent,
  InterruptEvent,
  InvalidationEvent,
  RequestEvent,
  PageRequestEvent,
  RegisterEvent,
  TableWriteEvent,
  TraceEvent,
  TraceListener,
  TranslationEvent,
  UeventEvent,
} from "./trace.js";
export { IntervalTree } from "./memory/interval-tree.js";
export type { Entry } from "./memory/interval-tree.js";
export { Iotlb, IotlbKey } from "./iotlb/iotlb.js";
export type { IotlbEntry, IotlbGeometry, IotlbStatistics } from "./iotlb/iotlb.js";
export { FrameAllocator } from "./memory/frame-allocator.js";
export { BANK_BYTES, PhysicalMemory } from "./memory/physical-memory.js";
export { createFormat, entryFrame, frameHi, frameLo, IllegalLeaf, levelShift, pageSizesOf } from "./pt/format.js";
export type { PageTableFormat, PageTableFormatOptions } from "./pt/format.js";
export { readDirtyLeaves } from "./pt/dirty-leaves.js";
export type { DirtyRule } from "./pt/dirty-leaves.js";
export { PageTable } from "./pt/page-table.js";
export type { TableWriteListener, UnmapResult } from "./pt/page-table.js";
export { PlainWalk } from "./pt/plain-walk.js";
export type { PlainWalkOptions } from "./pt/plain-walk.js";
export { classifyEntry, EntryKind, entryAddress, setFlags, WalkResult, WalkStatus, walk, walkPlain } from "./pt/walk.js";
export { announcements, decodeFields, defineFields, encodeFields, extractBits, fieldValue } from "./spec/fields.js";
export type { Field, FieldRow, FieldTable, FieldValues } from "./spec/fields.js";
export { Bus } from "./bus/bus.js";
export { SimulatedClient, SimulatedMemory } from "./files/simulated-client.js";
export { IommufdContext } from "./iommufd/context.js";
export { DeviceGroup, IommufdDevice } from "./iommufd/device.js";
export type { BindableDevice } from "./iommufd/device.js";
export { IommufdFile } from "./iommufd/file.js";
export { buildMachine } from "./machine/machine.js";
export type { Machine, MachineParts } from "./machine/machine.js";
export { describedFlag, describedList, describedNumber, describedObject, describedRid, wrongValue } from "./machine/described.js";
export type { Described } from "./machine/described.js";
export { cacheOptionNames, cacheOptions, checkOptions, flagOption, numberOption, presetOption, wordOption } from "./machine/options.js";
export type { Options } from "./machine/options.js";
export { smallMachine, unitPlaces } from "./machine/places.js";
export type { UnitPlace } from "./machine/places.js";
export { ClientWindows } from "./memory/windows.js";
export { SharedPages } from "./memory/shared-pages.js";
export { traceNodes } from "./machine/traced-file.js";
export { VfioDeviceFile } from "./vfio/device-file.js";
export type { VfioDevice } from "./vfio/open-device.js";
export type { InterruptPath, ProgrammedInterrupt } from "./vfio/irqs.js";
export type { BusDevice } from "./machine/devices.js";
export { MachineNodes } from "./machine/nodes.js";
export type { VfioPresence } from "./machine/nodes.js";
export type { BoundDevice, VfioBinding } from "./iommufd/binding.js";
export { PasidBinding } from "./iommufd/pasid-binding.js";
export type { PasidBindingOptions } from "./iommufd/pasid-binding.js";
export { RequesterSlots } from "./iommufd/requester-slice.js";
export type { UserPasids } from "./iommufd/requester-slice.js";
export { RidBinding } from "./iommufd/rid-binding.js";
export { SoftwareBinding } from "./iommufd/software-binding.js";
export type { SoftwareUser } from "./iommufd/software-binding.js";
export { Access as IommufdAccess } from "./iommufd/access.js";
export { PageRequests } from "./iommufd/page-requests.js";
export { SoftwareMemory } from "./iommufd/software-memory.js";
export type { FaultAnswer } from "./iommufd/software-faults.js";
export type { PinnedRange } from "./iommufd/software-memory.js";
export type {
  Mdev,
  MdevBus,
  MdevBusEnvironment,
  MdevBusFactory,
  MdevDriver,
  MdevEnvironment,
  MdevFoundation,
  MdevParent,
  MdevParentPlace,
  MdevStatus,
  MdevType,
  MdevTypeStatus,
} from "./mdev/types.js";
export { PLATFORMS } from "./machine/platforms.js";
export type { Platform } from "./machine/platforms.js";
export { openedBy } from "./files/opened-by.js";
export type { Interval } from "./memory/interval.js";
export { sysfsLink, SysfsTree } from "./files/sysfs-tree.js";
export { MigrationState } from "./vfio/migration.js";
export type { Migratable } from "./vfio/migration.js";
export { PciFunction } from "./vfio/pci-function.js";
