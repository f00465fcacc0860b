/**
 * Commands (SMMU 4): one row a command with its fields and what it needs. Anything else, a command whose needs
 * are not met, and one for which `illegal` says so, is CERROR_ILL.
 */
import { defineFields, type FieldRow, type FieldTable } from "@iommukit/core";
import { StallModel, type Capabilities } from "./identification.js";
import { addressFrom, type Fields, oneOf } from "./words.js";

export const Op = {
  PREFETCH_CONFIG: 0x01, PREFETCH_ADDR: 0x02, CFGI_STE: 0x03, CFGI_STE_RANGE: 0x04, CFGI_CD: 0x05, CFGI_CD_ALL: 0x06, TLBI_NH_ALL: 0x10,
  TLBI_NH_ASID: 0x11, TLBI_NH_VA: 0x12, TLBI_NH_VAA: 0x13, TLBI_EL2_ALL: 0x20, TLBI_EL2_ASID: 0x21, TLBI_EL2_VA: 0x22, TLBI_EL2_VAA: 0x23,
  TLBI_S12_VMALL: 0x28, TLBI_S2_IPA: 0x2a, TLBI_NSNH_ALL: 0x30, ATC_INV: 0x40, PRI_RESP: 0x41, RESUME: 0x44, STALL_TERM: 0x45, SYNC: 0x46,
} as const;

export interface Command {
  readonly opcode: number;
  readonly table: FieldTable;
  readonly illegal: (fields: Fields, caps: Capabilities) => boolean;
}

/** CMD_PRI_RESP.Resp (4.5.2). */
export const PageResponse = { FAILURE: 0, INVALID: 1, SUCCESS: 2 } as const;
/** CMD_SYNC.CS (4.7.3). */
export const Completion = { NONE: 0, IRQ: 1, SEV: 2 } as const;

// SSec names a Secure StreamID, which is illegal on a Non-secure queue.
const ssec: FieldRow = [1, "SSec"];
const stream: FieldRow = [32, "StreamID"];
const substream: readonly FieldRow[] = [[1, "SSV"], [20, "SubstreamID"]];
const empty: FieldRow = [64, ""];
const leaf: readonly FieldRow[] = [[1, "Leaf"], [63, ""]];
const ttl: readonly FieldRow[] = [[1, "Leaf"], [6, ""], [1, "TTL128"], [2, "TTL"], [2, "TG", oneOf("one address", "4K", "16K", "64K")]];
const ids = (vmid: boolean, asid: boolean): readonly FieldRow[] => [vmid ? [16, "VMID"] : [16, ""], asid ? [16, "ASID"] : [16, ""]];
/** SCALE has its sixth bit with IDR5.DS only. */
const range: readonly FieldRow[] = [[4, ""], [5, "NUM"], [3, ""], [6, "SCALE"], [6, ""]];

const always = (): boolean => false;
const noStage1 = (_: Fields, caps: Capabilities): boolean => !caps.stage1;
const noStage2 = (_: Fields, caps: Capabilities): boolean => !caps.stage2;
const noHyp = (_: Fields, caps: Capabilities): boolean => !caps.hyp || !caps.stage1;
const noStall = (_: Fields, caps: Capabilities): boolean => caps.stallModel === StallModel.NONE;

/** Range fields that name no range (4.4.1.1). */
function badRange(f: Fields, caps: Capabilities): boolean {
  if (!caps.rangeInvalidation || f.TG === 0) return false;
  const single = f.NUM === 0 && f.SCALE === 0;
  return single && (f.TTL === 0 || (f.TG === 2 && f.TTL === 1 && !caps.ds));
}
const bad = (needs: (f: Fields, caps: Capabilities) => boolean) => (f: Fields, caps: Capabilities): boolean => needs(f, caps) || badRange(f, caps);

function row(opcode: number, name: string, section: string, low: readonly FieldRow[], high: readonly FieldRow[], illegal: Command["illegal"]): Command {
  return { opcode, table: defineFields(`CMD_${name}`, `SMMU ${section}`, 128, [[8, "opcode"], ...low, ...high]), illegal };
}
/** TLBI by address: Addr from bit 12 on. */
const byAddress = (opcode: number, name: string, vmid: boolean, asid: boolean, needs: Command["illegal"]): Command =>
  row(opcode, name, "4.4.1", [...range, ...ids(vmid, asid)], [...ttl, [52, "Addr", addressFrom(12)]], bad(needs));
