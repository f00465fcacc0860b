/** Software nesting (IOMMUKIT_IOAS_NEST): children of address spaces, on both kinds of hardware. */
import { IommufdFile, SimulatedClient } from "@iommukit/core";
import { smmuIommuFactory } from "@iommukit/hw-smmu/plugin";
import { vtdIommuFactory } from "@iommukit/hw-vtd/plugin";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { errno, host } from "./host-program.js";

const PAGE = 4096n;
const [READ, WRITE] = [4, 2];
const BOTH = READ | WRITE;
const DUMMY = 1;

function rig(factory = vtdIommuFactory, devices = 1) {
  const machine = host(factory, devices);
  const { program, iommufd } = machine;
  const call = (name: string, fields: Readonly<Record<string, number | bigint>>): Readonly<Record<string, unknown>> => program.ioctl(iommufd, name, fields);
  const { address, bytes } = program.memory.map(0x2_0000);
  return {
    ...machine, call, address, bytes,
    ioas: () => Number(call("IOMMU_IOAS_ALLOC", {}).out_ioas_id),
    nest: (parent: number, flags = 0) => Number(call("IOMMUKIT_IOAS_NEST", { parent_ioas_id: parent, flags }).out_ioas_id),
    map: (ioas: number, iova: bigint, at: bigint, length = PAGE, rights = BOTH) => void call("IOMMU_IOAS_MAP", { flags: 1 | rights, ioas_id: ioas, user_va: at, length, iova }),
    unmap: (ioas: number, iova: bigint, length = PAGE) => Number(call("IOMMU_IOAS_UNMAP", { ioas_id: ioas, iova, length }).length),
    attach: (device: number, ioas: number) => void program.ioctl(machine.devices[device].fd, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { pt_id: ioas, argsz: 12 }),
    write: (device: number, iova: bigint, value: bigint) => machine.dma(machine.devices[device], true, iova, value),
    word: (page: number) => new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(page * 4096, true),
    pinned: () => program.memory.counters.pinned,
  };
}

describe.each([vtdIommuFactory, smmuIommuFactory])("a child behind $name", (factory) => {
  it("is the composition, whichever side changes", () => {
    const { ioas, nest, map, unmap, attach, write, word, address } = rig(factory);
    const parent = ioas();
    const child = nest(parent);
    attach(0, child);
    map(child, 0x2000n, 0x1000n);
    expect(write(0, 0x2000n, 1n)).toBe(false);
    map(parent, 0x1000n, address);
    expect([write(0, 0x2000n, 2n), word(0), write(0, 0x1000n, 3n)]).toEqual([true, 2n, false]);
    unmap(parent, 0x1000n);
    expect(write(0, 0x2000n, 4n)).toBe(false);
    map(parent, 0x1000n, address + PAGE);
    expect([write(0, 0x2000n, 5n), word(1), word(0)]).toEqual([true, 5n, 2n]);
    unmap(child, 0x2000n);
    expect(write(0, 0x2000n, 6n)).toBe(false);
  });

  it("has the rights that both sides give", () => {
    const { ioas, nest, map, attach, write, address } = rig(factory);
    const parent = ioas();
    const child = nest(parent);
    attach(0, child);
    map(parent, 0x1000n, address, PAGE, READ);
    map(parent, 0x2000n, address + PAGE);
    map(child, 0x1000n, 0x1000n);
    map(child, 0x2000n, 0x2000n, PAGE, READ);
    map(child, 0x3000n, 0x2000n);
    expect([write(0, 0x1000n, 1n), write(0, 0x2000n, 1n), write(0, 0x3000n, 1n)]).toEqual([false, false, true]);
  });

  it("of a child, and its child, see what the root has", () => {
    const { ioas, nest, map, unmap, attach, write, word, address } = rig(factory);
    const root = ioas();
    const middle = nest(root);
    const last = nest(middle);
    attach(0, last);
    map(last, 0x5000n, 0x3000n);
    map(middle, 0x3000n, 0x1000n);
    map(root, 0x1000n, address);
    expect([write(0, 0x5000n, 1n), word(0)]).toEqual([true, 1n]);
    unmap(middle, 0x3000n);
    expect(write(0, 0x5000n, 2n)).toBe(false);
  });

  it("is pinned and charged once, on the root", () => {
    const { ioas, nest, map, attach, pinned, address, program, devices } = rig(factory, 2);
    const parent = ioas();
    const [a, b] = [nest(parent), nest(parent)];
    map(parent, 0n, address, 4n * PAGE);
    attach(0, a);
    attach(1, b);
    for (const child of [a, b]) map(child, 0x8000n, 0n, 4n * PAGE);
    expect(pinned()).toBe(4);
    for (const { fd } of devices) program.close(fd);
    expect(pinned()).toBe(0);
  });

  it("two spaces of one dummy root charge the same memory once (RFC v2, 4.3b)", () => {
    const { nest, map, unmap, attach, write, word, pinned, address } = rig(factory, 2);
    const root = nest(0, DUMMY);
    const [a, b] = [nest(root), nest(root)];
    attach(0, a);
    attach(1, b);
    for (const child of [a, b]) map(child, 0x1000n, address, 2n * PAGE);
    expect([write(0, 0x1000n, 1n), write(1, 0x2000n, 2n), word(0), word(1), pinned()]).toEqual([true, true, 1n, 2n, 2]);
    unmap(a, 0x1000n, 2n * PAGE);
    expect([write(0, 0x1000n, 3n), write(1, 0x1000n, 4n), word(0), pinned()]).toEqual([false, true, 4n, 2]);
    unmap(b, 0x1000n, 2n * PAGE);
    expect(pinned()).toBe(0);
  });
});

