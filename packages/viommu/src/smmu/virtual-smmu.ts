/**
 * A virtual SMMUv3: a unit over the guest's memory takes registers, queues and commands, and what it is ordered is done on the host. A guest's
 * STE becomes a page table of the host for that stream, its invalidations go on together, and what the host's hardware records comes back as
 * records of the guest's own unit.
 */
import { type IommuHardware, IommuError, type MmioHandler, type Tracer } from "@iommukit/core";
import { type Capabilities, CommandError, type CommandRefusal, Cr0, type Fields, Gbpa, Op, Reg, SteConfig, type StreamView, type UnitObserver } from "@iommukit/hw-smmu/spec";
import { type HostDevice, HostObjects, MAX_BATCH, type Words } from "./host-objects.js";
import { checkShown } from "./identification.js";
import { HostEvents } from "./host-events.js";
import { stage1Words } from "./stage1-words.js";

/** What a virtual SMMUv3 needs of the unit in front of the guest; hw-smmu's `SmmuUnit` has it. */
export interface GuestUnit extends IommuHardware, MmioHandler {
  readonly capabilities: Capabilities;
  observer: UnitObserver | undefined;
  look(stream: number): StreamView;
  report(words: ArrayLike<number> | undefined): void;
}

export interface VirtualSmmuOptions {
  readonly objects: HostObjects;
  readonly devices: readonly HostDevice[];
  readonly tracer?: Tracer;
}

/** Invalidations that go on to the host. */
const BY_STREAM: ReadonlySet<number> = new Set([Op.CFGI_CD, Op.CFGI_CD_ALL, Op.ATC_INV]);
const FORWARDED: ReadonlySet<number> = new Set([...BY_STREAM, Op.TLBI_NSNH_ALL, Op.TLBI_NH_ALL, Op.TLBI_NH_ASID, Op.TLBI_NH_VA, Op.TLBI_NH_VAA]);

interface Stream {
  readonly device: HostDevice;
  /** Its own page table on the host, while stage 1 translates. */
  table: number | undefined;
}

export class VirtualSmmu implements UnitObserver {
  readonly #unit: GuestUnit;
  readonly #objects: HostObjects;
  readonly #events: HostEvents;
  readonly #tracer: Tracer | undefined;
  readonly #streams: ReadonlyMap<number, Stream>;
  /** Commands for the host, with the number of each among all that the guest's queue had. */
  #batch: { readonly words: Words; readonly number: number }[] = [];
  #commands = 0;

  /**
   * From now on the host follows the guest: at first, as GBPA says.
   * @throws IommuError EINVAL when the guest's unit says more of itself than the host's can do
   */
  constructor(unit: GuestUnit, { objects, devices, tracer }: VirtualSmmuOptions) {
    checkShown(unit.capabilities, objects.identification);
    this.#unit = unit;
    this.#objects = objects;
    this.#tracer = tracer;
    this.#streams = new Map(devices.map((device) => [device.stream, { device, table: undefined }]));
    this.#events = new HostEvents(objects, devices, unit);
    unit.observer = this;
    this.control();
  }

  /** The host has something to tell: descriptors of `pollable` are readable. */
  service(): void {
    this.#events.service();
  }

  /** Descriptors that become readable when `service` has something to do. */
  get pollable(): readonly number[] {
    return this.#events.descriptors;
  }

