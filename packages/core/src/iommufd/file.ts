/** /dev/iommu: from bytes to commands (iommufd facts, 1.1 and 1.2). */
import { decodeStruct, fieldOffset, storeFields, type StructValues } from "../abi/index.js";
import { IommuError, refuse } from "../errors.js";
import { copyTail } from "../files/copy-in.js";
import type { CallContext, KernelFile, MmapRegion, MmapRequest } from "../files/types.js";
import type { ClientWindows } from "../memory/windows.js";
import { RlimitMode } from "./accounting.js";
import { type Command, COMMANDS, type Outcome } from "./commands/index.js";
import { containerIoctl } from "./compat.js";
import { IommufdContext } from "./context.js";

/** Requests from here on are iommufd's own; below lie those of the VFIO container. */
const FIRST_NUMBER = 0x80;
const LAST_NUMBER = 0x94;

/** Requests beyond Linux's own: the kernel's test command, or a vendor's. */
export interface CommandExtension {
  readonly commands: ReadonlyMap<number, Command>;
  /** Highest request number that is taken for one of iommufd's. */
  readonly lastNumber: number;
}

export interface IommufdFileOptions {
  readonly windows: ClientWindows;
  /** Opened as /dev/vfio/vfio: pinned pages are the process's. */
  readonly container?: boolean;
  readonly extension?: CommandExtension | undefined;
}

export class IommufdFile implements KernelFile {
  readonly path: string;
  readonly context: IommufdContext;
  readonly #extension: CommandExtension | undefined;
  #released = false;

  constructor(path: string, { windows, container, extension }: IommufdFileOptions) {
    this.path = path;
    this.#extension = extension;
    this.context = new IommufdContext(windows, container ? RlimitMode.MM : RlimitMode.USER);
    this.context.testCommands = extension !== undefined;
    this.context.container = container === true;
  }

  ioctl(call: CallContext, request: number, argument: bigint): number {
    const number = request & 0xff;
    const command = COMMANDS.get(request) ?? this.#extension?.commands.get(request);
    if (command === undefined && (number < FIRST_NUMBER || number > (this.#extension?.lastNumber ?? LAST_NUMBER))) {
      return containerIoctl(this.context, call, request, argument);
    }
    const head = new Uint8Array(4);
    call.memory.read(argument, head);
    const size = new DataView(head.buffer).getUint32(0, true);
    if (command === undefined) return refuse("ENOTTY", `request 0x${request.toString(16)} is not one of iommufd`, { argument: "request" });
    const bytes = copyIn(call, command, argument, size);
    // A command of an extension may read its bytes itself.
    const values = command.row.struct === undefined ? { size } : decodeStruct(command.row.struct, bytes);
    return this.#run(call, command, argument, bytes, values);
  }

  #run(call: CallContext, command: Command, argument: bigint, bytes: Uint8Array, values: StructValues): number {
    let outcome: Outcome | undefined | number;
    try {
      outcome = command.run(this.context, call, values, { bytes: bytes.subarray(0, Math.min(Number(values.size), bytes.length)), address: argument });
    } catch (error) {
      if (error instanceof IommuError && (command.copyOutOn === true || command.copyOutOn === error.errno)) copyOut(call, command, argument, bytes, values);
      throw error;
    }
    if (typeof outcome === "number") return outcome;
    try {
      if (command.copyOut) copyOut(call, command, argument, bytes, values);
    } catch (error) {
      if (outcome?.publish) {
        outcome.undo?.();
        outcome.publish.destroy();
        this.context.objects.abandon(outcome.publish.id);
      }
      throw error;
    }
    if (outcome?.publish) this.context.objects.publish(outcome.publish);
    return 0;
  }

  mmap(_call: CallContext, request: MmapRequest): MmapRegion {
    return this.context.regions.map(request, () => {
      this.context.hold();
      return () => this.context.put();
    });
  }

  release(): void {
    if (this.#released) return;
    this.#released = true;
    this.context.put();
  }
}

/** The known part of the struct, zero-filled when the caller's is shorter; what lies behind it must be zero. */
function copyIn(call: CallContext, command: Command, argument: bigint, size: number): Uint8Array {
  const { row } = command;
  const least = row.minSize ?? command.size;
  if (size < least) {
    refuse("EINVAL", `${row.name}: size ${size} is below ${least}`, { argument: "size" });
  }
  const bytes = new Uint8Array(command.size);
  copyTail(call.memory, argument, command.size, size, "size");
  call.memory.read(argument, bytes.subarray(0, Math.min(size, command.size)));
  return bytes;
}

/** Inputs are written back unchanged along with the outputs, as far as the caller's struct goes. */
function copyOut(call: CallContext, command: Command, argument: bigint, bytes: Uint8Array, values: StructValues): void {
  const struct = command.row.struct ?? "";
  // Two names for one place: the output wins.
  const { in_data_type: _, ...outputs } = values;
  storeFields(struct, bytes, outputs);
  if (command.copyOutField !== undefined) {
    const offset = fieldOffset(struct, command.copyOutField);
    call.memory.write(argument + BigInt(offset), bytes.subarray(offset, offset + 8));
    return;
  }
  call.memory.write(argument, bytes.subarray(0, Math.min(Number(values.size), bytes.length)));
}
