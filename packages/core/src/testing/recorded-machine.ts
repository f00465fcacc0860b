/** Machines that transcripts were recorded on: one IOMMU and QEMU's devices, from a file's header. */
import { dmaTestModel } from "../devices/dma-test.js";
import { eduModel } from "../devices/edu.js";
import { iommuTestdevModel, IommuTestdevRegister as R } from "../devices/iommu-testdev.js";
import { refuse } from "../errors.js";
import type { KernelFile } from "../files/types.js";
import { buildMachine } from "../machine/machine.js";
import type { IommuFactory } from "../machine/types.js";
import { VfioDeviceFile } from "../vfio/device-file.js";
import type { TranscriptMachine } from "./transcripts.js";

const MODELS: Readonly<Record<string, string>> = { "1b36:0005": iommuTestdevModel.name, "1234:11e8": eduModel.name };

interface RecordedDevice {
  readonly bdf: string;
  readonly id: string;
  readonly cdev: string;
  readonly group: string;
}

/**
 * @param options of the unit, such as the registers that the header gives
 * @param platform name of the machine's platform
 */
export function recordedMachine(
  factory: IommuFactory,
  header: Readonly<Record<string, unknown>>,
  options: Readonly<Record<string, unknown>>,
  platform: string,
): TranscriptMachine {
  const recorded = header.devices as readonly RecordedDevice[];
  const devices = recorded.map(({ bdf, id, cdev, group }) => ({
    model: MODELS[id] ?? refuse("EINVAL", `no model of the PCI device ${id}`, { argument: "devices" }),
    bdf,
    vfio: cdev.replace("/dev/vfio/devices/", ""),
    group: Number(group.replace("/dev/vfio/", "")),
  }));
  const spec = { name: "recorded", memory: { size: "256MiB" }, iommus: [{ type: factory.name, options }], devices };
  const machine = buildMachine({ ...spec, platform }, { iommus: [factory], devices: [dmaTestModel, iommuTestdevModel, eduModel] });
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