  command(opcode: number, fields: Fields, words: Words): CommandRefusal | undefined {
    const number = this.#commands++;
    if (FORWARDED.has(opcode)) {
      // Of a stream that is none of the host's, or does not translate, the host holds nothing.
      if (BY_STREAM.has(opcode) && this.#streams.get(fields.StreamID)?.table === undefined) return undefined;
      this.#batch.push({ words, number });
      return this.#batch.length >= MAX_BATCH ? this.#flush(number) : undefined;
    }
    if (opcode !== Op.SYNC && opcode !== Op.CFGI_STE && opcode !== Op.CFGI_STE_RANGE) return undefined;
    const refusal = this.#flush(number);
    if (refusal || opcode === Op.SYNC) return refusal;
    let refused = false;
    for (const stream of this.#named(opcode, fields)) refused = !this.#follow(stream) || refused;
    return refused ? { error: CommandError.ILL, back: 0 } : undefined;
  }

  idle(): CommandRefusal | undefined {
    return this.#flush(this.#commands);
  }

  control(): void {
    const enabled = this.#has(Cr0.EVENTQEN);
    if (enabled) this.#events.start(2 ** (Number(this.#unit.read(Reg.EVENTQ_BASE, 8)) & 31));
    for (const stream of this.#streams.values()) this.#follow(stream);
  }

  #has(bit: number): boolean {
    return (Number(this.#unit.read(Reg.CR0ACK, 4)) & bit) !== 0;
  }

  /** Streams of the host that a CFGI_STE or its range means (4.3.2: 31 is all). */
  #named(opcode: number, { StreamID, Range }: Fields): Stream[] {
    const size = opcode === Op.CFGI_STE ? 1 : Range === 31 ? Infinity : 2 ** (Range + 1);
    const first = size === Infinity ? 0 : StreamID - (StreamID % size);
    return [...this.#streams.values()].filter(({ device }) => device.stream >= first && device.stream < first + size);
  }

  /** Makes the host as the guest's STE is now. False: the host refused it, and the stream is stopped. */
  #follow(stream: Stream): boolean {
    const wanted = this.#wanted(stream.device.stream);
    try {
      if (typeof wanted === "number") this.#use(stream, wanted, undefined);
      else {
        const table = this.#objects.nested(stream.device, wanted);
        this.#use(stream, table, table);
      }
      return true;
    } catch (error) {
      this.#tell(error, `STE of stream 0x${stream.device.stream.toString(16)}`);
      this.#stop(stream);
      return false;
    }
  }

  /** Nothing of what the guest has taken away stays: a device that cannot be attached elsewhere is detached. */
  #stop(stream: Stream): void {
    const what = `stop of stream 0x${stream.device.stream.toString(16)}`;
    try {
      this.#use(stream, this.#objects.stops, undefined);
    } catch (error) {
      this.#tell(error, what);
      try {
        this.#objects.detach(stream.device);
        this.#release(stream, undefined);
      } catch (again) {
        this.#tell(again, what);
      }
    }
  }

  /** A page table of the host that is there, or the words of a new one. */
  #wanted(id: number): number | Words {
    const { stops, passes, empty } = this.#objects;
    if (!this.#has(Cr0.SMMUEN)) return (Number(this.#unit.read(Reg.GBPA, 4)) & Gbpa.ABORT) === 0 ? passes : stops;
    const ste = this.#unit.look(id);
    // The guest's unit records what is wrong when it is told what the host has stopped.
    if (ste === undefined) return empty;
    if (ste.Config === SteConfig.BYPASS) return passes;
    return ste.Config === SteConfig.STAGE1 ? stage1Words(ste, this.#unit.capabilities) : stops;
  }

  /** Attaches before the old one goes: no access meets neither. A table that could not be attached goes, too. */
  #use(stream: Stream, hwpt: number, table: number | undefined): void {
    try {
      this.#objects.attach(stream.device, hwpt);
    } catch (error) {
      if (table !== undefined) this.#objects.destroy(table);
      throw error;
    }
    this.#release(stream, table);
  }

  #release(stream: Stream, table: number | undefined): void {
    const old = stream.table;
    stream.table = table;
    if (old !== undefined) this.#objects.destroy(old);
  }

  /**
   * Hands the batch to the host. Of a batch that is refused the host does not say reliably what was done (Linux issues commands in blocks, and counts what it looked
   * at): so each is then sent alone, up to the one that it refuses.
   * @param now number of the command at hand
   */
  #flush(now: number): CommandRefusal | undefined {
    const batch = this.#batch;
    if (batch.length === 0) return undefined;
    this.#batch = [];
    try {
      this.#objects.invalidate(batch.map(({ words }) => words));
      return undefined;
    } catch (error) {
      if (!(error instanceof IommuError)) throw error;
    }
    for (const { words, number } of batch) {
      try {
        this.#objects.invalidate([words]);
      } catch (error) {
        this.#tell(error, `command 0x${(words[0] & 0xffn).toString(16)}`);
        // It, and what follows it, will come again.
        this.#commands = number;
        return { error: CommandError.ILL, back: now - number };
      }
    }
    return undefined;
  }

  /** @throws what is no refusal of the host */
  #tell(error: unknown, what: string): void {
    if (!(error instanceof IommuError)) throw error;
    this.#tracer?.listener?.({ kind: "report", unit: this.#unit.name, text: `the host refuses a guest's ${what}: ${error.reason.message}`, count: 1 });
  }
}
