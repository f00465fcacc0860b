/**
 * guest.mjs nested|shadowed|nested-smmu, or bare nested|shadowed, bare-smmu: a guest's driver maps and unmaps a page, with its invalidation, on hardware of its own, or
 * behind a virtual IOMMU on a host. Prints ns for a pair.
 */
import { buildMachine, FrameAllocator, InterruptController, PhysicalMemory, SimulatedClient } from "../../packages/core/dist/index.js";
import { dmaTestModel } from "../../packages/core/dist/devices/index.js";
import { SmmuUnit } from "../../packages/hw-smmu/dist/index.js";
import { SmmuDriver } from "../../packages/hw-smmu/dist/driver/index.js";
import { smmuIommuFactory } from "../../packages/hw-smmu/dist/plugin.js";
import { PRESETS } from "../../packages/hw-smmu/dist/presets.js";
import { VtdUnit } from "../../packages/hw-vtd/dist/index.js";
import { VtdDriver } from "../../packages/hw-vtd/dist/driver/index.js";
import { vtdIommuFactory } from "../../packages/hw-vtd/dist/plugin.js";
import { HostObjects as SmmuHost, shownTo, VirtualSmmu } from "../../packages/viommu/dist/smmu/index.js";
import { GUEST_UNITS, HostObjects as VtdHost, VirtualVtd } from "../../packages/viommu/dist/vtd/index.js";
import { print } from "./common.mjs";

const [mode] = process.argv.slice(2);
const [place, kind = "vtd"] = mode.split("-");
const RAM = 0x200_0000;
const REGISTERS = 0x9000_0000;
const RID = 0x18;
const PAIRS = 20_000;
const IOVA = 0x40_0000n;

function hosted(factory) {
  const spec = { name: "host", memory: { size: "64MiB" }, iommus: [{ type: factory.name, options: factory.everything }], devices: [{ model: "dma-test", bdf: "00:03.0", vfio: "vfio0" }] };
  const machine = buildMachine(spec, { iommus: [factory], devices: [dmaTestModel] });
  const program = new SimulatedClient(machine.nodes);
  const [iommufd, fd] = [program.open("/dev/iommu"), program.open("/dev/vfio/devices/vfio0")];
  const id = Number(program.ioctl(fd, "VFIO_DEVICE_BIND_IOMMUFD", { iommufd }).out_devid);
  return { program, iommufd, device: { fd, id, rid: RID, stream: RID }, ram: program.memory.map(RAM, { bytes: new Uint8Array(memory.words.buffer, 0, RAM) }) };
}

const memory = new PhysicalMemory();
memory.addRam(0, RAM);
const host = place === "bare" ? undefined : hosted(kind === "smmu" ? smmuIommuFactory : vtdIommuFactory);
const interrupts = new InterruptController();
const frames = new FrameAllocator(memory, 0x10_0000, RAM / 2);
const parts = { name: "guest", memory, frames, registerBase: REGISTERS, interrupts };
const onMessage = (address, data) => interrupts.deliver(address, data);

function vtd() {
  const words = GUEST_UNITS[place === "bare" ? (process.argv[3] ?? "nested") : place];
  const unit = new VtdUnit(memory, { name: "guest", ...words, onMessage });
  let virtual;
  if (host) {
    const objects = new VtdHost(host.program, host.iommufd, [{ base: 0n, size: BigInt(RAM), address: host.ram.address }], host.device, place === "nested");
    virtual = new VirtualVtd(unit, { objects, devices: [host.device], memory });
  }
  memory.addMmio(REGISTERS, 0x8000, unit);
  return { virtual, driver: new VtdDriver({ ...parts, haw: words.haw }) };
}

function smmu() {
  let identification = shownTo(PRESETS.server.identification);
  let objects;
  if (host) {
    objects = new SmmuHost(host.program, host.iommufd, [{ base: 0n, size: BigInt(RAM), address: host.ram.address }], [host.device]);
    identification = shownTo(objects.identification);
  }
  const unit = new SmmuUnit(memory, { name: "guest", identification, onMessage });
  const virtual = host && new VirtualSmmu(unit, { objects, devices: [host.device] });
  memory.addMmio(REGISTERS, 0x2_0000, unit);
  return { virtual, driver: new SmmuDriver(parts) };
}

const { virtual, driver } = kind === "smmu" ? smmu() : vtd();
const device = { rid: RID, name: "00:03.0", pasidBits: 0, ats: false };
driver.addDevice(device);
const domain = driver.allocPaging(device, {});
driver.attach(device, 0, domain);
const run = (pairs) => {
  const before = process.hrtime.bigint();
  for (let i = 0; i < pairs; i++) {
    const iova = IOVA + BigInt((i % 512) * 4096);
    domain.map(iova, RAM / 2 + (i % 256) * 4096, 4096, 3);
    domain.unmap(iova, 4096);
  }
  return Number(process.hrtime.bigint() - before) / pairs;
};
run(PAIRS / 4);
print({ ns: run(PAIRS), watched: virtual?.pollable.length ?? 0 });
