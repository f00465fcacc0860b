/** Which invalidation a changed structure calls for (VT-d 6.5.3 and 6.5.4, table 28), by the structure's name in `entries` and `formats`. */

export interface InvalidationRule {
  /** Descriptors in their order. */
  readonly legacy: string;
  readonly scalable: string;
}

const none = "cannot be in this mode";

export const INVALIDATION_RULES: Readonly<Record<"root" | "context" | "directory" | "pasid" | "first-stage" | "second-stage", InvalidationRule>> = {
  root: {
    legacy: "context-cache global, IOTLB global, device-TLB global",
    scalable: "context-cache global, PASID-cache global, IOTLB global, device-TLB global",
  },
  context: {
    legacy: "context-cache device-selective with the entry's old domain-id, IOTLB domain-selective, device-TLB",
    scalable: "context-cache device-selective, PASID-cache and IOTLB domain-selective for each domain-id behind it, device-TLB",
  },
  directory: { legacy: none, scalable: "PASID-cache PASID-selective, IOTLB domain-selective, device-TLB" },
  pasid: {
    legacy: none,
    scalable: "PASID-cache PASID-selective with the entry's old domain-id, then IOTLB domain-selective (second stage, nested) or PASID-based IOTLB PASID-selective, device-TLB",
  },
  "first-stage": { legacy: none, scalable: "PASID-based IOTLB page-selective that covers the whole page, IH=0 if a table entry changed, device-TLB" },
  "second-stage": {
    legacy: "IOTLB page-selective that covers the whole page, IH=0 if a table entry changed, device-TLB",
    scalable: "IOTLB page-selective for each domain-id that uses the table, covering the whole page, IH=0 if a table entry changed, device-TLB",
  },
};