describe("refusals", () => {
  it.each([
    ["a parent that is not there", "ENOENT", (r: ReturnType<typeof rig>) => r.nest(99)],
    ["a dummy root with a parent", "EINVAL", (r) => r.nest(r.ioas(), DUMMY)],
    ["an unknown flag", "EOPNOTSUPP", (r) => r.nest(r.ioas(), 2)],
    ["a parent that goes before its child", "EBUSY", (r) => {
      const parent = r.ioas();
      r.nest(parent);
      r.call("IOMMU_DESTROY", { id: parent });
    }],
    ["nesting without end", "EINVAL", (r) => {
      let parent = r.ioas();
      for (let i = 0; i < 20; i++) parent = r.nest(parent);
    }],
    ["an IOVA of the kernel's choice", "EOPNOTSUPP", (r) => r.call("IOMMU_IOAS_MAP", { flags: BOTH, ioas_id: r.nest(r.ioas()), user_va: 0, length: PAGE })],
    ["part of a page", "EINVAL", (r) => r.map(r.nest(r.ioas()), 0n, 0n, 100n)],
    ["a place that is taken, by nothing yet", "EEXIST", (r) => {
      const child = r.nest(r.ioas());
      r.map(child, 0n, 0n);
      r.map(child, 0n, 0x5000n);
    }],
    ["an unmap that cuts a mapping", "ENOENT", (r) => {
      const child = r.nest(r.ioas());
      r.map(child, 0n, 0n, 2n * PAGE);
      r.unmap(child, 0n);
    }],
    ["a device on a dummy root", "EOPNOTSUPP", (r) => r.attach(0, r.nest(0, DUMMY))],
    ["copies into a child", "EOPNOTSUPP", (r) => {
      const from = r.ioas();
      r.map(from, 0n, r.address);
      r.call("IOMMU_IOAS_COPY", { flags: 1 | BOTH, dst_ioas_id: r.nest(from), src_ioas_id: from, length: PAGE, dst_iova: 0, src_iova: 0 });
    }],
  ] as readonly (readonly [string, string, (r: ReturnType<typeof rig>) => unknown])[])("%s: %s", (_what, expected, action) => {
    const r = rig();
    expect(errno(() => action(r))).toBe(expected);
    expect(r.pinned()).toBe(0);
  });

  it("what a child cannot have, its parent does not get either", () => {
    const { ioas, nest, map, attach, write, pinned, address } = rig();
    const parent = ioas();
    const child = nest(parent);
    attach(0, child);
    map(child, 0n, 0n, 8n * PAGE);
    // The second page is not the program's: pinning fails half way, in the child alone.
    expect(errno(() => map(parent, 0n, address + 0x1_f000n, 2n * PAGE))).toBe("EFAULT");
    expect([write(0, 0n, 1n), pinned()]).toEqual([false, 0]);
    map(parent, 0n, address);
    expect(write(0, 0n, 1n)).toBe(true);
  });
});

