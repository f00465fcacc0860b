/** Requests of /dev/iommu, the container, groups and device files: one row an ioctl. All are `_IO(';', nr)`. */

import { EXTENSION_IOCTLS } from "./extension.js";

/** Whose file answers it. */
export type IoctlNode = "iommufd" | "container" | "group" | "device";

export interface IoctlRow {
  readonly name: string;
  readonly request: number;
  readonly node: IoctlNode;
  /** Struct behind the argument; absent when the argument is an integer or nothing. */
  readonly struct?: string;
  /** Smallest size (iommufd) or argsz (VFIO) that is accepted. */
  readonly minSize?: number;
}

function row(name: string, request: number, node: IoctlNode, struct?: string, minSize?: number): IoctlRow {
  return { name, request, node, ...(struct === undefined ? {} : { struct }), ...(minSize === undefined ? {} : { minSize }) };
}

export const IOCTLS: readonly IoctlRow[] = [
  row("IOMMU_DESTROY", 0x3b80, "iommufd", "iommu_destroy", 8),
  row("IOMMU_IOAS_ALLOC", 0x3b81, "iommufd", "iommu_ioas_alloc", 12),
  row("IOMMU_IOAS_IOVA_RANGES", 0x3b84, "iommufd", "iommu_ioas_iova_ranges", 32),
  row("IOMMU_IOAS_ALLOW_IOVAS", 0x3b82, "iommufd", "iommu_ioas_allow_iovas", 24),
  row("IOMMU_IOAS_MAP", 0x3b85, "iommufd", "iommu_ioas_map", 40),
  row("IOMMU_IOAS_MAP_FILE", 0x3b8f, "iommufd", "iommu_ioas_map_file", 40),
  row("IOMMU_IOAS_COPY", 0x3b83, "iommufd", "iommu_ioas_copy", 40),
  row("IOMMU_IOAS_UNMAP", 0x3b86, "iommufd", "iommu_ioas_unmap", 24),
  row("IOMMU_OPTION", 0x3b87, "iommufd", "iommu_option", 24),
  row("IOMMU_VFIO_IOAS", 0x3b88, "iommufd", "iommu_vfio_ioas", 12),
  row("IOMMU_HWPT_ALLOC", 0x3b89, "iommufd", "iommu_hwpt_alloc", 24),
  row("IOMMU_GET_HW_INFO", 0x3b8a, "iommufd", "iommu_hw_info", 32),
  row("IOMMU_HWPT_SET_DIRTY_TRACKING", 0x3b8b, "iommufd", "iommu_hwpt_set_dirty_tracking", 16),
  row("IOMMU_HWPT_GET_DIRTY_BITMAP", 0x3b8c, "iommufd", "iommu_hwpt_get_dirty_bitmap", 48),
  row("IOMMU_HWPT_INVALIDATE", 0x3b8d, "iommufd", "iommu_hwpt_invalidate", 32),
  row("IOMMU_FAULT_QUEUE_ALLOC", 0x3b8e, "iommufd", "iommu_fault_alloc", 16),
  row("IOMMU_VIOMMU_ALLOC", 0x3b90, "iommufd", "iommu_viommu_alloc", 24),
  row("IOMMU_VDEVICE_ALLOC", 0x3b91, "iommufd", "iommu_vdevice_alloc", 24),
  row("IOMMU_IOAS_CHANGE_PROCESS", 0x3b92, "iommufd", "iommu_ioas_change_process", 8),
  row("IOMMU_VEVENTQ_ALLOC", 0x3b93, "iommufd", "iommu_veventq_alloc", 28),
  row("IOMMU_HW_QUEUE_ALLOC", 0x3b94, "iommufd", "iommu_hw_queue_alloc", 40),
  row("VFIO_GET_API_VERSION", 0x3b64, "container"),
  row("VFIO_CHECK_EXTENSION", 0x3b65, "container"),
  row("VFIO_SET_IOMMU", 0x3b66, "container"),
  row("VFIO_GROUP_GET_STATUS", 0x3b67, "group", "vfio_group_status", 8),
  row("VFIO_GROUP_SET_CONTAINER", 0x3b68, "group"),
  row("VFIO_GROUP_UNSET_CONTAINER", 0x3b69, "group"),
  row("VFIO_GROUP_GET_DEVICE_FD", 0x3b6a, "group"),
  row("VFIO_DEVICE_GET_INFO", 0x3b6b, "device", "vfio_device_info", 16),
  row("VFIO_DEVICE_GET_REGION_INFO", 0x3b6c, "device", "vfio_region_info", 32),
  row("VFIO_DEVICE_GET_IRQ_INFO", 0x3b6d, "device", "vfio_irq_info", 16),
  row("VFIO_DEVICE_SET_IRQS", 0x3b6e, "device", "vfio_irq_set", 20),
  row("VFIO_DEVICE_RESET", 0x3b6f, "device"),
  row("VFIO_DEVICE_GET_PCI_HOT_RESET_INFO", 0x3b70, "device", "vfio_pci_hot_reset_info", 12),
  row("VFIO_DEVICE_PCI_HOT_RESET", 0x3b71, "device", "vfio_pci_hot_reset", 12),
  row("VFIO_DEVICE_QUERY_GFX_PLANE", 0x3b72, "device", "vfio_device_gfx_plane_info"),
  row("VFIO_DEVICE_GET_GFX_DMABUF", 0x3b73, "device"),
  row("VFIO_DEVICE_IOEVENTFD", 0x3b74, "device", "vfio_device_ioeventfd", 28),
  row("VFIO_DEVICE_FEATURE", 0x3b75, "device", "vfio_device_feature", 8),
  row("VFIO_DEVICE_BIND_IOMMUFD", 0x3b76, "device", "vfio_device_bind_iommufd", 16),
  row("VFIO_DEVICE_ATTACH_IOMMUFD_PT", 0x3b77, "device", "vfio_device_attach_iommufd_pt", 12),
  row("VFIO_DEVICE_DETACH_IOMMUFD_PT", 0x3b78, "device", "vfio_device_detach_iommufd_pt", 8),
  row("VFIO_MIG_GET_PRECOPY_INFO", 0x3b79, "device", "vfio_precopy_info", 24),
  row("VFIO_IOMMU_GET_INFO", 0x3b70, "container", "vfio_iommu_type1_info", 16),
  row("VFIO_IOMMU_MAP_DMA", 0x3b71, "container", "vfio_iommu_type1_dma_map", 32),
  row("VFIO_IOMMU_UNMAP_DMA", 0x3b72, "container", "vfio_iommu_type1_dma_unmap", 24),
  row("VFIO_IOMMU_ENABLE", 0x3b73, "container"),
  row("VFIO_IOMMU_DISABLE", 0x3b74, "container"),
  row("VFIO_IOMMU_DIRTY_PAGES", 0x3b75, "container", "vfio_iommu_type1_dirty_bitmap", 8),
  row("VFIO_IOMMU_SPAPR_TCE_GET_INFO", 0x3b70, "container"),
  row("VFIO_EEH_PE_OP", 0x3b79, "container"),
  row("VFIO_IOMMU_SPAPR_REGISTER_MEMORY", 0x3b75, "container"),
  row("VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY", 0x3b76, "container"),
  row("VFIO_IOMMU_SPAPR_TCE_CREATE", 0x3b77, "container"),
  row("VFIO_IOMMU_SPAPR_TCE_REMOVE", 0x3b78, "container"),
];

const ALL: readonly IoctlRow[] = [...IOCTLS, ...EXTENSION_IOCTLS];

/** The row of a request on a kind of file; undefined for a number that it does not know. */
export function findIoctl(node: IoctlNode, request: number): IoctlRow | undefined {
  return ALL.find((candidate) => candidate.node === node && candidate.request === request);
}
