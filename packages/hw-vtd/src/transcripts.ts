/** Machines that transcripts of the platform "vtd" were recorded on: QEMU's unit and its devices, from a file's header. */
import { buildMachine, type IommuFactory, type KernelFile, refuse, VfioDeviceFile } from "@iommukit/core";
import { dmaTestModel, eduModel, iommuTestdevModel, IommuTestdevRegister as R } from "@iommukit/core/devices";
import type { TranscriptMachine, TranscriptPlatform } from "@iommukit/core/testing";

const MODELS: Readonly<Record<string, string>> = { "1b36:0005": iommuTestdevModel.name, "1234:11e8": eduModel.name };
/** QEMU's intel-iommu: version 1.0, 39 bits unless told otherwise; these recordings use 48. */
const UNIT = { version: 0x10, haw: 48 };

interface RecordedDevice {
  readonly bdf: string;
  readonly id: string;
  readonly cdev: string;
  readonly group: string;
}

function build(factory: IommuFactory, header: Readonly<Record<string, unknown>>): TranscriptMachine {
  const { cap, ecap } = header.capabilities as { cap: string; ecap: string };
  const recorded = header.devices as readonly RecordedDevice[];
  const devices = recorded.map(({ bdf, id, cdev, group }) => ({
    model: MODELS[id] ?? refuse("EINVAL", `no model of the PCI device ${id}`, { argument: "devices" }),
    bdf,
    vfio: cdev.replace("/dev/vfio/devices/", ""),
    group: Number(group.replace("/dev/vfio/", "")),
  }));
  const spec = { name: "recorded", memory: { size: "256MiB" }, iommus: [{ type: "vtd", options: { ...UNIT, cap, ecap } }], devices };
  const machine = buildMachine(spec, { iommus: [factory], devices: [dmaTestModel, iommuTestdevModel, eduModel] });
  return { nodes: machine.nodes, dma: runTestdev };
}

/** What the recording program did with the test device's registers. */
function runTestdev(file: KernelFile, iova: bigint): "landed" | "faulted" | "SIGBUS" {
  if (!(file instanceof VfioDeviceFile)) return refuse("EINVAL", "the descriptor is not a VFIO device", { argument: "fd" });
  const { pci } = file.node;
  if (!pci.answers) return "SIGBUS";
  const write = (register: number, value: number): void => pci.writeBar(0, register, new Uint8Array(Uint32Array.of(value).buffer));
  write(R.IOVA, Number(iova & 0xffff_ffffn));
  write(R.IOVA + 4, Number(iova >> 32n));
  write(R.LENGTH, 4);
  write(R.ARM, 1);
  const word = new Uint8Array(4);
  pci.readBar(0, R.RUN, word);
  pci.readBar(0, R.RESULT, word);
  return new DataView(word.buffer).getUint32(0, true) === 0 ? "landed" : "faulted";
}

export function transcriptPlatform(factory: IommuFactory): TranscriptPlatform {
  return { platform: "vtd", build: (header) => build(factory, header) };
}
