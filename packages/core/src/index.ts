// Hand-written exports: what a user of @iommukit/core may rely on, by file.
export { Access, NO_PASID } from "./bus/types.js";
export type { DmaOptions, DmaPort, DmaResult, IommuHardware } from "./bus/types.js";
export type {
  AddressSpaceDump,
  DecodedField,
  MappedLeaf,
  TableDecoder,
  TableSource,
  WalkReport,
  WalkRequest,
  WalkStep,
} from "./decode/types.js";
export type { DeviceModel, PciBar, PciDevice, PciIdentity } from "./devices/types.js";
export { Prot } from "./driver/types.js";
export type {
  DeviceCapabilities,
  HwInfo,
  IommuDevice,
  IommuDriver,
  PagingDomain,
  PagingDomainOptions,
  ReservedRegion,
} from "./driver/types.js";
export { Errno, IommuError, refuse } from "./errors.js";
export type { ErrnoName, Reason } from "./errors.js";
export type { CallContext, DeviceNodes, KernelFile, MmapRegion, PinnedMemory, UserMemory } from "./files/types.js";
export type {
  DeviceSpec,
  IommuEnvironment,
  IommuFactory,
  IommuSpec,
  IommuUnit,
  MachineSpec,
  ReplayUnit,
  ReplayUnitFactory,
} from "./machine/types.js";
export type { MemoryBackend, MmioHandler } from "./memory/types.js";
export type { Plugin } from "./plugin.js";
export { TOKENS } from "./tokens.js";
export { Tracer } from "./trace.js";
export type {
  CallEvent,
  FaultEvent,
  InvalidationEvent,
  RegisterEvent,
  TableWriteEvent,
  TraceEvent,
  TranslationEvent,
} from "./trace.js";
