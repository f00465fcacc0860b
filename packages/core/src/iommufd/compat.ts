/** VFIO container requests on /dev/iommu and /dev/vfio/vfio: type1 on top of one IOAS (iommufd facts, 11.3 and 11.4). */
import { decodeStruct, encodeStruct, storeFields, structLayout } from "../abi/index.js";
import { refuse } from "../errors.js";
import type { CallContext } from "../files/types.js";
import { mapSource } from "./commands/mapping.js";
import type { IommufdContext } from "./context.js";
import { U64_MAX } from "../memory/interval.js";
import { type Ioas, protOf } from "./ioas.js";

const EXTENSION = { TYPE1: 1, TYPE1V2: 3, DMA_CC: 4, NOIOMMU: 8, UNMAP_ALL: 9 } as const;
const MAP_READ = 1;
const MAP_WRITE = 2;
const UNMAP_ALL = 2;
const INFO_PGSIZES = 1;
const INFO_CAPS = 2;
const CAP_IOVA_RANGE = 1;
const CAP_DMA_AVAIL = 3;
/** The capability of available mappings: 12 bytes that take 16. */
const AVAIL_BYTES = 12;
const AVAIL_ROOM = 16;
const RANGES_HEADER = 16;
const PAGE = 4096n;

type ContainerHandler = (context: IommufdContext, call: CallContext, argument: bigint) => number;

const hex = (value: bigint | number): string => `0x${value.toString(16)}`;

function compatIoas(context: IommufdContext): Ioas {
  return context.compatIoas ?? refuse("ENODEV", "no IOAS is set for VFIO container requests", { rule: "IOMMU_VFIO_IOAS" });
}

/** Reads a struct that begins with argsz. @throws IommuError EFAULT, EINVAL */
function readStruct(call: CallContext, argument: bigint, struct: string, least: number): { bytes: Uint8Array; values: ReturnType<typeof decodeStruct>; argsz: number } {
  const bytes = new Uint8Array(least);
  call.memory.read(argument, bytes);
  const values = decodeStruct(struct, bytes);
  const argsz = Number(values.argsz);
  if (argsz < least) refuse("EINVAL", `argsz ${argsz} is below ${least}`, { argument: "argsz" });
  return { bytes, values, argsz };
}

function knownFlags(values: ReturnType<typeof decodeStruct>, allowed: number): number {
  const flags = Number(values.flags);
  if ((flags & ~allowed) !== 0) refuse("EINVAL", `flags has ${hex((flags & ~allowed) >>> 0)} set, which means nothing here`, { argument: "flags" });
  return flags;
}

function checkExtension(context: IommufdContext, _call: CallContext, argument: bigint): number {
  const extension = Number(argument);
  switch (extension) {
    case EXTENSION.TYPE1:
    case EXTENSION.TYPE1V2:
    case EXTENSION.UNMAP_ALL:
      return 1;
    case EXTENSION.DMA_CC: {
      const ioas = compatIoas(context);
      return [...ioas.hwpts].every(({ domain }) => domain.enforcesCoherency !== false) ? 1 : 0;
    }
    default:
      return 0;
  }
}

function setIommu(context: IommufdContext, _call: CallContext, argument: bigint): number {
  const type = Number(argument);
  if (type !== EXTENSION.TYPE1 && type !== EXTENSION.TYPE1V2) refuse("EINVAL", `IOMMU type ${type} is neither TYPE1 nor TYPE1v2`, { argument: "type" });
  const ioas = compatIoas(context);
  // Type1 v1 may cut mappings, which large pages would not let it; v2 does not turn them on again.
  if (type === EXTENSION.TYPE1) ioas.disableHugePages();
  return 0;
}

function mapDma(context: IommufdContext, call: CallContext, argument: bigint): number {
  const { values } = readStruct(call, argument, "vfio_iommu_type1_dma_map", 32);
  const flags = knownFlags(values, MAP_READ | MAP_WRITE);
  const ioas = compatIoas(context);
  const address = BigInt(values.vaddr);
  const length = BigInt(values.size);
  if (address + length > U64_MAX) refuse("EOVERFLOW", `vaddr ${hex(address)} + size ${hex(length)} wraps`, { argument: "vaddr" });
  if (length === 0n || length > U64_MAX - PAGE) refuse("EINVAL", `size is ${hex(length)}`, { argument: "size" });
  const prot = protOf((flags & MAP_READ) !== 0, (flags & MAP_WRITE) !== 0);
  const memory = context.container ? (call.process.withDevices ?? call.process) : call.process;
  mapSource(context, call, ioas, { source: { kind: "user", memory }, address }, length, BigInt(values.iova), prot);
  return 0;
}

