/** Anything at all, done to a bus with software mdevs by two clients: only refusals come back, and nothing is left in the end. */
import fc from "fast-check";
import { expect, it } from "vitest";
import { IommuError } from "@iommukit/core";
import { EXTENSION_IOCTLS, IOCTLS, structLayout } from "@iommukit/core/abi";
import { BusRig, uuidOf } from "./rig/bus-rig.js";
import { MdevClient } from "./rig/mdev-client.js";
import { CopyRegister } from "./software/copy-layout.js";
import { softwareDrivers } from "./software/index.js";

const REQUESTS = [...IOCTLS, ...EXTENSION_IOCTLS].filter(({ node }) => node === "iommufd" || node === "device");
/** Numbers that may mean something: ids, descriptors, flags, sizes, addresses. */
const number = fc.oneof(fc.bigInt({ min: 0n, max: 12n }), fc.constantFrom(0x1000n, 0x2000n, 0x10_0000n, 2n ** 32n - 1n, 2n ** 64n - 1n), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }));

const operation = fc.oneof(
  fc.record({ kind: fc.constant("ioctl" as const), row: fc.constantFrom(...REQUESTS), file: fc.nat(7), fields: fc.array(number, { minLength: 12, maxLength: 12 }), data: fc.uint8Array({ minLength: 64, maxLength: 64 }) }),
  fc.record({ kind: fc.constant("register" as const), file: fc.nat(7), offset: fc.constantFrom(...Object.values(CopyRegister), ...Array.from({ length: 8 }, (_, i) => i)), bar: fc.constantFrom(0, 1, 7), size: fc.constantFrom(1, 2, 4, 8), value: number }),
  fc.record({ kind: fc.constant("create" as const), type: fc.constantFrom("serial-1", "serial-2", "copy-channel"), which: fc.nat(3) }),
  fc.record({ kind: fc.constant("write" as const), path: fc.constantFrom(...[0, 1, 2, 3].map((i) => `/sys/bus/mdev/devices/${uuidOf(i)}/remove`), "/sys/class/mdev_bus/serial/mdev_supported_types/serial-1/create"), text: fc.oneof(fc.constantFrom("1", "0\n", uuidOf(5)), fc.string({ maxLength: 40 })) }),
  fc.record({ kind: fc.constant("open" as const), node: fc.constantFrom("vfio0", "vfio1", "vfio2") }),
  fc.record({ kind: fc.constant("bind" as const), node: fc.constantFrom("vfio0", "vfio1", "vfio2") }),
  fc.record({ kind: fc.constant("map" as const), ioas: fc.integer({ min: 1, max: 6 }), iova: fc.constantFrom(0x1000n, 0x2000n, 0x10_0000n), pages: fc.constantFrom(1, 2) }),
  fc.record({ kind: fc.constant("run" as const), file: fc.nat(7), jobs: fc.array(fc.tuple(fc.constantFrom(0x1000n, 0x1800n, 0x2ff0n, 0x9000n), fc.constantFrom(0x1000n, 0x2000n, 0x9000n), fc.nat(6000)), { minLength: 1, maxLength: 3 }) }),
  fc.record({ kind: fc.constant("answer" as const), file: fc.nat(7), cookie: fc.integer({ min: 1, max: 4 }), success: fc.boolean() }),
  fc.record({ kind: fc.constant("close" as const), file: fc.nat(7) }),
);
type Operation = typeof operation extends fc.Arbitrary<infer T> ? T : never;

/** A client, with the descriptors that it has. */
class Party {
  readonly client: MdevClient;
  readonly fds: number[] = [];

  constructor(rig: BusRig) {
    this.client = new MdevClient(rig.nodes);
    this.fds.push(this.client.iommufd);
  }

