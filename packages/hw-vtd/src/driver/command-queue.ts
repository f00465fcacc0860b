/**
 * The invalidation queue from the software side (VT-d 6.5.2). Requests are gathered, and `sync` hands them over in one go: descriptors, a
 * wait descriptor, tail, then the status word. Within one go the unit keeps the order that matters: context, PASID, IOTLB,
 * device-TLB (6.5.2.11).
 */
import { type Deferred, encodeFields, type FieldTable, type FieldValues, formatRid, type FrameAllocator, type PhysicalMemory } from "@iommukit/core";
import type { Capabilities } from "../spec/capabilities.js";
import {
  CC_DESCRIPTOR,
  DescriptorType,
  DEV_TLB_DESCRIPTOR,
  IEC_DESCRIPTOR,
  IOTLB_DESCRIPTOR,
  P_DEV_TLB_DESCRIPTOR,
  P_IOTLB_DESCRIPTOR,
  PC_DESCRIPTOR,
  PGR_DESCRIPTOR,
  WAIT_DESCRIPTOR,
} from "../spec/descriptors.js";
import { Fsts, Gcmd, Reg } from "../spec/registers.js";
import type { PageBlock } from "./page-block.js";
import type { RegisterAccess } from "./registers.js";

const ENTRIES = 256;
/** Times that the status word is looked at before the unit counts as dead: more than a device-TLB may take to time out. */
const POLLS = 2 ** 17;
/** An invalidation that takes in every address of a device-TLB: S, and ones below the top bit (6.5.2.5). */
const ALL_ADDRESSES = 0x7_ffff_ffff_ffffn;

interface Request {
  readonly structure: string;
  readonly words: readonly bigint[];
  /** Whose device-TLB it goes to. */
  readonly device?: number;
}

export class CommandQueue {
  readonly #memory: PhysicalMemory;
  readonly #registers: RegisterAccess;
  readonly #deferred: Deferred;
  readonly #onTimeout: (rid: number) => void;
  readonly #caps: Capabilities;
  readonly #entryBytes: number;
  readonly #base: number;
  readonly #status: number;
  #requests: Request[] = [];
  #tail = 0;
  #sequence = 0;

