/** What each command does to the caches, to stalled transactions and to devices (SMMU 4). */
import { type RegisterBank, StallEnd } from "@iommukit/core";
import { Completion, Op } from "../spec/commands.js";
import type { Capabilities } from "../spec/identification.js";
import { World } from "../spec/illegal.js";
import { CommandError, Cr0, Cr2, Reg } from "../spec/registers.js";
import type { Fields } from "../spec/words.js";
import type { AtsUnit } from "./ats.js";
import type { CommandEffects } from "./command-queue.js";
import type { EventQueue } from "./event-queue.js";
import type { Interrupts } from "./interrupts.js";
import type { Stalls } from "./stalls.js";
import { commandRange, type TlbRange } from "./tlb-groups.js";
import { canonicalPage, type Tlbs } from "./tlbs.js";
import type { Translator } from "./translator.js";

export interface EffectParts {
  readonly bank: RegisterBank;
  readonly caps: Capabilities;
  readonly tlbs: Tlbs;
  readonly translator: Translator;
  readonly events: EventQueue;
  readonly stalls: Stalls;
  readonly interrupts: Interrupts;
  readonly ats: AtsUnit;
}

type Effect = (f: Fields, unit: Effects) => number;
const nothing: Effect = () => 0;

/** By opcode. */
const EFFECTS: Readonly<Record<number, Effect>> = {
  // Nothing is fetched ahead of need.
  [Op.PREFETCH_CONFIG]: nothing,
  [Op.PREFETCH_ADDR]: nothing,
  [Op.CFGI_STE]: (f, unit) => unit.forgetStreams(f.StreamID, f.StreamID, f.Leaf === 0),
  [Op.CFGI_STE_RANGE]: (f, unit) => {
    if (f.Range === 31) return unit.forgetStreams(0, Infinity, true);
    const count = 2 ** (f.Range + 1);
    const first = f.StreamID - (f.StreamID % count);
    return unit.forgetStreams(first, first + count - 1, true);
  },
  [Op.CFGI_CD]: (f, unit) => unit.forgetContext(f.StreamID, f.SubstreamID, f.Leaf === 0),
  [Op.CFGI_CD_ALL]: (f, unit) => unit.forgetContexts(f.StreamID),
  [Op.TLBI_NH_ALL]: (f, { tlbs, wildcard }) => tlbs.removeVmid(f.VMID, wildcard),
  [Op.TLBI_NH_ASID]: (f, { tlbs, wildcard }) => tlbs.removeAsid(World.EL1, f.VMID, wildcard, f.ASID),
  [Op.TLBI_NH_VA]: (f, unit) => unit.tlbs.removeAddress(World.EL1, f.VMID, unit.wildcard, f.ASID, unit.inputRange(f)),
  [Op.TLBI_NH_VAA]: (f, unit) => unit.tlbs.removeAddress(World.EL1, f.VMID, unit.wildcard, undefined, unit.inputRange(f)),
  [Op.TLBI_EL2_ALL]: (_, { tlbs }) => tlbs.removeWorld(World.EL2) + tlbs.removeWorld(World.EL2_E2H),
  [Op.TLBI_EL2_ASID]: (f, { tlbs }) => tlbs.removeAsid(World.EL2_E2H, 0, 0, f.ASID),
  // CR2.E2H says which of the two EL2 regimes is meant, and only one has ASIDs.
  [Op.TLBI_EL2_VA]: (f, unit) => unit.tlbs.removeAddress(unit.el2, 0, 0, unit.el2 === World.EL2 ? undefined : f.ASID, unit.inputRange(f)),
  [Op.TLBI_EL2_VAA]: (f, unit) => unit.tlbs.removeAddress(unit.el2, 0, 0, undefined, unit.inputRange(f)),
  [Op.TLBI_S12_VMALL]: (f, { tlbs, wildcard }) => tlbs.removeVmidBothStages(f.VMID, wildcard),
  [Op.TLBI_S2_IPA]: (f, unit) => unit.tlbs.removeIntermediate(f.VMID, unit.wildcard, unit.range(f, f.Addr / 4096)),
  [Op.TLBI_NSNH_ALL]: (_, { tlbs }) => tlbs.removeEl1(),
  [Op.ATC_INV]: (f, { ats }) => ats.invalidate(f),
  [Op.PRI_RESP]: (f, { ats }) => ats.respond(f),
  [Op.RESUME]: (f, { stalls, caps }) => {
    stalls.end(f.StreamID, f.STAG, f.Ac === 1 ? StallEnd.RETRY : f.Ab === 1 || caps.abortOnly ? StallEnd.ABORT : StallEnd.ZERO);
    return 0;
  },
  [Op.STALL_TERM]: (f, { stalls, events }) => {
    events.forget(f.StreamID);
    stalls.terminate(f.StreamID);
    return 0;
  },
};

