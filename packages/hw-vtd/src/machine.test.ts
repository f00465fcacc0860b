import { buildMachine, IommuError, type Machine, SimulatedClient, Tracer } from "@iommukit/core";
import { decodeStruct, encodeStruct, IOCTLS, structLayout } from "@iommukit/core/abi";
import { DmaTestCommand, DmaTestRegister as R, DmaTestStatus, dmaTestModel } from "@iommukit/core/devices";
import fc from "fast-check";
import { beforeEach, describe, expect, it } from "vitest";
import { PRESETS } from "./presets.js";
import { vtdIommuFactory } from "./plugin.js";

const parts = { iommus: [vtdIommuFactory], devices: [dmaTestModel] };

function machineOf(preset: string): Machine {
  return buildMachine({ ...vtdIommuFactory.defaultMachine?.(), iommus: [{ type: "vtd", options: { preset } }] }, parts);
}

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

describe.each(Object.keys(PRESETS))("machine with a %s unit", (preset) => {
  let machine: Machine;
  let client: SimulatedClient;
  let iommu: number;
  let device: number;

  beforeEach(() => {
    machine = machineOf(preset);
    client = new SimulatedClient(machine.nodes);
    iommu = client.open("/dev/iommu");
    device = client.open("/dev/vfio/devices/vfio0");
    client.ioctl(device, "VFIO_DEVICE_BIND_IOMMUFD", { iommufd: iommu });
    client.pwrite(device, (7n << 40n) + 4n, Uint8Array.of(6, 0));
  });

  const write = (register: number, value: bigint): void => {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, value, true);
    client.pwrite(device, BigInt(register), bytes.subarray(0, register === R.SOURCE || register === R.DESTINATION ? 8 : 4));
  };
  const dma = (command: number, address: bigint, length = 64): number => {
    write(R.SOURCE, address);
    write(R.DESTINATION, address);
    write(R.LENGTH, BigInt(length));
    write(R.COMMAND, BigInt(command));
    return new DataView(client.pread(device, BigInt(R.STATUS), 4).buffer).getUint32(0, true);
  };
  const attach = (): number => {
    const ioas = Number(client.ioctl(iommu, "IOMMU_IOAS_ALLOC").out_ioas_id);
    client.ioctl(device, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { pt_id: ioas });
    return ioas;
  };
  const map = (ioas: number, va: bigint, length: bigint, iova: bigint, flags = 7): bigint =>
    BigInt(client.ioctl(iommu, "IOMMU_IOAS_MAP", { flags, ioas_id: ioas, user_va: va, length, iova }).iova);

  it("blocks, translates, faults and blocks again", () => {
    expect(dma(DmaTestCommand.READ, 0x1000n)).toBe(DmaTestStatus.REFUSED);
    const ioas = attach();
    const { address, bytes } = client.memory.map(3 * 2 ** 20);
    map(ioas, address, BigInt(bytes.length), 0x4000_0000n);
    bytes.fill(0x5a, 0x10_0ff0, 0x10_1010);
    expect(dma(DmaTestCommand.READ, 0x4010_0ff0n, 32)).toBe(DmaTestStatus.DONE);
    expect(client.pread(device, BigInt(R.BUFFER), 32).every((byte) => byte === 0x5a)).toBe(true);
    client.ioctl(iommu, "IOMMU_IOAS_UNMAP", { ioas_id: ioas, iova: 0x4000_0000n, length: BigInt(bytes.length) });
    expect(dma(DmaTestCommand.READ, 0x4010_0ff0n)).toBe(DmaTestStatus.REFUSED);
    client.ioctl(device, "VFIO_DEVICE_DETACH_IOMMUFD_PT");
    expect(dma(DmaTestCommand.WRITE, 0x4010_0ff0n)).toBe(DmaTestStatus.REFUSED);
  });

  it("lets a device write only where it may", () => {
    const ioas = attach();
    const { address } = client.memory.map(8192);
    map(ioas, address, 4096n, 0x1000n, 1 | 4);
    expect(dma(DmaTestCommand.READ, 0x1000n)).toBe(DmaTestStatus.DONE);
    expect(dma(DmaTestCommand.WRITE, 0x1000n)).toBe(DmaTestStatus.REFUSED);
  });

  it("keeps no stale translation after an unmap, whatever was mapped and cached before", () => {
    const ioas = attach();
    const { address, bytes } = client.memory.map(2 ** 23);
    const range = fc.record({ at: fc.integer({ min: 0, max: 1500 }), pages: fc.integer({ min: 1, max: 540 }) });
    fc.assert(
      fc.property(fc.array(range, { minLength: 1, maxLength: 4 }), fc.integer({ min: 0, max: 2047 }), (ranges, probe) => {
        const mapped: { iova: bigint; length: bigint; offset: number }[] = [];
        let iova = 0x20_0000n;
        for (const { at, pages } of ranges) {
          const length = BigInt(pages) * 4096n;
          map(ioas, address + BigInt(at) * 4096n, length, iova);
          mapped.push({ iova, length, offset: at * 4096 });
          iova += length;
        }
        for (const { iova: start, length, offset } of mapped) {
          const inside = BigInt(probe * 4096) % length;
          bytes[offset + Number(inside)] = probe & 0xff;
          expect(dma(DmaTestCommand.READ, start + inside, 1)).toBe(DmaTestStatus.DONE);
          expect(client.pread(device, BigInt(R.BUFFER), 1)[0]).toBe(probe & 0xff);
        }
        client.ioctl(iommu, "IOMMU_IOAS_UNMAP", { ioas_id: ioas, iova: 0n, length: 2n ** 64n - 1n });
        for (const { iova: start, length } of mapped) {
          expect(dma(DmaTestCommand.READ, start + (BigInt(probe * 4096) % length), 1)).toBe(DmaTestStatus.REFUSED);
        }
      }),
      { numRuns: 25 },
    );
  });

  it("shares one page table between devices, and frees everything at close", () => {
    const ioas = attach();
    const other = client.open("/dev/vfio/devices/vfio1");
    client.ioctl(other, "VFIO_DEVICE_BIND_IOMMUFD", { iommufd: iommu });
    const a = client.ioctl(device, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { pt_id: ioas }).pt_id;
    expect(client.ioctl(other, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { pt_id: ioas }).pt_id).toBe(a);
    expect(errno(() => client.ioctl(iommu, "IOMMU_DESTROY", { id: ioas }))).toBe("EBUSY");
    for (const fd of [device, other, iommu]) client.close(fd);
    iommu = client.open("/dev/iommu");
    expect(client.ioctl(iommu, "IOMMU_IOAS_ALLOC").out_ioas_id).toBe(1);
  });

  it("gives the errno and a reason for every refusal", () => {
    const ioas = attach();
    const { address } = client.memory.map(16384);
    map(ioas, address, 4096n, 0x1000n);
    const refused = (fields: Record<string, number | bigint>): string =>
      errno(() => client.ioctl(iommu, "IOMMU_IOAS_MAP", { flags: 7, ioas_id: ioas, user_va: address, length: 4096n, iova: 0x10_0000n, ...fields }));
    expect(refused({ iova: 0x1000n })).toBe("EEXIST");
    expect(refused({ flags: 8 })).toBe("EOPNOTSUPP");
    expect(refused({ flags: 1 })).toBe("EINVAL");
    expect(refused({ ioas_id: 77 })).toBe("ENOENT");
    expect(refused({ length: 0n })).toBe("EINVAL");
    expect(refused({ length: 100n })).toBe("EINVAL");
    expect(refused({ iova: 0xfee0_0000n })).toBe("EINVAL");
    expect(refused({ iova: 2n ** 64n - 1n })).toBe("EOVERFLOW");
    expect(refused({ user_va: 0xdead_0000n })).toBe("EFAULT");
    expect(errno(() => client.ioctl(iommu, "IOMMU_IOAS_UNMAP", { ioas_id: ioas, iova: 0x2000n, length: 4096n }))).toBe("ENOENT");
    expect(errno(() => client.ioctl(iommu, "IOMMU_HWPT_ALLOC", { dev_id: 99, pt_id: ioas }))).toBe("ENOENT");
    expect(errno(() => client.ioctl(iommu, "IOMMU_HWPT_ALLOC", { dev_id: 1, pt_id: 99 }))).toBe("EINVAL");
    expect(errno(() => client.ioctl(iommu, "IOMMU_FAULT_QUEUE_ALLOC", { flags: 1 }))).toBe("EOPNOTSUPP");
    expect(errno(() => client.ioctl(iommu, "IOMMU_VIOMMU_ALLOC", { type: 1, dev_id: 1 }))).toBe("EOPNOTSUPP");
  });

  it("allocates page tables by hand and reports the unit", () => {
    const ioas = Number(client.ioctl(iommu, "IOMMU_IOAS_ALLOC").out_ioas_id);
    const { out_hwpt_id: hwpt } = client.ioctl(iommu, "IOMMU_HWPT_ALLOC", { dev_id: 1, pt_id: ioas });
    expect(client.ioctl(device, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { pt_id: Number(hwpt) }).pt_id).toBe(hwpt);
    const blob = client.memory.map(4096);
    const info = client.ioctl(iommu, "IOMMU_GET_HW_INFO", { dev_id: 1, data_len: 24, data_uptr: blob.address });
    expect(info).toMatchObject({ out_data_type: 1, data_len: structLayout("iommu_hw_info_vtd").size });
    expect(decodeStruct("iommu_hw_info_vtd", blob.bytes.subarray(0, 24))).toMatchObject({ cap_reg: PRESETS[preset].cap, ecap_reg: PRESETS[preset].ecap });
  });

  it("meets malformed ioctls with an errno, never with anything else", () => {
    const requests = [...IOCTLS.map((row) => row.request), 0x3b95, 0x1234];
    const memory = client.memory.map(4096);
    fc.assert(
      fc.property(fc.constantFrom(...requests), fc.boolean(), fc.uint8Array({ minLength: 0, maxLength: 100 }), fc.integer({ min: 0, max: 96 }), (request, onDevice, noise, size) => {
        memory.bytes.set(noise, 4096 - noise.length);
        if (noise.length >= 4) new DataView(memory.bytes.buffer).setUint32(4096 - noise.length, size, true);
        const file = client.file(onDevice ? device : iommu);
        errno(() => file?.kind === undefined && file?.ioctl(client, request, memory.address + 4096n - BigInt(noise.length)));
      }),
      { numRuns: 400 },
    );
  });
});

