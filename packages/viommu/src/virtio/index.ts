// virtio-iommu: a guest asks for mappings, and needs no tables.
export type { HostDomain, HostDomains } from "./domains.js";
export { DRIVER_BYTES, VirtioIommuGuestDriver } from "./guest-driver.js";
export { IommufdHost } from "./iommufd-host.js";
export type { Calls, GuestRam } from "../host/calls.js";
export { VirtioIommuDriver } from "./driver.js";
export { createVirtioUnit, virtioIommuFactory } from "./factory.js";
export type { VirtioUnitParts } from "./factory.js";
export { VirtioMmio } from "./mmio.js";
export { virtioReplayUnitFactory } from "./replay.js";
export type { Limits, Mode, ReservedMemory } from "./requests.js";
export { VirtioTransport } from "./transport.js";
export type { VirtioDevice } from "./transport.js";
export { DEFAULT_LIMITS, VirtioIommu } from "./virtio-iommu.js";
export type { VirtioIommuOptions } from "./virtio-iommu.js";
export { BrokenQueue, Virtqueue } from "./virtqueue.js";
export type { Chain, GuestMemory } from "./virtqueue.js";
export { Config, FaultFlag, FaultReason, Feature, MapFlag, MMIO_BYTES, MmioReg, RequestType, Status } from "./spec.js";
