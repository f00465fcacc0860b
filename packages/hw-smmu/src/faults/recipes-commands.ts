/** Command errors (SMMU 4, 7.1) and global errors (6.3.18): each reason on its own. */
import { Completion, Op } from "../spec/commands.js";
import { CommandError, Gerror } from "../spec/registers.js";
import { Event } from "../spec/events.js";
import type { Recipe, UnitChange, Values } from "./recipe.js";
import { from, HOLE, SUBSTREAM, DOORBELL, STREAM } from "./scene.js";

const RECOVER = "Mend the slot (or make it a CMD_SYNC), then toggle GERRORN.CMDQ_ERR: the queue goes on without a write of PROD.";
const FIRST = { stopsAt: 0, gerror: Gerror.CMDQ_ERR } as const;
const ILLEGAL = { scene: "stage 1", expect: { ...FIRST, commandError: CommandError.ILL }, mend: RECOVER } as const;
const COPIED = "The command was sent without a look at the unit's identification registers.";

type Name = keyof typeof Op;
const opcode = (name: Name): Values => ({ opcode: BigInt(Op[name]) });

const EL2: readonly Name[] = ["TLBI_EL2_ALL", "TLBI_EL2_ASID", "TLBI_EL2_VA", "TLBI_EL2_VAA"];

interface Need {
  /** Field of IDR0, and what it must be. */
  readonly field: string;
  readonly is: string;
  readonly text: string;
  readonly section: string;
  /** A unit without it. */
  readonly unit: UnitChange;
  readonly commands: readonly Name[];
  /** Behind the command's name, where it needs two things. */
  readonly suffix?: string;
}

const NEEDS: readonly Need[] = [
  { field: "S1P", is: "1", text: "a command about stage 1 on a unit without", section: "4.3, 4.4", unit: { idr0: { S1P: 0n, Hyp: 0n } }, commands: ["CFGI_CD", "CFGI_CD_ALL", "TLBI_NH_ALL", "TLBI_NH_ASID", "TLBI_NH_VA", "TLBI_NH_VAA"] },
  { field: "S2P", is: "1", text: "a command about stage 2 on a unit without", section: "4.4", unit: { idr0: { S2P: 0n, Hyp: 0n } }, commands: ["TLBI_S12_VMALL", "TLBI_S2_IPA"] },
  { field: "Hyp", is: "1", text: "a command about EL2 on a unit without", section: "4.4", unit: { idr0: { Hyp: 0n } }, commands: EL2 },
  { field: "S1P", is: "1", text: "a command about EL2 on a unit without stage 1", section: "4.4", unit: { idr0: { S1P: 0n } }, commands: EL2, suffix: "-S1P" },
  { field: "ATS", is: "1", text: "a command about ATS on a unit without", section: "4.5.1", unit: { idr0: { ATS: 0n, PRI: 0n } }, commands: ["ATC_INV"] },
  { field: "PRI", is: "1", text: "an answer to a page request on a unit without", section: "4.5.2", unit: { idr0: { PRI: 0n } }, commands: ["PRI_RESP"] },
  { field: "STALL_MODEL", is: "00 or 10", text: "a command about stalls on a unit that never stalls", section: "4.6", unit: { idr0: { STALL_MODEL: 1n } }, commands: ["RESUME", "STALL_TERM"] },
];

const needs: readonly Recipe[] = NEEDS.flatMap(({ field, is, text, section, unit, commands, suffix = "" }) =>
  commands.map((name) => ({
    ...ILLEGAL, name: `CERROR_ILL:${name}${suffix}`, text, section, given: { command: opcode(name) }, change: { unit },
    why: `CMD_${name} needs IDR0.${field}=${is}. That comes before what would make the unit ignore it.`, cause: COPIED,
  })),
);

interface Bad {
  readonly name: string;
  readonly text: string;
  readonly section: string;
  readonly command: Name;
  readonly given?: Values;
  readonly change: Values;
  readonly unit?: UnitChange;
  readonly why: string;
  readonly cause: string;
}

const ONE_PAGE = "The range commands (IDR3.RIL) were used for a single page without a hint: TG=0 says that.";
const nothing = (command: Name): Bad => ({
  name: `${command}-range`, text: "a range invalidation of one page without a level", section: "4.4.1.1", command, given: { TG: 1n, NUM: 1n }, change: { NUM: 0n },
  why: "TG is not 0, and NUM, SCALE and TTL are: the manual reserves that.", cause: ONE_PAGE,
});

