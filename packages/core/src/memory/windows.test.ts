import { describe, expect, it } from "vitest";
import { IommuError } from "../errors.js";
import { SimulatedMemory } from "../files/simulated-client.js";
import type { Account } from "../iommufd/accounting.js";
import { ORIGIN_BYTES, Pages } from "../iommufd/pages.js";
import { PhysicalMemory } from "./physical-memory.js";
import { ClientWindows } from "./windows.js";

const PAGE = 4096;
const FIRST = 0x10_0000_0000;
const KEPT = 1024;

class Rig {
  readonly memory = new PhysicalMemory();
  readonly windows: ClientWindows;
  readonly client = new SimulatedMemory();
  /** Pages that are pinned and paid for. */
  charged = 0;

  constructor(pages = 2 ** 20) {
    this.windows = new ClientWindows(this.memory, FIRST, FIRST + pages * PAGE);
  }

  /** The memory behind one MAP. */
  pages(address: bigint, count: number, prot = 3): Pages {
    const account = { charge: (pages: number) => (this.charged += pages), refund: (pages: number) => (this.charged -= pages) } as unknown as Account;
    const base = address - (address % ORIGIN_BYTES);
    return new Pages({ source: { kind: "user", memory: this.client }, base, prot, account, windows: this.windows }, address, BigInt(count * PAGE));
  }

  /** Maps and unmaps; returns where the memory was. */
  visit(pages: Pages): number {
    const pa = this.open(pages);
    this.close(pages);
    return pa;
  }

  open(pages: Pages): number {
    pages.hold(0, pages.count - 1);
    return pages.open(0n);
  }

  close(pages: Pages): void {
    pages.close();
    pages.drop(0, pages.count - 1);
  }

  at(pa: number): number | undefined {
    const byte = new Uint8Array(1);
    return this.memory.read(pa, byte) ? byte[0] : undefined;
  }
}

describe("windows onto clients' memory", () => {
  it("are not needed for memory that lies in RAM of the machine", () => {
    const rig = new Rig();
    const ram = 0x10_0000;
    rig.memory.addRam(0, 2 ** 22);
    const bytes = new Uint8Array(rig.memory.words.buffer, ram, 2 * PAGE);
    const { address } = rig.client.map(2 * PAGE, { bytes, physical: ram });
    const pages = rig.pages(address + BigInt(PAGE), 1);
    expect([rig.open(pages), rig.charged]).toEqual([ram + PAGE, 1]);
    rig.close(pages);
    expect([rig.visit(pages), rig.charged]).toEqual([ram + PAGE, 0]);
    // What is not wholly there is not there.
    expect(rig.visit(rig.pages(rig.client.map(PAGE).address, 1))).toBeGreaterThanOrEqual(FIRST);
  });

  it("lead to it after it was unmapped, with nothing pinned, until the client has it no more", () => {
    const rig = new Rig();
    const { address, bytes } = rig.client.map(3 * PAGE);
    const pa = rig.visit(rig.pages(address, 3));
    expect(rig.charged).toBe(0);
    bytes[PAGE] = 7;
    expect(rig.at(pa + PAGE)).toBe(7);
    expect(rig.memory.write(pa + 2 * PAGE - 1, Uint8Array.of(8, 9))).toBe(true);
    expect([bytes[2 * PAGE - 1], bytes[2 * PAGE]]).toEqual([8, 9]);
    expect(rig.charged).toBe(0);
    rig.client.unmap(address);
    expect(rig.at(pa + PAGE)).toBeUndefined();
    expect(rig.memory.write(pa, Uint8Array.of(1))).toBe(false);
  });

  it("do not write what its owner may not write any more", () => {
    const rig = new Rig();
    const { address } = rig.client.map(PAGE);
    const pa = rig.visit(rig.pages(address, 1));
    rig.client.unmap(address);
    rig.client.map(PAGE, { address, writable: false }).bytes[0] = 5;
    expect(rig.memory.write(pa, Uint8Array.of(1))).toBe(false);
    expect(rig.at(pa)).toBeUndefined();
  });

  it("show the same memory where it was before, and other memory elsewhere", () => {
    const rig = new Rig();
    const one = rig.client.map(2 * PAGE);
    const other = rig.client.map(2 * PAGE);
    const first = rig.visit(rig.pages(one.address, 2));
    expect(rig.visit(rig.pages(other.address, 2))).not.toBe(first);
    expect(rig.visit(rig.pages(one.address, 2))).toBe(first);
    // Not while somebody is there.
    const [twin, again] = [rig.pages(one.address, 2), rig.pages(one.address, 2)];
    expect(rig.open(twin)).toBe(first);
    expect(rig.open(again)).not.toBe(first);
    // Other sizes are other windows.
    rig.close(twin);
    expect(rig.visit(rig.pages(one.address, 1))).not.toBe(first);
  });

  it("belong to who was there last when addresses are used again", () => {
    const rig = new Rig(4);
    const buffers = Array.from({ length: 6 }, (_, i) => {
      const buffer = rig.client.map(PAGE);
      buffer.bytes.fill(i + 1);
      return buffer;
    });
    const places = buffers.map(({ address }) => rig.visit(rig.pages(address, 1)));
    expect(places.map((pa) => (pa - FIRST) / PAGE)).toEqual([0, 1, 2, 3, 0, 1]);
    expect([0, 1, 2, 3].map((page) => rig.at(FIRST + page * PAGE))).toEqual([5, 6, 3, 4]);
    rig.open(rig.pages(buffers[2].address, 1));
    rig.open(rig.pages(rig.client.map(PAGE).address, 1));
    expect([0, 1, 2, 3].map((page) => rig.at(FIRST + page * PAGE))).toEqual([5, 6, 3, 0]);
  });

  it("are forgotten when many others came after them", () => {
    const rig = new Rig();
    const { address, bytes } = rig.client.map((KEPT + 1) * PAGE);
    bytes.fill(1);
    const places = Array.from({ length: KEPT + 1 }, (_, i) => rig.visit(rig.pages(address + BigInt(i * PAGE), 1)));
    expect(rig.at(places[0])).toBeUndefined();
    expect(rig.at(places[1])).toBe(1);
    expect(rig.at(places[KEPT])).toBe(1);
  });

  it("say when there is no room", () => {
    const rig = new Rig(4);
    const { address } = rig.client.map(5 * PAGE);
    const pages = rig.pages(address, 5);
    expect(() => rig.open(pages)).toThrow(IommuError);
  });
});
