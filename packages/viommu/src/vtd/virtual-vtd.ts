/**
 * A guest's VT-d unit with nested translation: its first stages are page tables of the host (IOMMU_HWPT_DATA_VTD_S1) on top of one that
 * holds the guest's memory. What the host refuses blocks the (requester, PASID), and is a fault record of the guest's unit.
 */
import { IommuError, NO_PASID, refuse } from "@iommukit/core";
import { encodeStruct } from "@iommukit/core/abi";
import { type FirstStageView, Granularity, PasidGranularity, type TranslationView, type UnitObserver, type UnitOrder } from "@iommukit/hw-vtd/spec";
import type { GuestRam, Program } from "../host/calls.js";

/** What is needed of the unit that the guest programs: `VtdUnit` of hw-vtd is one. */
export interface VirtualUnit {
  observer: UnitObserver | undefined;
  look(rid: number, pasid: number): TranslationView;
  pasids(rid: number, limit: number): Iterable<number>;
  refuse(rid: number, pasid: number): void;
}

/** A VFIO device that is bound to the iommufd. */
export interface HostDevice {
  readonly rid: number;
  readonly fd: number;
  readonly devId: number;
  /** Width of its PASIDs, 0 for none. */
  readonly pasidBits: number;
}

const NEST_PARENT = 1;
const ALLOC_PASID = 8;
const DATA_VTD_S1 = 1;
const ATTACH_PASID = 1;
const MAP_ALL = 7;
const EVERYTHING = 2n ** 64n - 1n;
const ENTRY_BYTES = 24;
/** Ranges that are told one by one; more are told as everything. */
const MOST_RANGES = 64;
const FUNCTION_MASKS = [0, 4, 6, 7] as const;

interface Attachment {
  readonly device: HostDevice;
  readonly pasid: number;
  view: TranslationView;
  /** The nested page table; undefined where the guest's memory itself is attached, or nothing. */
  hwpt: number | undefined;
  refused: boolean;
  ranges: { addr: bigint; npages: bigint; flags: number }[];
}

export class VirtualVtd {
  readonly #unit: VirtualUnit;
  readonly #program: Program;
  readonly #iommufd: number;
  readonly #parents = new Map<number, number>();
  readonly #devices: readonly HostDevice[];
  readonly #attachments = new Map<number, Map<number, Attachment>>();
  readonly #scratch: { readonly address: bigint; readonly bytes: Uint8Array };

  /** @throws IommuError when the guest's memory cannot be mapped, or a device cannot be attached to it */
  constructor(unit: VirtualUnit, program: Program, iommufd: number, ram: readonly GuestRam[], devices: readonly HostDevice[]) {
    this.#unit = unit;
    this.#program = program;
    this.#iommufd = iommufd;
    this.#devices = devices;
    this.#scratch = program.memory.map(4096);
    const ioas = Number(program.ioctl(iommufd, "IOMMU_IOAS_ALLOC").out_ioas_id);
    for (const { base, size, address } of ram) program.ioctl(iommufd, "IOMMU_IOAS_MAP", { flags: MAP_ALL, ioas_id: ioas, user_va: address, length: size, iova: base });
    for (const device of devices) {
      const flags = NEST_PARENT | (device.pasidBits > 0 ? ALLOC_PASID : 0);
      this.#parents.set(device.rid, Number(program.ioctl(iommufd, "IOMMU_HWPT_ALLOC", { dev_id: device.devId, pt_id: ioas, flags }).out_hwpt_id));
      this.#attachments.set(device.rid, new Map());
      this.#follow(device, NO_PASID);
    }
    unit.observer = (order) => this.#obey(order);
  }