describe("machine descriptions", () => {
  const good = vtdIommuFactory.defaultMachine?.();
  const wrong: [string, unknown][] = [
    ["machine", 7],
    ["machine.ram", { ...good, ram: 1 }],
    ["machine.memory.size", { ...good, memory: { size: "1 lot" } }],
    ["devices[1].bdf", { ...good, devices: [good?.devices[0], { ...good?.devices[0], vfio: "vfio9" }] }],
    ["devices[0].model", { ...good, devices: [{ ...good?.devices[0], model: "none" }] }],
    ["iommus[0].type", { ...good, iommus: [{ type: "none" }] }],
    ["preset", { ...good, iommus: [{ type: "vtd", options: { preset: "none" } }] }],
  ];
  it.each(wrong)("name what is wrong: %s", (path, description) => {
    try {
      buildMachine(description, parts);
    } catch (error) {
      if (!(error instanceof IommuError)) throw error;
      expect(error.reason.argument).toBe(path);
      return;
    }
    expect.fail("accepted");
  });
});

describe("a driver that forgets to invalidate", () => {
  it("leaves a translation that a DMA really uses", () => {
    const machine = machineOf("scalable");
    const client = new SimulatedClient(machine.nodes);
    const iommu = client.open("/dev/iommu");
    const device = client.open("/dev/vfio/devices/vfio0");
    client.ioctl(device, "VFIO_DEVICE_BIND_IOMMUFD", { iommufd: iommu });
    const ioas = Number(client.ioctl(iommu, "IOMMU_IOAS_ALLOC").out_ioas_id);
    client.ioctl(device, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { pt_id: ioas });
    const { address } = client.memory.map(4096);
    client.ioctl(iommu, "IOMMU_IOAS_MAP", { flags: 7, ioas_id: ioas, user_va: address, length: 4096, iova: 0x5000 });
    const unit = machine.units[0];
    const rid = machine.devices[0].rid;
    const page = unit.hardware.translate(rid, -1, 5, 1);
    const entry = unit.explain?.({ rid, iova: 0x5000n, access: "read" }).steps.at(-1);
    machine.memory.writeU64(entry?.pa ?? 0, 0n);
    expect(unit.hardware.translate(rid, -1, 5, 1)).toBe(page);
    expect(unit.explain?.({ rid, iova: 0x5000n, access: "read" }).verdict.ok).toBe(false);
  });
});