describe("a place of a child", () => {
  it.each([["vtd", vtdIommuFactory, 0xfee0_0000n], ["smmuv3", smmuIommuFactory, 0x800_0000n]] as const)("that a device behind %s keeps for MSIs is none, also while the parent has nothing there", (_name, factory, msi) => {
    const { ioas, nest, map, unmap, attach, write, address } = rig(factory);
    const parent = ioas();
    const child = nest(parent);
    map(child, msi, 0n);
    expect(errno(() => attach(0, child))).toBe("EADDRINUSE");
    unmap(child, msi);
    attach(0, child);
    expect(errno(() => map(child, msi, 0n))).toBe("EINVAL");
    map(child, 0n, 0n);
    map(parent, 0n, address);
    expect(write(0, 0n, 1n)).toBe(true);
  });
});

it("a dummy root is the memory of the process that made it", () => {
  const { nest, map, attach, write, call, program, iommufd, machine, address, bytes, pinned } = rig();
  const root = nest(0, DUMMY);
  const child = nest(root);
  attach(0, child);
  const other = new SimulatedClient(machine.nodes, 2);
  other.memory.map(bytes.length, { address });
  const file = program.file(iommufd);
  const fd = other.install(file ?? expect.fail("no /dev/iommu"));
  const theirs = { flags: 1 | BOTH, ioas_id: child, user_va: address, length: PAGE };
  expect(errno(() => other.ioctl(fd, "IOMMU_IOAS_MAP", { ...theirs, iova: 0 }))).toBe("EPERM");
  map(child, 0n, address);
  // What the first process has mapped is not the other one's either.
  expect(errno(() => other.ioctl(fd, "IOMMU_IOAS_MAP", { ...theirs, iova: PAGE }))).toBe("EPERM");
  expect([write(0, 0n, 1n), write(0, PAGE, 1n), pinned(), other.memory.counters.pinned]).toEqual([true, false, 1, 0]);
  // The root has nothing that a refused map asked for.
  call("IOMMU_IOAS_UNMAP", { ioas_id: child, iova: 0, length: PAGE });
  call("IOMMU_IOAS_CHANGE_PROCESS", {});
});

it("a dummy root has nothing of a map that failed", () => {
  const { nest, map, attach, write, call, address, pinned } = rig();
  const child = nest(nest(0, DUMMY));
  attach(0, child);
  // The second page is not the program's.
  expect(errno(() => map(child, 0n, address + 0x1_f000n, 2n * PAGE))).toBe("EFAULT");
  expect([write(0, 0n, 1n), pinned()]).toEqual([false, 0]);
  call("IOMMU_IOAS_CHANGE_PROCESS", {});
  map(child, 0n, address + 0x1_f000n);
  expect(write(0, 0n, 1n)).toBe(true);
});

