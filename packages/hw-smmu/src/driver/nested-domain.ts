/** A guest's stream table entry on top of a second stage of ours (SMMU 3.3.3; iommufd facts 9.3): IOMMU_HWPT_DATA_ARM_SMMUV3. */
import { encodeFields, fieldValue, type FieldValues, type NestedDomain, refuse, type UserData } from "@iommukit/core";
import { Op } from "../spec/commands.js";
import { SteConfig, STE } from "../spec/stream-table.js";
import { type DeviceRecord, SmmuDomain, type UnitSide } from "./domain.js";
import type { PagingSmmuDomain } from "./paging-domain.js";
import type { SmmuViommu } from "./viommu.js";

/** enum iommu_hwpt_data_type */
const DATA_ARM_SMMUV3 = 2;
const BYTES = 16;
/** What a guest may say of its first stage. */
const ALLOWED = ["V", "Config", "S1Fmt", "S1ContextPtr", "S1CDMax", "S1DSS", "S1CIR", "S1COR", "S1CSH", "S1STALLD", "EATS"] as const;
/** Linux takes pointers of 52 bits, as before SMMUv3.4. */
const POINTER_BITS = 46;
const ALLOWED_WORDS = encodeFields(STE, Object.fromEntries(ALLOWED.map((name) => [name, (1n << BigInt(Math.min(widthOf(name), POINTER_BITS))) - 1n])));
const GUEST_CONFIGS: readonly number[] = [0, SteConfig.BYPASS, SteConfig.STAGE1];
/** EATS of a guest: none, or full. */
const MOST_EATS = 1n;

function widthOf(name: string): number {
  return STE.fields.find((field) => field.name === name)?.width ?? 0;
}

export class NestedSmmuDomain extends SmmuDomain implements NestedDomain {
  readonly parent: PagingSmmuDomain;
  readonly viommu: SmmuViommu;
  /** The guest's context descriptors do. */
  override readonly ofEveryPasid = true;
  readonly #words: readonly bigint[];
  /** By StreamID. */
  readonly #virtualIds = new Map<number, bigint>();

  /** @throws IommuError EINVAL, EFAULT, EIO for an entry that a guest may not have */
  constructor(unit: UnitSide, viommu: SmmuViommu, parent: PagingSmmuDomain, data: UserData) {
    super(unit);
    if (data.type !== DATA_ARM_SMMUV3) refuse("EINVAL", `data_type ${data.type} is not ARM_SMMUV3 (${DATA_ARM_SMMUV3})`, { argument: "data_type" });
    const view = new DataView(data.read(BYTES, BYTES).buffer);
    const words = [view.getBigUint64(0, true), view.getBigUint64(8, true)];
    this.viommu = viommu;
    this.parent = parent;
    this.#words = (words[0] & 1n) === 0n ? [0n, 0n] : words;
    this.#checkEntry();
    parent.nested.add(this);
  }

  #field(name: string): bigint {
    return fieldValue(STE, [...this.#words, 0n, 0n, 0n, 0n, 0n, 0n], name);
  }

  get #config(): number {
    return Number(this.#field("Config"));
  }

  /** In the order of Linux: forbidden bits, Config, EATS. */
  #checkEntry(): void {
    const bad = (why: string): never => refuse("EIO", `a guest may not have this stream table entry: ${why}`, { argument: "ste", rule: "iommu_hwpt_arm_smmuv3" });
    const extra = this.#words.findIndex((word, i) => (word & ~ALLOWED_WORDS[i]) !== 0n);
    if (extra !== -1) bad(`word ${extra} is 0x${this.#words[extra].toString(16)}, with bits beyond 0x${ALLOWED_WORDS[extra].toString(16)}`);
    if (!GUEST_CONFIGS.includes(this.#config)) bad(`Config is ${this.#config}, none of abort, bypass, stage 1`);
    if (this.#field("EATS") > MOST_EATS) bad(`EATS is ${this.#field("EATS")}`);
  }

  override check(record: DeviceRecord, pasid: number): void {
    if (pasid !== 0) refuse("EINVAL", "a guest's stream table entry is the RID's", { argument: "pasid" });
    if ([...record.attachments.keys()].some((key) => key !== 0)) refuse("EBUSY", `${record.device.name} uses PASIDs`, { argument: "pt_id" });
    if (this.#config === SteConfig.STAGE1 && this.viommu.virtualId(record.device) === undefined) {
      refuse("ENOENT", `${record.device.name} has no vDEVICE, so the guest has no StreamID for it`, { argument: "pt_id" });
    }
  }

  /** The guest's StreamID as it is now stays the device's until the next attach, whatever becomes of the vDEVICE. */
  override join(record: DeviceRecord, pasid: number): void {
    super.join(record, pasid);
    const id = this.viommu.virtualId(record.device);
    if (id !== undefined) this.#virtualIds.set(record.device.rid, id);
  }

  override leave(record: DeviceRecord, pasid: number): void {
    super.leave(record, pasid);
    this.#virtualIds.delete(record.device.rid);
  }

  /** Hands an event record to the guest. False when the device is none of its own, or nobody would read it. */
  report(stream: number, words: readonly bigint[]): boolean {
    const id = this.#virtualIds.get(stream);
    return id !== undefined && this.viommu.report(id, words);
  }

  streamFields(): FieldValues {
    if (this.#config === 0) return { Config: 0n };
    const second = this.parent.stage2Fields();
    if (this.#config === SteConfig.BYPASS) return { Config: BigInt(SteConfig.STAGE2), ...second };
    const own = Object.fromEntries(ALLOWED.filter((name) => name !== "V" && name !== "EATS").map((name) => [name, this.#field(name)]));
    // Events of one cause may be merged: a guest cannot flood the queue (MEV).
    return { ...second, ...own, Config: BigInt(SteConfig.NESTED), MEV: 1n };
  }

  /** The device's translation cache is the guest's to turn on. */
  get ats(): boolean {
    return this.#config === SteConfig.STAGE1 && this.#field("EATS") === MOST_EATS;
  }

  flushAll(): void {
    this.unit.queue.add(Op.TLBI_NH_ALL, { VMID: this.parent.stage2Fields().S2VMID });
  }

  free(): void {
    this.parent.nested.delete(this);
  }
}
