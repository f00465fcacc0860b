/**
 * Structs and numbers of Linux 7.2 `include/uapi/linux/iommufd.h`, as data. Layouts follow C's natural
 * alignment on LP64; `layout.ts` computes offsets, a test compares them with a compiler's.
 */
import type { ConstantGroup } from "./constants.js";
import { type StructLayout, structs } from "./layout.js";

/** In header order: name, then fields as C would declare them. */
export const IOMMUFD_STRUCTS: readonly StructLayout[] = structs([
  ["iommu_destroy", "u32 size; u32 id"],
  ["iommu_ioas_alloc", "u32 size; u32 flags; u32 out_ioas_id"],
  ["iommu_iova_range", "u64 start; u64 last"],
  ["iommu_ioas_iova_ranges", "u32 size; u32 ioas_id; u32 num_iovas; u32 __reserved; u64 allowed_iovas; u64 out_iova_alignment"],
  ["iommu_ioas_allow_iovas", "u32 size; u32 ioas_id; u32 num_iovas; u32 __reserved; u64 allowed_iovas"],
  ["iommu_ioas_map", "u32 size; u32 flags; u32 ioas_id; u32 __reserved; u64 user_va; u64 length; u64 iova"],
  ["iommu_ioas_map_file", "u32 size; u32 flags; u32 ioas_id; s32 fd; u64 start; u64 length; u64 iova"],
  ["iommu_ioas_copy", "u32 size; u32 flags; u32 dst_ioas_id; u32 src_ioas_id; u64 length; u64 dst_iova; u64 src_iova"],
  ["iommu_ioas_unmap", "u32 size; u32 ioas_id; u64 iova; u64 length"],
  ["iommu_option", "u32 size; u32 option_id; u16 op; u16 __reserved; u32 object_id; u64 val64"],
  ["iommu_vfio_ioas", "u32 size; u32 ioas_id; u16 op; u16 __reserved"],
  ["iommu_hwpt_vtd_s1", "u64 flags; u64 pgtbl_addr; u32 addr_width; u32 __reserved"],
  ["iommu_hwpt_arm_smmuv3", "u64 ste[2]"],
  ["iommu_hwpt_amd_guest", "u64 dte[4]"],
  ["iommu_hwpt_alloc",
    "u32 size; u32 flags; u32 dev_id; u32 pt_id; u32 out_hwpt_id; u32 __reserved; u32 data_type; u32 data_len; u64 data_uptr; " +
    "u32 fault_id; u32 __reserved2"],
  ["iommu_hw_info_vtd", "u32 flags; u32 __reserved; u64 cap_reg; u64 ecap_reg"],
  ["iommu_hw_info_arm_smmuv3", "u32 flags; u32 __reserved; u32 idr[6]; u32 iidr; u32 aidr"],
  ["iommu_hw_info_tegra241_cmdqv", "u32 flags; u8 version; u8 log2vcmdqs; u8 log2vsids; u8 __reserved"],
  ["iommu_hw_info_amd", "u64 efr; u64 efr2"],
  ["iommu_hw_info",
    "u32 size; u32 flags; u32 dev_id; u32 data_len; u64 data_uptr; union { u32 in_data_type; u32 out_data_type }; " +
    "u8 out_max_pasid_log2; u8 __reserved[3]; u64 out_capabilities"],
  ["iommu_hwpt_set_dirty_tracking", "u32 size; u32 flags; u32 hwpt_id; u32 __reserved"],
  ["iommu_hwpt_get_dirty_bitmap", "u32 size; u32 hwpt_id; u32 flags; u32 __reserved; u64 iova; u64 length; u64 page_size; u64 data"],
  ["iommu_hwpt_vtd_s1_invalidate", "u64 addr; u64 npages; u32 flags; u32 __reserved"],
  ["iommu_viommu_arm_smmuv3_invalidate", "u64 cmd[2]"],
  ["iommu_hwpt_invalidate", "u32 size; u32 hwpt_id; u64 data_uptr; u32 data_type; u32 entry_len; u32 entry_num; u32 __reserved"],
  ["iommu_hwpt_pgfault", "u32 flags; u32 dev_id; u32 pasid; u32 grpid; u32 perm; u32 __reserved; u64 addr; u32 length; u32 cookie"],
  ["iommu_hwpt_page_response", "u32 cookie; u32 code"],
  ["iommu_fault_alloc", "u32 size; u32 flags; u32 out_fault_id; u32 out_fault_fd"],
  ["iommu_viommu_tegra241_cmdqv", "u64 out_vintf_mmap_offset; u64 out_vintf_mmap_length"],
  ["iommu_viommu_alloc", "u32 size; u32 flags; u32 type; u32 dev_id; u32 hwpt_id; u32 out_viommu_id; u32 data_len; u32 __reserved; u64 data_uptr"],
  ["iommu_vdevice_alloc", "u32 size; u32 viommu_id; u32 dev_id; u32 out_vdevice_id; u64 virt_id"],
  ["iommu_ioas_change_process", "u32 size; u32 __reserved"],
  ["iommufd_vevent_header", "u32 flags; u32 sequence"],
  ["iommu_vevent_arm_smmuv3", "u64 evt[4]"],
  ["iommu_vevent_tegra241_cmdqv", "u64 lvcmdq_err_map[2]"],
  ["iommu_veventq_alloc", "u32 size; u32 flags; u32 viommu_id; u32 type; u32 veventq_depth; u32 out_veventq_id; u32 out_veventq_fd; u32 __reserved"],
  ["iommu_hw_queue_alloc", "u32 size; u32 flags; u32 viommu_id; u32 type; u32 index; u32 out_hw_queue_id; u64 nesting_parent_iova; u64 length"],
]);

