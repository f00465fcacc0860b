/**
 * Histories of requests against a naive model, with an oracle that knows nothing of tables: after every step a device's
 * DMA reaches exactly what is mapped for it at that moment, and nothing else.
 */
import { buildMachine, IommuError, SimulatedClient } from "@iommukit/core";
import { DmaTestCommand, DmaTestRegister as R, DmaTestStatus, dmaTestModel } from "@iommukit/core/devices";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { vtdIommuFactory } from "./plugin.js";

const SEQUENCES = 10_000;
const PAGES = 8;
const IOVA_BASE = 0x4000_0000n;
const DEVICES = 2;
const SPACES = 2;

/** An address space as a list: IOVA page to buffer page and right to write; pieces are unmapped whole. */
type Piece = { readonly first: number; readonly count: number; readonly buffer: number; readonly writable: boolean };
interface Model {
  readonly spaces: Piece[][];
  /** Which space each device uses. */
  readonly attached: (number | undefined)[];
}

const step = fc.oneof(
  fc.record({ op: fc.constant("map" as const), space: fc.nat(SPACES - 1), first: fc.nat(PAGES - 1), count: fc.integer({ min: 1, max: 6 }), buffer: fc.nat(PAGES - 1), writable: fc.boolean(), shared: fc.boolean() }),
  fc.record({ op: fc.constant("unmap" as const), space: fc.nat(SPACES - 1), first: fc.nat(PAGES - 1), count: fc.integer({ min: 1, max: 12 }) }),
  fc.record({ op: fc.constant("copy" as const), from: fc.nat(SPACES - 1), to: fc.nat(SPACES - 1), first: fc.nat(PAGES - 1), count: fc.integer({ min: 1, max: 4 }), target: fc.nat(PAGES - 1) }),
  fc.record({ op: fc.constant("attach" as const), device: fc.nat(DEVICES - 1), space: fc.nat(SPACES - 1) }),
  fc.record({ op: fc.constant("detach" as const), device: fc.nat(DEVICES - 1) }),
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

function errno(run: () => unknown): string {
  try {
    run();
    return "success";
  } catch (error) {
    if (!(error instanceof IommuError)) throw error;
    expect(error.reason.message).not.toBe("");
    return error.errno;
  }
}

const overlaps = (piece: Piece, first: number, count: number): boolean => piece.first < first + count && first < piece.first + piece.count;

/** The system under test, and what it should be. */
class Bench {
  readonly client: SimulatedClient;
  readonly iommu: number;
  readonly devices: number[];
  readonly buffer: { readonly address: bigint; readonly bytes: Uint8Array };
  /** Holds the whole buffer, for a device of its own, so that its pages keep their place. */
  readonly keeper: number;
  spaces: number[] = [];
  model: Model = { spaces: [], attached: [] };

  constructor() {
    const devices = Array.from({ length: DEVICES + 1 }, (_, i) => ({ model: "dma-test", bdf: `00:0${i + 3}.0`, vfio: `vfio${i}` }));
    const spec = { name: "model", memory: { size: "256MiB" }, iommus: [{ type: "vtd" }], devices };
    const machine = buildMachine(spec, { iommus: [vtdIommuFactory], devices: [dmaTestModel] });
    this.client = new SimulatedClient(machine.nodes);
    this.iommu = this.client.open("/dev/iommu");
    this.devices = Array.from({ length: DEVICES }, (_, i) => this.client.open(`/dev/vfio/devices/vfio${i}`));
    for (const device of this.devices) {
      this.client.ioctl(device, "VFIO_DEVICE_BIND_IOMMUFD", { iommufd: this.iommu });
      this.client.pwrite(device, (7n << 40n) + 4n, Uint8Array.of(6, 0));
    }
    this.buffer = this.client.memory.map(2 * PAGES * 4096);
    for (let page = 0; page < 2 * PAGES; page++) this.buffer.bytes[page * 4096] = page + 1;
    this.keeper = Number(this.client.ioctl(this.iommu, "IOMMU_IOAS_ALLOC").out_ioas_id);
    const { address: user_va } = this.buffer;
    this.client.ioctl(this.iommu, "IOMMU_IOAS_MAP", { flags: 7, ioas_id: this.keeper, iova: iova(0), length: BigInt(2 * PAGES) * 4096n, user_va });
    const other = this.client.open(`/dev/vfio/devices/vfio${DEVICES}`);
    this.client.ioctl(other, "VFIO_DEVICE_BIND_IOMMUFD", { iommufd: this.iommu });
    this.client.ioctl(other, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { pt_id: this.keeper });
  }

  /** Everything as at the beginning, without making a machine anew. */
  reset(): void {
    for (const device of this.devices) this.client.ioctl(device, "VFIO_DEVICE_DETACH_IOMMUFD_PT");
    for (const id of this.spaces) this.client.ioctl(this.iommu, "IOMMU_DESTROY", { id });
    this.spaces = Array.from({ length: SPACES }, () => Number(this.client.ioctl(this.iommu, "IOMMU_IOAS_ALLOC").out_ioas_id));
    this.model = { spaces: this.spaces.map(() => []), attached: this.devices.map(() => undefined) };
  }

  apply(action: Step): void {
    const { spaces, attached } = this.model;
    switch (action.op) {
      case "map": {
        const got = errno(() => this.map(action));
        const taken = spaces[action.space].some((piece) => overlaps(piece, action.first, action.count));
        expect(got).toBe(taken ? "EEXIST" : "success");
        if (!taken) spaces[action.space].push({ first: action.first, count: action.count, buffer: action.buffer, writable: action.writable });
        return;
      }
      case "unmap": {
        const inside = spaces[action.space].filter((piece) => overlaps(piece, action.first, action.count)).sort((a, b) => a.first - b.first);
        const cut = inside.findIndex((piece) => piece.first < action.first || piece.first + piece.count > action.first + action.count);
        const gone = cut === -1 ? inside : inside.slice(0, cut);
        spaces[action.space] = spaces[action.space].filter((piece) => !gone.includes(piece));
        const got = errno(() => this.client.ioctl(this.iommu, "IOMMU_IOAS_UNMAP", { ioas_id: this.spaces[action.space], iova: iova(action.first), length: BigInt(action.count) * 4096n }));
        expect(got).toBe(inside.length === 0 || cut !== -1 ? "ENOENT" : "success");
        return;
      }
      case "copy":
        this.copy(action);
        return;
      case "attach":
        expect(errno(() => this.client.ioctl(this.devices[action.device], "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { pt_id: this.spaces[action.space] }))).toBe("success");
        attached[action.device] = action.space;
        return;
      default:
        this.client.ioctl(this.devices[action.device], "VFIO_DEVICE_DETACH_IOMMUFD_PT");
        attached[action.device] = undefined;
    }
  }

  /** Shared pages stay where they are after an unmap: only an invalidation keeps a device from them. */
  map({ space, first, count, buffer, writable, shared }: Extract<Step, { op: "map" }>): void {
    const flags = writable ? 7 : 5;
    const length = BigInt(count) * 4096n;
    if (shared) {
      this.client.ioctl(this.iommu, "IOMMU_IOAS_COPY", {
        flags, src_ioas_id: this.keeper, dst_ioas_id: this.spaces[space], length, src_iova: iova(buffer), dst_iova: iova(first),
      });
    } else {
      const user_va = this.buffer.address + BigInt(buffer) * 4096n;
      this.client.ioctl(this.iommu, "IOMMU_IOAS_MAP", { flags, ioas_id: this.spaces[space], iova: iova(first), length, user_va });
    }
  }

  copy({ from, to, first, count, target }: Extract<Step, { op: "copy" }>): void {
    const { spaces } = this.model;
    const pieces: Piece[] = [];
    for (let page = first; page < first + count; ) {
      const piece = spaces[from].find((candidate) => overlaps(candidate, page, 1));
      if (piece === undefined) break;
      const size = Math.min(piece.first + piece.count, first + count) - page;
      pieces.push({ first: target + page - first, count: size, buffer: piece.buffer + page - piece.first, writable: false });
      page += size;
    }
    const covered = pieces.reduce((sum, piece) => sum + piece.count, 0) === count;
    const taken = spaces[to].some((piece) => overlaps(piece, target, count));
    const got = errno(() =>
      this.client.ioctl(this.iommu, "IOMMU_IOAS_COPY", {
        flags: 5, src_ioas_id: this.spaces[from], dst_ioas_id: this.spaces[to], length: BigInt(count) * 4096n, src_iova: iova(first), dst_iova: iova(target),
      }),
    );
    expect(got).toBe(!covered ? "ENOENT" : taken ? "EEXIST" : "success");
    if (covered && !taken) spaces[to].push(...pieces);
  }

  /** The oracle: what a device reads and may write at a page, by the list alone. */
  probe(device: number, page: number): void {
    const space = this.model.attached[device];
    const piece = space === undefined ? undefined : this.model.spaces[space].find((candidate) => overlaps(candidate, page, 1));
    const read = this.dma(device, DmaTestCommand.READ, page);
    expect(read).toBe(piece ? DmaTestStatus.DONE : DmaTestStatus.REFUSED);
    if (piece) expect(this.client.pread(this.devices[device], BigInt(R.BUFFER), 1)[0]).toBe(piece.buffer + page - piece.first + 1);
    // The register buffer holds what was read: writing it back changes nothing where it is allowed.
    expect(this.dma(device, DmaTestCommand.WRITE, page)).toBe(piece?.writable ? DmaTestStatus.DONE : DmaTestStatus.REFUSED);
  }

  dma(device: number, command: number, page: number): number {
    const bytes = new Uint8Array(8);
    const view = new DataView(bytes.buffer);
    const put = (register: number, value: bigint, size: number): void => {
      view.setBigUint64(0, value, true);
      this.client.pwrite(this.devices[device], BigInt(register), bytes.subarray(0, size));
    };
    put(R.SOURCE, iova(page), 8);
    put(R.DESTINATION, iova(page), 8);
    put(R.LENGTH, 1n, 4);
    put(R.COMMAND, BigInt(command), 4);
    return this.client.pread(this.devices[device], BigInt(R.STATUS), 4)[0];
  }
}

function iova(page: number): bigint {
  return IOVA_BASE + BigInt(page) * 4096n;
}

describe("histories of requests", () => {
  it("agree with a model, and no DMA ever reaches what is not mapped for its device", () => {
    const bench = new Bench();
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 8 }), fc.array(fc.tuple(fc.nat(DEVICES - 1), fc.nat(PAGES + 6)), { minLength: 1, maxLength: 2 }), (actions, probes) => {
        bench.reset();
        for (const action of actions) {
          bench.apply(action);
          const touched = action.op === "map" || action.op === "unmap" ? action : { first: 0, count: 0 };
          for (let page = 0; page < touched.count; page++) bench.devices.forEach((_, device) => bench.probe(device, touched.first + page));
          for (const [device, page] of probes) bench.probe(device, page);
        }
      }),
      { numRuns: SEQUENCES },
    );
  }, 120_000);
});
