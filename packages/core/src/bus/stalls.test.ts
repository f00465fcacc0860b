import { beforeEach, describe, expect, it } from "vitest";
import { StallingDma } from "../devices/stalling-dma.js";
import { PhysicalMemory } from "../memory/physical-memory.js";
import { Bus } from "./bus.js";
import { gatedPort } from "./mastering.js";
import { StallEnd, type StallHardware } from "./stalls.js";
import type { DmaPort, DmaResult, IommuHardware } from "./types.js";

const PAGE = 4096;

/** Pages that are mapped to themselves, and stalls for all others. */
class FakeIommu implements IommuHardware {
  readonly name = "fake";
  readonly mapped = new Set<number>();
  readonly stalling: StallHardware;
  stalls = 0;
  last = -1;
  /** Called before `translate` returns. */
  answers: ((stall: number) => void) | undefined;
  ended: (stall: number, end: number) => void = () => undefined;

  constructor() {
    const read = (): number => this.last;
    this.stalling = {
      connect: (_rid, ended) => (this.ended = ended),
      get last() {
        return read();
      },
    };
  }

  translate(_rid: number, _pasid: number, page: number): number {
    if (this.mapped.has(page)) return page;
    const stall = this.stalls++;
    this.answers?.(stall);
    this.last = stall;
    return -1;
  }
}

let iommu: FakeIommu;
let memory: PhysicalMemory;
let port: DmaPort;
const results: DmaResult[] = [];
const done = (result: DmaResult): number => results.push(result);

beforeEach(() => {
  iommu = new FakeIommu();
  memory = new PhysicalMemory();
  memory.addRam(0, 16 * PAGE);
  port = new Bus(memory).connect(8, iommu);
  results.length = 0;
});

describe("requests that wait", () => {
  it("go on page by page, each once it may", () => {
    const dma = new StallingDma(port);
    const bytes = new Uint8Array(2 * PAGE);
    memory.write(PAGE, new Uint8Array(PAGE).fill(1));
    memory.write(2 * PAGE, new Uint8Array(PAGE).fill(2));
    dma.transfer("read", BigInt(PAGE), bytes, {}, done);
    expect(results).toEqual([]);
    iommu.mapped.add(1);
    iommu.ended(0, StallEnd.RETRY);
    expect([results.length, iommu.stalls, bytes[PAGE - 1], bytes[PAGE]]).toEqual([0, 2, 1, 0]);
    iommu.mapped.add(2);
    iommu.ended(1, StallEnd.RETRY);
    expect([results, bytes[PAGE]]).toEqual([[{ ok: true, moved: 2 * PAGE }], 2]);
    // What has ended does not end again.
    iommu.ended(1, StallEnd.ABORT);
    expect(results).toHaveLength(1);
  });

  it("are refused, or read zeros and write nothing", () => {
    const dma = new StallingDma(port);
    const bytes = new Uint8Array(8).fill(9);
    memory.write(0, Uint8Array.of(5));
    dma.transfer("read", 0n, bytes, {}, done);
    iommu.ended(0, StallEnd.ABORT);
    expect([results, bytes[0]]).toEqual([[{ ok: false, moved: 0 }], 9]);
    dma.transfer("write", 0n, bytes, {}, done);
    iommu.ended(1, StallEnd.ZERO);
    dma.transfer("read", 0n, bytes, {}, done);
    iommu.ended(2, StallEnd.ZERO);
    expect(results.slice(1)).toEqual([{ ok: true, moved: 8 }, { ok: true, moved: 8 }]);
    expect([...bytes]).toEqual([0, 0, 0, 0, 0, 0, 0, 0]);
    const stored = new Uint8Array(1);
    expect([memory.read(0, stored), stored[0]]).toEqual([true, 5]);
  });

  it("take an answer that comes before the unit has said that they wait", () => {
    const dma = new StallingDma(port);
    iommu.answers = (stall) => {
      if (stall === 2) iommu.mapped.add(0);
      iommu.ended(stall, StallEnd.RETRY);
    };
    dma.transfer("read", 0n, new Uint8Array(8), {}, done);
    expect([results, iommu.stalls]).toEqual([[{ ok: true, moved: 8 }], 3]);
  });

  it("are refused when whoever answers at once does nothing about them", () => {
    const dma = new StallingDma(port);
    iommu.answers = (stall) => iommu.ended(stall, StallEnd.RETRY);
    dma.transfer("read", 0n, new Uint8Array(8), {}, done);
    expect([results, iommu.stalls]).toEqual([[{ ok: false, moved: 0 }], 16]);
  });

  it("are given up by a reset", () => {
    const dma = new StallingDma(port);
    dma.transfer("write", 0n, Uint8Array.of(7), {}, done);
    dma.reset();
    iommu.mapped.add(0);
    iommu.ended(0, StallEnd.RETRY);
    const stored = new Uint8Array(1);
    expect([results, memory.read(0, stored), stored[0]]).toEqual([[], true, 0]);
  });

  it("are no more sent when bus mastering goes off; what was sent goes on", () => {
    let master = true;
    const dma = new StallingDma(gatedPort(port, () => master));
    dma.transfer("write", BigInt(PAGE - 4), new Uint8Array(8).fill(7), {}, done);
    master = false;
    iommu.mapped.add(0).add(1);
    iommu.ended(0, StallEnd.RETRY);
    expect(results).toEqual([{ ok: false, moved: 4 }]);
  });

  it("of a device that does not wait are refused", () => {
    expect(port.read(0n, new Uint8Array(8))).toEqual({ ok: false, moved: 0 });
  });
});
