/** Requirements about the forms of a bind, and about groups. */
import { buildMachine } from "@iommukit/core";
import { DmaTestCommand, dmaTestModel, DmaTestRegister as R } from "@iommukit/core/devices";
import { vtdIommuFactory } from "@iommukit/hw-vtd/plugin";
import { expect, it } from "vitest";
import { PasidNumberSpace } from "../pasid/index.js";
import { arrived, dma, DmaTestStatus, errno, PasidRig, User } from "../rig/pasid-rig.js";

it("R23: with RID+PASID a device is bound like any other, and what it names without a PASID is its default space", () => {
  const rig = new PasidRig();
  const vm = rig.user();
  const mdev = vm.mdev(rig.parents[0], 6);
  expect(vm.ioctl("IOMMU_GET_HW_INFO", { dev_id: mdev.id, data_len: 0 })).toMatchObject({ out_data_type: 1 });
  const ioas = vm.ioas();
  const page = vm.page(ioas, 0x1000n);
  mdev.attach(ioas);
  expect([dma(rig.parents[0], mdev.defaultPasid, 0x1000n), arrived(page)]).toEqual([DmaTestStatus.DONE, true]);
  const other = rig.parents[0].space.take();
  expect(dma(rig.parents[0], other, 0x1000n)).toBe(DmaTestStatus.REFUSED);
  expect(errno(() => vm.ioctl("IOMMU_DESTROY", { id: mdev.id }))).toBe("EBUSY");
});

it("devices with translated and with untranslated PASIDs do not mix in one virtual machine, until one kind is closed", () => {
  const rig = new PasidRig();
  const vm = rig.user();
  const eight = vm.mdev(rig.parents[0], 8);
  expect(errno(() => vm.mdev(rig.parents[0], 7))).toBe("EINVAL");
  eight.close();
  expect(errno(() => vm.mdev(rig.parents[0], 7))).toBe("none");
});

it("R30: in a group of several devices a record names the one that was attached first", () => {
  const device = (bdf: string, vfio: string) => ({ model: "dma-test", bdf, vfio, group: 5, options: { ats: true, pri: true } });
  const machine = buildMachine(
    { name: "group", memory: { size: "64MiB" }, iommus: [{ type: "vtd", options: { preset: "full" } }], devices: [device("00:03.0", "vfio0"), device("00:04.0", "vfio1")] },
    { iommus: [vtdIommuFactory], devices: [dmaTestModel] },
  );
  const vm = new User(machine, new PasidNumberSpace(0, "the machine", 20));
  const ids = [0, 1].map((i) => {
    const fd = vm.client.open(`/dev/vfio/devices/vfio${i}`);
    const id = Number(vm.ioctl("VFIO_DEVICE_BIND_IOMMUFD", { iommufd: vm.iommufd }, fd).out_devid);
    vm.client.pwrite(fd, (7n << 40n) + 4n, Uint8Array.of(6, 0));
    return { fd, id };
  });
  const [ioas, queue] = [vm.ioas(), vm.queue()];
  const table = Number(vm.ioctl("IOMMU_HWPT_ALLOC", { flags: 4, dev_id: ids[0].id, pt_id: ioas, fault_id: queue.id }).out_hwpt_id);
  for (const { fd } of ids) vm.ioctl("VFIO_DEVICE_ATTACH_IOMMUFD_PT", { pt_id: table, argsz: 12 }, fd);
  const second = machine.devices[1].pci.device;
  second.writeBar(0, R.DESTINATION, 8, 0x4000n);
  second.writeBar(0, R.LENGTH, 4, 4n);
  second.writeBar(0, R.COMMAND, 4, BigInt(DmaTestCommand.WRITE));
  const [fault] = vm.faults(queue.fd);
  expect(fault).toMatchObject({ addr: 0x4000n, dev_id: ids[0].id });
  const page = vm.page(ioas, 0x4000n);
  vm.answer(queue.fd, fault.cookie, 0);
  expect([Number(second.readBar(0, R.STATUS, 4)), page.length]).toEqual([DmaTestStatus.DONE, 4096]);
});
