/**
 * Histories of requests against a naive model, with an oracle that knows nothing of tables: after every step a device's
 * DMA reaches exactly what is mapped for it at that moment, and nothing else. Software reads and pins through accesses meanwhile, and at the
 * end of each history nothing is left pinned. A failure names its seed, with which fast-check plays it again.
 */
import { buildMachine, findingLines, IommuError, type IommufdContext, IommufdFile, type Machine, Sanitizer, SimulatedClient } from "@iommukit/core";
import { DmaTestCommand, DmaTestRegister as R, DmaTestStatus, dmaTestModel } from "@iommukit/core/devices";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { vtdIommuFactory } from "./plugin.js";

/** For each machine. */
const SEQUENCES = 3000;
/** The sanitizer walks the tables for every DMA. */
const SANITIZED = 150;
const PAGES = 8;
const IOVA_BASE = 0x4000_0000n;
const DEVICES = 2;
const SPACES = 2;

/** An address space as a list: IOVA page to buffer page and right to write; pieces are unmapped whole. */
type Piece = { readonly first: number; readonly count: number; readonly buffer: number; readonly writable: boolean };
type Access = ReturnType<IommufdContext["newAccess"]>;

/** A user of an address space in software, and what it has pinned. */
class Software {
  readonly access: Access;
  pins: { readonly first: number; readonly count: number }[] = [];

