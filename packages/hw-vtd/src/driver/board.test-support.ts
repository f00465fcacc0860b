/** Units, drivers and devices for tests of the driver: everything that happens is written down, and a DMA is one call. */
import {
  Access, Bus, type DmaOptions, type DmaPort, encodeFields, extractBits, FrameAllocator, InterruptController, type InvalidationEntries, type IommuDevice, type IommuDriver, type IommuUnit, NO_PASID, type PagingDomain, PhysicalMemory,
  Prot, type TraceEvent, Tracer, type UserData,
} from "@iommukit/core";
import { encodeStruct } from "@iommukit/core/abi";
import { DeviceTlb, type DeviceTlbOptions } from "@iommukit/core/devices";
import { vtdIommuFactory } from "../plugin.js";
import { PRESETS } from "../presets.js";
import { CAP, ECAP } from "../spec/capabilities.js";

const RAM = 2 ** 26;
const REGISTERS = 0xfed9_0000;

/** What several units share. */
export class Board {
  readonly memory: PhysicalMemory = new PhysicalMemory();
  readonly frames: FrameAllocator;
  readonly interrupts: InterruptController = new InterruptController();
  readonly tracer: Tracer = new Tracer();
  readonly bus: Bus = new Bus(this.memory, (address, data) => this.interrupts.deliver(address, data));
  readonly events: TraceEvent[] = [];
  #units = 0;

  constructor() {
    this.memory.addRam(0, RAM);
    this.frames = new FrameAllocator(this.memory, RAM / 2, RAM);
    this.tracer.listener = (event) => this.events.push(event);
  }

  /** A unit of a preset with other capability fields: `{ NEST: 1 }`. */
  unit(preset = "scalable", fields: Readonly<Record<string, number>> = {}, options: Readonly<Record<string, unknown>> = {}): Bench {
    const name = `vtd${this.#units}`;
    const registerBase = REGISTERS + 0x1_0000 * this.#units++;
    return new Bench(this, name, vtdIommuFactory.create({ ...this, name, registerBase }, { ...capabilityWords(preset, fields), ...options }));
  }

  /** The invalidations since the last call, by structure and fields. */
  invalidations(): string[] {
    const found = this.events.filter((event) => event.kind === "invalidation").map((event) => event.descriptor);
    this.events.length = 0;
    return found.filter((text) => !text.startsWith("Invalidation wait"));
  }

  reports(): string[] {
    return this.events.filter((event) => event.kind === "report").map((event) => event.text);
  }
}

/** Options of a unit that is a preset with other capability fields. */
export function capabilityWords(preset: string, fields: Readonly<Record<string, number>>): Readonly<Record<string, string>> {
  const { cap, ecap } = PRESETS[preset];
  return { preset, cap: `0x${changed(CAP, cap, fields).toString(16)}`, ecap: `0x${changed(ECAP, ecap, fields).toString(16)}` };
}

function changed(table: typeof CAP, word: bigint, fields: Readonly<Record<string, number>>): bigint {
  const named = table.fields.filter((field) => field.name !== "" && field.name !== "-");
  return encodeFields(table, Object.fromEntries(named.map(({ name, low, width }) => [name, name in fields ? BigInt(fields[name]) : extractBits([word], low, width)])))[0];
}

export class Bench {
  readonly board: Board;
  readonly name: string;
  readonly unit: IommuUnit;
  readonly driver: IommuDriver;

  constructor(board: Board, name: string, unit: IommuUnit) {
    this.board = board;
    this.name = name;
    this.unit = unit;
    this.driver = unit.driver;
  }

  device(rid: number, more: Partial<IommuDevice> = {}): IommuDevice {
    const device = { rid, name: `device ${rid}`, pasidBits: 20, ats: false, ...more };
    this.driver.addDevice(device);
    return device;
  }

  /** A device with a translation cache of its own. */
  atsDevice(rid: number, options: DeviceTlbOptions = {}): AtsDevice {
    const port = this.board.bus.connect(rid, this.unit.hardware);
    const device = this.device(rid, { ats: true, pageRequests: options.pageRequests === true });
    return new AtsDevice(device, port, new DeviceTlb(port, options));
  }

  paging(device: IommuDevice, options: Parameters<IommuDriver["allocPaging"]>[1] = {}): PagingDomain {
    return this.driver.allocPaging(device, options);
  }

  /** Output page, or -1. */
  dma(device: IommuDevice, page: number, access: number = Access.READ, pasid: number = NO_PASID): number {
    return this.unit.hardware.translate(device.rid, pasid, page, access);
  }
}

export class AtsDevice {
  readonly device: IommuDevice;
  readonly port: DmaPort;
  readonly tlb: DeviceTlb;

  constructor(device: IommuDevice, port: DmaPort, tlb: DeviceTlb) {
    this.device = device;
    this.port = port;
    this.tlb = tlb;
  }

  /** Reads or writes one byte: its value, "refused", or "waiting" for a page. */
  move(kind: "read" | "write", page: number, options: DmaOptions = {}, byte = 0): number | string {
    const bytes = Uint8Array.of(byte);
    const answer: { ok?: boolean } = {};
    this.tlb.transfer(kind, BigInt(page) << 12n, bytes, options, ({ ok }) => (answer.ok = ok));
    if (answer.ok === undefined) return "waiting";
    return answer.ok ? bytes[0] : "refused";
  }
}

/** Maps pages: input page, output page, how many. */
export function map(domain: PagingDomain, page: number, to: number, count = 1, prot: number = Prot.READ | Prot.WRITE): void {
  domain.map(BigInt(page) << 12n, to * 4096, count * 4096, prot);
}

export function unmap(domain: PagingDomain, page: number, count = 1): void {
  domain.unmap(BigInt(page) << 12n, count * 4096);
}

export function dirtyPages(domain: PagingDomain, page: number, count: number, clear = true): number[] {
  const found: number[] = [];
  domain.dirty?.read(BigInt(page) << 12n, BigInt(count) << 12n, clear, (iova, length) => {
    for (let at = 0n; at < length; at += 4096n) found.push(Number((iova + at) >> 12n));
  });
  return found;
}

/** Vendor data of a request. */
export function userData(struct: string, fields: Readonly<Record<string, number | bigint>>, type = 1): UserData {
  const bytes = encodeStruct(struct, fields);
  return { type, length: bytes.length, read: () => bytes, write: () => undefined };
}

/** Entries of HWPT_INVALIDATE; `done` is what the caller would get back as entry_num. */
export function invalidationEntries(list: Readonly<Record<string, number | bigint>>[], type = 0): InvalidationEntries & { done: number } {
  return {
    type,
    entryLength: 24,
    count: list.length,
    done: 0,
    read: (index) => encodeStruct("iommu_hwpt_vtd_s1_invalidate", list[index]),
    readAll: () => [],
    handled(count) {
      this.done = count;
    },
  };
}
