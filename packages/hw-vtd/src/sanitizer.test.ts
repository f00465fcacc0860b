/** Drivers with a bug each, and what the sanitizer says of them. A correct driver gives it nothing to say. */
import { buildMachine, encodeFields, type Finding, findingLines, FindingKind, type Machine, Sanitizer, SimulatedClient } from "@iommukit/core";
import { DmaTestCommand, DmaTestRegister as R, dmaTestModel } from "@iommukit/core/devices";
import { beforeEach, describe, expect, it } from "vitest";
import type { VtdUnit } from "./hardware/index.js";
import { vtdIommuFactory } from "./plugin.js";
import { DescriptorType, WAIT_DESCRIPTOR } from "./spec/descriptors.js";
import { Reg } from "./spec/registers.js";

const IOVA = 0x4000_0000n;
const LENGTH = 0x40_0000n;
/** A wait without any flag does nothing. */
const NOTHING = encodeFields(WAIT_DESCRIPTOR, { type: BigInt(DescriptorType.WAIT) });

/** A descriptor on its way to the unit: edit it, or return "drop". */
type Bug = (type: number, words: bigint[]) => "drop" | void;

class Rig {
  readonly machine: Machine;
  readonly client: SimulatedClient;
  readonly sanitizer: Sanitizer;
  readonly iommu: number;
  readonly device: number;
  readonly deviceId: number;
  bug: Bug | undefined;

  constructor(preset: string) {
    const spec = { ...vtdIommuFactory.defaultMachine?.(), iommus: [{ type: "vtd", options: { preset } }] };
    this.machine = buildMachine(spec, { iommus: [vtdIommuFactory], devices: [dmaTestModel] });
    this.#tamper(this.machine.units[0].hardware as VtdUnit);
    this.sanitizer = new Sanitizer(this.machine);
    this.client = new SimulatedClient(this.machine.nodes);
    this.iommu = this.client.open("/dev/iommu");
    this.device = this.client.open("/dev/vfio/devices/vfio0");
    this.deviceId = Number(this.client.ioctl(this.device, "VFIO_DEVICE_BIND_IOMMUFD", { iommufd: this.iommu }).out_devid);
    this.client.pwrite(this.device, (7n << 40n) + 4n, Uint8Array.of(6, 0));
  }

  /** Between the driver and the queue's doorbell: descriptors change, or go. */
  #tamper(unit: VtdUnit): void {
    const { memory } = this.machine;
    const write = unit.write.bind(unit);
    unit.write = (offset, size, value) => {
      if (offset === Reg.IQT && this.bug) {
        const address = unit.read(Reg.IQA, 8);
        const step = (address & 0x800n) === 0n ? 16 : 32;
        const bytes = 2 ** (12 + Number(address & 7n));
        for (let at = Number(unit.read(Reg.IQH, 8)); at !== Number(value); at = (at + step) % bytes) {
          const pa = Number(address >> 12n) * 4096 + at;
          const words = Array.from({ length: step / 8 }, (_, i) => memory.readU64(pa + i * 8) ?? 0n);
          const edited = this.bug(Number(((words[0] >> 5n) & 0x70n) | (words[0] & 15n)), words) === "drop" ? NOTHING : words;
          for (let i = 0; i < step / 8; i++) memory.writeU64(pa + i * 8, edited[i] ?? 0n);
        }
      }
      write(offset, size, value);
    };
  }

  allocate(): number {
    return Number(this.client.ioctl(this.iommu, "IOMMU_IOAS_ALLOC").out_ioas_id);
  }

  attach(ioas: number): void {
    this.client.ioctl(this.device, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { pt_id: ioas });
  }

  map(ioas: number, address: bigint, flags = 7, iova = IOVA, length = LENGTH): void {
    this.client.ioctl(this.iommu, "IOMMU_IOAS_MAP", { flags, ioas_id: ioas, user_va: address, length, iova });
  }

  unmap(ioas: number, iova = IOVA, length = LENGTH): void {
    this.client.ioctl(this.iommu, "IOMMU_IOAS_UNMAP", { ioas_id: ioas, iova, length });
  }

  dma(command: number, address = IOVA): void {
    const poke = (register: number, value: bigint, size: number): void => {
      const bytes = new Uint8Array(8);
      new DataView(bytes.buffer).setBigUint64(0, value, true);
      this.client.pwrite(this.device, BigInt(register), bytes.subarray(0, size));
    };
    poke(command === DmaTestCommand.READ ? R.SOURCE : R.DESTINATION, address, 8);
    poke(R.LENGTH, 64n, 4);
    poke(R.COMMAND, BigInt(command), 4);
  }

  get found(): readonly Finding[] {
    return this.sanitizer.findings;
  }

  /** The finding that a request made, not the look at the caches. */
  get used(): Finding | undefined {
    return this.found.find((finding) => finding.access !== undefined);
  }
}

const invalidation = (type: number): boolean => type === DescriptorType.IOTLB || type === DescriptorType.P_IOTLB;

