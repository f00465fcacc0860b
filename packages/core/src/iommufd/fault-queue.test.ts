import { beforeEach, describe, expect, it } from "vitest";
import { structLayout } from "../abi/index.js";
import { dmaTestModel } from "../devices/index.js";
import type { PageFault, PageFaultResponse, PageFaultSink, PagingDomain } from "../driver/types.js";
import { IommuError } from "../errors.js";
import { SimulatedClient } from "../files/simulated-client.js";
import { buildMachine } from "../machine/machine.js";
import type { IommuFactory } from "../machine/types.js";

const FAULT_ID_VALID = 4;
const RECORD = structLayout("iommu_hwpt_pgfault").size;

/** What the driver of a unit with page requests was told. */
class Recorded {
  sink: PageFaultSink | undefined;
  answers: PageFaultResponse[] = [];
  pageRequests = true;
}

function unit(recorded: Recorded): IommuFactory {
  const domain: PagingDomain = { aperture: { start: 0n, last: 2n ** 48n - 1n }, pageSizes: 4096n, map() {}, unmap() {}, iovaToPa: () => undefined, free() {} };
  return {
    name: "recorder",
    about: "a driver that remembers",
    create: ({ name }) => ({
      hostAddressWidth: 48,
      hardware: { name, translate: () => -1 },
      driver: {
        name,
        addDevice() {},
        removeDevice() {},
        capabilities: () => ({ dirtyTracking: false, maxPasidLog2: 20, pasidLimit: 2 ** 20, ats: true, pageRequests: recorded.pageRequests }),
        reservedRegions: () => [],
        allocPaging: () => domain,
        allocNested: () => ({ free() {} }),
        attach() {},
        detach() {},
        reportPageFaults: (_device, sink) => (recorded.sink = sink),
        respondToPageFault: (_device, response) => recorded.answers.push(response),
      },
    }),
  };
}