const FIELDS: readonly Bad[] = [
  nothing("TLBI_NH_VA"), nothing("TLBI_NH_VAA"), nothing("TLBI_EL2_VA"), nothing("TLBI_EL2_VAA"), nothing("TLBI_S2_IPA"),
  {
    name: "TLBI-TTL-16K", text: "TTL names a level 1 of 16K tables, which has no leaves", section: "4.4.1.1", command: "TLBI_NH_VA", given: { TG: 2n, TTL: 2n }, change: { TTL: 1n },
    why: "16K tables have blocks at level 1 with 52-bit descriptors (IDR5.DS) only; TTL=01 counts as 00, and then the range is of nothing.", cause: "TTL was taken from a table level without a look at the granule.",
  },
  {
    name: "SSec", text: "a command that names a Secure stream", section: "4.1.6", command: "CFGI_STE", given: { StreamID: BigInt(STREAM) }, change: { SSec: 1n },
    why: "SSec=1 on the Non-secure command queue.", cause: "The command was not zeroed before it was built.",
  },
  {
    name: "ATC_INV-Size", text: "an invalidation of more than everything", section: "4.5.1", command: "ATC_INV", given: { StreamID: BigInt(STREAM), Size: 52n }, change: { Size: 53n },
    why: "Size=52 is all of the address space. The manual allows the error, and does not require it.", cause: "The size was written in bits of bytes, not of pages.",
  },
  {
    name: "PRI_RESP-Resp", text: "a reserved answer to a page request", section: "4.5.2", command: "PRI_RESP", given: { StreamID: BigInt(STREAM), SSV: 1n, SubstreamID: BigInt(SUBSTREAM), Resp: 2n }, change: { Resp: 3n },
    why: "Resp is 00 (failure), 01 (invalid request) or 10 (success).", cause: "The response code of PCI Express was written, which has another encoding.",
  },
  {
    name: "reserved", text: "a reserved bit in a command", section: "4.1.3", command: "TLBI_NSNH_ALL", change: { reserved: 1n << 40n }, unit: { choices: { strictCommands: true } },
    why: "A unit may take a reserved bit that is set for an illegal command, or ignore it. This one was told to be strict.", cause: "The command was not zeroed before it was built.",
  },
];

const fields: readonly Recipe[] = FIELDS.map(({ name, command, given, change, unit, ...row }) => ({
  ...ILLEGAL, ...row, name: `CERROR_ILL:${name}`, given: { command: { ...opcode(command), ...given }, ...(unit ? { unit } : {}) }, change: { command: change },
}));

const COMMANDS: readonly Recipe[] = [
  {
    ...ILLEGAL, name: "CERROR_ILL", text: "an opcode that is no command", section: "4.1.3", change: { command: { opcode: 0n } },
    why: "Opcode 0x00 is reserved. CMDQ_CONS.RD stays at the command, CMDQ_CONS.ERR says 0x01, and the queue stops.", cause: "PROD was moved beyond what was written, or commands were written after PROD.",
  },
  ...needs,
  ...fields,
  {
    ...ILLEGAL, name: "CERROR_ILL:SYNC-CS", text: "a completion signal that is reserved", section: "4.7.3", change: { sync: { CS: 3n } }, expect: { ...ILLEGAL.expect, stopsAt: 1 },
    why: "CS is 00 (none), 01 (interrupt) or 10 (event).", cause: "The command was not zeroed before it was built.",
  },
  {
    name: "CERROR_ABT", text: "the command could not be read", section: "7.1", scene: "stage 1", change: { registers: { CMDQ_BASE: HOLE | 4n } }, expect: { ...FIRST, commandError: CommandError.ABT },
    why: "CMDQ_BASE leads where no memory answers. CMDQ_CONS.RD does not move.", cause: "CMDQ_BASE was written with a virtual address, or the queue was freed.",
    mend: "Turn the queue off (CR0.CMDQEN=0 and its acknowledgement), write CMDQ_BASE, turn it on, and toggle GERRORN.CMDQ_ERR.",
  },
  {
    name: "CERROR_ATC_INV_SYNC", text: "a device did not answer an invalidation in time", section: "3.9.1.4, 4.7.3", scene: "stage 1", given: { command: { ...opcode("ATC_INV"), StreamID: BigInt(STREAM), Size: 52n } },
    change: { deaf: true }, expect: { stopsAt: 1, gerror: Gerror.CMDQ_ERR, commandError: CommandError.ATC_INV_SYNC },
    why: "CMD_SYNC waits for CMD_ATC_INV, and the device's time ran out: CMDQ_CONS.RD is at the CMD_SYNC, which has not completed, and promises nothing.",
    cause: "The device was reset, powered off or pulled out with ATS on.", mend: "Turn ATS off for that device, toggle GERRORN.CMDQ_ERR, and the CMD_SYNC runs again.",
  },
];

