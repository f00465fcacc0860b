/** Where to look when an event was recorded: the likely cause first. */
const ADVICE: Readonly<Record<string, string>> = {
  F_UUT: "the device sends a kind of transaction that the unit does not have",
  C_BAD_STREAMID: "the StreamID against STRTAB_BASE_CFG.LOG2SIZE and Span of its level-1 descriptor: IORT may map the device's id to another StreamID",
  F_STE_FETCH: "STRTAB_BASE or L2Ptr of the level-1 descriptor points to memory that does not answer",
  C_BAD_STE: "the device is not attached (V=0), or its STE is ILLEGAL for this unit: iommu decode smmuv3 ste with the unit's IDRs names the rule",
  F_BAD_ATS_TREQ: "the device uses ATS, but STE.EATS or CR0 does not let it: was ATS left on when the device was detached?",
  F_STREAM_DISABLED: "transactions without SubstreamID where S1DSS ends them, or with SubstreamID 0 where it stands for those",
  F_TRANSL_FORBIDDEN: "the device sends translated addresses, but STE.EATS does not let it",
  C_BAD_SUBSTREAMID: "the SubstreamID against S1CDMax and the level-1 context descriptors: the PASID was never attached",
  F_CD_FETCH: "S1ContextPtr or L2Ptr of the level-1 context descriptor points to memory that does not answer",
  C_BAD_CD: "the PASID is not attached (V=0), or its CD is ILLEGAL for this unit: iommu decode smmuv3 cd with the unit's IDRs names the rule",
  F_WALK_EABT: "a table pointer: was the table freed while it was in use?",
  F_TRANSLATION: "the address is not mapped: a use after unmap, a DMA that was never mapped, or an address outside the range of T0SZ and T1SZ",
  F_ADDR_SIZE: "a descriptor or a bypassed address is wider than IPS, S2PS or the unit's OAS",
  F_ACCESS: "the access flag is 0: set it beforehand, or let the unit do so (HA, S2HA), or ignore it (AFFD, S2AFFD)",
  F_PERMISSION: "the page is read-only, or privileged: a use of the wrong direction of a mapping; CLASS=TT: stage 2 does not let the guest's tables be read or updated",
};

export function adviceFor(event: string): string | undefined {
  return ADVICE[event];
}
