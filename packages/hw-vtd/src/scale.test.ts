/** A thousand opens of /dev/iommu and 64 devices, all at the same time. */
import { buildMachine, SimulatedClient } from "@iommukit/core";
import { DmaTestCommand, DmaTestRegister as R, DmaTestStatus, dmaTestModel } from "@iommukit/core/devices";
import { expect, it } from "vitest";
import { vtdIommuFactory } from "./plugin.js";

const CONTEXTS = 1000;
const DEVICES = 64;
const PAGE = 4096n;
const IOVA = 0x1_0000_0000n;

const bdf = (i: number): string => `0${1 + (i >> 5)}:${(i & 31).toString(16).padStart(2, "0")}.0`;

it("a thousand contexts keep their mappings apart, and 64 devices theirs; nothing is left when they are closed", () => {
  const devices = Array.from({ length: DEVICES }, (_, i) => ({ model: "dma-test", bdf: bdf(i), vfio: `vfio${i}` }));
  const { nodes } = buildMachine({ name: "scale", memory: { size: "1GiB" }, iommus: [{ type: "vtd" }], devices }, { iommus: [vtdIommuFactory], devices: [dmaTestModel] });
  const client = new SimulatedClient(nodes);
  const buffer = client.memory.map(CONTEXTS * 4096);
  const opened = Array.from({ length: CONTEXTS }, (_, i) => {
    const iommu = client.open("/dev/iommu");
    const ioas_id = Number(client.ioctl(iommu, "IOMMU_IOAS_ALLOC").out_ioas_id);
    const device = i % 16 === 0 && i / 16 < DEVICES ? client.open(`/dev/vfio/devices/vfio${i / 16}`) : undefined;
    if (device !== undefined) {
      client.ioctl(device, "VFIO_DEVICE_BIND_IOMMUFD", { iommufd: iommu });
      client.ioctl(device, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { pt_id: ioas_id });
      client.pwrite(device, (7n << 40n) + 4n, Uint8Array.of(6, 0));
    }
    client.ioctl(iommu, "IOMMU_IOAS_MAP", { flags: 7, ioas_id, user_va: buffer.address + BigInt(i) * PAGE, length: PAGE, iova: IOVA });
    return { iommu, ioas_id, device, page: i };
  });
  const put = (device: number, register: number, value: bigint, size: number): number => client.pwrite(device, BigInt(register), new Uint8Array(BigUint64Array.of(value).buffer).subarray(0, size));
  // The same IOVA leads each device to its own page.
  for (const { device, page } of opened) {
    if (device === undefined) continue;
    put(device, R.BUFFER, BigInt(page % 251) + 1n, 1);
    put(device, R.DESTINATION, IOVA, 8);
    put(device, R.LENGTH, 1n, 4);
    put(device, R.COMMAND, BigInt(DmaTestCommand.WRITE), 4);
    expect(client.pread(device, BigInt(R.STATUS), 4)[0]).toBe(DmaTestStatus.DONE);
  }
  expect(opened.map(({ device, page }) => (device === undefined ? 0 : (page % 251) + 1))).toEqual(opened.map(({ page }) => buffer.bytes[page * 4096]));
  expect(client.memory.counters.pinned).toBe(opened.filter(({ device }) => device !== undefined).length);
  for (const { iommu, device } of opened) {
    client.close(iommu);
    if (device !== undefined) client.close(device);
  }
  expect(client.memory.counters).toEqual({ pinned: 0, locked: 0 });
});
