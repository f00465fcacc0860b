/** The guest's streams on the host: each device is attached to what makes of its accesses what the guest's STE says. */
import { Cr0, type Fields, Gbpa, Op, Reg, SteConfig } from "@iommukit/hw-smmu/spec";
import type { GuestUnit } from "./guest-unit.js";
import type { HostDevice, HostObjects, Words } from "./host-objects.js";
import { stage1Words } from "./stage1-words.js";

interface Stream {
  readonly device: HostDevice;
  /** Its own page table on the host, while stage 1 translates. */
  table: number | undefined;
}

export class Streams {
  readonly #unit: GuestUnit;
  readonly #objects: HostObjects;
  readonly #tell: (error: unknown, what: string) => void;
  readonly #streams: ReadonlyMap<number, Stream>;

  /** @param tell told of what the host refuses; throws what is no refusal */
  constructor(unit: GuestUnit, objects: HostObjects, devices: readonly HostDevice[], tell: (error: unknown, what: string) => void) {
    this.#unit = unit;
    this.#objects = objects;
    this.#tell = tell;
    this.#streams = new Map(devices.map((device) => [device.stream, { device, table: undefined }]));
  }

  /** The host walks the guest's tables for it. False, too, for a stream that is none of the host's. */
  translates(stream: number): boolean {
    return this.#streams.get(stream)?.table !== undefined;
  }

  followAll(): void {
    for (const stream of this.#streams.values()) this.#follow(stream);
  }

  /** Streams that a CFGI_STE or its range means (4.3.2: 31 is all). False: the host refused one, and it is stopped. */
  followNamed(opcode: number, { StreamID, Range }: Fields): boolean {
    const size = opcode === Op.CFGI_STE ? 1 : Range === 31 ? Infinity : 2 ** (Range + 1);
    const first = size === Infinity ? 0 : StreamID - (StreamID % size);
    let followed = true;
    for (const stream of this.#streams.values()) {
      const { stream: id } = stream.device;
      if (id >= first && id < first + size) followed = this.#follow(stream) && followed;
    }
    return followed;
  }

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
    const register = (offset: number): number => Number(this.#unit.read(offset, 4));
    if ((register(Reg.CR0ACK) & Cr0.SMMUEN) === 0) return (register(Reg.GBPA) & Gbpa.ABORT) === 0 ? passes : stops;
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
}
