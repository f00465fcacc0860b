import { buildMachine, IommuError, SimulatedClient } from "@iommukit/core";
import { DmaTestCommand, DmaTestRegister, dmaTestModel } from "@iommukit/core/devices";
import { vtdIommuFactory } from "@iommukit/hw-vtd/plugin";

// A machine with a VT-d unit and two devices that do DMA on command.
const machine = buildMachine(vtdIommuFactory.defaultMachine(), { iommus: [vtdIommuFactory], devices: [dmaTestModel] });

// A client does what a C program does: open, bind, allocate, attach, map.
const client = new SimulatedClient(machine.nodes);
const iommu = client.open("/dev/iommu");
const device = client.open("/dev/vfio/devices/vfio0");
client.ioctl(device, "VFIO_DEVICE_BIND_IOMMUFD", { iommufd: iommu });
const ioas = client.ioctl(iommu, "IOMMU_IOAS_ALLOC").out_ioas_id;
client.ioctl(device, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { pt_id: ioas });
const buffer = client.memory.map(4096);
client.ioctl(iommu, "IOMMU_IOAS_MAP", { flags: 7, ioas_id: ioas, user_va: buffer.address, length: 4096, iova: 0x10000 });

// Let the device write through its tables: registers are in BAR 0, bus mastering in configuration space.
const poke = (register, value, size) => {
  const bytes = new DataView(new ArrayBuffer(8));
  bytes.setBigUint64(0, BigInt(value), true);
  client.pwrite(device, BigInt(register), new Uint8Array(bytes.buffer, 0, size));
};
client.pwrite(device, (7n << 40n) + 4n, Uint8Array.of(6, 0));
poke(DmaTestRegister.BUFFER, 0x2a, 4);
poke(DmaTestRegister.DESTINATION, 0x10000, 8);
poke(DmaTestRegister.LENGTH, 4, 4);
poke(DmaTestRegister.COMMAND, DmaTestCommand.WRITE, 4);
console.log("the device wrote", buffer.bytes[0]);

// A refusal says why.
try {
  client.ioctl(iommu, "IOMMU_IOAS_MAP", { flags: 7, ioas_id: ioas, user_va: buffer.address, length: 4096, iova: 0xfee00000 });
} catch (error) {
  if (error instanceof IommuError) console.log(error.errno, "-", error.reason.message);
}
if (buffer.bytes[0] !== 0x2a) process.exit(1);
