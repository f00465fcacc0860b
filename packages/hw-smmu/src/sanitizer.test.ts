/** Drivers with a bug each, and what the sanitizer says of them. A correct driver gives it nothing to say. */
import { buildMachine, type Finding, findingLines, FindingKind, type Machine, Sanitizer, SimulatedClient } from "@iommukit/core";
import { DmaTestCommand, DmaTestRegister as R, dmaTestModel, DmaTestStatus } from "@iommukit/core/devices";
import { beforeEach, describe, expect, it } from "vitest";
import type { SmmuUnit } from "./hardware/index.js";
import { smmuIommuFactory } from "./plugin.js";
import { Op } from "./spec/commands.js";
import { Reg } from "./spec/registers.js";

const IOVA = 0x4000_0000n;
const PAGE = 0x1000n;
const LENGTH = 0x40_0000n;
const PASID = 7;
const HWPT_PASID = 8;
const NEST_PARENT = 1;
/** A CMD_SYNC without completion signal does nothing. */
const NOTHING = [BigInt(Op.SYNC), 0n];

/** A command on its way to the unit: edit it, or return "drop". */
type Bug = (opcode: number, words: bigint[]) => "drop" | void;

class Rig {
  readonly machine: Machine;
  readonly client: SimulatedClient;
  readonly sanitizer: Sanitizer;
  readonly iommu: number;
  readonly device: number;
  readonly deviceId: number;
  bug: Bug | undefined;

  constructor(options: Readonly<Record<string, unknown>> = {}) {
    const spec = { name: "sanitizer", memory: { size: "256MiB" }, iommus: [{ type: "smmuv3", options: { preset: "server" } }], devices: [{ model: "dma-test", bdf: "00:03.0", vfio: "vfio0", options }] };
    this.machine = buildMachine(spec, { iommus: [smmuIommuFactory], devices: [dmaTestModel] });
    this.#tamper(this.machine.units[0].hardware as SmmuUnit);
    this.sanitizer = new Sanitizer(this.machine);
    this.client = new SimulatedClient(this.machine.nodes);
    this.iommu = this.client.open("/dev/iommu");
    this.device = this.client.open("/dev/vfio/devices/vfio0");
    this.deviceId = Number(this.client.ioctl(this.device, "VFIO_DEVICE_BIND_IOMMUFD", { iommufd: this.iommu }).out_devid);
    this.client.pwrite(this.device, (7n << 40n) + 4n, Uint8Array.of(6, 0));
  }

  /** Between the driver and the queue's doorbell: commands change, or go. */
  #tamper(unit: SmmuUnit): void {
    const { memory } = this.machine;
    const write = unit.write.bind(unit);
    unit.write = (offset, size, value) => {
      if (offset === Reg.CMDQ_PROD && this.bug) {
        const base = unit.read(Reg.CMDQ_BASE, 8);
        const slots = 2 ** Number(base & 31n);
        for (let at = Number(unit.read(Reg.CMDQ_CONS, 4) & 0xf_ffffn); at !== Number(value); at = (at + 1) % (2 * slots)) {
          const pa = Number(base & 0xf_ffff_ffff_ffe0n) + (at % slots) * 16;
          const words = [memory.readU64(pa) ?? 0n, memory.readU64(pa + 8) ?? 0n];
          const edited = this.bug(Number(words[0] & 0xffn), words) === "drop" ? NOTHING : words;
          for (let i = 0; i < 2; i++) memory.writeU64(pa + i * 8, edited[i]);
        }
      }
      write(offset, size, value);
    };
  }

  allocate(): number {
    return Number(this.client.ioctl(this.iommu, "IOMMU_IOAS_ALLOC").out_ioas_id);
  }

  hwpt(ioas: number, flags = 0): number {
    return Number(this.client.ioctl(this.iommu, "IOMMU_HWPT_ALLOC", { flags, dev_id: this.deviceId, pt_id: ioas }).out_hwpt_id);
  }

  attach(id: number, pasid?: number): void {
    this.client.ioctl(this.device, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { pt_id: id, ...(pasid === undefined ? {} : { flags: 1, pasid }) });
  }

  /** Memory of its own, mapped. */
  map(ioas: number, iova = IOVA, length = LENGTH, address = this.client.memory.map(Number(length)).address, flags = 7): bigint {
    this.client.ioctl(this.iommu, "IOMMU_IOAS_MAP", { flags, ioas_id: ioas, user_va: address, length, iova });
    return address;
  }

  unmap(ioas: number, iova = IOVA, length = LENGTH): void {
    this.client.ioctl(this.iommu, "IOMMU_IOAS_UNMAP", { ioas_id: ioas, iova, length });
  }

  /** @returns `DmaTestStatus` */
  dma(command: number, address = IOVA, pasid?: number): number {
    const poke = (register: number, value: bigint, size: number): void => {
      const bytes = new Uint8Array(8);
      new DataView(bytes.buffer).setBigUint64(0, value, true);
      this.client.pwrite(this.device, BigInt(register), bytes.subarray(0, size));
    };
    poke(command === DmaTestCommand.READ ? R.SOURCE : R.DESTINATION, address, 8);
    poke(R.LENGTH, 64n, 4);
    poke(R.PASID, pasid === undefined ? 0n : (1n << 31n) | BigInt(pasid), 4);
    poke(R.COMMAND, BigInt(command), 4);
    return this.client.pread(this.device, BigInt(R.STATUS), 4)[0];
  }

  get found(): readonly Finding[] {
    return this.sanitizer.findings;
  }

  /** What the look at the caches found first. */
  get missing(): Finding | undefined {
    return this.found.find(({ kind }) => kind === FindingKind.MISSING_INVALIDATION);
  }

  /** What a request found first. */
  get used(): Finding | undefined {
    return this.found.find((finding) => finding.access !== undefined);
  }
}