const byId = (opcode: number, name: string, vmid: boolean, asid: boolean, needs: Command["illegal"]): Command =>
  row(opcode, name, "4.4.2", [[24, ""], ...ids(vmid, asid)], [empty], needs);

export const COMMANDS: readonly Command[] = [
  row(Op.PREFETCH_CONFIG, "PREFETCH_CONFIG", "4.2.1", [[2, ""], ssec, ...substream, stream], [empty], always),
  row(Op.PREFETCH_ADDR, "PREFETCH_ADDR", "4.2.2", [[2, ""], ssec, ...substream, stream], [[5, "Size"], [5, "Stride"], [2, ""], [52, "Addr", addressFrom(12)]], always),
  row(Op.CFGI_STE, "CFGI_STE", "4.3.1", [[2, ""], ssec, [21, ""], stream], leaf, always),
  row(Op.CFGI_STE_RANGE, "CFGI_STE_RANGE", "4.3.2", [[2, ""], ssec, [21, ""], stream], [[5, "Range"], [59, ""]], always),
  row(Op.CFGI_CD, "CFGI_CD", "4.3.3", [[2, ""], ssec, [1, ""], [20, "SubstreamID"], stream], leaf, noStage1),
  row(Op.CFGI_CD_ALL, "CFGI_CD_ALL", "4.3.4", [[2, ""], ssec, [21, ""], stream], [empty], noStage1),
  byId(Op.TLBI_NH_ALL, "TLBI_NH_ALL", true, false, noStage1),
  byId(Op.TLBI_NH_ASID, "TLBI_NH_ASID", true, true, noStage1),
  byAddress(Op.TLBI_NH_VA, "TLBI_NH_VA", true, true, noStage1),
  byAddress(Op.TLBI_NH_VAA, "TLBI_NH_VAA", true, false, noStage1),
  byId(Op.TLBI_EL2_ALL, "TLBI_EL2_ALL", false, false, noHyp),
  byId(Op.TLBI_EL2_ASID, "TLBI_EL2_ASID", false, true, noHyp),
  byAddress(Op.TLBI_EL2_VA, "TLBI_EL2_VA", false, true, noHyp),
  byAddress(Op.TLBI_EL2_VAA, "TLBI_EL2_VAA", false, false, noHyp),
  byId(Op.TLBI_S12_VMALL, "TLBI_S12_VMALL", true, false, noStage2),
  row(Op.TLBI_S2_IPA, "TLBI_S2_IPA", "4.4.3", [...range, ...ids(true, false)], [...ttl, [44, "Addr", addressFrom(12)], [8, ""]], bad(noStage2)),
  byId(Op.TLBI_NSNH_ALL, "TLBI_NSNH_ALL", false, false, always),
  row(Op.ATC_INV, "ATC_INV", "4.5.1", [[1, ""], [1, "G"], ssec, ...substream, stream], [[6, "Size"], [6, ""], [52, "Addr", addressFrom(12)]], (f, caps) => !caps.ats || f.Size > 52),
  row(Op.PRI_RESP, "PRI_RESP", "4.5.2", [[2, ""], ssec, ...substream, stream], [[9, "PRGIndex"], [3, ""], [2, "Resp", oneOf("failure", "invalid request", "success")], [50, ""]], (f, caps) => !caps.pri || f.Resp === 3),
  row(Op.RESUME, "RESUME", "4.6.1", [[2, ""], ssec, [1, ""], [1, "Ac"], [1, "Ab"], [18, ""], stream], [[16, "STAG"], [48, ""]], noStall),
  row(Op.STALL_TERM, "STALL_TERM", "4.6.2", [[2, ""], ssec, [21, ""], stream], [empty], noStall),
  row(Op.SYNC, "SYNC", "4.7.3", [[4, ""], [2, "CS", oneOf("none", "interrupt", "event")], [8, ""], [2, "MSH"], [4, "MSIAttr"], [4, ""], [32, "MSIData"]], [[2, ""], [54, "MSIAddress", addressFrom(2)], [8, ""]], (f) => f.CS === 3),
];

export const COMMAND_BY_OPCODE: ReadonlyMap<number, Command> = new Map(COMMANDS.map((command) => [command.opcode, command]));
