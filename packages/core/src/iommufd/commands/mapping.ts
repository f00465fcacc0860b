/** MAP, MAP_FILE, COPY, UNMAP, CHANGE_PROCESS (iommufd facts, 4.4, 4.6, 4.7, 4.16, 4.19). */
import { refuse } from "../../errors.js";
import type { CallContext } from "../../files/types.js";
import { type Account, payerOf } from "../accounting.js";
import { type Area, firstByte, newArea } from "../area.js";
import { ChildIoas } from "../child-ioas.js";
import type { IommufdContext } from "../context.js";
import { DmabufFile } from "../dmabuf.js";
import { U64_MAX } from "../../memory/interval.js";
import { Ioas, protOf } from "../ioas.js";
import { Pages, type PageSource } from "../pages.js";
import { Prot } from "../../driver/types.js";
import { big, type Handler, hex, mustBeZero, notTheLast, number, rangeOf, type Values } from "./command.js";

const MAP_FIXED = 1;
const MAP_WRITEABLE = 2;
const MAP_READABLE = 4;
const MAP_FLAGS = MAP_FIXED | MAP_WRITEABLE | MAP_READABLE;
/** COPY in kernels with the test command: src_iova names an area by its number. */
const COPY_NTH_AREA = 0x10000;
const LENGTH_LIMIT = U64_MAX - 4096n;

/** Permissions that the flags ask for. @throws IommuError EINVAL for none */
function permissions(values: Values): number {
  const flags = number(values, "flags");
  if ((flags & (MAP_WRITEABLE | MAP_READABLE)) === 0) refuse("EINVAL", "flags ask for neither READABLE nor WRITEABLE", { argument: "flags" });
  return protOf((flags & MAP_READABLE) !== 0, (flags & MAP_WRITEABLE) !== 0);
}

/** What is to be mapped, from which address or offset on. */
export interface MapSource {
  readonly source: PageSource;
  readonly address: bigint;
}

/** Steps 7 to 10 of MAP: alignment, place, and the mapping itself. Returns the IOVA. */
export function mapSource(context: IommufdContext, call: CallContext, ioas: Ioas, from: MapSource, length: bigint, iova: bigint | undefined, prot: number): bigint {
  const { source, address } = from;
  const argument = source.kind === "user" ? "user_va" : "start";
  ioas.takesMemory(source.kind === "user" ? "memory of the program" : "memory of files");
  ioas.checkLength(length);
  const place = iova === undefined ? ioas.chooseIova(address, length) : ioas.checkFixed(iova, length);
  ioas.checkOffset(address, argument);
  const pages = new Pages(context.origin(call, source, address, prot), address, length);
  ioas.map([newArea(place, pages, 0n, prot)]);
  return place.start;
}

export const MAPPING_HANDLERS: Readonly<Record<string, Handler>> = {
  IOMMU_IOAS_MAP: {
    copyOut: true,
    run(context, call, values) {
      mustBeZero(values, "flags", MAP_FLAGS);
      mustBeZero(values, "__reserved");
      notTheLast(values, "iova", "length");
      const prot = permissions(values);
      const ioas = context.objects.find(number(values, "ioas_id"), Ioas, "ioas_id");
      const address = big(values, "user_va");
      const length = big(values, "length");
      if (address + length > U64_MAX) refuse("EOVERFLOW", `user_va ${hex(address)} + length ${hex(length)} wraps`, { argument: "user_va" });
      if (length === 0n || length > LENGTH_LIMIT) refuse("EINVAL", `length is ${hex(length)}`, { argument: "length" });
      const fixed = (number(values, "flags") & MAP_FIXED) !== 0;
      if (ioas instanceof ChildIoas) {
        if (!fixed) refuse("EOPNOTSUPP", `IOAS ${ioas.id} is a child: its mappings have an IOVA that the caller chooses`, { argument: "flags", rule: "IOMMUKIT_IOAS_NEST" });
        ioas.mapParent(context, call, big(values, "iova"), address, length, prot);
        return undefined;
      }
      const source: MapSource = { source: { kind: "user", memory: call.process }, address };
      values.iova = mapSource(context, call, ioas, source, length, fixed ? big(values, "iova") : undefined, prot);
      return undefined;
    },
  },

  IOMMU_IOAS_MAP_FILE: {
    copyOut: true,
    run(context, call, values) {
      mustBeZero(values, "flags", MAP_FLAGS);
      notTheLast(values, "iova", "length");
      const prot = permissions(values);
      const ioas = context.objects.find(number(values, "ioas_id"), Ioas, "ioas_id");
      const length = big(values, "length");
      const start = big(values, "start");
      if (length === 0n) refuse("EINVAL", "length is 0", { argument: "length" });
      rangeOf(start, length, "start");
      const source = fileSource(call, number(values, "fd"), start, length);
      if (length > LENGTH_LIMIT) refuse("EINVAL", `length is ${hex(length)}`, { argument: "length" });
      const fixed = (number(values, "flags") & MAP_FIXED) !== 0;
      values.iova = mapSource(context, call, ioas, source, length, fixed ? big(values, "iova") : undefined, prot);
      return undefined;
    },
  },

  IOMMU_IOAS_COPY: {
    copyOut: true,
    run(context, _call, values) {
      mustBeZero(values, "flags", MAP_FLAGS | (context.testCommands ? COPY_NTH_AREA : 0));
      notTheLast(values, "length", "src_iova", "dst_iova");
      const prot = permissions(values);
      const source = context.objects.find(number(values, "src_ioas_id"), Ioas, "src_ioas_id");
      const length = big(values, "length");
      if (length === 0n) refuse("EINVAL", "length is 0", { argument: "length" });
      const from = (number(values, "flags") & COPY_NTH_AREA) !== 0 ? nthArea(source, big(values, "src_iova")) : big(values, "src_iova");
      const range = rangeOf(from, length, "src_iova");
      const areas = source.contiguous(range, "src_iova");
      const target = context.objects.find(number(values, "dst_ioas_id"), Ioas, "dst_ioas_id");
      target.takesMemory("copies of mappings");
      target.checkLength(length);
      const first = sourceAddress(areas[0], range.start);
      const fixed = (number(values, "flags") & MAP_FIXED) !== 0;
      const place = fixed ? target.checkFixed(big(values, "dst_iova"), length, "dst_iova") : target.chooseIova(first, length);
      const copies: Area[] = [];
      for (const area of areas) {
        const start = area.start > range.start ? area.start : range.start;
        const last = area.last < range.last ? area.last : range.last;
        if ((prot & Prot.WRITE) !== 0 && !area.value.pages.writable) {
          refuse("EPERM", `${hex(start)} was not mapped WRITEABLE`, { argument: "flags", rule: "IOMMU_IOAS_MAP_WRITEABLE" });
        }
        const to = place.start + (start - range.start);
        const offset = area.value.offset + (start - area.start);
        const piece = newArea({ start: to, last: to + (last - start) }, area.value.pages, offset, prot);
        // Where in the page its memory begins is all that is asked of a piece; a page table that needs more refuses it (4.4).
        target.checkOffset(firstByte(piece), "src_iova");
        copies.push(piece);
      }
      target.map(copies);
      values.dst_iova = place.start;
      return undefined;
    },
  },

  IOMMU_IOAS_UNMAP: {
    copyOut: true,
    run(context, _call, values) {
      const ioas = context.objects.find(number(values, "ioas_id"), Ioas, "ioas_id");
      const iova = big(values, "iova");
      const length = big(values, "length");
      if (iova === 0n && length === U64_MAX) {
        values.length = ioas.unmap({ start: 0n, last: U64_MAX });
        return undefined;
      }
      notTheLast(values, "iova", "length");
      if (length === 0n) refuse("EINVAL", "length is 0", { argument: "length" });
      const bytes = ioas.unmap(rangeOf(iova, length, "iova"));
      if (bytes === 0n) refuse("ENOENT", `nothing is mapped in ${hex(iova)} + ${hex(length)} of IOAS ${ioas.id}`, { argument: "iova" });
      values.length = bytes;
      return undefined;
    },
  },

  IOMMU_IOAS_CHANGE_PROCESS: {
    copyOut: false,
    run(context, call, values) {
      mustBeZero(values, "__reserved");
      changeProcess(context, call);
      return undefined;
    },
  },
};

