/**
 * Requests with anything in them: half-way sensible fields and plain noise, over /dev/iommu with and without the mock IOMMU, devices
 * and groups. Each is done or refused with a reason, soon; and when all files are closed, nothing is pinned.
 */
import { buildMachine, type DeviceNodes, IommuError, type OpenFile, SimulatedClient } from "@iommukit/core";
import { IOCTLS, type IoctlRow, nodesOf, structLayout } from "@iommukit/core/abi";
import { dmaTestModel, eduModel } from "@iommukit/core/devices";
import { bareNodes } from "@iommukit/core/testing";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { vtdIommuFactory } from "./plugin.js";

const MEMORY = 16 * 4096;
/** What any one call may take. */
const SLOW_MS = 2000;
const TEST_COMMAND: IoctlRow = { name: "IOMMU_TEST_CMD", request: 0x3ba0, node: "iommufd" };
const TEST_WORDS = 18;

const KINDS = ["likely", "likely", "likely", "likely", "likely", "likely", "small", "bits", "memory", "page", "length", "edge", "noise"] as const;
const SIZES = ["right", "right", "right", "right", "right", "short", "long", "noise"] as const;

interface Value {
  readonly kind: (typeof KINDS)[number];
  readonly n: number;
}

interface Call {
  readonly file: number;
  readonly request: number;
  readonly fields: readonly Value[];
  readonly size: (typeof SIZES)[number];
  readonly noise: number;
}

const FIELDS = 20;

/** A call out of one number: fast-check would spend more time on its fields than the call does. */
function callOf(seed: number): Call {
  let state = seed | 1;
  const next = (below: number): number => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
  const any = (): number => next(2 ** 32);
  return {
    file: next(20),
    request: next(200),
    noise: any(),
    size: SIZES[next(SIZES.length)],
    fields: Array.from({ length: FIELDS }, () => ({ kind: KINDS[next(KINDS.length)], n: any() })),
  };
}

function bigOf({ kind, n }: Value, memory: bigint): bigint {
  switch (kind) {
    case "small":
      return BigInt(n % 10);
    case "bits":
      return BigInt(n % 8);
    case "memory":
      return memory + BigInt((n % (MEMORY / 4096 + 1)) * 4096 + (n % 11 === 0 ? 8 : 0));
    case "page":
      return BigInt((n % 8) * (n % 7 === 0 ? 2048 : 4096)) + (n % 3 === 0 ? 0n : 0x100_0000n);
    case "length":
      return BigInt((1 + (n % 4)) * 4096);
    case "edge":
      return 2n ** 64n - 1n - BigInt(n % 3) * (n % 2 === 0 ? 1n : 4096n);
    default:
      return (BigInt(n) << 32n) | BigInt(n ^ 0x5bd1_e995);
  }
}

/** What a field is likely to hold, three times of four. */
function likely(name: string): Value["kind"] {
  if (/iova|start|last|offset/.test(name)) return "page";
  if (/length|page_size|size/.test(name)) return "length";
  if (/uptr|_va|vaddr|iovas|data$/.test(name)) return "memory";
  return /flags/.test(name) ? "bits" : "small";
}

class Fuzzer {
  readonly client: SimulatedClient;
  readonly memory: bigint;
  readonly #paths: readonly string[];
  /** Every descriptor that ever was. */
  readonly #open: ReadonlySet<number>;

  constructor(nodes: DeviceNodes) {
    const open = new Set<number>();
    this.#open = open;
    this.client = new (class extends SimulatedClient {
      override install(file: OpenFile): number {
        const fd = super.install(file);
        open.add(fd);
        return fd;
      }
    })(nodes);
    this.memory = this.client.memory.map(MEMORY).address;
    this.#paths = nodes.paths;
    const iommu = this.client.open("/dev/iommu");
    this.client.memfd(8 * 4096);
    this.client.eventfd();
    // A device on an address space, which chance seldom makes.
    const ioas = Number(this.client.ioctl(iommu, "IOMMU_IOAS_ALLOC").out_ioas_id);
    const path = nodes.paths.find((name) => name.startsWith("/dev/vfio/devices/"));
    if (path === undefined) this.client.rawIoctl(iommu, TEST_COMMAND.request, new Uint8Array(Uint32Array.from({ length: TEST_WORDS }, (_, i) => [72, 2, ioas][i] ?? 0).buffer));
    else {
      const device = this.client.open(path);
      this.client.ioctl(device, "VFIO_DEVICE_BIND_IOMMUFD", { iommufd: iommu });
      this.client.ioctl(device, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { pt_id: ioas });
    }
  }