describe("a fault queue", () => {
  let recorded: Recorded;
  let client: SimulatedClient;
  let iommu: number;
  let device: number;
  let queue: number;
  let hwpt: number;

  beforeEach(() => {
    recorded = new Recorded();
    const spec = { name: "m", memory: { size: "16MiB" }, iommus: [{ type: "recorder" }], devices: [{ model: "dma-test", bdf: "00:03.0", vfio: "vfio0" }] };
    client = new SimulatedClient(buildMachine(spec, { iommus: [unit(recorded)], devices: [dmaTestModel] }).nodes);
    iommu = client.open("/dev/iommu");
    device = client.open("/dev/vfio/devices/vfio0");
    const dev_id = Number(client.ioctl(device, "VFIO_DEVICE_BIND_IOMMUFD", { iommufd: iommu }).out_devid);
    const ioas = Number(client.ioctl(iommu, "IOMMU_IOAS_ALLOC").out_ioas_id);
    const { out_fault_id, out_fault_fd } = client.ioctl(iommu, "IOMMU_FAULT_QUEUE_ALLOC");
    queue = Number(out_fault_fd);
    hwpt = Number(client.ioctl(iommu, "IOMMU_HWPT_ALLOC", { dev_id, pt_id: ioas, flags: FAULT_ID_VALID | 8, fault_id: out_fault_id }).out_hwpt_id);
  });

  const attach = (): unknown => client.ioctl(device, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { pt_id: hwpt });
  const attachPasid = (pasid: number): unknown => client.ioctl(device, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { flags: 1, pt_id: hwpt, pasid });
  const request = (more: Partial<PageFault> = {}): void => recorded.sink?.report({ pasid: undefined, group: 3, permissions: 1, address: 0x5000n, last: true, ...more });
  const read = (count = 10): DataView => {
    const bytes = client.read(queue, count * RECORD);
    return new DataView(bytes.buffer, 0, bytes.length);
  };
  const reply = (cookie: number, code: number): unknown => client.write(queue, new Uint8Array(Uint32Array.of(cookie, code).buffer));

  it("R27: a request of a PASID that nobody attached goes to the user's own table on the RID, and carries the PASID", () => {
    const dev_id = 1;
    const ioas = Number(client.ioctl(iommu, "IOMMU_IOAS_ALLOC").out_ioas_id);
    const parent = Number(client.ioctl(iommu, "IOMMU_HWPT_ALLOC", { dev_id, pt_id: ioas, flags: 1 }).out_hwpt_id);
    const own = client.ioctl(iommu, "IOMMU_FAULT_QUEUE_ALLOC");
    const { address } = client.memory.map(4096);
    const nested = client.ioctl(iommu, "IOMMU_HWPT_ALLOC", { dev_id, pt_id: parent, flags: FAULT_ID_VALID, fault_id: Number(own.out_fault_id), data_type: 2, data_len: 16, data_uptr: address }).out_hwpt_id;
    client.ioctl(device, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { pt_id: Number(nested) });
    request({ pasid: 77 });
    const bytes = client.read(Number(own.out_fault_fd), RECORD);
    const view = new DataView(bytes.buffer);
    expect([bytes.length, view.getUint32(0, true) & 1, view.getUint32(4, true), view.getUint32(8, true)]).toEqual([RECORD, 1, dev_id, 77]);
  });

  it("opens the way for page requests while a page table with a queue is attached", () => {
    expect(recorded.sink).toBeUndefined();
    attach();
    expect(recorded.sink).toBeDefined();
    client.ioctl(device, "VFIO_DEVICE_DETACH_IOMMUFD_PT");
    expect(recorded.sink).toBeUndefined();
    attach();
    const plain = Number(client.ioctl(iommu, "IOMMU_IOAS_ALLOC").out_ioas_id);
    client.ioctl(device, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { pt_id: plain });
    expect(recorded.sink).toBeUndefined();
  });

  it("hands each answer to the driver", () => {
    attach();
    attachPasid(9);
    request({ last: false });
    request({ last: true, address: 0x6000n });
    request({ pasid: 9, group: 4 });
    const records = read();
    expect(records.byteLength).toBe(3 * RECORD);
    expect([records.getUint32(36, true), records.getUint32(RECORD + 36, true), records.getUint32(2 * RECORD + 36, true)]).toEqual([1, 1, 2]);
    expect(recorded.answers).toEqual([]);
    reply(2, 1);
    reply(1, 0);
    expect(recorded.answers).toEqual([{ pasid: 9, group: 4, code: "invalid" }, { pasid: undefined, group: 3, code: "success" }]);
    expect(() => reply(1, 0)).toThrow(IommuError);
  });

  it("answers INVALID what is pending when its attachment ends, and nothing else", () => {
    attach();
    attachPasid(9);
    request({ group: 1 });
    request({ group: 2, pasid: 9 });
    read(1);
    request({ group: 5, last: false });
    client.ioctl(device, "VFIO_DEVICE_DETACH_IOMMUFD_PT");
    expect(recorded.answers).toEqual([{ pasid: undefined, group: 1, code: "invalid" }]);
    attach();
    request({ group: 5 });
    expect(read().byteLength).toBe(2 * RECORD);
  });

  it("answers INVALID what comes for a PASID that nothing is attached for", () => {
    attach();
    request({ pasid: 77 });
    request({ pasid: 77, last: false });
    expect(recorded.answers).toEqual([{ pasid: 77, group: 3, code: "invalid" }]);
  });

  it("does not grow without end", () => {
    attach();
    for (let group = 0; group < 70_000; group++) request({ group: group % 512 });
    expect(recorded.answers).toHaveLength(70_000 - 65_536);
    for (let i = 0; i < 5000; i++) request({ group: i % 512, last: false });
    request({ group: 511, last: true });
    expect(recorded.answers).toHaveLength(70_001 - 65_536);
  });

  it("gives out the lowest free cookie, among however many", () => {
    attach();
    for (let i = 0; i < 65_536; i++) request({ group: i % 512 });
    const all = read(65_536);
    expect([all.byteLength, all.getUint32(36, true), all.getUint32(all.byteLength - 4, true)]).toEqual([65_536 * RECORD, 1, 65_536]);
    for (const cookie of [40_000, 7, 9]) reply(cookie, 0);
    for (let i = 0; i < 3; i++) request();
    const more = read();
    expect([0, 1, 2].map((i) => more.getUint32(i * RECORD + 36, true))).toEqual([7, 9, 40_000]);
  });

  it("takes back what never reached the reader, and its cookie", () => {
    attach();
    request({ group: 1 });
    request({ group: 2 });
    read(1);
    read(1);
    const file = client.file(queue);
    if (file === undefined || !("unread" in file)) expect.fail("not a file that takes back");
    else file.unread?.();
    const again = read();
    expect([again.byteLength, again.getUint32(12, true), again.getUint32(36, true)]).toEqual([RECORD, 2, 2]);
    client.ioctl(device, "VFIO_DEVICE_DETACH_IOMMUFD_PT");
    expect(recorded.answers.map(({ group }) => group)).toEqual([1, 2]);
  });

  it("is refused for a device that makes no page requests", () => {
    recorded.pageRequests = false;
    expect(attach).toThrow(expect.objectContaining({ errno: "ENODEV" }));
    expect(recorded.sink).toBeUndefined();
  });
});
