/** mmap of our files, and huge pages where the system has none. */
import { closeSync, readdirSync, readFileSync } from "node:fs";
import { attempt } from "../calls.js";
import type { MappedPart } from "../door.js";
import type { ServedFile } from "../open-files.js";
import { cString, syscall } from "../system.js";
import type { Call, Outcome } from "./call.js";
import { canInject, type Inject, injectInto } from "./injected.js";
import { errnoOf } from "./listener.js";
import { handOver, onBehalf } from "./on-behalf.js";
import { readString } from "./remote-memory.js";
import { MAP_ANONYMOUS, MAP_HUGETLB, MFD_HUGETLB, OWN_CALL, SYS } from "./syscalls.js";

const PROT_EXEC = 4;
const MAP_SHARED = 1;
const MAP_PRIVATE = 2;
const MAP_FIXED = 0x10;
const MAP_FIXED_NOREPLACE = 0x10_0000;
const MAP_NORESERVE = 0x4000;
/** Where the flags of mmap and memfd_create say which size of huge pages. */
const HUGE_SIZE = 0x3f << 26;
const HUGE_PAGE = 2n << 20n;
const MFD_CLOEXEC = 1;
const EIO = 5;
const ENOMEM = 12n;
const ENODEV = 19;

/** A descriptor number for mmap that the filter lets through. */
const own = (fd: number): bigint => (BigInt(OWN_CALL) << 32n) | BigInt.asUintN(32, BigInt(fd));
const failed = (result: bigint): boolean => result < 0n && result >= -4095n;

/** Runs calls in the client in the place of its own; what it had asked for goes on as it was when that is not possible. */
function instead(call: Call, run: (inject: Inject) => bigint): Outcome | undefined {
  try {
    if (!canInject(call)) return undefined;
    injectInto(call, run);
    return "answered";
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
    // One that died meanwhile needs no warning.
    if (call.services.listener.isWaiting(call.id)) call.services.warn(`thread ${call.tid} cannot be given a mapping: ${(error as Error).message} (a debugger may hold it)`);
    return undefined;
  }
}

function mmap(call: Call): Outcome {
  const flags = call.int(3);
  if ((flags & MAP_ANONYMOUS) !== 0) return (flags & MAP_HUGETLB) === 0 ? "proceed" : hugePages(call);
  const served = call.served(call.int(4));
  return served === undefined ? "proceed" : mapFile(call, served);
}

function mapFile(call: Call, { file }: ServedFile): Outcome {
  const [address, length, prot, flags, position] = [0, 1, 2, 3, 5].map((index) => call.word(index));
  const { door, regions, listener } = call.services;
  const { client, pid } = call.task;
  const whole = (Number(length) + 4095) & ~4095;
  const kind = call.int(3) & (MAP_SHARED | MAP_PRIVATE);
  let part: MappedPart | undefined;
  const refused = attempt(() => {
    part = door.share(door.map(file, client, { position, length: whole, shared: (kind & MAP_SHARED) !== 0, executable: (call.int(2) & PROT_EXEC) !== 0 }));
    return 0;
  });
  if (part === undefined) return refused;
  const { offset } = part;
  const begun = regions.begin(part, whole, pid);
  let theirs: number;
  try {
    theirs = listener.addDescriptor(call.id, { fd: begun.fd, closeOnExec: true });
  } catch (error) {
    begun.failed();
    return -(errnoOf(error) ?? EIO);
  } finally {
    closeSync(begun.fd);
  }
  const outcome = instead(call, (inject) => {
    const result = inject(SYS.mmap, address, length, prot, flags, own(theirs), offset);
    inject(SYS.close, theirs);
    if (failed(result)) begun.failed();
    else begun.done(result);
    return result;
  });
  if (outcome === undefined) begun.failed();
  return outcome ?? -ENODEV;
}

/** Where the system has none left: ordinary memory at the same alignment, as the shim does it (native/map.c). */
function hugePages(call: Call): Outcome {
  const [address, length, prot] = [0, 1, 2].map((index) => call.word(index));
  const flags = call.int(3);
  const whole = ((length + HUGE_PAGE - 1n) / HUGE_PAGE) * HUGE_PAGE;
  const plain = flags & ~(MAP_HUGETLB | HUGE_SIZE);
  const outcome = instead(call, (inject) => {
    const real = inject(SYS.mmap, address, length, prot, flags, own(-1), call.word(5));
    if (real !== -ENOMEM) return real;
    if ((flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) !== 0) return inject(SYS.mmap, address, whole, prot, plain, own(-1), 0);
    const room = inject(SYS.mmap, 0, whole + HUGE_PAGE, 0, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, own(-1), 0);
    if (failed(room)) return room;
    const start = ((room + HUGE_PAGE - 1n) / HUGE_PAGE) * HUGE_PAGE;
    if (start > room) inject(SYS.munmap, room, start - room);
    if (room + HUGE_PAGE > start) inject(SYS.munmap, start + whole, room + HUGE_PAGE - start);
    return inject(SYS.mmap, start, whole, prot, plain | MAP_FIXED, own(-1), 0);
  });
  return outcome ?? "proceed";
}

/** A file of huge pages can always be made, and then holds nothing where the system has none: an ordinary one in its place. */
function memfdCreate(call: Call): Outcome {
  if (hasHugePages()) return "proceed";
  const name = readString(call.tid, call.word(0));
  if (name === undefined) return "proceed";
  const flags = call.int(1);
  const plain = flags & ~(MFD_HUGETLB | HUGE_SIZE);
  return onBehalf(() => {
    const fd = syscall("memfd_create", SYS.memfd_create, cString(name), plain | MFD_CLOEXEC);
    return handOver(call, fd, (flags & MFD_CLOEXEC) !== 0);
  });
}

function hasHugePages(): boolean {
  const folder = "/sys/kernel/mm/hugepages";
  return readdirSync(folder).some((size) => Number(readFileSync(`${folder}/${size}/nr_hugepages`, "latin1")) > 0);
}

export const MEMORY_CALLS: ReadonlyMap<number, (call: Call) => Outcome> = new Map([
  [SYS.mmap, mmap],
  [SYS.memfd_create, memfdCreate],
]);
