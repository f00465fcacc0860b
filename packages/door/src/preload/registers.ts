/** Accesses to registers that a client has mapped: its shim sends each one that trapped. */
import { type MmapRegion, refuse } from "@iommukit/core";
import { attempt, EINVAL, IO_BYTES } from "../calls.js";
import type { Client } from "../client.js";
import { type Copy, Operation, type Request } from "./protocol.js";

/** That of a vector register; a masked one may be of any width below. */
const WIDEST = 64;
const BLOCK_BYTES = 64;

export interface RegisterAnswer {
  readonly result: number;
  readonly copies: readonly Copy[];
}

/** Runs a LOAD, STORE or BLOCK on a mapping. What is larger than one access is that many of them, in ascending order. */
export function accessRegisters(region: MmapRegion, client: Client, request: Request): RegisterAnswer {
  const at = Number(request.a);
  if (request.op === Operation.BLOCK) return { result: attempt(() => writeBlock(region, client, at, request)), copies: [] };
  const width = Number(request.b);
  const isLoad = request.op === Operation.LOAD;
  const length = isLoad ? Number(request.c) : request.input.length;
  if (width < 1 || width > WIDEST || length % width !== 0 || length > IO_BYTES || at + length > region.length) return { result: -EINVAL, copies: [] };
  const bytes = isLoad ? new Uint8Array(length) : Uint8Array.from(request.input);
  const { backend } = region;
  const result = attempt(() => {
    for (let done = 0; done < length; done += width) {
      const part = bytes.subarray(done, done + width);
      if (isLoad) backend.read(at + done, part);
      else backend.write(at + done, part);
    }
    return length;
  });
  return { result, copies: isLoad && result >= 0 ? [{ address: 0n, bytes }] : [] };
}

/** 1 when the device turned a deferrable one away, which carries the client's PASID as ENQCMD does (Intel SDM, volume 2, ENQCMD). */
function writeBlock(region: MmapRegion, client: Client, at: number, { b, input }: Request): number {
  if (input.length !== BLOCK_BYTES || at % BLOCK_BYTES !== 0 || at + BLOCK_BYTES > region.length) refuse("EINVAL", `no block of ${BLOCK_BYTES} bytes at 0x${at.toString(16)}`, { argument: "a" });
  const block = Uint8Array.from(input);
  const deferrable = b === 1n;
  if (deferrable) {
    const { pasid } = client;
    if (pasid === undefined) return refuse("EPERM", `process ${client.pid} has no PASID to send`, { rule: "IA32_PASID" });
    new DataView(block.buffer).setUint32(0, pasid, true);
  }
  if (region.writeBlock) return region.writeBlock(at, block, deferrable) ? 0 : 1;
  if (!deferrable) region.backend.write(at, block);
  return deferrable ? 1 : 0;
}
