/** Tables from a file: `iommu-tables/1` JSON, or an ELF core with the registers beside it. */
import { asArray, asBigInt, asBytes, asNumber, asObject, asString, FormatError, type JsonObject } from "../testing/json.js";
import type { TableSource } from "./types.js";

/** Memory of a tables file: the pages it lists; every other page is zero (FORMAT.md). */
export function loadTables(file: JsonObject): TableSource {
  const pages = new Map<number, Uint8Array>();
  for (const entry of asArray(file.pages, "pages")) {
    const page = asObject(entry, "page");
    const pa = asNumber(page.pa, "page pa");
    const bytes = asBytes(page.hex, `page 0x${pa.toString(16)}`);
    if (pa % 4096 !== 0 || bytes.length > 4096) throw new FormatError(`page 0x${pa.toString(16)} is not one page`);
    pages.set(pa / 4096, bytes);
  }
  return {
    iommu: asString(file.iommu, "iommu"),
    registers: readRegisters(file),
    read(pa, target) {
      for (let i = 0; i < target.length; i++) {
        target[i] = pages.get(Math.floor((pa + i) / 4096))?.[(pa + i) % 4096] ?? 0;
      }
      return pa + target.length <= 2 ** 52;
    },
  };
}

/** Registers of a tables file, for the ELF core of the same name. */
export function readRegisters(file: JsonObject): Record<string, bigint> {
  const registers: Record<string, bigint> = {};
  for (const [name, value] of Object.entries(asObject(file.registers, "registers"))) {
    registers[name] = asBigInt(value, `register ${name}`);
  }
  return registers;
}

interface Segment {
  readonly pa: number;
  readonly offset: number;
  readonly size: number;
}

/** Physical memory of an ELF64 little-endian core: its PT_LOAD segments by p_paddr. What lies in none is absent. */
export function loadCore(bytes: Uint8Array, iommu: string, registers: Readonly<Record<string, bigint>>): TableSource {
  const segments = readSegments(bytes);
  return {
    iommu,
    registers,
    read(pa, target) {
      for (let done = 0; done < target.length; ) {
        const at = pa + done;
        const segment = segments.find((candidate) => at >= candidate.pa && at < candidate.pa + candidate.size);
        if (segment === undefined) return false;
        const start = segment.offset + (at - segment.pa);
        const length = Math.min(target.length - done, segment.pa + segment.size - at);
        target.set(bytes.subarray(start, start + length), done);
        done += length;
      }
      return true;
    },
  };
}

export function isElf(bytes: Uint8Array): boolean {
  return bytes.length >= 4 && bytes[0] === 0x7f && bytes[1] === 0x45 && bytes[2] === 0x4c && bytes[3] === 0x46;
}

/**
 * Program headers only: QEMU's cores carry 8 in e_ehsize, which stricter readers refuse.
 * (System V ABI, "Program Header"; e_phnum 0xffff means sh_info of section 0.)
 */
function readSegments(bytes: Uint8Array): Segment[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < 64) throw new FormatError(`an ELF header takes 64 bytes, the file has ${bytes.length}`);
  if (bytes[4] !== 2 || bytes[5] !== 1) throw new FormatError("the ELF file is not 64-bit little-endian");
  const table = offsetOf(view.getBigUint64(32, true), "e_phoff");
  const entrySize = view.getUint16(54, true);
  let count = view.getUint16(56, true);
  if (count === 0xffff) {
    const sections = offsetOf(view.getBigUint64(40, true), "e_shoff");
    if (sections + 64 > bytes.length) throw new FormatError("the ELF section table lies outside the file");
    count = view.getUint32(sections + 44, true);
  }
  if (entrySize < 56 || table + count * entrySize > bytes.length) {
    throw new FormatError(`the ELF file is truncated: ${count} program headers at 0x${table.toString(16)} do not fit in ${bytes.length} bytes`);
  }
  const segments: Segment[] = [];
  for (let i = 0; i < count; i++) {
    const at = table + i * entrySize;
    if (view.getUint32(at, true) !== 1) continue;
    const offset = offsetOf(view.getBigUint64(at + 8, true), "p_offset");
    const pa = offsetOf(view.getBigUint64(at + 24, true), "p_paddr");
    const size = offsetOf(view.getBigUint64(at + 32, true), "p_filesz");
    if (offset + size > bytes.length) throw new FormatError(`ELF segment ${i} ends at 0x${(offset + size).toString(16)}, behind the file's end`);
    segments.push({ pa, offset, size });
  }
  if (segments.length === 0) throw new FormatError("the ELF file has no PT_LOAD segment");
  return segments;
}

function offsetOf(value: bigint, what: string): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new FormatError(`${what} is 0x${value.toString(16)}`);
  return Number(value);
}