  do(rig: BusRig, step: Operation): void {
    const { client, fds } = this;
    const fd = fds[("file" in step ? step.file : 0) % Math.max(1, fds.length)] ?? -1;
    switch (step.kind) {
      case "ioctl": {
        const before = client.fds.length;
        try {
          client.rawIoctl(fd, step.row.request, this.#argument(step));
        } finally {
          for (const made of client.fds.slice(before)) if (!fds.includes(made)) fds.push(made);
        }
        break;
      }
      case "register": {
        const bytes = new Uint8Array(8);
        new DataView(bytes.buffer).setBigUint64(0, step.value, true);
        client.pwrite(fd, (BigInt(step.bar) << 40n) + BigInt(step.offset), bytes.subarray(0, step.size));
        client.pread(fd, (BigInt(step.bar) << 40n) + BigInt(step.offset), step.size);
        break;
      }
      case "create":
        rig.bus.create(step.type.slice(0, step.type.indexOf("-")), step.type, uuidOf(step.which));
        break;
      case "write": {
        const attribute = client.open(step.path);
        try {
          client.write(attribute, new TextEncoder().encode(step.text));
        } finally {
          client.close(attribute);
        }
        break;
      }
      case "open":
        fds.push(client.open(`/dev/vfio/devices/${step.node}`));
        break;
      case "bind": {
        const device = client.open(`/dev/vfio/devices/${step.node}`);
        fds.push(device);
        client.ioctl(device, "VFIO_DEVICE_BIND_IOMMUFD", { iommufd: client.iommufd });
        const ioas = client.ioas();
        client.attach({ fd: device, id: 0 }, ioas);
        client.command({ fd: device, id: 0 }, 7);
        client.mapMemory(ioas, 0x10_0000n, 4096);
        break;
      }
      case "map":
        client.mapMemory(step.ioas, step.iova, step.pages * 4096);
        break;
      case "run":
        this.#run(fd, step.jobs);
        break;
      case "answer":
        client.answer(fd, step.cookie, step.success ? "success" : "invalid");
        break;
      default:
        if (fd === -1) return;
        fds.splice(fds.indexOf(fd), 1);
        client.close(fd);
    }
  }

  #argument({ row, fields, data }: Extract<Operation, { kind: "ioctl" }>): Uint8Array {
    const bytes = new Uint8Array(256);
    bytes.set(data, 128);
    if (row.struct === undefined) return bytes;
    const layout = structLayout(row.struct);
    for (const [i, field] of layout.fields.entries()) {
      const value = BigInt.asUintN(64, i === 0 ? BigInt(layout.size) : fields[i % fields.length]);
      const raw = new Uint8Array(8);
      new DataView(raw.buffer).setBigUint64(0, value, true);
      if (field.size > 0) bytes.set(raw.subarray(0, Math.min(8, field.size)), field.offset);
    }
    return bytes;
  }

  #run(fd: number, jobs: readonly (readonly [bigint, bigint, number])[]): void {
    const mdev = { fd, id: 0 };
    this.client.put(mdev, CopyRegister.RING, 0x10_0000, 8);
    this.client.put(mdev, CopyRegister.SIZE, 8);
    this.client.put(mdev, CopyRegister.CONTROL, 3);
    // The ring is what was mapped last, with luck.
    for (const [source, destination, length] of jobs) {
      const ring = this.client.lastMapped;
      if (ring) {
        const view = new DataView(ring.buffer, ring.byteOffset);
        view.setBigUint64(0, source, true);
        view.setBigUint64(8, destination, true);
        view.setUint32(16, length, true);
        view.setUint32(20, 1, true);
      }
      this.client.put(mdev, CopyRegister.TAIL, 1);
    }
  }

  end(): void {
    for (const fd of this.client.fds) this.client.close(fd);
  }
}

it("keeps its shape", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.boolean(), operation), { maxLength: 60 }), (steps) => {
      const rig = new BusRig();
      for (const driver of softwareDrivers) rig.bus.register(driver.createParent({}), { name: driver.name, home: `/sys/devices/virtual/mdev/${driver.name}` });
      rig.bus.create("copy", "copy-channel", uuidOf(8));
      rig.bus.create("serial", "serial-2", uuidOf(9));
      const parties = [new Party(rig), new Party(rig)];
      for (const [second, step] of steps) {
        try {
          parties[second ? 1 : 0].do(rig, step);
        } catch (error) {
          if (!(error instanceof IommuError)) throw error;
        }
      }
      for (const party of parties) party.end();
      for (const { uuid } of rig.bus.devices()) rig.bus.remove(uuid);
      expect(rig.bus.devices()).toEqual([]);
      expect(rig.nodes.paths).toEqual(["/dev/iommu", "/dev/vfio/vfio"]);
      expect(rig.bus.types().map(({ available }) => available)).toEqual([24, 12, 8]);
      for (const { client } of parties) expect([client.process.counters, client.user.locked]).toEqual([{ pinned: 0, locked: 0 }, 0]);
    }),
    { numRuns: 150 },
  );
});