  /**
   * Descriptors have 256 bits whenever the unit has scalable mode.
   * @param onTimeout a device did not answer an invalidation of its device-TLB
   */
  constructor(
    memory: PhysicalMemory,
    frames: FrameAllocator,
    registers: RegisterAccess,
    caps: Capabilities,
    deferred: Deferred,
    onTimeout: (rid: number) => void,
  ) {
    this.#memory = memory;
    this.#registers = registers;
    this.#deferred = deferred;
    this.#onTimeout = onTimeout;
    this.#caps = caps;
    const wide = caps.scalableMode;
    this.#entryBytes = wide ? 32 : 16;
    const pages = (ENTRIES * this.#entryBytes) / 4096;
    this.#base = frames.alloc(pages);
    this.#status = frames.alloc();
    registers.write(Reg.IQT, 8, 0n);
    registers.write(Reg.IQA, 8, BigInt(this.#base) | (wide ? 0x800n : 0n) | BigInt(Math.log2(pages)));
    registers.command(Gcmd.QIE);
  }

  /** Context cache: everything of a source-id; in legacy mode under its old domain-id. */
  contextDevice(source: number, domain: number): void {
    this.#add(CC_DESCRIPTOR, DescriptorType.CC, { G: 3n, SID: BigInt(source), DID: BigInt(domain) });
  }

  pasidCache(domain: number, pasid: number): void {
    this.#add(PC_DESCRIPTOR, DescriptorType.PC, { G: 1n, DID: BigInt(domain), PASID: BigInt(pasid) });
  }

  /** Everything that translates; for a root table that the unit does not empty its caches for. */
  everything(): void {
    this.#add(CC_DESCRIPTOR, DescriptorType.CC, { G: 1n });
    if (this.#caps.scalableMode) this.#add(PC_DESCRIPTOR, DescriptorType.PC, { G: 3n });
    this.#add(IOTLB_DESCRIPTOR, DescriptorType.IOTLB, { G: 1n, DR: 1n, DW: 1n });
  }

  /** Second stage, nested, pass-through and legacy: a block of pages, or the whole domain. @param leavesOnly no table entry changed */
  iotlb(domain: number, block?: PageBlock, leavesOnly = false): void {
    const where = block ? pageSelective(block, leavesOnly) : { G: 2n };
    this.#add(IOTLB_DESCRIPTOR, DescriptorType.IOTLB, { ...where, DID: BigInt(domain), DR: 1n, DW: 1n });
  }

  /** First stage and nested: a block of pages, or all of the PASID. @param leavesOnly no table entry changed */
  pasidIotlb(domain: number, pasid: number, block?: PageBlock, leavesOnly = false): void {
    const where = block ? pageSelective(block, leavesOnly) : { G: 2n };
    this.#add(P_IOTLB_DESCRIPTOR, DescriptorType.P_IOTLB, { ...where, DID: BigInt(domain), PASID: BigInt(pasid) });
  }

  /** A device-TLB: what was cached for requests of `pasid`, 0 for those without PASID. */
  deviceTlb(source: number, pasid: number, block?: PageBlock): void {
    // Every function is its own physical function: that is whose queue depth counts where the unit throttles (ECAP.DIT).
    const depth = this.#caps.deviceTlbThrottle ? { PFSID_LOW: BigInt(source & 15), PFSID_HIGH: BigInt(source >> 4) } : {};
    const fields = { ...deviceTlbRange(block), ...depth, SID: BigInt(source) };
    if (pasid === 0) this.#add(DEV_TLB_DESCRIPTOR, DescriptorType.DEV_TLB, fields, source);
    else this.#add(P_DEV_TLB_DESCRIPTOR, DescriptorType.P_DEV_TLB, { ...fields, PASID: BigInt(pasid) }, source);
  }

  /** Interrupt entry cache: one entry, or all. */
  interruptEntry(index?: number): void {
    this.#add(IEC_DESCRIPTOR, DescriptorType.IEC, index === undefined ? {} : { G: 1n, IIDX: BigInt(index) });
  }

  pageGroupResponse(source: number, pasid: number | undefined, group: number, code: number): void {
    const who = pasid === undefined ? {} : { PP: 1n, PASID: BigInt(pasid) };
    this.#add(PGR_DESCRIPTOR, DescriptorType.PGR, { ...who, RID: BigInt(source), PRGI: BigInt(group), RC: BigInt(code) });
  }

  /** What follows waits for what is before (FN). */
  fence(): void {
    this.#add(WAIT_DESCRIPTOR, DescriptorType.WAIT, { FN: 1n });
  }

  /**
   * Hands over what was gathered and waits until the unit has done it.
   * @param drainRequests page requests that came before are in the page request queue then (PD)
   * @throws Error when the unit refuses a descriptor or does not complete: then the driver or the unit is wrong
   */
  sync(drainRequests = false): void {
    this.#deferred.run(() => {
      const requests = this.#requests;
      this.#requests = [];
      for (let first = 0; first < requests.length || first === 0; first += ENTRIES - 2) {
        this.#submit(requests.slice(first, first + ENTRIES - 2), drainRequests);
      }
    });
  }

  #submit(requests: readonly Request[], drainRequests: boolean): void {
    let left = requests;
    for (let silent = this.#attempt(left, drainRequests); silent !== undefined; silent = this.#attempt(left, drainRequests)) {
      this.#onTimeout(silent);
      left = left.filter((request) => request.device !== silent);
    }
  }

  /** One round through the queue. Returns the source-id of a device that does not answer. */
  #attempt(requests: readonly Request[], drainRequests: boolean): number | undefined {
    const first = this.#tail;
    for (const { words } of requests) this.#push(words);
    this.#sequence = (this.#sequence % 0x7fff_ffff) + 1;
    this.#push(
      encode(WAIT_DESCRIPTOR, DescriptorType.WAIT, {
        SW: 1n,
        PD: drainRequests ? 1n : 0n,
        DATA: BigInt(this.#sequence),
        STATUS_ADDR: BigInt(this.#status) >> 2n,
      }),
    );
    this.#registers.write(Reg.IQT, 8, BigInt(this.#tail * this.#entryBytes));
    for (let polls = 0; polls < POLLS; polls++) {
      if (this.#memory.load64(this.#status) && this.#memory.lo === this.#sequence) return undefined;
      const status = Number(this.#registers.read(Reg.FSTS, 4));
      if ((status & Fsts.IQE) !== 0) throw new Error(`the unit refused a ${this.#atHead(requests, first)}: IQEI ${this.#registers.read(Reg.IQERCD, 8) & 15n}`);
      if ((status & Fsts.ITE) !== 0) return this.#abandon(requests);
    }
    throw new Error(`the unit did not complete ${requests.length} descriptors, the last a ${requests.at(-1)?.structure ?? "wait"}`);
  }

  #atHead(requests: readonly Request[], first: number): string {
    const head = Number(this.#registers.read(Reg.IQH, 8)) / this.#entryBytes;
    return requests[(head - first + ENTRIES) % ENTRIES]?.structure ?? WAIT_DESCRIPTOR.structure;
  }

  /**
   * A device-TLB invalidation timed out: its wait will never complete, and the unit goes on from its head when ITE is cleared
   * (6.5.2.10). What is left there is replaced by descriptors that do nothing.
   */
  #abandon(requests: readonly Request[]): number {
    const source = Number((this.#registers.read(Reg.IQERCD, 8) >> 32n) & 0xffffn);
    const head = Number(this.#registers.read(Reg.IQH, 8)) / this.#entryBytes;
    const nothing = encode(WAIT_DESCRIPTOR, DescriptorType.WAIT, { FN: 1n });
    for (let at = head; at !== this.#tail; at = (at + 1) % ENTRIES) this.#store(at, nothing);
    this.#registers.write(Reg.FSTS, 4, BigInt(Fsts.ITE));
    if (!requests.some((request) => request.device === source)) throw new Error(`the unit reports a time-out of ${formatRid(source)}, which was sent nothing`);
    return source;
  }

  #add(table: FieldTable, type: number, fields: FieldValues, device?: number): void {
    this.#requests.push({ structure: table.structure, words: encode(table, type, fields), ...(device === undefined ? {} : { device }) });
  }

  #push(words: readonly bigint[]): void {
    this.#store(this.#tail, words);
    this.#tail = (this.#tail + 1) % ENTRIES;
  }

  #store(slot: number, words: readonly bigint[]): void {
    for (let i = 0; i < this.#entryBytes / 8; i++) this.#memory.writeU64(this.#base + slot * this.#entryBytes + i * 8, words[i] ?? 0n);
  }
}

function encode(table: FieldTable, type: number, fields: FieldValues): bigint[] {
  return encodeFields(table, { ...fields, type: BigInt(type & 15), typeHigh: BigInt(type >> 4) });
}

function pageSelective({ page, mask }: PageBlock, leavesOnly: boolean): FieldValues {
  return { G: 3n, ADDR: BigInt(page), AM: BigInt(mask), IH: leavesOnly ? 1n : 0n };
}

/** Ones below the lowest 0 of ADDR say how many pages there are (6.5.2.5). */
function deviceTlbRange(block: PageBlock | undefined): FieldValues {
  if (block === undefined) return { S: 1n, ADDR: ALL_ADDRESSES };
  if (block.mask === 0) return { ADDR: BigInt(block.page) };
  return { S: 1n, ADDR: BigInt(block.page) | ((1n << BigInt(block.mask - 1)) - 1n) };
}
