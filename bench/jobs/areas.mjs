/**
 * areas.mjs COUNT [device]: one IOAS with COUNT areas of 4 KiB, alone or mirrored by a device's page table. Prints nanoseconds for one map and
 * one unmap by ioctl and one look-up by range among so many, and the bytes that an area takes. Needs --expose-gc.
 */
import { buildMachine, SimulatedClient } from "../../packages/core/dist/index.js";
import { dmaTestModel } from "../../packages/core/dist/devices/index.js";
import { vtdIommuFactory } from "../../packages/hw-vtd/dist/plugin.js";
import { print, randomPages } from "./common.mjs";

const FIXED = 7;
const PAGE = 4096n;
/** Areas are at even pages from here on; the odd ones are for trying. */
const BASE = 2n ** 32n;
const TRIES = 20_000;
const LOOKUPS = 1 << 20;

const count = Number(process.argv[2]);
const machine = buildMachine(vtdIommuFactory.defaultMachine(), { iommus: [vtdIommuFactory], devices: [dmaTestModel] });
const client = new SimulatedClient(machine.nodes);
const iommu = client.open("/dev/iommu");
const ioas = client.ioctl(iommu, "IOMMU_IOAS_ALLOC").out_ioas_id;
if (process.argv[3] === "device") {
  const device = client.open("/dev/vfio/devices/vfio0");
  client.ioctl(device, "VFIO_DEVICE_BIND_IOMMUFD", { iommufd: iommu });
  client.ioctl(device, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { pt_id: ioas });
}
const BUFFER_PAGES = 256n;
const buffer = client.memory.map(Number(BUFFER_PAGES * PAGE));

const map = (page) =>
  client.ioctl(iommu, "IOMMU_IOAS_MAP", { flags: FIXED, ioas_id: ioas, user_va: buffer.address + (page % BUFFER_PAGES) * PAGE, length: PAGE, iova: BASE + page * PAGE });
const unmap = (page) => client.ioctl(iommu, "IOMMU_IOAS_UNMAP", { ioas_id: ioas, iova: BASE + page * PAGE, length: PAGE });

function time(operations, run) {
  const start = process.hrtime.bigint();
  run();
  return Number(process.hrtime.bigint() - start) / operations;
}

const memory = () => {
  gc();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
};

// Code is compiled before anything counts.
for (let i = 0n; i < 2000n; i++) map(2n * i + 1n);
for (let i = 0n; i < 2000n; i++) unmap(2n * i + 1n);

const before = memory();
// In a scattered order: each map lands between others.
const order = Uint32Array.from({ length: count }, (_, i) => (i * 7919) % count);
const distinct = new Set(order.subarray(0, 1000)).size === Math.min(1000, count);
for (let i = 0; i < count; i++) map(2n * BigInt(distinct ? order[i] : i));
const bytes = (memory() - before) / count;

const odd = [...new Set(randomPages(TRIES, count))].map((n) => 2n * BigInt(n) + 1n);
const mapNs = time(odd.length, () => odd.forEach(map));
const unmapNs = time(odd.length, () => odd.forEach(unmap));

const { areas } = client.file(iommu).context.objects.get(ioas);
const list = BigUint64Array.from([...randomPages(LOOKUPS, count)], (n) => BASE + 2n * BigInt(n) * PAGE);
function lookups() {
  let found = 0;
  for (let i = 0; i < LOOKUPS; i++) {
    if (areas.first(list[i], list[i] + 2047n) !== undefined) found++;
  }
  if (found !== LOOKUPS) throw new Error("an area is missing");
}
// The first passes are compiled while they run.
const passes = Array.from({ length: 9 }, () => time(LOOKUPS, lookups)).slice(2).sort((a, b) => a - b);
print({ map: mapNs, unmap: unmapNs, lookup: passes[passes.length >> 1], bytes });
