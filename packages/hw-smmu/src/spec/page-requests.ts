/** Page Request Queue records (SMMU 8.1) and the response codes of CMD_PRI_RESP (4.5.2). */
import { defineFields, type FieldTable } from "@iommukit/core";
import { addressFrom } from "./words.js";

export const PAGE_REQUEST: FieldTable = defineFields("Page Request record", "SMMU 8.1", 128, [
  [32, "StreamID"], [20, "SubstreamID"], [6, ""], [1, "Priv"], [1, "X"], [1, "R"], [1, "W"], [1, "Last"], [1, "SSV"],
  [9, "PRGIndex"], [3, ""], [52, "Address", addressFrom(12)],
]);
