/** Tells the tracer of every call on a file, with decoded arguments, in one place. */
import { decodeStruct, findIoctl, structLayout, type StructValues } from "../abi/index.js";
import { nodesOf } from "../abi/nodes.js";
import { IommuError } from "../errors.js";
import { openedBy } from "../files/opened-by.js";
import type { CallContext, DeviceNodes, KernelFile } from "../files/types.js";
import type { CallEvent, Tracer } from "../trace.js";

/** Bytes of a text that are shown. */
const SHOWN = 64;

/** Wraps a file's methods in place; a file that nobody listens to costs one test a call. */
export function traceFile(tracer: Tracer, opener: CallContext, file: KernelFile): KernelFile {
  const nodes = nodesOf(file.path);
  const report = (call: CallContext, name: string, args: () => CallEvent["args"], run: () => number): number => {
    if (tracer.listener === undefined) return run();
    let ret = -1;
    let refusal: IommuError | undefined;
    try {
      ret = run();
      return ret;
    } catch (error) {
      if (error instanceof IommuError) refusal = error;
      throw error;
    } finally {
      const reason = refusal ? { errno: refusal.errno, reason: refusal.reason } : {};
      tracer.listener({ kind: "call", pid: call.pid, file: file.path, name, args: args(), ret, ...reason });
    }
  };
  report(opener, "open", () => ({}), () => 0);
  const { ioctl, pread, pwrite, write, release } = file;
  file.ioctl = (call, request, argument) => {
    const row = nodes.map((node) => findIoctl(node, request)).find((found) => found !== undefined);
    const args = (): StructValues => readArgs(call, row?.struct, argument);
    return report(call, row?.name ?? `ioctl 0x${request.toString(16)}`, args, () => ioctl.call(file, call, request, argument));
  };
  if (pread) {
    file.pread = (call, position, target) =>
      report(call, "pread", () => ({ position, length: target.length }), () => pread.call(file, call, position, target));
  }
  if (pwrite) {
    file.pwrite = (call, position, source) =>
      report(call, "pwrite", () => ({ position, length: source.length, value: leading(source) }), () => pwrite.call(file, call, position, source));
  }
  if (write) {
    file.write = (call, source) =>
      report(call, "write", () => ({ text: new TextDecoder("latin1").decode(source.subarray(0, SHOWN)) }), () => write.call(file, call, source));
  }
  file.release = () => {
    release.call(file);
    report(opener, "close", () => ({}), () => 0);
  };
  return file;
}

/** The struct after the call: inputs and outputs. Empty when the caller's memory cannot be read. */
function readArgs(call: CallContext, struct: string | undefined, argument: bigint): StructValues {
  if (struct === undefined) return {};
  try {
    const head = new Uint8Array(4);
    call.memory.read(argument, head);
    const size = new DataView(head.buffer).getUint32(0, true);
    const bytes = new Uint8Array(Math.min(size, structLayout(struct).size));
    call.memory.read(argument, bytes);
    return decodeStruct(struct, bytes);
  } catch {
    return {};
  }
}

/** Up to 8 bytes as a number. */
function leading(source: Uint8Array): bigint {
  let value = 0n;
  for (let i = Math.min(source.length, 8) - 1; i >= 0; i--) value = (value << 8n) | BigInt(source[i]);
  return value;
}

/** Nodes whose files tell the tracer of every call. */
export function traceNodes(nodes: DeviceNodes, tracer: Tracer): DeviceNodes {
  return openedBy(nodes, (context, path) => traceFile(tracer, context, nodes.open(context, path)));
}