  constructor(context: IommufdContext, space: number) {
    this.access = context.newAccess({ pins: true, unmapping: ({ start, last }) => this.#letGo(start, last) });
    const ioas = context.objects.get(space);
    if (ioas?.type === "IOAS") this.access.attach(ioas as Parameters<Access["attach"]>[0]);
  }

  unpin(which: number): void {
    const [pin] = this.pins.splice(which, 1);
    this.access.unpin(iova(pin.first), BigInt(pin.count) * 4096n);
  }

  #letGo(start: bigint, last: bigint): void {
    for (let i = this.pins.length - 1; i >= 0; i--) if (iova(this.pins[i].first) <= last && iova(this.pins[i].first + this.pins[i].count) > start) this.unpin(i);
  }
}

interface Model {
  readonly spaces: Piece[][];
  /** Which space each user uses. */
  readonly attached: (number | undefined)[];
}

/** A machine to try: its units, and whether its devices send PASIDs and keep translations. */
interface Kind {
  readonly presets: readonly string[];
  readonly pasids: boolean;
  readonly ats: boolean;
}

/** A device by itself, or with one of its PASIDs. */
interface User {
  readonly device: number;
  readonly pasid?: number;
}
const USERS: readonly User[] = [{ device: 0 }, { device: 1 }, { device: 0, pasid: 5 }, { device: 1, pasid: 5 }];
const ATTACH_PASID = 1;
const HWPT_PASID = 8;

const step = fc.oneof(
  fc.record({ op: fc.constant("map" as const), space: fc.nat(SPACES - 1), first: fc.nat(PAGES - 1), count: fc.integer({ min: 1, max: 6 }), buffer: fc.nat(PAGES - 1), writable: fc.boolean(), source: fc.constantFrom("user" as const, "shared" as const, "file" as const) }),
  fc.record({ op: fc.constant("unmap" as const), space: fc.nat(SPACES - 1), first: fc.nat(PAGES - 1), count: fc.integer({ min: 1, max: 12 }) }),
  fc.record({ op: fc.constant("copy" as const), from: fc.nat(SPACES - 1), to: fc.nat(SPACES - 1), first: fc.nat(PAGES - 1), count: fc.integer({ min: 1, max: 4 }), target: fc.nat(PAGES - 1) }),
  fc.record({ op: fc.constant("attach" as const), user: fc.nat(USERS.length - 1), space: fc.nat(SPACES - 1) }),
  fc.record({ op: fc.constant("detach" as const), user: fc.nat(USERS.length - 1) }),
  fc.record({ op: fc.constant("pin" as const), space: fc.nat(SPACES - 1), first: fc.nat(PAGES - 1), count: fc.integer({ min: 1, max: 4 }) }),
  fc.record({ op: fc.constant("unpin" as const), space: fc.nat(SPACES - 1), which: fc.nat(3) }),
  fc.record({ op: fc.constant("read" as const), space: fc.nat(SPACES - 1), first: fc.nat(PAGES - 1), count: fc.integer({ min: 1, max: 4 }), slow: fc.boolean() }),
  fc.record({ op: fc.constant("changeProcess" as const) }),
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
  /** Their object ids. */
  readonly ids: number[];
  readonly buffer: { readonly address: bigint; readonly bytes: Uint8Array };
  /** Holds the whole buffer, for a device of its own, so that its pages keep their place. */
  readonly keeper: number;
  /** A file, whose pages come behind those of the buffer. */
  readonly file: number;
  readonly context: IommufdContext;
  software: Software[] = [];
  spaces: number[] = [];
  model: Model = { spaces: [], attached: [] };

  readonly users: readonly User[];
  /** Page tables of the spaces, by hand, where PASIDs need them; none where the IOAS makes its own. */
  hwpts: number[] = [];
  readonly #pasids: boolean;

  /** @param watch is told of the machine before anything happens */
  constructor({ presets, pasids, ats }: Kind, watch: (machine: Machine) => void = () => undefined) {
    this.#pasids = pasids;
    this.users = pasids ? USERS : USERS.slice(0, DEVICES);
    const devices = Array.from({ length: DEVICES + 1 }, (_, i) => ({ model: "dma-test", bdf: `00:0${i + 3}.0`, vfio: `vfio${i}`, iommu: i % presets.length, options: ats ? { ats } : {} }));
    const iommus = presets.map((preset) => ({ type: "vtd", options: { preset } }));
    const machine = buildMachine({ name: "model", memory: { size: "256MiB" }, iommus, devices }, { iommus: [vtdIommuFactory], devices: [dmaTestModel] });
    watch(machine);
    this.client = new SimulatedClient(machine.nodes);
    this.iommu = this.client.open("/dev/iommu");
    this.devices = Array.from({ length: DEVICES }, (_, i) => this.client.open(`/dev/vfio/devices/vfio${i}`));
    this.ids = this.devices.map((device) => {
      const id = Number(this.client.ioctl(device, "VFIO_DEVICE_BIND_IOMMUFD", { iommufd: this.iommu }).out_devid);
      this.client.pwrite(device, (7n << 40n) + 4n, Uint8Array.of(6, 0));
      return id;
    });
    this.buffer = this.client.memory.map(2 * PAGES * 4096);
    for (let page = 0; page < 2 * PAGES; page++) this.buffer.bytes[page * 4096] = page + 1;
    this.file = this.client.memfd(2 * PAGES * 4096);
    const file = this.client.file(this.file);
    if (file?.kind === "memory") {
      const all = file.pin(0n, BigInt(2 * PAGES) * 4096n, true);
      for (let page = 0; page < 2 * PAGES; page++) all.write(page * 4096, Uint8Array.of(2 * PAGES + page + 1));
    }
    const iommu = this.client.file(this.iommu);
    if (!(iommu instanceof IommufdFile)) throw new Error("not /dev/iommu");
    this.context = iommu.context;
    this.keeper = Number(this.client.ioctl(this.iommu, "IOMMU_IOAS_ALLOC").out_ioas_id);
    const { address: user_va } = this.buffer;
    this.client.ioctl(this.iommu, "IOMMU_IOAS_MAP", { flags: 7, ioas_id: this.keeper, iova: iova(0), length: BigInt(2 * PAGES) * 4096n, user_va });
    const other = this.client.open(`/dev/vfio/devices/vfio${DEVICES}`);
    this.client.ioctl(other, "VFIO_DEVICE_BIND_IOMMUFD", { iommufd: this.iommu });
    this.client.ioctl(other, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { pt_id: this.keeper });
  }

  /** Everything as at the beginning, without making a machine anew. */
  reset(): void {
    for (const user of this.users) this.detach(user);
    for (const { access } of this.software) this.context.removeAccess(access);
    for (const id of [...this.hwpts, ...this.spaces]) this.client.ioctl(this.iommu, "IOMMU_DESTROY", { id });
    expect(this.client.memory.counters.pinned).toBe(2 * PAGES);
    this.spaces = Array.from({ length: SPACES }, () => Number(this.client.ioctl(this.iommu, "IOMMU_IOAS_ALLOC").out_ioas_id));
    this.software = this.spaces.map((space) => new Software(this.context, space));
    const tables = this.#pasids ? this.spaces : [];
    this.hwpts = tables.map((pt_id) => Number(this.client.ioctl(this.iommu, "IOMMU_HWPT_ALLOC", { dev_id: this.ids[0], pt_id, flags: HWPT_PASID }).out_hwpt_id));
    this.model = { spaces: this.spaces.map(() => []), attached: this.users.map(() => undefined) };
  }

  attach({ device, pasid }: User, space: number): void {
    const pt_id = this.hwpts[space] ?? this.spaces[space];
    this.client.ioctl(this.devices[device], "VFIO_DEVICE_ATTACH_IOMMUFD_PT", pasid === undefined ? { pt_id } : { flags: ATTACH_PASID, pt_id, pasid });
  }

  detach({ device, pasid }: User): void {
    this.client.ioctl(this.devices[device], "VFIO_DEVICE_DETACH_IOMMUFD_PT", pasid === undefined ? {} : { flags: ATTACH_PASID, pasid });
  }

  apply(action: Step): void {
    const { spaces, attached } = this.model;
    switch (action.op) {
      case "map": {
        const got = errno(() => this.map(action));
        const taken = spaces[action.space].some((piece) => overlaps(piece, action.first, action.count));
        expect(got).toBe(taken ? "EEXIST" : "success");
        if (!taken) spaces[action.space].push({ first: action.first, count: action.count, buffer: action.buffer + (action.source === "file" ? 2 * PAGES : 0), writable: action.writable });
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
        if (action.user >= this.users.length) return;
        expect(errno(() => this.attach(this.users[action.user], action.space))).toBe("success");
        attached[action.user] = action.space;
        return;
      case "pin":
      case "read":
        this.useBySoftware(action);
        return;
      case "unpin": {
        const software = this.software[action.space];
        if (action.which < software.pins.length) software.unpin(action.which);
        return;
      }
      case "changeProcess":
        // The keeper's memory is a process's, which another cannot take over.
        expect(errno(() => this.client.ioctl(this.iommu, "IOMMU_IOAS_CHANGE_PROCESS"))).toBe("EINVAL");
        return;
      default:
        if (action.user >= this.users.length) return;
        this.detach(this.users[action.user]);
        attached[action.user] = undefined;
    }
  }

  /** Software sees what is mapped, and nothing else; what it pins stays mapped until it lets go. */
  useBySoftware(action: Extract<Step, { op: "pin" | "read" }>): void {
    const { space, first, count } = action;
    const pages = Array.from({ length: count }, (_, i) => this.model.spaces[space].find((piece) => overlaps(piece, first + i, 1)));
    const bytes = new Uint8Array(count * 4096);
    const software = this.software[space];
    const got = errno(() => {
      if (action.op === "pin") software.access.pin(iova(first), BigInt(count) * 4096n, false);
      else software.access.copy(iova(first), bytes, false, this.client.memory, action.slow);
    });
    expect(got).toBe(pages.every((piece) => piece !== undefined) ? "success" : "ENOENT");
    if (got !== "success") return;
    if (action.op === "pin") software.pins.push({ first, count });
    else expect(pages.map((piece, i) => (piece ? piece.buffer + first + i - piece.first + 1 : 0))).toEqual(pages.map((_, i) => bytes[i * 4096]));
  }

  /** Shared pages stay where they are after an unmap: only an invalidation keeps a device from them. */
  map({ space, first, count, buffer, writable, source }: Extract<Step, { op: "map" }>): void {
    const flags = writable ? 7 : 5;
    const length = BigInt(count) * 4096n;
    if (source === "file") {
      this.client.ioctl(this.iommu, "IOMMU_IOAS_MAP_FILE", { flags, ioas_id: this.spaces[space], iova: iova(first), length, fd: this.file, start: BigInt(buffer) * 4096n });
    } else if (source === "shared") {
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

  /** The oracle: what a user reads and may write at a page, by the list alone. */
  probe(user: number, page: number): void {
    const space = this.model.attached[user];
    const piece = space === undefined ? undefined : this.model.spaces[space].find((candidate) => overlaps(candidate, page, 1));
    const read = this.dma(user, DmaTestCommand.READ, page);
    expect(read).toBe(piece ? DmaTestStatus.DONE : DmaTestStatus.REFUSED);
    if (piece) expect(this.client.pread(this.devices[this.users[user].device], BigInt(R.BUFFER), 1)[0]).toBe(piece.buffer + page - piece.first + 1);
    // The register buffer holds what was read: writing it back changes nothing where it is allowed.
    expect(this.dma(user, DmaTestCommand.WRITE, page)).toBe(piece?.writable ? DmaTestStatus.DONE : DmaTestStatus.REFUSED);
  }

  dma(user: number, command: number, page: number): number {
    const { device, pasid } = this.users[user];
    const bytes = new Uint8Array(8);
    const view = new DataView(bytes.buffer);
    const put = (register: number, value: bigint, size: number): void => {
      view.setBigUint64(0, value, true);
      this.client.pwrite(this.devices[device], BigInt(register), bytes.subarray(0, size));
    };
    put(R.SOURCE, iova(page), 8);
    put(R.DESTINATION, iova(page), 8);
    put(R.LENGTH, 1n, 4);
    put(R.PASID, pasid === undefined ? 0n : BigInt(pasid) | 0x8000_0000n, 4);
    // A request for a PASID beyond the directory turned it off.
    put(R.CONTROL, 1n, 4);
    put(R.COMMAND, BigInt(command), 4);
    return this.client.pread(this.devices[device], BigInt(R.STATUS), 4)[0];
  }
}

function iova(page: number): bigint {
  return IOVA_BASE + BigInt(page) * 4096n;
}

const MACHINES: readonly (readonly [string, Kind])[] = [
  ["one unit", { presets: ["scalable"], pasids: false, ats: false }],
  ["a unit in legacy mode", { presets: ["legacy"], pasids: false, ats: false }],
  ["two units that have everything, PASIDs and translation caches", { presets: ["full", "full"], pasids: true, ats: true }],
  ["a unit with second stage only, and PASIDs", { presets: ["second-stage"], pasids: true, ats: false }],
];

/** Random histories on one machine, which is brought back to its beginning for each. */
function play(bench: Bench, numRuns: number): void {
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 8 }), fc.array(fc.tuple(fc.nat(USERS.length - 1), fc.nat(PAGES + 6)), { minLength: 1, maxLength: 2 }), (actions, probes) => {
      bench.reset();
      for (const action of actions) {
        bench.apply(action);
        const touched = action.op === "map" || action.op === "unmap" ? action : { first: 0, count: 0 };
        for (let page = 0; page < touched.count; page++) bench.users.forEach((_, user) => bench.probe(user, touched.first + page));
        for (const [user, page] of probes) if (user < bench.users.length) bench.probe(user, page);
      }
    }),
    { numRuns },
  );
}

describe.each(MACHINES)("histories of requests to %s", (_name, kind) => {
  it("agree with a model, and no DMA ever reaches what is not mapped for its device", () => {
    play(new Bench(kind), SEQUENCES);
  }, 300_000);

  it("leave nothing stale that the sanitizer could find", () => {
    const sanitizers: Sanitizer[] = [];
    play(new Bench(kind, (machine) => sanitizers.push(new Sanitizer(machine))), SANITIZED);
    expect(sanitizers.flatMap(({ findings }) => findings.flatMap((finding) => findingLines(finding)))).toEqual([]);
    expect(sanitizers).toHaveLength(1);
  }, 300_000);
});