it.each([[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1]])("a dummy root has what its children refer to, as long as one does (unmapped in order %i %i %i %i)", (...order) => {
  const { nest, map, unmap, attach, write, call, address, pinned } = rig(vtdIommuFactory, 2);
  const root = nest(0, DUMMY);
  const children = [nest(root), nest(root)];
  children.forEach((child, device) => attach(device, child));
  // Which child, where, and what of the program's pages: they overlap, and one child has some twice.
  const mappings = [[0, 0, 2, 3], [1, 0, 0, 4], [0, 8, 1, 6], [1, 8, 3, 1]].map(([child, iova, first, count]) => ({ child, iova: BigInt(iova) * PAGE, first, count }));
  for (const { child, iova, first, count } of mappings) map(children[child], iova, address + BigInt(first) * PAGE, BigInt(count) * PAGE);
  const left = new Set(mappings);
  for (const which of order) {
    const { child, iova, count } = mappings[which];
    unmap(children[child], iova, BigInt(count) * PAGE);
    left.delete(mappings[which]);
    const pages = new Set([...left].flatMap((mapping) => Array.from({ length: mapping.count }, (_, i) => mapping.first + i)));
    expect(pinned()).toBe(pages.size);
    for (const mapping of mappings) expect(write(mapping.child, mapping.iova + BigInt(mapping.count - 1) * PAGE, 1n)).toBe(left.has(mapping));
  }
  // Which no IOAS with memory of a program would allow.
  call("IOMMU_IOAS_CHANGE_PROCESS", {});
});

describe("an unmap that software holds up", () => {
  const kinds = [["an access", false, "EDEADLK"], ["a hardware queue", true, "EBUSY"]] as const;

  /** Software that has pinned a page of an IOAS, and does not let go when it is asked. */
  function pinnedIn({ program, iommufd }: ReturnType<typeof rig>, ioas: number, iova: bigint, locks: boolean) {
    const file = program.file(iommufd);
    if (!(file instanceof IommufdFile)) return expect.fail("not /dev/iommu");
    const access = file.context.newAccess({ pins: true, locks });
    access.attach(file.context.objects.get(ioas) as Parameters<typeof access.attach>[0]);
    access.pin(iova, PAGE, true);
    return access;
  }

  it.each(kinds)("(%s) in one child takes nothing from the others", (_who, locks, expected) => {
    const r = rig();
    const parent = r.ioas();
    const [first, last] = [r.nest(parent), r.nest(parent)];
    r.attach(0, first);
    r.map(parent, 0n, r.address);
    for (const child of [first, last]) r.map(child, 0n, 0n);
    const access = pinnedIn(r, last, 0n, locks);
    expect(errno(() => r.unmap(parent, 0n))).toBe(expected);
    expect([r.write(0, 0n, 7n), r.word(0)]).toEqual([true, 7n]);
    access.unpin(0n, PAGE);
    expect([errno(() => r.unmap(parent, 0n)), r.write(0, 0n, 8n), r.pinned()]).toEqual(["none", false, 0]);
  });

  it.each(kinds)("(%s) in one piece of a mapping takes no other piece of it", (_who, locks, expected) => {
    const r = rig();
    const parent = r.ioas();
    const child = r.nest(parent);
    r.attach(0, child);
    for (const page of [0n, 1n]) r.map(parent, page * PAGE, r.address + page * PAGE);
    r.map(child, 0n, 0n, 2n * PAGE);
    const access = pinnedIn(r, child, PAGE, locks);
    expect(errno(() => r.unmap(child, 0n, 2n * PAGE))).toBe(expected);
    expect([r.write(0, 0n, 7n), r.word(0)]).toEqual([true, 7n]);
    access.unpin(PAGE, PAGE);
    expect([errno(() => r.unmap(child, 0n, 2n * PAGE)), r.write(0, 0n, 8n), r.pinned()]).toEqual(["none", false, 0]);
  });
});