/** What MAP_FILE maps: a dma-buf is tried first. */
function fileSource(call: CallContext, fd: number, start: bigint, length: bigint): MapSource {
  const file = fd < 0 ? refuse("EBADF", `fd is ${fd}`, { argument: "fd" }) : call.file(fd);
  if (file instanceof DmabufFile) {
    if (start + length > BigInt(file.size)) refuse("EINVAL", `${hex(start)} + ${hex(length)} lies behind the dma-buf's ${file.size} bytes`, { argument: "length" });
    if (!file.mappable) refuse("EOPNOTSUPP", "fd is a dma-buf of several ranges", { argument: "fd" });
    if (file.revoked) refuse("ENODEV", "the dma-buf is revoked", { argument: "fd" });
    return { source: { kind: "dmabuf", buffer: file }, address: start };
  }
  if (file?.kind === "memory") return { source: { kind: "file", file }, address: start };
  // Anything else is found out when it is to be pinned.
  const unsuitable = { kind: "memory" as const, pin: () => refuse("EINVAL", `descriptor ${fd} is not a file of memory`, { argument: "fd" }) };
  return { source: { kind: "file", file: unsuitable }, address: start };
}

/** User address or file offset of what the area shows at `iova`. */
function sourceAddress(area: Area, iova: bigint): bigint {
  return area.value.pages.address + area.value.offset + (iova - area.start);
}

/** Test kernels: { u32 nth_area, u32 offset } in place of an IOVA. */
function nthArea(ioas: Ioas, code: bigint): bigint {
  const area = [...ioas.areas][Number(code & 0xffff_ffffn)];
  return area === undefined ? 0n : area.start + (code >> 32n);
}

/** The caller takes over what other processes mapped from files (4.19). */
function changeProcess(context: IommufdContext, call: CallContext): void {
  const all = new Set<Pages>();
  for (const ioas of context.objects.all(Ioas)) {
    for (const area of ioas.areas) {
      if (area.value.pages.source.kind !== "file") refuse("EINVAL", `IOVA ${hex(area.start)} of IOAS ${ioas.id} is not mapped from a file`, { rule: "IOMMU_IOAS_MAP_FILE" });
      all.add(area.value.pages);
    }
  }
  const payer = payerOf(call);
  const moving = [...all].filter(({ account }) => !samePayer(account, call));
  const charged: Pages[] = [];
  try {
    for (const pages of moving) {
      pages.account.lockFor(payer, pages.pinned);
      charged.push(pages);
    }
  } catch (error) {
    for (const pages of charged) pages.account.unlockFor(payer, pages.pinned);
    throw error;
  }
  for (const { account, pinned } of moving.map((pages) => ({ account: pages.account, pinned: pages.pinned }))) {
    account.unlockFor(account.payer, pinned);
    if (account.mode !== "none") {
      account.payer.memory.counters.pinned -= pinned;
      payer.memory.counters.pinned += pinned;
    }
  }
  for (const { account } of all) account.payer = payer;
}

function samePayer(account: Account, call: CallContext): boolean {
  return account.mode === "user" ? account.payer.memory === call.process && account.payer.user === call.user : account.payer.memory === call.process;
}
