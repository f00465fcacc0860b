// The binary interface of Linux 7.2 iommufd and VFIO, as data.
export { cHeader } from "./c-header.js";
export { decodeStruct, encodeStruct, fieldOffset, storeFields, structField, structLayout } from "./codec.js";
export type { StructValues } from "./codec.js";
export type { ConstantGroup } from "./constants.js";
export { EXTENSION_IOCTLS, EXTENSION_STRUCTS } from "./extension.js";
export { findIoctl, IOCTLS } from "./ioctls.js";
export type { IoctlNode, IoctlRow } from "./ioctls.js";
export { nodesOf } from "./nodes.js";
export { IOMMUFD_DEFINES, IOMMUFD_ENUMS, IOMMUFD_STRUCTS } from "./iommufd.js";
export type { StructField, StructLayout } from "./layout.js";
export { VFIO_DEFINES, VFIO_ENUMS, VFIO_STRUCTS } from "./vfio.js";
