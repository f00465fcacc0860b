/** /dev/iommu: from bytes to commands (iommufd facts, 1.1 and 1.2). */
import { decodeStruct, storeFields, structField, type StructValues } from "../abi/index.js";
import { IommuError, refuse } from "../errors.js";
import type { CallContext, KernelFile } from "../files/types.js";
import type { ClientWindows } from "../memory/windows.js";
import { type Command, COMMANDS } from "./commands.js";
import { IommufdContext } from "./context.js";

/** Requests from here on are iommufd's own; below lie those of the VFIO container. */
const FIRST_NUMBER = 0x80;
const LAST_NUMBER = 0x94;
const CHUNK = 4096;

export class IommufdFile implements KernelFile {
  readonly path: string;
  readonly context: IommufdContext;
  #released = false;

  constructor(path: string, windows: ClientWindows) {
    this.path = path;
    this.context = new IommufdContext(windows);
  }

  ioctl(call: CallContext, request: number, argument: bigint): number {
    const number = request & 0xff;
    if (number < FIRST_NUMBER || number > LAST_NUMBER) {
      return refuse("ENOTTY", `request 0x${request.toString(16)} is not one of iommufd; VFIO container requests are not built yet`, {
        argument: "request",
      });
    }
    const head = new Uint8Array(4);
    call.memory.read(argument, head);
    const size = new DataView(head.buffer).getUint32(0, true);
    const command = COMMANDS.get(request);
    if (command === undefined) return refuse("ENOTTY", `request 0x${request.toString(16)} is not one of iommufd`, { argument: "request" });
    const bytes = copyIn(call, command, argument, size);
    const values = decodeStruct(command.row.struct ?? "", bytes);
    values.reservedBytes = reservedBytes(command, bytes);
    this.#run(call, command, argument, bytes, values);
    return 0;
  }

  #run(call: CallContext, command: Command, argument: bigint, bytes: Uint8Array, values: StructValues): void {
    let created;
    try {
      created = command.run(this.context, call, values);
    } catch (error) {
      if (error instanceof IommuError && error.errno === command.copyOutOn) copyOut(call, command, argument, bytes, values);
      throw error;
    }
    try {
      if (command.copyOut) copyOut(call, command, argument, bytes, values);
    } catch (error) {
      if (created !== undefined) {
        this.context.objects.abandon(created.id);
        created.destroy();
      }
      throw error;
    }
    if (created !== undefined) this.context.objects.publish(created);
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
  call.memory.read(argument, bytes.subarray(0, Math.min(size, command.size)));
  const chunk = new Uint8Array(CHUNK);
  for (let at = command.size; at < size; at += CHUNK) {
    const part = chunk.subarray(0, Math.min(CHUNK, size - at));
    call.memory.read(argument + BigInt(at), part);
    const set = part.findIndex((byte) => byte !== 0);
    if (set !== -1) refuse("E2BIG", `${row.name}: byte ${at + set}, behind the ${command.size} that are known, is not 0`, { argument: "size" });
  }
  return bytes;
}

/** Inputs are written back unchanged along with the outputs, as far as the caller's struct goes. */
function copyOut(call: CallContext, command: Command, argument: bigint, bytes: Uint8Array, values: StructValues): void {
  const { reservedBytes: _, in_data_type: __, ...outputs } = values;
  storeFields(command.row.struct ?? "", bytes, outputs);
  call.memory.write(argument, bytes.subarray(0, Math.min(Number(values.size), bytes.length)));
}

/** OR of the bytes of an array called __reserved, which the codec does not decode. */
function reservedBytes(command: Command, bytes: Uint8Array): number {
  const struct = command.row.struct ?? "";
  if (struct !== "iommu_hw_info") return 0;
  const field = structField(struct, "__reserved");
  return bytes.subarray(field.offset, field.offset + field.size).reduce((or, byte) => or | byte, 0);
}
