/**
 * Who uses which domain: stream table entries and context descriptors. Each change is followed by the commands that the manual asks for
 * (SMMU 3.21.3, 4.3): configuration first, then translations, then the device's own cache.
 */
import { encodeFields, type FieldValues, formatRid, type IommuDevice, refuse, type Tracer } from "@iommukit/core";
import { Op } from "../spec/commands.js";
import { CD } from "../spec/context.js";
import { StallModel } from "../spec/identification.js";
import { Eats, S1dss, STE, SteConfig } from "../spec/stream-table.js";
import type { ContextTable } from "./context-table.js";
import type { DeviceRecord, SmmuDomain, UnitSide } from "./domain.js";
import { invalidateDevice } from "./invalidation.js";
import { NestedSmmuDomain } from "./nested-domain.js";
import { ABORT, type StreamTable } from "./stream-table.js";

/** SHCFG: as the device says. */
const SHCFG_INCOMING = 1n;
const VALID = 1n;

export class Attacher {
  readonly #unit: UnitSide;
  readonly #streams: StreamTable;
  readonly #makeContexts: (device: IommuDevice) => ContextTable | undefined;
  readonly #tracer: Tracer | undefined;
  readonly #devices = new Map<number, DeviceRecord>();
  #lost = 0;

  constructor(unit: UnitSide, streams: StreamTable, makeContexts: (device: IommuDevice) => ContextTable | undefined, tracer: Tracer | undefined) {
    this.#unit = unit;
    this.#streams = streams;
    this.#makeContexts = makeContexts;
    this.#tracer = tracer;
  }

  /**
   * Takes a device in: until the first attach its entry stops every access. The unit may hold that there was none, and the level-1 descriptor
   * that led to none: every change of them is told, with Leaf=0 for the latter (4.3.1).
   */
  addDevice(device: IommuDevice, features: Pick<DeviceRecord, "ats" | "canStall">): void {
    const entry = this.#streams.entry(device.rid);
    this.#unit.queue.add(Op.CFGI_STE, { StreamID: BigInt(device.rid), Leaf: 0n });
    this.#unit.queue.sync();
    this.#devices.set(device.rid, { device, entry, contexts: this.#makeContexts(device), attachments: new Map(), takesFaults: false, ...features });
  }

  /** Whether what the device does wrong stalls from the next attach on. */
  takeFaults(device: IommuDevice, taken: boolean): void {
    const record = this.#devices.get(device.rid);
    if (record) record.takesFaults = taken;
  }

  removeDevice(device: IommuDevice): void {
    const record = this.record(device);
    for (const pasid of [...record.attachments.keys()]) this.detach(device, pasid);
    record.contexts?.free();
    this.#devices.delete(device.rid);
  }

  record(device: IommuDevice): DeviceRecord {
    return this.#devices.get(device.rid) ?? refuse("ENODEV", `${device.name} is not behind ${this.#unit.name}`, { argument: "device" });
  }

  find(stream: number): DeviceRecord | undefined {
    return this.#devices.get(stream);
  }

  /** What can be refused comes first: the old domain stays until nothing can go wrong any more. */
  attach(device: IommuDevice, pasid: number, domain: SmmuDomain): void {
    const record = this.record(device);
    domain.check(record, pasid);
    const descriptor = domain.contextFields && record.contexts?.entry(pasid);
    this.#end(record, pasid);
    record.attachments.set(pasid, domain);
    domain.join(record, pasid);
    if (descriptor !== undefined && domain.contextFields) {
      this.#unit.structures.write(CD, descriptor, { ...domain.contextFields(), S: this.#stalls(record) ? 1n : 0n });
      this.#unit.queue.add(Op.CFGI_CD, { StreamID: BigInt(device.rid), SubstreamID: BigInt(pasid), Leaf: 1n });
    }
    this.#writeStream(record);
  }

  detach(device: IommuDevice, pasid: number): void {
    const record = this.record(device);
    if (!record.attachments.has(pasid)) return;
    this.#end(record, pasid);
    this.#writeStream(record);
    if (record.canStall && record.attachments.size === 0) this.#endStalls(record);
  }