  #obey(order: UnitOrder): void {
    switch (order.kind) {
      case "root-table":
      case "translation":
        return this.#followAll(this.#devices, () => true);
      case "contexts": {
        const ignored = order.granularity === Granularity.SELECTIVE ? FUNCTION_MASKS[order.functionMask] : 0xffff;
        return this.#followAll(this.#devices.filter(({ rid }) => (rid & ~ignored) === (order.source & ~ignored)), () => true);
      }
      case "pasids":
        return this.#followAll(this.#devices, ({ view }) => order.granularity === PasidGranularity.GLOBAL || !("domain" in view) || view.domain === order.domain,
          order.granularity === PasidGranularity.PASID ? order.pasid : undefined);
      case "translations":
        return this.#gather(order);
      default:
        for (const attachments of this.#attachments.values()) for (const attachment of attachments.values()) this.#flush(attachment);
    }
  }

  /** Looks at what the guest's tables say of each PASID that has something attached, or is present now. */
  #followAll(devices: readonly HostDevice[], concerns: (attachment: Attachment) => boolean, only?: number): void {
    for (const device of devices) {
      const known = this.#attachments.get(device.rid) ?? new Map<number, Attachment>();
      const present = only === undefined ? this.#unit.pasids(device.rid, 2 ** device.pasidBits) : [only];
      for (const pasid of new Set([NO_PASID, ...known.keys(), ...present])) {
        if (only !== undefined && pasid !== NO_PASID && pasid !== only) continue;
        const attachment = known.get(pasid);
        if (pasid >= 2 ** device.pasidBits || (attachment !== undefined && !concerns(attachment))) continue;
        this.#follow(device, pasid);
      }
    }
  }

  #follow(device: HostDevice, pasid: number): void {
    const known = this.#attachments.get(device.rid);
    const looked = this.#unit.look(device.rid, pasid);
    // Without translation, only the RID's own requests can be let through.
    const view: TranslationView = looked.kind === "untranslated" && pasid !== NO_PASID ? { kind: "blocked" } : looked;
    const before = known?.get(pasid);
    if (before === undefined && view.kind === "blocked" && pasid !== NO_PASID) return;
    if (before !== undefined && !before.refused && JSON.stringify(before.view) === JSON.stringify(view)) return;
    const after: Attachment = { device, pasid, view, hwpt: undefined, refused: false, ranges: [] };
    try {
      this.#attach(after);
    } catch (error) {
      if (!(error instanceof IommuError)) throw error;
      this.#block(after);
    }
    this.#destroy(before);
    if (view.kind === "blocked" && pasid !== NO_PASID) known?.delete(pasid);
    else known?.set(pasid, after);
  }

  /** What was attached before stays until this has taken its place. */
  #attach(attachment: Attachment): void {
    const { device, view } = attachment;
    if (view.kind === "blocked") return this.#detach(attachment);
    if (view.kind === "untranslated" || view.kind === "pass-through") return this.#use(attachment, this.#parents.get(device.rid) ?? 0);
    if (view.kind !== "first-stage") refuse("EOPNOTSUPP", `a ${view.kind} table of a guest cannot be nested`, { rule: "ECAP.SSTS" });
    attachment.hwpt = this.#nest(device, view.first);
    this.#use(attachment, attachment.hwpt);
  }

  #nest(device: HostDevice, { root, levels, supervisor, writeProtect, extendedAccessed }: FirstStageView): number {
    const data = encodeStruct("iommu_hwpt_vtd_s1", {
      flags: (supervisor ? 1 : 0) | (extendedAccessed ? 2 : 0) | (writeProtect ? 4 : 0), pgtbl_addr: BigInt(root), addr_width: levels === 5 ? 57 : 48,
    });
    this.#scratch.bytes.set(data);
    const { out_hwpt_id } = this.#program.ioctl(this.#iommufd, "IOMMU_HWPT_ALLOC", {
      dev_id: device.devId, pt_id: this.#parents.get(device.rid) ?? 0, flags: device.pasidBits > 0 ? ALLOC_PASID : 0,
      data_type: DATA_VTD_S1, data_len: data.length, data_uptr: this.#scratch.address,
    });
    return Number(out_hwpt_id);
  }

  #use({ device, pasid }: Attachment, hwpt: number): void {
    this.#program.ioctl(device.fd, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", pasid === NO_PASID ? { pt_id: hwpt, argsz: 12 } : { flags: ATTACH_PASID, pt_id: hwpt, pasid });
  }

  #detach({ device, pasid }: Attachment): void {
    this.#program.ioctl(device.fd, "VFIO_DEVICE_DETACH_IOMMUFD_PT", pasid === NO_PASID ? { argsz: 8 } : { flags: ATTACH_PASID, pasid });
  }

  /** The host refused: nothing of before stays attached, and the guest finds a fault record. Tried again when the guest invalidates the entry. */
  #block(attachment: Attachment): void {
    this.#detach(attachment);
    this.#destroy(attachment);
    attachment.hwpt = undefined;
    attachment.refused = true;
    this.#unit.refuse(attachment.device.rid, attachment.pasid);
  }

  #destroy(attachment: Attachment | undefined): void {
    if (attachment?.hwpt !== undefined) this.#program.ioctl(this.#iommufd, "IOMMU_DESTROY", { id: attachment.hwpt });
  }

  #gather(order: UnitOrder & { readonly kind: "translations" }): void {
    // By domain alone, a range takes in every first-stage translation (VT-d 6.5.2.3).
    const whole = order.pasid === undefined || order.granularity !== Granularity.SELECTIVE || order.addressMask >= 52;
    const pages = 2n ** BigInt(order.addressMask);
    const range = whole ? { addr: 0n, npages: EVERYTHING, flags: 0 } : { addr: ((BigInt(order.page) / pages) * pages) << 12n, npages: pages, flags: Number(order.leavesOnly) };
    for (const attachments of this.#attachments.values()) {
      for (const attachment of attachments.values()) {
        const { view, ranges } = attachment;
        if (attachment.hwpt === undefined || view.kind !== "first-stage") continue;
        if (order.granularity !== Granularity.GLOBAL || order.pasid !== undefined) {
          if (view.domain !== order.domain || (order.pasid !== undefined && view.pasid !== order.pasid)) continue;
        }
        if (whole || ranges.length >= MOST_RANGES) attachment.ranges = [{ addr: 0n, npages: EVERYTHING, flags: 0 }];
        else if (ranges[0]?.npages !== EVERYTHING) ranges.push(range);
      }
    }
  }

  #flush(attachment: Attachment): void {
    const { ranges, hwpt } = attachment;
    if (hwpt === undefined || ranges.length === 0) return;
    attachment.ranges = [];
    for (const [i, range] of ranges.entries()) this.#scratch.bytes.set(encodeStruct("iommu_hwpt_vtd_s1_invalidate", range), i * ENTRY_BYTES);
    try {
      this.#program.ioctl(this.#iommufd, "IOMMU_HWPT_INVALIDATE", { hwpt_id: hwpt, data_uptr: this.#scratch.address, data_type: 0, entry_len: ENTRY_BYTES, entry_num: ranges.length });
    } catch (error) {
      if (!(error instanceof IommuError)) throw error;
      this.#block(attachment);
    }
  }
}