function unmapDma(context: IommufdContext, call: CallContext, argument: bigint): number {
  const struct = "vfio_iommu_type1_dma_unmap";
  const { values, bytes } = readStruct(call, argument, struct, 24);
  const flags = knownFlags(values, UNMAP_ALL);
  const ioas = compatIoas(context);
  const iova = BigInt(values.iova);
  const size = BigInt(values.size);
  let done = 0n;
  try {
    if ((flags & UNMAP_ALL) !== 0) {
      if (iova !== 0n || size !== 0n) refuse("EINVAL", "with ALL, iova and size are 0", { argument: "flags" });
      done = ioas.unmap({ start: 0n, last: U64_MAX });
    } else done = unmapRange(ioas, iova, size);
  } catch (error) {
    if (error instanceof CutRefused) throw error.cause;
    if ((flags & UNMAP_ALL) === 0 || (iova === 0n && size === 0n)) writeSize(call, argument, struct, bytes, done);
    throw error;
  }
  writeSize(call, argument, struct, bytes, done);
  return 0;
}

/** A refusal before anything was unmapped. */
class CutRefused extends Error {}

function unmapRange(ioas: Ioas, iova: bigint, size: bigint): bigint {
  const last = iova + size - 1n;
  if (!ioas.hugePages) {
    try {
      if (size === 0n) refuse("EINVAL", "size is 0", { argument: "size" });
      if (last > U64_MAX) refuse("EOVERFLOW", `iova ${hex(iova)} + size ${hex(size)} wraps`, { argument: "size" });
      if (last < U64_MAX) ioas.cut(last + 1n);
      if (iova > 0n) ioas.cut(iova);
    } catch (error) {
      throw new CutRefused("", { cause: error });
    }
  }
  if (size === 0n) refuse("EINVAL", "size is 0", { argument: "size" });
  if (last > U64_MAX) refuse("EOVERFLOW", `iova ${hex(iova)} + size ${hex(size)} wraps`, { argument: "size" });
  return ioas.unmap({ start: iova, last });
}

function writeSize(call: CallContext, argument: bigint, struct: string, bytes: Uint8Array, size: bigint): void {
  storeFields(struct, bytes, { size });
  call.memory.write(argument, bytes);
}

/** The struct, then of the capabilities what fits: never a byte past argsz. */
function getInfo(context: IommufdContext, call: CallContext, argument: bigint): number {
  const struct = "vfio_iommu_type1_info";
  const { argsz } = readStruct(call, argument, struct, 16);
  const ioas = compatIoas(context);
  const size = structLayout(struct).size;
  const ranges = rangesCap(ioas);
  const second = size + AVAIL_ROOM;
  const total = second + ranges.length;
  const write = (at: number, bytes: Uint8Array): void => call.memory.write(argument + BigInt(at), bytes);
  // In this order, each link after what it leads to: a fault half-way shows it.
  if (size + AVAIL_BYTES <= argsz) {
    write(size, new Uint8Array(Uint32Array.of(CAP_DMA_AVAIL | (1 << 16), 0, 0xffff_ffff).buffer));
  }
  for (let at = RANGES_HEADER; at < ranges.length && second + at + 16 <= argsz; at += 16) write(second + at, ranges.subarray(at, at + 16));
  if (total <= argsz) write(second, ranges.subarray(0, RANGES_HEADER));
  if (second <= argsz) write(size + 4, new Uint8Array(Uint32Array.of(second).buffer));
  const info = encodeStruct(struct, { argsz: total, flags: INFO_PGSIZES | INFO_CAPS, iova_pgsizes: pageSizes(ioas), cap_offset: argsz >= total ? size : 0 });
  write(0, info.subarray(0, Math.min(argsz, size)));
  return 0;
}

function rangesCap(ioas: Ioas): Uint8Array {
  const ranges = ioas.usableRanges();
  const bytes = new Uint8Array(16 + ranges.length * 16);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, CAP_IOVA_RANGE | (1 << 16), true);
  view.setUint32(8, ranges.length, true);
  for (const [i, { start, last }] of ranges.entries()) {
    view.setBigUint64(16 + 16 * i, start, true);
    view.setBigUint64(24 + 16 * i, last, true);
  }
  return bytes;
}

/** What every domain can do; sizes below a page become a page. */
function pageSizes(ioas: Ioas): bigint {
  let sizes = U64_MAX & ~(PAGE - 1n);
  if (ioas.hwpts.size === 0) return sizes;
  sizes = U64_MAX;
  for (const { domain } of ioas.hwpts) sizes &= domain.pageSizes;
  return (sizes & (PAGE - 1n)) === 0n ? sizes : (sizes & ~(PAGE - 1n)) | PAGE;
}

const HANDLERS: ReadonlyMap<number, ContainerHandler> = new Map([
  [0x3b64, () => 0],
  [0x3b65, checkExtension],
  [0x3b66, setIommu],
  [0x3b70, getInfo],
  [0x3b71, mapDma],
  [0x3b72, unmapDma],
]);

/** @throws IommuError ENOTTY for what is not a container request either */
export function containerIoctl(context: IommufdContext, call: CallContext, request: number, argument: bigint): number {
  const handler = HANDLERS.get(request) ?? refuse("ENOTTY", `request ${hex(request)} is neither one of iommufd nor one of a VFIO container`, { argument: "request" });
  return handler(context, call, argument);
}