  /** Nothing of the device translates any more: what still waits is aborted (4.6.2). */
  #endStalls({ device }: DeviceRecord): void {
    this.#unit.queue.add(Op.STALL_TERM, { StreamID: BigInt(device.rid) });
    this.#unit.queue.sync();
  }

  /** Takes a domain away: its descriptor, its translations, what the device holds of them. */
  #end(record: DeviceRecord, pasid: number): void {
    const domain = record.attachments.get(pasid);
    if (domain === undefined) return;
    const { structures, queue } = this.#unit;
    const stream = BigInt(record.device.rid);
    record.attachments.delete(pasid);
    if (record.contexts && domain.contextFields) {
      structures.writeWord(CD, record.contexts.entry(pasid), 0, 0n);
      queue.add(Op.CFGI_CD, { StreamID: stream, SubstreamID: BigInt(pasid), Leaf: 1n });
    }
    if (pasid === 0) this.#store(record, ABORT);
    queue.sync();
    domain.flushAll();
    queue.sync();
    invalidateDevice(domain, record, pasid);
    queue.sync();
    domain.leave(record, pasid);
  }

  /** The entry for what the device has now. One that is in use goes through "abort" (3.21.3.1). */
  #writeStream(record: DeviceRecord): void {
    const words = this.#streamWords(record);
    const { structures, queue } = this.#unit;
    const same = words.every((word, i) => structures.word(record.entry + i * 8) === word);
    if (!same) {
      this.#store(record, ABORT);
      queue.sync();
      this.#store(record, words);
    }
    queue.sync();
  }

  #store(record: DeviceRecord, words: readonly bigint[]): void {
    const { structures, queue } = this.#unit;
    structures.writeWords(STE, record.entry, words);
    queue.add(Op.CFGI_STE, { StreamID: BigInt(record.device.rid), Leaf: 1n });
  }

  #streamWords(record: DeviceRecord): readonly bigint[] {
    const own = record.attachments.get(0);
    const fields = own?.streamFields(record) ?? this.#pasidsOnly(record);
    if (fields === undefined || fields.Config === 0n) return ABORT;
    const ats = own instanceof NestedSmmuDomain ? own.ats : true;
    return encodeFields(STE, { ...fields, V: VALID, SHCFG: SHCFG_INCOMING, EATS: BigInt(record.ats && ats ? Eats.FULL : Eats.NONE), ...this.#stallFields(record, fields) });
  }

  /** Accesses with PASID translate, those without are stopped. */
  #pasidsOnly(record: DeviceRecord): FieldValues | undefined {
    const [any] = record.attachments.values();
    return any && { ...any.streamFields(record), S1DSS: BigInt(S1dss.TERMINATE) };
  }

  /** Where the unit lets software choose, what is wrong stalls if the device can wait and somebody would answer (3.12). */
  #stalls({ canStall, takesFaults }: DeviceRecord): boolean {
    const { stallModel } = this.#unit.caps;
    return stallModel === StallModel.FORCED || (stallModel === StallModel.BOTH && canStall && takesFaults);
  }

  /** PCI devices may not wait: where the unit has stalls, no descriptor of theirs turns them on. */
  #stallFields(record: DeviceRecord, { Config }: FieldValues): FieldValues {
    const { stallModel, stage1 } = this.#unit.caps;
    const hasStage2 = (Number(Config) & SteConfig.STAGE2) === SteConfig.STAGE2;
    return {
      ...(stallModel === StallModel.BOTH && stage1 && !record.canStall ? { S1STALLD: 1n } : {}),
      ...(hasStage2 && this.#stalls(record) ? { S2S: 1n } : {}),
    };
  }

  /**
   * Some device did not answer an invalidation of its translation cache, and nobody knows what is in it. The unit does not say which: from
   * here on none is asked, and none may use what it holds.
   */
  atsLost(): void {
    for (const record of this.#devices.values()) {
      if (!record.ats) continue;
      record.ats = false;
      const words = this.#streamWords(record);
      this.#unit.structures.writeWords(STE, record.entry, words);
      this.#unit.queue.add(Op.CFGI_STE, { StreamID: BigInt(record.device.rid), Leaf: 1n });
      this.#lost++;
      const text = `${formatRid(record.device.rid)} may hold translations that are gone: its translation cache is off`;
      if (this.#tracer?.listener) this.#tracer.listener({ kind: "report", unit: this.#unit.name, text, count: this.#lost });
    }
  }
}