describe("trace", () => {
  it("tells of a refusal with its reason", () => {
    const tracer = new Tracer();
    const events: string[] = [];
    tracer.listen((event) => {
      if (event.kind === "call" && event.errno) events.push(`${event.name} ${event.errno} ${event.reason?.argument}`);
    });
    const client = new SimulatedClient(buildMachine(vtdIommuFactory.defaultMachine?.(), parts, tracer).nodes);
    const iommu = client.open("/dev/iommu");
    errno(() => client.ioctl(iommu, "IOMMU_DESTROY", { id: 5 }));
    expect(events).toEqual(["IOMMU_DESTROY ENOENT id"]);
  });
});

describe("two units in one machine", () => {
  it("share page tables, nest parents among them", () => {
    const devices = [0, 1].map((i) => ({ model: "dma-test", bdf: `00:0${i + 3}.0`, vfio: `vfio${i}`, iommu: i }));
    const unit = { type: "vtd", options: { preset: "full" } };
    const client = new SimulatedClient(buildMachine({ name: "two", memory: { size: "64MiB" }, iommus: [unit, unit], devices }, parts).nodes);
    const iommu = client.open("/dev/iommu");
    const bind = (i: number): { fd: number; id: number } => {
      const fd = client.open(`/dev/vfio/devices/vfio${i}`);
      return { fd, id: Number(client.ioctl(fd, "VFIO_DEVICE_BIND_IOMMUFD", { iommufd: iommu }).out_devid) };
    };
    const [first, second] = [bind(0), bind(1)];
    const ioas = Number(client.ioctl(iommu, "IOMMU_IOAS_ALLOC").out_ioas_id);
    const parent = Number(client.ioctl(iommu, "IOMMU_HWPT_ALLOC", { dev_id: first.id, pt_id: ioas, flags: 1 }).out_hwpt_id);
    const data = client.memory.map(4096);
    data.bytes.set(encodeStruct("iommu_hwpt_vtd_s1", { addr_width: 48 }));
    const nested = (dev_id: number): number | bigint =>
      client.ioctl(iommu, "IOMMU_HWPT_ALLOC", { dev_id, pt_id: parent, data_type: 1, data_len: 24, data_uptr: data.address }).out_hwpt_id as number;
    for (const { fd, id } of [first, second]) client.ioctl(fd, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { pt_id: Number(nested(id)) });
    expect(client.ioctl(second.fd, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { pt_id: parent }).pt_id).toBe(parent);
  });
});

describe("a device that firmware wants memory for (RMRR)", () => {
  const bindTo = (relaxable: boolean): string => {
    const rmrr = [{ devices: ["00:03.0"], start: "0x80000", end: "0x90000", relaxable }];
    const client = new SimulatedClient(buildMachine({ ...vtdIommuFactory.defaultMachine?.(), iommus: [{ type: "vtd", options: { rmrr } }] }, parts).nodes);
    const iommu = client.open("/dev/iommu");
    return errno(() => client.ioctl(client.open("/dev/vfio/devices/vfio0"), "VFIO_DEVICE_BIND_IOMMUFD", { iommufd: iommu }));
  };

  it("is not given to user space, unless it can do without", () => {
    expect([bindTo(false), bindTo(true)]).toEqual(["EINVAL", "success"]);
  });
});