/** Enumerations; a group without a name is anonymous in the header. */
export const IOMMUFD_ENUMS: readonly ConstantGroup[] = [
  { name: "", values: {
    IOMMUFD_CMD_BASE: 128,
    IOMMUFD_CMD_DESTROY: 128,
    IOMMUFD_CMD_IOAS_ALLOC: 129,
    IOMMUFD_CMD_IOAS_ALLOW_IOVAS: 130,
    IOMMUFD_CMD_IOAS_COPY: 131,
    IOMMUFD_CMD_IOAS_IOVA_RANGES: 132,
    IOMMUFD_CMD_IOAS_MAP: 133,
    IOMMUFD_CMD_IOAS_UNMAP: 134,
    IOMMUFD_CMD_OPTION: 135,
    IOMMUFD_CMD_VFIO_IOAS: 136,
    IOMMUFD_CMD_HWPT_ALLOC: 137,
    IOMMUFD_CMD_GET_HW_INFO: 138,
    IOMMUFD_CMD_HWPT_SET_DIRTY_TRACKING: 139,
    IOMMUFD_CMD_HWPT_GET_DIRTY_BITMAP: 140,
    IOMMUFD_CMD_HWPT_INVALIDATE: 141,
    IOMMUFD_CMD_FAULT_QUEUE_ALLOC: 142,
    IOMMUFD_CMD_IOAS_MAP_FILE: 143,
    IOMMUFD_CMD_VIOMMU_ALLOC: 144,
    IOMMUFD_CMD_VDEVICE_ALLOC: 145,
    IOMMUFD_CMD_IOAS_CHANGE_PROCESS: 146,
    IOMMUFD_CMD_VEVENTQ_ALLOC: 147,
    IOMMUFD_CMD_HW_QUEUE_ALLOC: 148,
  } },
  { name: "iommufd_ioas_map_flags", values: {
    IOMMU_IOAS_MAP_FIXED_IOVA: 1,
    IOMMU_IOAS_MAP_WRITEABLE: 2,
    IOMMU_IOAS_MAP_READABLE: 4,
  } },
  { name: "iommufd_option", values: {
    IOMMU_OPTION_RLIMIT_MODE: 0,
    IOMMU_OPTION_HUGE_PAGES: 1,
  } },
  { name: "iommufd_option_ops", values: {
    IOMMU_OPTION_OP_SET: 0,
    IOMMU_OPTION_OP_GET: 1,
  } },
  { name: "iommufd_vfio_ioas_op", values: {
    IOMMU_VFIO_IOAS_GET: 0,
    IOMMU_VFIO_IOAS_SET: 1,
    IOMMU_VFIO_IOAS_CLEAR: 2,
  } },
  { name: "iommufd_hwpt_alloc_flags", values: {
    IOMMU_HWPT_ALLOC_NEST_PARENT: 1,
    IOMMU_HWPT_ALLOC_DIRTY_TRACKING: 2,
    IOMMU_HWPT_FAULT_ID_VALID: 4,
    IOMMU_HWPT_ALLOC_PASID: 8,
  } },
  { name: "iommu_hwpt_vtd_s1_flags", values: {
    IOMMU_VTD_S1_SRE: 1,
    IOMMU_VTD_S1_EAFE: 2,
    IOMMU_VTD_S1_WPE: 4,
  } },
  { name: "iommu_hwpt_data_type", values: {
    IOMMU_HWPT_DATA_NONE: 0,
    IOMMU_HWPT_DATA_VTD_S1: 1,
    IOMMU_HWPT_DATA_ARM_SMMUV3: 2,
    IOMMU_HWPT_DATA_AMD_GUEST: 3,
  } },
  { name: "iommu_hw_info_vtd_flags", values: {
    IOMMU_HW_INFO_VTD_ERRATA_772415_SPR17: 1,
  } },
  { name: "iommu_hw_info_type", values: {
    IOMMU_HW_INFO_TYPE_NONE: 0,
    IOMMU_HW_INFO_TYPE_DEFAULT: 0,
    IOMMU_HW_INFO_TYPE_INTEL_VTD: 1,
    IOMMU_HW_INFO_TYPE_ARM_SMMUV3: 2,
    IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV: 3,
    IOMMU_HW_INFO_TYPE_AMD: 4,
  } },
  { name: "iommufd_hw_capabilities", values: {
    IOMMU_HW_CAP_DIRTY_TRACKING: 1,
    IOMMU_HW_CAP_PCI_PASID_EXEC: 2,
    IOMMU_HW_CAP_PCI_PASID_PRIV: 4,
    IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED: 8,
  } },
  { name: "iommufd_hw_info_flags", values: {
    IOMMU_HW_INFO_FLAG_INPUT_TYPE: 1,
  } },
  { name: "iommufd_hwpt_set_dirty_tracking_flags", values: {
    IOMMU_HWPT_DIRTY_TRACKING_ENABLE: 1,
  } },
  { name: "iommufd_hwpt_get_dirty_bitmap_flags", values: {
    IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR: 1,
  } },
  { name: "iommu_hwpt_invalidate_data_type", values: {
    IOMMU_HWPT_INVALIDATE_DATA_VTD_S1: 0,
    IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3: 1,
  } },
  { name: "iommu_hwpt_vtd_s1_invalidate_flags", values: {
    IOMMU_VTD_INV_FLAGS_LEAF: 1,
  } },
  { name: "iommu_hwpt_pgfault_flags", values: {
    IOMMU_PGFAULT_FLAGS_PASID_VALID: 1,
    IOMMU_PGFAULT_FLAGS_LAST_PAGE: 2,
  } },
  { name: "iommu_hwpt_pgfault_perm", values: {
    IOMMU_PGFAULT_PERM_READ: 1,
    IOMMU_PGFAULT_PERM_WRITE: 2,
    IOMMU_PGFAULT_PERM_EXEC: 4,
    IOMMU_PGFAULT_PERM_PRIV: 8,
  } },
  { name: "iommufd_page_response_code", values: {
    IOMMUFD_PAGE_RESP_SUCCESS: 0,
    IOMMUFD_PAGE_RESP_INVALID: 1,
  } },
  { name: "iommu_viommu_type", values: {
    IOMMU_VIOMMU_TYPE_DEFAULT: 0,
    IOMMU_VIOMMU_TYPE_ARM_SMMUV3: 1,
    IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV: 2,
  } },
  { name: "iommu_veventq_flag", values: {
    IOMMU_VEVENTQ_FLAG_LOST_EVENTS: 1,
  } },
  { name: "iommu_veventq_type", values: {
    IOMMU_VEVENTQ_TYPE_DEFAULT: 0,
    IOMMU_VEVENTQ_TYPE_ARM_SMMUV3: 1,
    IOMMU_VEVENTQ_TYPE_TEGRA241_CMDQV: 2,
  } },
  { name: "iommu_hw_queue_type", values: {
    IOMMU_HW_QUEUE_TYPE_DEFAULT: 0,
    IOMMU_HW_QUEUE_TYPE_TEGRA241_CMDQV: 1,
  } },
];

/** Macros with a numeric value, request numbers apart. */
export const IOMMUFD_DEFINES: Readonly<Record<string, number>> = {
  IOMMUFD_TYPE: 0x3b,
  __VFIO_RESERVED_TYPE1_NESTING_IOMMU: 0x6,
};