const ILLEGAL_COMMAND = { command: { opcode: 0n } };
const ERRORS: readonly Recipe[] = [
  {
    name: "GERROR.CMDQ_ERR", text: "the command queue has stopped", section: "6.3.18", scene: "stage 1", change: ILLEGAL_COMMAND, expect: { ...FIRST, commandError: CommandError.ILL },
    why: "A command error: CMDQ_CONS.ERR says which, and was there before GERROR was.", cause: "An illegal command, a queue that cannot be read, a device that does not answer.", mend: RECOVER,
  },
  {
    name: "GERROR.EVENTQ_ABT_ERR", text: "a record could not be written to the event queue", section: "7.2", scene: "stage 1", kinds: ["untranslated"],
    given: { set: { "S1 level 3": { valid: 0n } } }, before: { event: Event.F_TRANSLATION }, change: { registers: { EVENTQ_BASE: HOLE | 4n } }, expect: { gerror: Gerror.EVENTQ_ABT_ERR },
    why: "EVENTQ_BASE leads where no memory answers: the record is lost, PROD stays, and nothing more is recorded until GERRORN is toggled.",
    cause: "EVENTQ_BASE was written with a virtual address, or the queue was freed.", mend: "Turn the queue off, write EVENTQ_BASE, turn it on, toggle GERRORN; end stalls with CMD_STALL_TERM, since their records may be lost.",
  },
  {
    name: "GERROR.PRIQ_ABT_ERR", text: "a page request could not be written to its queue", section: "8.2", scene: "stage 1", kinds: ["page"], change: { registers: { PRIQ_BASE: HOLE | 4n } },
    expect: { gerror: Gerror.PRIQ_ABT_ERR },
    why: "PRIQ_BASE leads where no memory answers. The device is answered with Response Failure, and so is everyone until GERRORN is toggled.",
    cause: "PRIQ_BASE was written with a virtual address, or the queue was freed.", mend: "Turn the queue off, write PRIQ_BASE, turn it on, toggle GERRORN; the devices turned page requests off.",
  },
  {
    name: "GERROR.MSI_CMDQ_ABT_ERR", text: "the message of a CMD_SYNC went nowhere", section: "4.7.3", scene: "stage 1", kinds: ["command"], given: { sync: { CS: BigInt(Completion.IRQ), MSIAddress: from(2, DOORBELL) } },
    change: { sync: { MSIAddress: from(2, HOLE) } }, expect: { gerror: Gerror.MSI_CMDQ_ABT_ERR },
    why: "Memory refused the write of MSIData to MSIAddress. The CMD_SYNC completes all the same.", cause: "MSIAddress is a virtual address.", mend: "Use the physical address, or look at CMDQ_CONS.",
  },
  {
    name: "GERROR.MSI_EVENTQ_ABT_ERR", text: "the message of the event queue went nowhere", section: "3.18", scene: "stage 1", kinds: ["untranslated"],
    given: { set: { "S1 level 3": { valid: 0n } } }, before: { event: Event.F_TRANSLATION }, change: { registers: { EVENTQ_IRQ_CFG0: HOLE } },
    expect: { event: Event.F_TRANSLATION, record: { CLASS: 2n }, gerror: Gerror.MSI_EVENTQ_ABT_ERR },
    why: "Memory refused the write to EVENTQ_IRQ_CFG0's address. The record that it was for is in the queue.", cause: "The address is not the interrupt controller's doorbell.", mend: "Write the doorbell's physical address while EVENTQ_IRQEN is 0.",
  },
  {
    name: "GERROR.MSI_PRIQ_ABT_ERR", text: "the message of the page request queue went nowhere", section: "3.18", scene: "stage 1", kinds: ["page"], change: { registers: { PRIQ_IRQ_CFG0: HOLE } },
    expect: { gerror: Gerror.MSI_PRIQ_ABT_ERR, queued: 1 },
    why: "Memory refused the write to PRIQ_IRQ_CFG0's address. The request that it was for is in the queue.", cause: "The address is not the interrupt controller's doorbell.", mend: "Write the doorbell's physical address while PRIQ_IRQEN is 0.",
  },
  {
    name: "GERROR.MSI_GERROR_ABT_ERR", text: "the message of a global error went nowhere", section: "3.18", scene: "stage 1", kinds: ["command"],
    given: ILLEGAL_COMMAND, before: { gerror: Gerror.CMDQ_ERR }, change: { registers: { GERROR_IRQ_CFG0: HOLE } },
    expect: { stopsAt: 0, commandError: CommandError.ILL, gerror: Gerror.CMDQ_ERR | Gerror.MSI_GERROR_ABT_ERR },
    why: "Memory refused the write to GERROR_IRQ_CFG0's address. Of all errors this one alone raises no interrupt.", cause: "The address is not the interrupt controller's doorbell.", mend: "Write the doorbell's physical address while GERROR_IRQEN is 0.",
  },
];

export const COMMAND_RECIPES: readonly Recipe[] = [...COMMANDS, ...ERRORS];