describe("type1 v1", () => {
  const SET = 1;
  const TYPE1 = 1n;
  const [SET_IOMMU, UNMAP_DMA] = [0x3b66, 0x3b72];

  it.each(["parent", "child"] as const)("does not cut the mapping of a %s, and takes it whole", (which) => {
    const { ioas, nest, map, call, attach, write, address, program, iommufd } = rig();
    const parent = ioas();
    const child = nest(parent);
    call("IOMMU_VFIO_IOAS", { ioas_id: which === "parent" ? parent : child, op: SET });
    program.rawIoctl(iommufd, SET_IOMMU, TYPE1);
    attach(0, child);
    map(parent, 0n, address, 4n * PAGE);
    map(child, 0n, 0n, 4n * PAGE);
    const unmapDma = (pages: bigint): string => {
      const argument = new BigUint64Array([24n, 0n, pages * PAGE]);
      return errno(() => program.rawIoctl(iommufd, UNMAP_DMA, new Uint8Array(argument.buffer)));
    };
    expect([unmapDma(2n), write(0, 0n, 1n), write(0, 3n * PAGE, 1n)]).toEqual(["EOPNOTSUPP", true, true]);
    expect([unmapDma(4n), write(0, 0n, 1n)]).toEqual(["none", false]);
  });
});

it("is the composition after any history", () => {
  const change = fc.record({
    kind: fc.constantFrom("map", "map", "map", "unmap"), level: fc.nat(2), iova: fc.nat(7), to: fc.nat(7), pages: fc.integer({ min: 1, max: 3 }), rights: fc.constantFrom(READ, BOTH, BOTH),
  });
  fc.assert(
    fc.property(fc.array(change, { maxLength: 30 }), (changes) => {
      const { ioas, nest, map, unmap, attach, write, dma, devices, address, pinned, call } = rig();
      const root = ioas();
      const middle = nest(root);
      const last = nest(middle);
      attach(0, last);
      const ids = [root, middle, last];
      /** By level: mappings as they were made. */
      const model: { iova: number; to: number; pages: number; rights: number }[][] = [[], [], []];
      for (const { kind, level, iova, to, pages, rights } of changes) {
        const list = model[level];
        const meets = list.filter((mapping) => iova < mapping.iova + mapping.pages && mapping.iova < iova + pages);
        const length = BigInt(pages) * PAGE;
        if (kind === "map") {
          const got = errno(() => map(ids[level], BigInt(iova) * PAGE, (level === 0 ? address : 0n) + BigInt(to) * PAGE, length, rights));
          expect(got).toBe(meets.length === 0 ? "none" : "EEXIST");
          if (got === "none") list.push({ iova, to, pages, rights });
        } else {
          const cut = meets.some((mapping) => mapping.iova < iova || mapping.iova + mapping.pages > iova + pages);
          const got = errno(() => unmap(ids[level], BigInt(iova) * PAGE, length));
          if (!cut) {
            expect(got).toBe(meets.length === 0 ? "ENOENT" : "none");
            model[level] = list.filter((mapping) => !meets.includes(mapping));
          } else if (got !== "none") model[level] = list.filter((mapping) => !(mapping.iova >= iova && mapping.iova + mapping.pages <= iova + pages && before(mapping.iova, meets, iova, pages)));
        }
        for (let page = 0; page < 10; page++) {
          let at: number | undefined = page;
          let all = BOTH;
          for (const mappings of [...model].reverse()) {
            const mapping = mappings.find((candidate) => at !== undefined && at >= candidate.iova && at < candidate.iova + candidate.pages);
            all &= mapping?.rights ?? 0;
            at = mapping === undefined || at === undefined ? undefined : mapping.to + (at - mapping.iova);
          }
          expect(dma(devices[0], false, BigInt(page) * PAGE)).toBe((all & READ) !== 0);
          expect(write(0, BigInt(page) * PAGE, 1n)).toBe((all & WRITE) !== 0);
        }
      }
      call("IOMMU_IOAS_UNMAP", { ioas_id: root, iova: 0, length: 2n ** 64n - 1n });
      expect(pinned()).toBe(0);
    }),
    { numRuns: 40 },
  );
}, 60_000);

/** UNMAP goes from the lowest mapping on, up to the one that it would cut. */
function before(iova: number, meets: readonly { iova: number; pages: number }[], from: number, pages: number): boolean {
  const cut = Math.min(...meets.filter((mapping) => mapping.iova < from || mapping.iova + mapping.pages > from + pages).map((mapping) => mapping.iova));
  return iova < cut;
}
