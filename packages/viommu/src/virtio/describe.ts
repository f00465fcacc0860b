/** Requests and faults of virtio-iommu in one line each, for who listens to the trace. */
import { formatRid } from "@iommukit/core";
import { ATTACH_BYPASS, FaultReason, MapFlag, REQUEST_BYTES, RequestType, Status } from "./spec.js";

type Names = Readonly<Record<string, number>>;
const nameIn = (names: Names, value: number): string => Object.entries(names).find(([, number]) => number === value)?.[0] ?? String(value);
const hex = (value: bigint): string => `0x${value.toString(16)}`;
const range = (request: DataView): string => `domain ${request.getUint32(4, true)} ${hex(request.getBigUint64(8, true))}-${hex(request.getBigUint64(16, true))}`;

const FIELDS: Readonly<Record<number, (request: DataView) => string>> = {
  [RequestType.ATTACH]: (request) => `${formatRid(request.getUint32(8, true))} to domain ${request.getUint32(4, true)}${(request.getUint32(12, true) & ATTACH_BYPASS) !== 0 ? ", which passes everything" : ""}`,
  [RequestType.DETACH]: (request) => `${formatRid(request.getUint32(8, true))} from domain ${request.getUint32(4, true)}`,
  [RequestType.MAP]: (request) => `${range(request)} -> ${hex(request.getBigUint64(24, true))}${flagsOf(request.getUint32(32, true))}`,
  [RequestType.UNMAP]: range,
  [RequestType.PROBE]: (request) => formatRid(request.getUint32(4, true)),
};

function flagsOf(flags: number): string {
  return Object.entries(MapFlag).filter(([, bit]) => (flags & bit) !== 0).map(([name]) => ` ${name.toLowerCase()}`).join("");
}

/** "MAP domain 1 0x40000000-0x403fffff -> 0x1000200000 read write" */
export function describeRequest(bytes: Uint8Array): string {
  const type = bytes[0];
  const fields = bytes.length >= REQUEST_BYTES[type] ? FIELDS[type] : undefined;
  const name = nameIn(RequestType, type);
  return fields ? `${name} ${fields(new DataView(bytes.buffer, bytes.byteOffset, bytes.length))}` : `${name} of ${bytes.length} bytes`;
}

export function describeStatus(status: number): string {
  return nameIn(Status, status);
}

/** "00:03.0 write 0x1000: MAPPING" */
export function describeFault(reason: number, endpoint: number, access: string, address: bigint): string {
  return `${formatRid(endpoint)} ${access} ${hex(address)}: ${nameIn(FaultReason, reason)}`;
}