describe.each(["scalable", "second-stage", "legacy"])("drivers of a %s unit", (preset) => {
  let rig: Rig;
  let ioas: number;
  let buffer: { readonly address: bigint };

  beforeEach(() => {
    rig = new Rig(preset);
    ioas = rig.allocate();
    rig.attach(ioas);
    buffer = rig.client.memory.map(Number(LENGTH));
    rig.map(ioas, buffer.address);
    rig.dma(DmaTestCommand.READ);
    rig.dma(DmaTestCommand.WRITE);
  });

  it("a correct one gives no finding, whatever it is asked for", () => {
    const other = rig.allocate();
    rig.map(other, rig.client.memory.map(Number(LENGTH)).address);
    rig.attach(ioas = other);
    for (const flags of [7, 5]) {
      rig.dma(DmaTestCommand.WRITE);
      rig.unmap(other);
      rig.dma(DmaTestCommand.READ);
      rig.map(other, buffer.address, flags);
      rig.dma(DmaTestCommand.READ);
      rig.dma(DmaTestCommand.WRITE, IOVA + 0x1000n);
    }
    rig.client.ioctl(rig.device, "VFIO_DEVICE_DETACH_IOMMUFD_PT");
    rig.dma(DmaTestCommand.READ);
    expect(rig.found).toEqual([]);
  });

  it("1. an unmap without an invalidation", () => {
    rig.bug = (type) => (invalidation(type) ? "drop" : undefined);
    rig.unmap(ioas);
    expect(rig.found[0]).toMatchObject({ kind: FindingKind.MISSING_INVALIDATION, iova: IOVA });
    rig.dma(DmaTestCommand.READ);
    const finding = rig.used;
    expect(finding).toMatchObject({ kind: FindingKind.STALE, iova: IOVA, access: "read" });
    expect(finding?.changed?.writer).toContain("IOMMU_IOAS_UNMAP");
    expect(finding?.due?.text).toContain("page-selective");
    expect(findingLines(finding as Finding).join("\n")).toContain("invalidation due");
  });

  it("2. an invalidation under a wrong domain-id", () => {
    rig.bug = (type, words) => {
      if (invalidation(type)) words[0] += 1n << 16n;
    };
    rig.unmap(ioas);
    rig.dma(DmaTestCommand.WRITE);
    expect(rig.used).toMatchObject({ kind: FindingKind.STALE, access: "write" });
    expect(rig.used?.issued.join()).toMatch(/DID=0x3/);
  });

  it("3. an invalidation that is too narrow", () => {
    // Four pages of 4 KiB: of a large page, any part of the range would do.
    const small = IOVA + LENGTH;
    rig.map(ioas, buffer.address + 0x1000n, 7, small, 0x4000n);
    for (const at of [0n, 0x3000n]) rig.dma(DmaTestCommand.READ, small + at);
    rig.bug = (type, words) => {
      if (invalidation(type)) words[1] &= ~63n;
    };
    rig.unmap(ioas, small, 0x4000n);
    for (const at of [0n, 0x3000n]) rig.dma(DmaTestCommand.READ, small + at);
    const used = rig.found.filter((finding) => finding.access !== undefined);
    expect(used.map((finding) => finding.iova)).toEqual([small + 0x3000n]);
    expect(used[0].issued.join()).toMatch(/G=page/);
  });

  it("4. a right that is taken away without an invalidation", () => {
    rig.bug = (type) => (invalidation(type) ? "drop" : undefined);
    rig.unmap(ioas);
    rig.map(ioas, buffer.address, 5);
    rig.dma(DmaTestCommand.READ);
    expect(rig.used).toBeUndefined();
    rig.dma(DmaTestCommand.WRITE);
    expect(rig.used).toMatchObject({ kind: FindingKind.OVER_PERMISSIVE, access: "write" });
  });

  it("5. another address space, with the old configuration still cached", () => {
    // A page table that outlives its attach: what the cached configuration leads to is still there.
    const { out_hwpt_id: kept } = rig.client.ioctl(rig.iommu, "IOMMU_HWPT_ALLOC", { dev_id: rig.deviceId, pt_id: ioas });
    rig.attach(Number(kept));
    rig.dma(DmaTestCommand.READ);
    const other = rig.allocate();
    rig.map(other, rig.client.memory.map(Number(LENGTH)).address);
    rig.bug = (type) => (type === DescriptorType.PC || type === DescriptorType.CC ? "drop" : undefined);
    rig.client.ioctl(rig.device, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { pt_id: other });
    rig.dma(DmaTestCommand.READ);
    expect(rig.used).toMatchObject({ kind: FindingKind.STALE });
    expect(rig.used?.changed?.structure).toMatch(/PASID table entry|Context entry/);
    expect(rig.used?.due?.text).toMatch(/PASID-cache|context-cache/);
  });

  it("6. a detach that leaves translations behind", () => {
    rig.bug = (type) => (invalidation(type) ? "drop" : undefined);
    rig.client.ioctl(rig.device, "VFIO_DEVICE_DETACH_IOMMUFD_PT");
    rig.dma(DmaTestCommand.READ);
    expect(rig.used).toMatchObject({ kind: FindingKind.STALE });
    expect(rig.used?.expected).toMatch(/blocked/);
    expect(rig.used?.changed?.writer).toContain("DETACH");
  });
});
