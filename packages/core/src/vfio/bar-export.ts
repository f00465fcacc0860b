/** VFIO_DEVICE_FEATURE_DMA_BUF: a BAR as a dma-buf, which iommufd maps for other devices (iommufd facts, 3.6 and 10.10). */
import { refuse } from "../errors.js";
import type { CallContext } from "../files/types.js";
import { DmabufFile } from "../iommufd/dmabuf.js";
import { U64_MAX } from "../memory/interval.js";
import type { OpenDevice } from "./open-device.js";

const PAGE = 4096n;
/** region_index, open_flags, flags, nr_ranges; then the ranges. */
export const DMA_BUF_BYTES = 16;
const RANGE_BYTES = 16;
const BARS = 6;
/** Ranges that one buffer may be made of here; iommufd maps buffers of one range only. */
const RANGE_LIMIT = 4096;

/** @returns the caller's descriptor @throws IommuError EFAULT, EINVAL, ENODEV, EOVERFLOW, EMFILE */
export function exportBar(open: OpenDevice, call: CallContext, address: bigint): number {
  const head = new Uint8Array(DMA_BUF_BYTES);
  call.memory.read(address, head);
  const [index, , flags, count] = new Uint32Array(head.buffer);
  if (count === 0 || flags !== 0) refuse("EINVAL", `flags is 0x${flags.toString(16)} and nr_ranges ${count}`, { argument: count === 0 ? "nr_ranges" : "flags" });
  if (index >= BARS) refuse("ENODEV", `region_index ${index} is not a BAR`, { argument: "region_index" });
  if (count > RANGE_LIMIT) refuse("ENOMEM", `nr_ranges ${count} is above ${RANGE_LIMIT}`, { argument: "nr_ranges" });
  const ranges = readRanges(call, address + BigInt(DMA_BUF_BYTES), count);
  const size = BigInt(open.node.pci.bar(index)?.size ?? 0);
  for (const { offset, length } of ranges) {
    if (offset + length > size) refuse("EINVAL", `0x${offset.toString(16)} + 0x${length.toString(16)} lies behind the ${size} bytes of BAR ${index}`, { argument: "dma_ranges" });
  }
  // A buffer lives as long as somebody maps it, with or without a descriptor.
  for (const old of open.exports) if (old.closed && old.listeners.size === 0) open.exports.delete(old);
  const { pci } = open.node;
  const [{ offset }] = ranges;
  const buffer = new DmabufFile(
    Number(ranges.reduce((sum, { length }) => sum + length, 0n)),
    {
      read: (at, target) => pci.readBar(index, Number(offset) + at, target),
      write: (at, source) => pci.writeBar(index, Number(offset) + at, source),
    },
    count === 1,
  );
  buffer.revoke(!pci.answers);
  const fd = call.install(buffer);
  open.exports.add(buffer);
  return fd;
}

function readRanges(call: CallContext, address: bigint, count: number): { offset: bigint; length: bigint }[] {
  const bytes = new Uint8Array(count * RANGE_BYTES);
  call.memory.read(address, bytes);
  const view = new DataView(bytes.buffer);
  let total = 0n;
  return Array.from({ length: count }, (_, i) => {
    const [offset, length] = [view.getBigUint64(i * RANGE_BYTES, true), view.getBigUint64(i * RANGE_BYTES + 8, true)];
    if (length === 0n || offset % PAGE !== 0n || length % PAGE !== 0n) {
      refuse("EINVAL", `dma_ranges[${i}]: 0x${offset.toString(16)} + 0x${length.toString(16)} is not made of whole pages`, { argument: "dma_ranges" });
    }
    total += length;
    if (offset + length > U64_MAX || total > U64_MAX) refuse("EOVERFLOW", `dma_ranges[${i}]: 0x${offset.toString(16)} + 0x${length.toString(16)} wraps`, { argument: "dma_ranges" });
    return { offset, length };
  });
}
