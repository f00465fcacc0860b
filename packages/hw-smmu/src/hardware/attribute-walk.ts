/**
 * What an access carries to memory (SMMU 13), by the tables alone: on demand, since no translation depends on it. It looks into no cache and leaves
 * nothing in one; like a speculative read it may set access flags of the pages that tables and CDs lie in.
 */
import type { PhysicalMemory } from "@iommukit/core";
import { consistent, INCOMING, mairAttributes, type MemoryAttributes, overridden, throughStage1, throughStage2 } from "../spec/attributes.js";
import { FaultClass } from "../spec/events.js";
import type { Capabilities } from "../spec/identification.js";
import { Gbpa } from "../spec/registers.js";
import { GBPA } from "../spec/register-fields.js";
import { type Fields, readFields } from "../spec/words.js";
import { Action, Configuration } from "./configuration.js";
import { ConfigurationReader, overrideRow, type StreamTable } from "./configuration-reader.js";
import { Fault } from "./fault.js";
import { attributes, NEEDED } from "./rights.js";
import { Stage1 } from "./stage1.js";
import { Stage2 } from "./stage2.js";
import { Tlbs } from "./tlbs.js";

const NONE = { sets: 0, ways: 1 };
/** Pages of 4 KiB: from here on the upper half. */
const SIGN = 2 ** 43;
/** From SMMUv3.4 on every access is output as privileged data (13.1.2). */
const FIXED_PERMISSIONS = 4;

export interface TransactionAttributes {
  readonly memory: MemoryAttributes;
  readonly instruction: boolean;
  readonly privileged: boolean;
}

export class AttributeWalk {
  readonly #caps: Capabilities;
  readonly #reader: ConfigurationReader;
  readonly #configuration = new Configuration();
  readonly #stage1: Stage1;
  readonly #stage2: Stage2;

  constructor(memory: PhysicalMemory, caps: Capabilities) {
    this.#caps = caps;
    const tlbs = new Tlbs({ input: NONE, intermediate: NONE, configurations: 0 }, false, false);
    const fault = new Fault();
    const tables = new Stage2(memory, caps, tlbs, fault);
    this.#reader = new ConfigurationReader(memory, caps, tlbs, tables, fault, 0);
    this.#stage1 = new Stage1(memory, caps, tlbs, tables, fault);
    this.#stage2 = new Stage2(memory, caps, tlbs, fault);
  }

  /** SMMUEN = 0: GBPA; undefined when it aborts. */
  bypassed(gbpa: number, page: number, access: number, incoming: MemoryAttributes): TransactionAttributes | undefined {
    if ((gbpa & Gbpa.ABORT) !== 0 || page >= 2 ** (this.#caps.oas - 12)) return undefined;
    const f = readFields(GBPA, Uint32Array.of(gbpa, 0));
    return this.#output(overridden(f, incoming, this.#caps.typeOverride), overrideRow(f, this.#caps), access);
  }

  /** Undefined when the access would not pass. */
  translated(table: StreamTable, stream: number, substream: number, page: number, access: number, incoming: MemoryAttributes = INCOMING): TransactionAttributes | undefined {
    const c = this.#configuration;
    const reader = this.#reader;
    reader.table = table;
    if (!reader.read(stream, substream, c) || reader.stream === undefined || c.action === Action.ABORT) return undefined;
    const ste = reader.stream;
    let memory = overridden(ste, incoming, this.#caps.typeOverride);
    if (c.skipsStage1 && page >= 2 ** (this.#caps.ias - 12)) return undefined;
    if (c.action === Action.BYPASS) return !c.skipsStage1 && page >= 2 ** (this.#caps.oas - 12) ? undefined : this.#output(memory, c.needed / 16, access);
    const needed = NEEDED[c.needed + (access & 15)];
    let middle = page;
    if (c.stage1) {
      if (reader.context === undefined || !this.#stage1.resolve(c, page, needed)) return undefined;
      memory = throughStage1(memory, this.#ofLeaf(reader.context, this.#stage1.leaf, page % (2 * SIGN) >= SIGN ? 1 : 0));
      middle = this.#stage1.outPage;
    }
    if (c.stage2) {
      if (!this.#stage2.resolve(c, middle, needed, FaultClass.IN)) return undefined;
      const { leaf } = this.#stage2;
      const sh = this.#caps.ds && ste.S2DS === 1 && ste.S2TG !== 1 ? ste.S2SH0 : (leaf >>> 8) & 3;
      memory = throughStage2(memory, { memAttr: (leaf >>> 2) & 15, sh, forced: c.s2ForceWriteBack, tags: this.#caps.tagPermissions });
    }
    return this.#output(memory, c.needed / 16, access);
  }

  #ofLeaf(cd: Fields, leaf: number, half: 0 | 1): MemoryAttributes {
    const index = (leaf >>> 2) & 7;
    const byte = ((index < 4 ? cd.MAIR0 : cd.MAIR1) >>> ((index & 3) * 8)) & 0xff;
    // With LPA2 descriptors of 4K and 16K have no SH of their own.
    const ds = this.#caps.ds && cd.DS === 1 && this.#configuration.halves[half].granule !== 1;
    return mairAttributes(byte, ds ? cd[`SH${half}`] : (leaf >>> 8) & 3);
  }

  #output(memory: MemoryAttributes, row: number, access: number): TransactionAttributes {
    const own = attributes(row, access);
    const fixed = this.#caps.minor >= FIXED_PERMISSIONS;
    return { memory: consistent(memory), instruction: !fixed && own.instruction, privileged: fixed || own.privileged };
  }
}