const isTlbi = (opcode: number): boolean => opcode >= Op.TLBI_NH_ALL && opcode <= Op.TLBI_NSNH_ALL;
const isCfgi = (opcode: number): boolean => opcode >= Op.CFGI_STE && opcode <= Op.CFGI_CD_ALL;
const drop = (...opcodes: readonly number[]): Bug => (opcode) => (opcodes.includes(opcode) ? "drop" : undefined);

describe("drivers of stage 1", () => {
  let rig: Rig;
  let ioas: number;
  let buffer: bigint;

  beforeEach(() => {
    rig = new Rig();
    ioas = rig.allocate();
    rig.attach(ioas);
    buffer = rig.map(ioas);
    rig.dma(DmaTestCommand.READ);
    rig.dma(DmaTestCommand.WRITE);
  });

  it("a correct one gives no finding, whatever it is asked for", () => {
    const other = rig.allocate();
    rig.map(other);
    rig.attach(rig.hwpt(ioas, HWPT_PASID));
    rig.attach(rig.hwpt(other, HWPT_PASID), PASID);
    rig.dma(DmaTestCommand.WRITE, IOVA, PASID);
    rig.attach(rig.hwpt(other, HWPT_PASID));
    for (const flags of [7, 5]) {
      rig.dma(DmaTestCommand.WRITE);
      rig.unmap(other);
      rig.dma(DmaTestCommand.READ, IOVA, PASID);
      rig.map(other, IOVA, LENGTH, buffer, flags);
      rig.dma(DmaTestCommand.READ);
      rig.dma(DmaTestCommand.WRITE, IOVA + PAGE);
    }
    rig.client.ioctl(rig.device, "VFIO_DEVICE_DETACH_IOMMUFD_PT", { flags: 1, pasid: PASID });
    rig.client.ioctl(rig.device, "VFIO_DEVICE_DETACH_IOMMUFD_PT");
    rig.dma(DmaTestCommand.READ);
    expect(rig.found).toEqual([]);
  });

  it("1. an unmap without a TLBI, and the memory is reached all the same", () => {
    rig.bug = (opcode) => (isTlbi(opcode) ? "drop" : undefined);
    rig.unmap(ioas);
    expect(rig.missing).toMatchObject({ iova: IOVA, expected: expect.stringContaining("F_TRANSLATION") as unknown });
    expect(rig.missing?.changed?.structure).toMatch(/Stage 1/);
    expect(rig.missing?.changed?.writer).toMatch(/smmuv30's driver in IOMMU_IOAS_UNMAP/);
    expect(rig.missing?.due?.text).toContain("CMD_TLBI_NH_VA");
    expect(rig.dma(DmaTestCommand.READ)).toBe(DmaTestStatus.DONE);
    expect(rig.used).toMatchObject({ kind: FindingKind.STALE, iova: IOVA, access: "read" });
    expect(findingLines(rig.used as Finding).join("\n")).toContain("invalidation due");
  });

  it("2. a TLBI under a wrong ASID", () => {
    rig.bug = (opcode, words) => {
      if (isTlbi(opcode)) words[0] += 1n << 48n;
    };
    rig.unmap(ioas);
    expect(rig.missing).toMatchObject({ iova: IOVA });
    expect(rig.missing?.changed?.writer).toContain("IOMMU_IOAS_UNMAP");
    expect(rig.missing?.issued.join()).toMatch(/TLBI_NH_VA: .*ASID=0x2/);
  });

  it("3. a TLBI of a range that is too narrow", () => {
    const small = IOVA + LENGTH;
    rig.map(ioas, small, 4n * PAGE);
    for (const at of [0n, 3n]) rig.dma(DmaTestCommand.READ, small + at * PAGE);
    rig.bug = (opcode, words) => {
      if (opcode !== Op.TLBI_NH_VA) return;
      // One address: no TG, NUM and SCALE.
      words[0] &= ~(0x1fn << 12n) & ~(0x3fn << 20n);
      words[1] &= ~(3n << 10n);
    };
    rig.unmap(ioas, small, 4n * PAGE);
    expect(rig.found.map(({ kind, iova }) => [kind, iova])).toEqual([[FindingKind.MISSING_INVALIDATION, small + 3n * PAGE]]);
    expect(rig.missing?.issued.join()).toContain("TLBI_NH_VA");
    expect(rig.missing?.changed?.structure).toMatch(/Stage 1/);
  });

  it("4. a right that is taken away without a TLBI", () => {
    rig.bug = (opcode) => (isTlbi(opcode) ? "drop" : undefined);
    rig.unmap(ioas);
    rig.map(ioas, IOVA, LENGTH, buffer, 5);
    rig.dma(DmaTestCommand.READ);
    expect(rig.used).toBeUndefined();
    rig.dma(DmaTestCommand.WRITE);
    expect(rig.used).toMatchObject({ kind: FindingKind.OVER_PERMISSIVE, access: "write" });
  });

  it("5. a PASID's other address space without a CFGI_CD", () => {
    const [one, other] = [rig.allocate(), rig.allocate()];
    for (const id of [one, other]) rig.map(id);
    rig.attach(rig.hwpt(ioas, HWPT_PASID));
    const tables = [one, other].map((id) => rig.hwpt(id, HWPT_PASID));
    rig.attach(tables[0], PASID);
    rig.dma(DmaTestCommand.READ, IOVA, PASID);
    rig.bug = drop(Op.CFGI_CD, Op.CFGI_CD_ALL);
    rig.attach(tables[1], PASID);
    // The ASID's translations are gone, so that nothing shows before the old descriptor is used.
    expect(rig.missing).toBeUndefined();
    rig.dma(DmaTestCommand.READ, IOVA, PASID);
    expect(rig.used).toMatchObject({ kind: FindingKind.STALE, pasid: PASID });
    expect(rig.used?.changed?.structure).toBe("Context Descriptor");
    expect(rig.used?.changed?.writer).toContain("ATTACH");
    expect(rig.used?.due?.text).toContain("CMD_CFGI_CD");
  });

  it("6. another address space without any CFGI", () => {
    const kept = rig.hwpt(ioas);
    rig.attach(kept);
    rig.dma(DmaTestCommand.READ);
    rig.bug = (opcode) => (isCfgi(opcode) ? "drop" : undefined);
    rig.client.ioctl(rig.device, "VFIO_DEVICE_DETACH_IOMMUFD_PT");
    rig.dma(DmaTestCommand.READ);
    expect(rig.used).toMatchObject({ kind: FindingKind.STALE });
    expect(rig.used?.changed?.structure).toBe("Stream Table Entry");
    expect(rig.used?.changed?.writer).toContain("DETACH");
    expect(rig.used?.due?.text).toContain("CMD_CFGI_STE");
  });
});

it("7. an unmap without an ATC_INV, of what the device itself holds", () => {
  const rig = new Rig({ ats: true });
  const ioas = rig.allocate();
  rig.attach(ioas);
  rig.map(ioas);
  rig.dma(DmaTestCommand.WRITE);
  rig.map(ioas, 2n * IOVA);
  rig.unmap(ioas, 2n * IOVA);
  expect(rig.found).toEqual([]);
  rig.bug = drop(Op.ATC_INV);
  rig.unmap(ioas);
  expect(rig.found.map(({ kind, iova }) => [kind, iova])).toEqual([[FindingKind.MISSING_INVALIDATION, IOVA]]);
  expect(rig.missing?.changed?.writer).toContain("IOMMU_IOAS_UNMAP");
  expect(rig.missing?.due?.text).toContain("CMD_ATC_INV");
  expect(rig.missing?.issued.join()).toContain("TLBI_NH_VA");
});

describe("drivers of a guest's stage 1 on a stage 2", () => {
  const TABLES = 0x4001_0000n;
  const DATA = 0x4010_0000n;
  const INPUT = 0x80_8060_4000n;
  let rig: Rig;
  let parent: number;

  beforeEach(() => {
    rig = new Rig();
    const { client, iommu, device, deviceId } = rig;
    parent = rig.allocate();
    const { address, bytes } = client.memory.map(0x1_0000);
    rig.map(parent, TABLES, 0x1_0000n, address);
    rig.map(parent, DATA, 4n * PAGE);
    const view = new DataView(bytes.buffer);
    const poke = (ipa: bigint, word: bigint): void => view.setBigUint64(Number(ipa - TABLES), word, true);
    // A context descriptor of 48 bits, ASID 0x1e, and four tables.
    poke(TABLES, 0x001e_6204_c000_0010n);
    poke(TABLES + 8n, TABLES + PAGE);
    for (let level = 0n; level < 3n; level++) poke(TABLES + (level + 1n) * PAGE + (level + 1n) * 8n, (TABLES + (level + 2n) * PAGE) | 3n);
    poke(TABLES + 4n * PAGE + 4n * 8n, DATA | 0xf43n);
    const stage2 = rig.hwpt(parent, NEST_PARENT);
    const viommu = Number(client.ioctl(iommu, "IOMMU_VIOMMU_ALLOC", { type: 1, dev_id: deviceId, hwpt_id: stage2 }).out_viommu_id);
    client.ioctl(iommu, "IOMMU_VDEVICE_ALLOC", { viommu_id: viommu, dev_id: deviceId, virt_id: 0x42n });
    const entry = client.memory.map(16);
    new DataView(entry.bytes.buffer).setBigUint64(0, TABLES | 0b1011n, true);
    const nested = client.ioctl(iommu, "IOMMU_HWPT_ALLOC", { dev_id: deviceId, pt_id: viommu, data_type: 2, data_len: 16, data_uptr: entry.address }).out_hwpt_id;
    client.ioctl(device, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { pt_id: nested });
    expect(rig.dma(DmaTestCommand.READ, INPUT)).toBe(DmaTestStatus.DONE);
    expect(rig.dma(DmaTestCommand.WRITE, INPUT)).toBe(DmaTestStatus.DONE);
  });

  it("a correct one gives no finding", () => {
    rig.unmap(parent, DATA, 4n * PAGE);
    expect(rig.dma(DmaTestCommand.READ, INPUT)).toBe(DmaTestStatus.REFUSED);
    rig.map(parent, DATA, 4n * PAGE);
    expect(rig.dma(DmaTestCommand.READ, INPUT)).toBe(DmaTestStatus.DONE);
    expect(rig.found).toEqual([]);
  });

  it("8. a change of stage 2 that leaves what both stages gave", () => {
    rig.bug = drop(Op.TLBI_NH_ALL);
    rig.unmap(parent, DATA, 4n * PAGE);
    expect(rig.missing).toMatchObject({ iova: INPUT });
    expect(rig.missing?.changed?.structure).toMatch(/Stage 2/);
    expect(rig.missing?.changed?.writer).toContain("IOMMU_IOAS_UNMAP");
    expect(rig.missing?.due?.text).toMatch(/CMD_TLBI_S2_IPA .*CMD_TLBI_NH_ALL/);
    expect(rig.missing?.issued.join()).toContain("TLBI_S2_IPA");
  });

  it("9. a change of stage 2 that leaves stage 2's own translations", () => {
    rig.bug = drop(Op.TLBI_S2_IPA);
    rig.unmap(parent, DATA, 4n * PAGE);
    // No input address is known to lead there: it takes a request.
    expect(rig.missing).toBeUndefined();
    rig.dma(DmaTestCommand.READ, INPUT);
    expect(rig.used).toMatchObject({ kind: FindingKind.STALE, iova: INPUT });
    expect(rig.used?.changed?.structure).toMatch(/Stage 2/);
    expect(rig.used?.due?.text).toContain("CMD_TLBI_S2_IPA");
  });
});
