/** From a StreamID to a context descriptor (SMMU 3.3, 7.3.3 to 7.3.11), and what ATS may not do. */
import { NO_PASID } from "@iommukit/core";
import { Event } from "../spec/events.js";
import { Cr0 } from "../spec/registers.js";
import { Eats, S1dss, SteConfig } from "../spec/stream-table.js";
import type { Recipe } from "./recipe.js";
import { from, HOLE, STREAM, TARGET } from "./scene.js";

const BAD_STREAM = { section: "7.3.3", expect: { event: Event.C_BAD_STREAMID } } as const;
const BAD_SPAN = { ...BAD_STREAM, scene: "two-level streams" } as const;
/** Translated requests meet what the STE says, with IDR3.PASIDTT; CDs are not read for them (3.9.1.3). */
const BY_STE = ["untranslated", "translation", "translated"] as const;
const BAD_SUBSTREAM = { section: "7.3.9", kinds: BY_STE, expect: { event: Event.C_BAD_SUBSTREAMID } } as const;
const DISABLED = { kinds: BY_STE, section: "7.3.7", scene: "substreams", expect: { event: Event.F_STREAM_DISABLED } } as const;
const steAt = (table: bigint): bigint => table + BigInt(STREAM * 64);
const fetched = (event: number, address: bigint): Recipe["expect"] => ({ event, record: { FetchAddr: from(3, address) } });
/** CR0 as the scene has it, without a bit. */
const cr0Without = (bit: number): bigint => BigInt((Cr0.CMDQEN | Cr0.EVENTQEN | Cr0.PRIQEN | Cr0.SMMUEN | Cr0.ATSCHK) & ~bit);
const UNSUPPORTED = {
  section: "7.3.2", kinds: ["untranslated"], given: { request: { access: "atomic" } }, change: { unit: { choices: { farAtomics: false } } }, expect: { event: Event.F_UUT },
} as const;
const NO_SUBSTREAM = { substream: NO_PASID };

