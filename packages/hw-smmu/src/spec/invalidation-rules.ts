/** Which commands a changed structure calls for (SMMU 4.3, 4.4, 4.5.1). A CMD_SYNC ends each. */
export const INVALIDATION_RULES = {
  "stream-table": "CMD_CFGI_STE with Leaf=0 or CMD_CFGI_STE_RANGE, CMD_ATC_INV where ATS is on",
  ste: "CMD_CFGI_STE, then CMD_TLBI_S12_VMALL of the old S2VMID where stage 2 changed, CMD_ATC_INV where ATS is on",
  "cd-table": "CMD_CFGI_CD with Leaf=0 or CMD_CFGI_CD_ALL, CMD_TLBI_NH_ASID of each ASID behind it, CMD_ATC_INV where ATS is on",
  cd: "CMD_CFGI_CD, then CMD_TLBI_NH_ASID (EL2: CMD_TLBI_EL2_ASID) of the old ASID where more than A, R and S changed, CMD_ATC_INV where ATS is on",
  "stage-1": "CMD_TLBI_NH_VA (EL2: CMD_TLBI_EL2_VA) that covers the whole page, Leaf=0 if a table descriptor changed, CMD_ATC_INV where ATS is on",
  "stage-2": "CMD_TLBI_S2_IPA that covers the whole page, Leaf=0 if a table descriptor changed, then CMD_TLBI_NH_ALL where stage 1 is on as well, CMD_ATC_INV where ATS is on",
} as const;
