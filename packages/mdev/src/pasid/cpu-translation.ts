/**
 * The CPU's PASID translation for ENQCMD in a virtual machine (Intel SDM volume 3, "PASID translation"): tables in memory, which the
 * hypervisor writes and the CPU reads.
 *
 * Bit 19 of a guest's PASID chooses one of two directories, bits 18:10 the directory's entry of 8 bytes, bits 9:0 the table's of 4.
 */
import { type FrameAllocator, type PhysicalMemory, refuse } from "@iommukit/core";

const PASID_BITS = 20;
const HALF = 2 ** 19;
const TABLE_PASIDS = 1024;
/** Of a directory's entry; bits 51:12 are the table's address. */
const PRESENT = 1n;
const DIRECTORY_RESERVED = 0xfff0_0000_0000_0ffen;
const ADDRESS = 0x000f_ffff_ffff_f000n;
/** Of a table's entry; bits 19:0 are the host's PASID. */
const VALID = 0x8000_0000;
const HOST_PASID = 0xf_ffff;
const ENTRY_RESERVED = 0x7ff0_0000;

/** Low and high PASID directory of a VMCS. */
export interface PasidDirectories {
  readonly low: number;
  readonly high: number;
}

/** Where a guest's PASID is kept. */
interface EntryPlace {
  readonly directory: number;
  readonly table: number;
}

function place({ low, high }: PasidDirectories, guest: number): EntryPlace {
  const half = guest >= HALF ? high : low;
  return { directory: half + 8 * (Math.floor(guest / TABLE_PASIDS) % 512), table: 4 * (guest % TABLE_PASIDS) };
}

function read32(memory: PhysicalMemory, pa: number): number | undefined {
  const bytes = new Uint8Array(4);
  return memory.read(pa, bytes) ? new DataView(bytes.buffer).getUint32(0, true) : undefined;
}

/** What the CPU makes of a guest's PASID: the host's, or undefined where it leaves the virtual machine. */
export function translateGuestPasid(memory: PhysicalMemory, directories: PasidDirectories, guest: number): number | undefined {
  if (!Number.isInteger(guest) || guest < 0 || guest >= 2 ** PASID_BITS) return undefined;
  const { directory, table } = place(directories, guest);
  const entry = memory.readU64(directory);
  if (entry === undefined || (entry & PRESENT) === 0n || (entry & DIRECTORY_RESERVED) !== 0n) return undefined;
  const word = read32(memory, Number(entry & ADDRESS) + table);
  if (word === undefined || word < VALID || (word & ENTRY_RESERVED) !== 0) return undefined;
  return word & HOST_PASID;
}

/** The hypervisor's side: one virtual machine's tables. */
export class PasidTables {
  readonly directories: PasidDirectories;
  readonly #memory: PhysicalMemory;
  readonly #frames: FrameAllocator;
  readonly #tables: number[] = [];

  constructor(memory: PhysicalMemory, frames: FrameAllocator) {
    this.#memory = memory;
    this.#frames = frames;
    this.directories = { low: frames.alloc(), high: frames.alloc() };
  }

  /** @throws IommuError EINVAL, EEXIST, ENOMEM */
  map(guest: number, host: number): void {
    const pa = this.#entry(guest);
    if ((read32(this.#memory, pa) ?? 0) >= VALID) refuse("EEXIST", `guest PASID ${guest} is mapped already`, { argument: "user_pasid" });
    this.#write(pa, VALID + host);
  }

  unmap(guest: number): void {
    this.#write(this.#entry(guest), 0);
  }

  free(): void {
    for (const pa of [...this.#tables, this.directories.low, this.directories.high]) this.#frames.free(pa);
    this.#tables.length = 0;
  }

  /** Address of a guest PASID's entry; its table is made when it is not there. */
  #entry(guest: number): number {
    if (!Number.isInteger(guest) || guest < 0 || guest >= 2 ** PASID_BITS) return refuse("EINVAL", `user_pasid ${guest} has more than ${PASID_BITS} bits`, { argument: "user_pasid" });
    const { directory, table } = place(this.directories, guest);
    const entry = this.#memory.readU64(directory) ?? 0n;
    if ((entry & PRESENT) !== 0n) return Number(entry & ADDRESS) + table;
    const pa = this.#frames.alloc();
    this.#tables.push(pa);
    this.#memory.writeU64(directory, BigInt(pa) | PRESENT);
    return pa + table;
  }

  #write(pa: number, word: number): void {
    this.#memory.write(pa, new Uint8Array(Uint32Array.of(word).buffer));
  }
}