export class Effects implements CommandEffects {
  readonly caps: Capabilities;
  readonly tlbs: Tlbs;
  readonly stalls: Stalls;
  readonly events: EventQueue;
  readonly ats: AtsUnit;
  readonly #bank: RegisterBank;
  readonly #translator: Translator;
  readonly #interrupts: Interrupts;

  constructor(parts: EffectParts) {
    this.caps = parts.caps;
    this.tlbs = parts.tlbs;
    this.stalls = parts.stalls;
    this.events = parts.events;
    this.ats = parts.ats;
    this.#bank = parts.bank;
    this.#translator = parts.translator;
    this.#interrupts = parts.interrupts;
  }

  execute(opcode: number, fields: Fields): number {
    return EFFECTS[opcode](fields, this);
  }

  /** All before it is complete, since commands are executed in order; only devices take their time (4.7.3). */
  synchronize(f: Fields): number | undefined {
    const devices = this.ats.synchronize();
    if (devices !== CommandError.NONE) return devices;
    this.events.markStale();
    if (f.CS === Completion.IRQ) this.#interrupts.sync(BigInt(f.MSIAddress), f.MSIData);
    return CommandError.NONE;
  }

  /** VMID bits that an invalidation ignores: CR0.VMW, values above 4 count as 0 (6.3.9). */
  get wildcard(): number {
    const bits = (this.#bank.get32(Reg.CR0ACK) & Cr0.VMW) >> 6;
    return this.caps.vmidWildcard && bits <= 4 ? 2 ** bits - 1 : 0;
  }

  get el2(): number {
    return (this.#bank.get32(Reg.CR2) & Cr2.E2H) === 0 ? World.EL2 : World.EL2_E2H;
  }

  range(f: Fields, page: number): TlbRange {
    return commandRange(page, { TG: f.TG, TTL: f.TTL, NUM: f.NUM, SCALE: f.SCALE, Leaf: f.Leaf }, this.caps);
  }
  inputRange(f: Fields): TlbRange {
    return this.range(f, canonicalPage(f.Addr / 4096));
  }

  /** CFGI_STE and its ranges: STEs, everything reached through them, and with `tables` the level-1 descriptors on the way. */
  forgetStreams(first: number, last: number, tables: boolean): number {
    const { reader } = this.#translator;
    const inside = (stream: number): boolean => stream >= first && stream <= last;
    const covered = 2 ** reader.table.split;
    const removed = reader.streams.remove(inside) + reader.contexts.remove(inside) + reader.contextTables.remove(inside);
    const level1 = tables ? reader.streamTables.remove((index) => index >= Math.floor(first / covered) && index <= Math.floor(last / covered)) : 0;
    this.#translator.forget(inside);
    return removed + level1;
  }

  /** CFGI_CD: one CD, and with `tables` the level-1 descriptor on the way, for tables of either leaf size. */
  forgetContext(stream: number, substream: number, tables: boolean): number {
    const { reader } = this.#translator;
    const keys = [Math.floor(substream / 64) * 2, Math.floor(substream / 1024) * 2 + 1];
    const removed = reader.contexts.remove((s, index) => s === stream && index === substream);
    const level1 = tables ? reader.contextTables.remove((s, key) => s === stream && keys.includes(key)) : 0;
    this.#translator.forget((s, index) => s === stream && Math.max(index, 0) === substream);
    return removed + level1;
  }

  /** CFGI_CD_ALL. */
  forgetContexts(stream: number): number {
    const { reader } = this.#translator;
    const same = (s: number): boolean => s === stream;
    this.#translator.forget(same);
    return reader.contexts.remove(same) + reader.contextTables.remove(same);
  }
}