export const STREAM_RECIPES: readonly Recipe[] = [
  {
    ...UNSUPPORTED, name: "F_UUT", text: "a transaction that the system cannot carry", scene: "stage 1",
    why: "An atomic access, and the interconnect has none (here: the choice farAtomics=false). What else is unsupported depends on the bus.",
    cause: "A device with AtomicOps turned on behind a root complex without them.", mend: "Turn AtomicOps on in the device only where the whole path carries them.",
  },
  {
    ...UNSUPPORTED, name: "F_UUT:SMMUEN", text: "a transaction that the system cannot carry, while translation is off", scene: "bypass",
    given: { request: { access: "atomic" }, registers: { CR0: cr0Without(Cr0.SMMUEN) } },
    why: "The transaction fails before anything is asked of the stream table: the event may be recorded with SMMUEN=0 too.",
    cause: "A device with AtomicOps turned on behind a root complex without them.", mend: "Turn AtomicOps on in the device only where the whole path carries them.",
  },
  {
    ...UNSUPPORTED, name: "F_UUT:PRIVCFG", text: "a privileged transaction that the system cannot carry", scene: "stage 1",
    given: { request: { access: "atomic", privileged: true }, set: { STE: { PRIVCFG: 2n } } }, expect: { event: Event.F_UUT, record: { PnU: 1n } },
    why: "The record says what came in (PnU=1), not what STE.PRIVCFG makes of it: no STE has been read.",
    cause: "A device with AtomicOps turned on behind a root complex without them.", mend: "Turn AtomicOps on in the device only where the whole path carries them.",
  },
  {
    ...BAD_STREAM, name: "C_BAD_STREAMID", text: "the StreamID is beyond the stream table", scene: "stage 1", change: { request: { stream: 64 } },
    why: "STRTAB_BASE_CFG.LOG2SIZE says 64 StreamIDs, and this is the 65th. It is recorded with CR2.RECINVSID only.",
    cause: "A device whose StreamID the firmware tables (IORT) do not tell, an alias of a bridge, a table sized for fewer buses.",
    mend: "Size the table for every StreamID that the IORT or the device tree gives to this unit.",
  },
  {
    ...BAD_SPAN, name: "C_BAD_STREAMID:Span-0", text: "the level-1 descriptor has Span 0", change: { set: { L1STD: { Span: 0n } } },
    why: "Span 0 means that this level-1 descriptor has no level-2 table.",
    cause: "The device is not attached yet: its level-2 table is made on the first attach.",
    mend: "Make the level-2 table before the device does DMA, then CMD_CFGI_STE with Leaf=0 and CMD_SYNC.",
  },
  {
    ...BAD_SPAN, name: "C_BAD_STREAMID:Span-reserved", text: "the level-1 descriptor has a reserved Span", change: { set: { L1STD: { Span: 12n } } },
    why: "Span values 12 to 31 are reserved, and mean as little as 0.",
    cause: "The number of entries was written, or its logarithm to another base.",
    mend: "A table of 2^n entries has Span n + 1.",
  },
  {
    ...BAD_SPAN, name: "C_BAD_STREAMID:Span-split", text: "Span is above SPLIT + 1", change: { set: { L1STD: { Span: 8n } } },
    why: "SPLIT=6: a level-2 table has 64 entries at most, which is Span 7.",
    cause: "SPLIT was changed, and the spans were not.",
    mend: "Keep Span at SPLIT + 1 or below.",
  },
  {
    ...BAD_SPAN, name: "C_BAD_STREAMID:beyond-Span", text: "the StreamID is beyond its level-2 table", change: { set: { L1STD: { Span: 5n } } },
    why: "Span 5 says 16 entries, and bits 5:0 of the StreamID are 24.",
    cause: "A level-2 table that was made for the first devices of a bus only.",
    mend: "Make level-2 tables of 2^SPLIT entries, or enlarge them before a device is attached.",
  },
  {
    name: "F_STE_FETCH", text: "the stream table could not be read", section: "7.3.4", scene: "stage 1", change: { registers: { STRTAB_BASE: HOLE } },
    expect: fetched(Event.F_STE_FETCH, steAt(HOLE)),
    why: "The STE lies where no memory answers.",
    cause: "STRTAB_BASE was written with a virtual address, or the table was freed.",
    mend: "Write the table's physical address while CR0.SMMUEN and its acknowledgement are 0.",
  },
  {
    name: "F_STE_FETCH:L1STD", text: "the level-1 stream table could not be read", section: "7.3.4", scene: "two-level streams", change: { registers: { STRTAB_BASE: HOLE } },
    expect: fetched(Event.F_STE_FETCH, HOLE),
    why: "The level-1 descriptor lies where no memory answers.",
    cause: "STRTAB_BASE was written with a virtual address, or the table was freed.",
    mend: "Write the table's physical address while CR0.SMMUEN and its acknowledgement are 0.",
  },
  {
    name: "F_STE_FETCH:L2Ptr", text: "the level-2 stream table could not be read", section: "7.3.4", scene: "two-level streams", change: { set: { L1STD: { L2Ptr: from(6, HOLE) } } },
    expect: fetched(Event.F_STE_FETCH, steAt(HOLE)),
    why: "L2Ptr leads where no memory answers.",
    cause: "A level-2 table was freed, or its level-1 descriptor was written before the table had memory.",
    mend: "Make the table first, then the descriptor, then CMD_CFGI_STE with Leaf=0 and CMD_SYNC.",
  },
  {
    name: "F_CFG_CONFLICT", text: "two cached stream table entries match, and differ", section: "7.3.18", scene: "two streams",
    given: { unit: { choices: { cfgConflicts: true } }, neighbourFirst: true, set: { STE: { CONT: 1n }, "STE of the neighbour": { CONT: 1n } } },
    change: { set: { STE: { MEV: 1n } } }, expect: { event: Event.F_CFG_CONFLICT },
    why: "CONT=1 says that the STEs of both StreamIDs are the same, and one has MEV. A unit may report this, or use either (here: the choice cfgConflicts).",
    cause: "CONT was set for devices that were alike once, and one was changed.", mend: "Clear CONT before an STE is changed alone, and CMD_CFGI_STE for every StreamID that it covered.",
  },
  {
    ...BAD_SUBSTREAM, name: "C_BAD_SUBSTREAMID", text: "a SubstreamID on a stream that has none", scene: "stage 1", change: { request: { substream: 5 } },
    why: "S1CDMax is 0: the stream has one context descriptor, and no SubstreamIDs.",
    cause: "A device with PASID on, whose stream was attached without.",
    mend: "Give the stream a table of context descriptors, or turn PASID off in the device.",
  },
  {
    ...BAD_SUBSTREAM, name: "C_BAD_SUBSTREAMID:stage2", text: "a SubstreamID without stage 1", scene: "stage 2", change: { request: { substream: 5 } },
    why: "Context descriptors are stage 1's, and Config says stage 2 alone.",
    cause: "A device with PASID on that was handed to a virtual machine without nested translation.",
    mend: "Turn PASID off in the device, or nest.",
  },
  {
    ...BAD_SUBSTREAM, name: "C_BAD_SUBSTREAMID:bypass", text: "a SubstreamID on a stream that bypasses", scene: "bypass", kinds: ["untranslated"], change: { request: { substream: 5 } },
    why: "A stream that bypasses translation has no context descriptors. With SMMUEN=0 the same request passes.",
    cause: "A device with PASID on in an identity domain.",
    mend: "Turn PASID off in the device, or use S1DSS to bypass for requests without SubstreamID.",
  },
  {
    ...BAD_SUBSTREAM, name: "C_BAD_SUBSTREAMID:S1CDMax", text: "the SubstreamID is beyond the table", scene: "substreams", change: { request: { substream: 8 } },
    why: "S1CDMax=3 says 8 context descriptors.",
    cause: "A PASID allocator with a limit above the table's.",
    mend: "Keep PASIDs below 2^S1CDMax.",
  },
  {
    ...BAD_SUBSTREAM, name: "C_BAD_SUBSTREAMID:SSIDSIZE", text: "the unit has no SubstreamIDs", scene: "stage 1",
    given: { unit: { idr0: { CD2L: 0n }, idr1: { SSIDSIZE: 0n } } }, change: { request: { substream: 5 } },
    why: "IDR1.SSIDSIZE is 0, so that S1CDMax is IGNORED.",
    cause: "PASID was turned on in a device without a look at IDR1.",
    mend: "Turn PASID on where SSIDSIZE is above 0 only.",
  },
  {
    ...BAD_SUBSTREAM, kinds: ["untranslated", "translation"], name: "C_BAD_SUBSTREAMID:L1CD", text: "the level-1 context descriptor has V=0", scene: "two-level CDs", change: { set: { L1CD: { V: 0n } } },
    why: "The level-1 descriptor has no table of context descriptors. Such an error is this event, not C_BAD_CD.",
    cause: "The PASID is not attached: tables of the second level are made on the first attach.",
    mend: "Attach the PASID first; then CMD_CFGI_CD with Leaf=0 and CMD_SYNC.",
  },
  {
    ...BAD_SUBSTREAM, kinds: ["untranslated", "translation"], name: "C_BAD_SUBSTREAMID:L2Ptr", text: "the level-1 context descriptor points beyond the address size", section: "3.4.3", scene: "two-level CDs",
    change: { set: { L1CD: { L2Ptr: from(12, 1n << 48n) } } },
    why: "L2Ptr is not below 2^OAS.",
    cause: "An encryption bit or a tag in an address, or an address of a larger machine.",
    mend: "Keep tables below 2^IDR5.OAS.",
  },
  {
    ...DISABLED, name: "F_STREAM_DISABLED", text: "a request without SubstreamID where S1DSS terminates those", change: { request: NO_SUBSTREAM },
    why: "The stream has SubstreamIDs (S1CDMax > 0), and S1DSS=00 ends requests without one.",
    cause: "S1DSS was left 0 while the device still does DMA without PASID: its interrupts and command queues.",
    mend: "S1DSS=10 with descriptor 0 for ordinary DMA, or 01 to bypass stage 1.",
  },
  {
    ...DISABLED, name: "F_STREAM_DISABLED:SubstreamID-0", text: "SubstreamID 0 where S1DSS keeps it for requests without one",
    given: { set: { STE: { S1DSS: BigInt(S1dss.SUBSTREAM0) } } }, change: { request: { substream: 0 } },
    why: "S1DSS=10 gives descriptor 0 to requests without SubstreamID, and nobody else may use it.",
    cause: "PASID 0 was handed out.",
    mend: "Begin PASIDs at 1.",
  },
  {
    name: "F_CD_FETCH", text: "the context descriptor could not be read", section: "7.3.10", scene: "stage 1", change: { set: { STE: { S1ContextPtr: from(6, HOLE) } } },
    expect: fetched(Event.F_CD_FETCH, HOLE),
    why: "The context descriptor lies where no memory answers.",
    cause: "The table was freed while the STE still pointed to it, or S1ContextPtr has a virtual address.",
    mend: "Change the STE, CMD_CFGI_STE, CMD_SYNC, and only then free the table.",
  },
  {
    name: "F_CD_FETCH:L1CD", text: "the level-1 context descriptor could not be read", section: "7.3.10", scene: "two-level CDs", change: { set: { STE: { S1ContextPtr: from(6, HOLE) } } },
    expect: fetched(Event.F_CD_FETCH, HOLE),
    why: "The level-1 context descriptor lies where no memory answers.",
    cause: "The table was freed while the STE still pointed to it.",
    mend: "Change the STE, CMD_CFGI_STE, CMD_SYNC, and only then free the table.",
  },
  {
    name: "F_CD_FETCH:L2Ptr", text: "the context descriptor behind a level-1 descriptor could not be read", section: "7.3.10", scene: "two-level CDs",
    change: { set: { L1CD: { L2Ptr: from(12, HOLE) } } }, expect: fetched(Event.F_CD_FETCH, HOLE + 5n * 64n),
    why: "L2Ptr leads where no memory answers.",
    cause: "A table of context descriptors was freed before its level-1 descriptor was cleared and invalidated.",
    mend: "Clear V, CMD_CFGI_CD with Leaf=0, CMD_SYNC, and only then free the table.",
  },
  {
    name: "F_CD_FETCH:nested", text: "stage 2 maps the context descriptor to where no memory answers", section: "7.3.10", scene: "nested",
    change: { set: { "S2 of the CD": { OA: from(12, HOLE) } } }, expect: fetched(Event.F_CD_FETCH, HOLE),
    why: "The guest's pointer was translated, and the physical address has no memory. FetchAddr is physical.",
    cause: "A hypervisor maps a guest page to memory that is gone.",
    mend: "It is the hypervisor's own mistake, not to be told to the guest.",
  },
  {
    name: "F_BAD_ATS_TREQ", text: "a translation request from a stream that may not use ATS", section: "7.3.6", scene: "stage 1", kinds: ["translation"],
    change: { set: { STE: { EATS: BigInt(Eats.NONE) } } }, expect: { event: Event.F_BAD_ATS_TREQ },
    why: "STE.EATS is 00: the answer is Unsupported Request, upon which the device gives up ATS.",
    cause: "ATS was turned on in the device before the STE allowed it, or left on after it no longer did.",
    mend: "EATS first and ATS in the device second; the other way round to turn it off, with CMD_ATC_INV between.",
  },
  {
    name: "F_BAD_ATS_TREQ:write", text: "a translation request that asks to write, from a stream that may not use ATS", section: "7.3.6", scene: "stage 1", kinds: ["translation"],
    given: { request: { access: "write" } }, change: { set: { STE: { EATS: BigInt(Eats.NONE) } } }, expect: { event: Event.F_BAD_ATS_TREQ },
    why: "STE.EATS is 00. W of the record is the request's No Write flag, inverted.",
    cause: "ATS was turned on in the device before the STE allowed it.",
    mend: "EATS first and ATS in the device second.",
  },
  {
    name: "F_BAD_ATS_TREQ:bypass", text: "a translation request from a stream that bypasses", section: "5.2", scene: "stage 1", kinds: ["translation"],
    change: { set: { STE: { Config: BigInt(SteConfig.BYPASS) } } }, expect: { event: Event.F_BAD_ATS_TREQ },
    why: "EATS is IGNORED with Config=100, and counts as 00.",
    cause: "A device with ATS on was moved to an identity domain.",
    mend: "Turn ATS off in the device, or use S1DSS=01 to bypass with ATS.",
  },
  {
    name: "F_BAD_ATS_TREQ:SMMUEN", text: "a translation request while translation is off", section: "3.9.1.2", scene: "stage 1", kinds: ["translation"],
    change: { registers: { CR0: cr0Without(Cr0.SMMUEN) } }, expect: { event: Event.F_BAD_ATS_TREQ },
    why: "With SMMUEN=0 no translation is to be had, and this event is recorded all the same.",
    cause: "The unit was turned off, as on a reset or kexec, with devices still running.",
    mend: "Quiesce devices, or turn ATS off in them, first.",
  },
  {
    name: "F_BAD_ATS_TREQ:ATSCHK", text: "a translation request of split-stage ATS while translated traffic is not checked", section: "5.2", scene: "nested", kinds: ["translation"],
    given: { set: { STE: { EATS: BigInt(Eats.SPLIT) } } }, change: { registers: { CR0: cr0Without(Cr0.ATSCHK) } }, expect: { event: Event.F_BAD_ATS_TREQ },
    why: "EATS=10 counts as 00 with CR0.ATSCHK=0: intermediate addresses would reach memory as physical ones.",
    cause: "CR0.ATSCHK was left 0.",
    mend: "Set ATSCHK before SMMUEN.",
  },
  {
    name: "F_BAD_ATS_TREQ:DPT", text: "a translation request with EATS=11 on a unit without device permission tables", section: "5.2", scene: "stage 1", kinds: ["translation"],
    change: { set: { STE: { EATS: BigInt(Eats.DPT) } } }, expect: { event: Event.F_BAD_ATS_TREQ },
    why: "EATS=11 counts as 00 without IDR3.DPT; it is not ILLEGAL.",
    cause: "EATS was written as for a later unit.",
    mend: "EATS=01.",
  },
  {
    name: "F_TRANSL_FORBIDDEN", text: "a translated request from a stream that may not use ATS", section: "7.3.8", scene: "stage 1", kinds: ["translated"],
    change: { set: { STE: { EATS: BigInt(Eats.NONE) } } }, expect: { event: Event.F_TRANSL_FORBIDDEN },
    why: "STE.EATS is 00 and CR0.ATSCHK is 1: the device claims a translation that nobody gave it.",
    cause: "ATS was turned off in the STE before it was in the device, or the device forges translated requests.",
    mend: "Turn ATS off in the device, CMD_ATC_INV, CMD_SYNC, then EATS=00.",
  },
  {
    name: "F_TRANSL_FORBIDDEN:bypass", text: "a translated request from a stream that bypasses", section: "7.3.8", scene: "stage 1", kinds: ["translated"],
    change: { set: { STE: { Config: BigInt(SteConfig.BYPASS) } } }, expect: { event: Event.F_TRANSL_FORBIDDEN },
    why: "EATS is IGNORED with Config=100, and counts as 00.",
    cause: "A device with ATS on was moved to an identity domain.",
    mend: "Turn ATS off in the device first.",
  },
  {
    name: "F_TRANSL_FORBIDDEN:SMMUEN", text: "a translated request while translation is off", section: "7.3.8", scene: "stage 1", kinds: ["translated"],
    change: { registers: { CR0: cr0Without(Cr0.SMMUEN) } }, expect: { event: Event.F_TRANSL_FORBIDDEN },
    why: "With SMMUEN=0 no translated request is let through, whatever ATSCHK and GBPA say.",
    cause: "The unit was turned off, as on a reset or kexec, with devices still running.",
    mend: "Quiesce devices, or turn ATS off in them, first.",
  },
  {
    name: "F_TRANSL_FORBIDDEN:write", text: "a translated write from a stream that may not use ATS", section: "7.3.8", scene: "stage 1", kinds: ["translated"],
    given: { request: { access: "write", address: BigInt(TARGET) } }, change: { set: { STE: { EATS: BigInt(Eats.NONE) } } }, expect: { event: Event.F_TRANSL_FORBIDDEN },
    why: "STE.EATS is 00 and CR0.ATSCHK is 1. RnW is all that is told of the access.",
    cause: "ATS was turned off in the STE before it was in the device.",
    mend: "Turn ATS off in the device, CMD_ATC_INV, CMD_SYNC, then EATS=00.",
  },
];