  /** Refusals are fine; anything else goes up. */
  #try(run: () => unknown): void {
    const start = performance.now();
    try {
      run();
    } catch (error) {
      if (!(error instanceof IommuError)) throw error;
      if (error.reason.message.length < 5 || !(error.reason.argument ?? error.reason.rule)) throw new Error(`a refusal without a reason: ${error.message}`, { cause: error });
    }
    const took = performance.now() - start;
    if (took > SLOW_MS) throw new Error(`a call took ${took} ms`);
  }

  apply({ file, request, fields, size, noise }: Call): void {
    const { client } = this;
    const rows = [...IOCTLS, TEST_COMMAND, TEST_COMMAND];
    const row = rows[request % rows.length];
    const fd = this.#suitable(request < 32 ? undefined : row, file);
    if (request < 12) this.#try(() => client.open(this.#paths[noise % this.#paths.length]));
    else if (request < 16) this.#try(() => client.close(fd));
    else if (request < 20) this.#try(() => client.pread(fd, this.#position(noise), noise % 300));
    else if (request < 26) this.#try(() => client.pwrite(fd, this.#position(noise), new Uint8Array(noise % 9).fill(noise)));
    else if (request < 28) this.#try(() => client.read(fd, (noise % 5) * 40));
    else if (request < 30) this.#try(() => client.write(fd, new Uint8Array(8)));
    else if (request < 32) this.#try(() => this.#map(fd, noise));
    else {
      this.#try(() => client.rawIoctl(fd, size === "noise" && noise % 4 === 0 ? noise : row.request, this.#argument(row, fields, size, noise)));
    }
  }

  /** A descriptor of a file that knows the request, if there is one; now and then any. */
  #suitable(row: IoctlRow | undefined, n: number): number {
    const fits = (fd: number): boolean => {
      if (row === undefined) return true;
      try {
        const file = this.client.file(fd);
        return file !== undefined && file.kind === undefined && nodesOf(file.path).includes(row.node);
      } catch {
        return false;
      }
    };
    const list = n % 10 === 0 ? [] : [...this.#open].filter(fits);
    return list.length === 0 ? 3 + n : list[n % list.length];
  }

  #position(noise: number): bigint {
    return (BigInt(noise % 10) << 40n) + BigInt((noise >>> 8) % 4200);
  }

  #map(fd: number, noise: number): void {
    const file = this.client.file(fd);
    if (file === undefined || file.kind !== undefined || file.mmap === undefined) return;
    const region = file.mmap(this.client, { position: this.#position(noise), length: (1 + (noise % 3)) * 4096, shared: noise % 5 !== 0, executable: noise % 7 === 0 });
    region.unmapped();
  }

  #argument(row: IoctlRow, fields: readonly Value[], size: Call["size"], noise: number): bigint | Uint8Array {
    if (row.struct === undefined && row.name !== TEST_COMMAND.name) return bigOf(fields[0], this.memory);
    if (size === "noise") return new Uint8Array(fields.flatMap(({ n }) => [n & 0xff, (n >> 8) & 0xff, (n >> 16) & 0xff, n >>> 24]));
    const layout = row.struct === undefined ? testLayout : structLayout(row.struct);
    const bytes = new Uint8Array(layout.size + (size === "long" ? 8 : 0));
    const view = new DataView(bytes.buffer);
    for (const [i, { offset, size: width }] of layout.fields.entries()) {
      const { kind, n } = fields[i % fields.length];
      const number = bigOf({ kind: kind === "likely" ? likely(layout.fields[i].name) : kind, n }, this.memory);
      if (offset + width > layout.size) continue;
      if (layout.fields[i].name === "op" && width === 4) view.setUint32(offset, n % 24, true);
      else if (width === 8) view.setBigUint64(offset, number, true);
      else if (width === 4) view.setUint32(offset, Number(number & 0xffff_ffffn), true);
      else if (width === 2) view.setUint16(offset, Number(number & 0x3n), true);
      // Reserved bytes are seldom set.
      if (/reserved/.test(layout.fields[i].name) && noise % 8 !== 0) bytes.fill(0, offset, offset + width);
    }
    view.setUint32(0, size === "short" ? noise % layout.size : bytes.length, true);
    return bytes;
  }

  /** Closes everything. */
  end(): void {
    for (const fd of this.#open) this.#try(() => this.client.close(fd));
    expect(this.client.memory.counters).toEqual({ pinned: 0, locked: 0 });
    expect(this.client.user.locked).toBe(0);
  }
}

const testLayout = {
  size: 72,
  fields: Array.from({ length: TEST_WORDS }, (_, i) => ({ name: i === 1 ? "op" : `word${i}`, offset: 4 * i, size: 4 })),
};

function machine(): DeviceNodes {
  const devices = [
    { model: "dma-test", bdf: "00:03.0", vfio: "vfio0", group: 0 },
    { model: "dma-test", bdf: "00:03.1", vfio: "vfio1", group: 0 },
    { model: "edu", bdf: "00:05.0", vfio: "vfio2" },
  ];
  return buildMachine({ name: "fuzz", memory: { size: "64MiB" }, iommus: [{ type: "vtd" }], devices }, { iommus: [vtdIommuFactory], devices: [dmaTestModel, eduModel] }).nodes;
}

describe("any request", () => {
  it.each([
    ["of the mock IOMMU", () => bareNodes(true), 1500],
    ["of a machine", machine, 1000],
  ])("%s is done or refused with a reason", (_name, build, runs) => {
    // One for all runs: nothing stays behind when all files are closed.
    const nodes = build();
    fc.assert(
      fc.property(fc.array(fc.nat(0x7fff_ffff), { minLength: 20, maxLength: 80 }), (seeds) => {
        const fuzzer = new Fuzzer(nodes);
        for (const seed of seeds) fuzzer.apply(callOf(seed));
        fuzzer.end();
      }),
      { numRuns: runs },
    );
  }, 120_000);
});
