/**
 * contexts.mjs: 1,000 opens of /dev/iommu, each with an address space of 16 areas, the first 64 with a device on it. Prints microseconds for
 * one of them and the KiB that it takes, and microseconds for one close. Needs --expose-gc.
 */
import { buildMachine, SimulatedClient } from "../../packages/core/dist/index.js";
import { dmaTestModel } from "../../packages/core/dist/devices/index.js";
import { vtdIommuFactory } from "../../packages/hw-vtd/dist/plugin.js";
import { print } from "./common.mjs";

const CONTEXTS = 1000;
const DEVICES = 64;
const AREAS = 16;
const PAGE = 4096;
const FIXED = 7;

const devices = Array.from({ length: DEVICES }, (_, i) => ({ model: "dma-test", bdf: `${(1 + (i >> 5)).toString(16).padStart(2, "0")}:${(i & 31).toString(16).padStart(2, "0")}.0`, vfio: `vfio${i}` }));
const machine = buildMachine({ name: "contexts", memory: { size: "1GiB" }, iommus: [{ type: "vtd" }], devices }, { iommus: [vtdIommuFactory], devices: [dmaTestModel] });
const client = new SimulatedClient(machine.nodes);
const buffer = client.memory.map(AREAS * PAGE);

const memory = () => {
  gc();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
};

function open(i) {
  const iommu = client.open("/dev/iommu");
  const ioas_id = client.ioctl(iommu, "IOMMU_IOAS_ALLOC").out_ioas_id;
  const device = i < DEVICES ? client.open(`/dev/vfio/devices/vfio${i}`) : undefined;
  if (device !== undefined) {
    client.ioctl(device, "VFIO_DEVICE_BIND_IOMMUFD", { iommufd: iommu });
    client.ioctl(device, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { pt_id: ioas_id });
  }
  for (let area = 0; area < AREAS; area++) {
    client.ioctl(iommu, "IOMMU_IOAS_MAP", { flags: FIXED, ioas_id, user_va: buffer.address + BigInt(area * PAGE), length: PAGE, iova: 0x1_0000_0000 + 2 * area * PAGE });
  }
  return device === undefined ? [iommu] : [iommu, device];
}

for (const fd of [...open(0), ...open(DEVICES)].reverse()) client.close(fd);
const before = memory();
let start = process.hrtime.bigint();
const descriptors = Array.from({ length: CONTEXTS }, (_, i) => open(i));
const openUs = Number(process.hrtime.bigint() - start) / 1000 / CONTEXTS;
const kib = (memory() - before) / 1024 / CONTEXTS;
start = process.hrtime.bigint();
for (const list of descriptors) for (const fd of list.reverse()) client.close(fd);
const closeUs = Number(process.hrtime.bigint() - start) / 1000 / CONTEXTS;
if (client.memory.counters.pinned !== 0) throw new Error("pages are left pinned");
print({ open: openUs, close: closeUs, kib, left: (memory() - before) / 1024 });
