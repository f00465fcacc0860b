/**
 * A virtual SMMUv3: a unit over the guest's memory takes registers, queues and commands, and what it is ordered is done on the host. A guest's
 * STE becomes a page table of the host for that stream, its invalidations go on together, and what the host's hardware records comes back as
 * records of the guest's own unit.
 */
import { IommuError, type Tracer } from "@iommukit/core";
import { CommandError, type CommandRefusal, Cr0, type Fields, Op, Reg, type UnitObserver } from "@iommukit/hw-smmu/spec";
import type { GuestUnit } from "./guest-unit.js";
import type { HostDevice, HostObjects, Words } from "./host-objects.js";
import { checkShown } from "./identification.js";
import { HostEvents } from "./host-events.js";
import { Invalidations } from "./invalidations.js";
import { Streams } from "./streams.js";

export interface VirtualSmmuOptions {
  readonly objects: HostObjects;
  readonly devices: readonly HostDevice[];
  readonly tracer?: Tracer;
}

/** Invalidations that go on to the host: of one stream, and of all. */
const BY_STREAM: ReadonlySet<number> = new Set([Op.CFGI_CD, Op.CFGI_CD_ALL, Op.ATC_INV]);
const OF_ALL: ReadonlySet<number> = new Set([Op.TLBI_NSNH_ALL, Op.TLBI_NH_ALL, Op.TLBI_NH_ASID, Op.TLBI_NH_VA, Op.TLBI_NH_VAA]);
/** EVENTQ_BASE.LOG2SIZE */
const LOG2SIZE = 31;

export class VirtualSmmu implements UnitObserver {
  readonly #unit: GuestUnit;
  readonly #streams: Streams;
  readonly #invalidations: Invalidations;
  readonly #events: HostEvents;

  /**
   * From now on the host follows the guest: at first, as GBPA says.
   * @throws IommuError EINVAL when the guest's unit says more of itself than the host's can do
   */
  constructor(unit: GuestUnit, { objects, devices, tracer }: VirtualSmmuOptions) {
    checkShown(unit.capabilities, objects.identification);
    const tell = (error: unknown, what: string): void => {
      if (!(error instanceof IommuError)) throw error;
      tracer?.listener?.({ kind: "report", unit: unit.name, text: `the host refuses a guest's ${what}: ${error.reason.message}`, count: 1 });
    };
    this.#unit = unit;
    this.#streams = new Streams(unit, objects, devices, tell);
    this.#invalidations = new Invalidations(objects, tell);
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

  /** What came before a change of an STE, or a CMD_SYNC, is done before it. */
  command(opcode: number, fields: Fields, words: Words): CommandRefusal | undefined {
    const number = this.#invalidations.count();
    // Of a stream that is none of the host's, or does not translate, the host holds nothing.
    if (OF_ALL.has(opcode) || (BY_STREAM.has(opcode) && this.#streams.translates(fields.StreamID))) return this.#invalidations.add(words, number);
    const changes = opcode === Op.CFGI_STE || opcode === Op.CFGI_STE_RANGE;
    if (!changes && opcode !== Op.SYNC) return undefined;
    const refusal = this.#invalidations.flush(number);
    if (refusal || !changes) return refusal;
    return this.#streams.followNamed(opcode, fields) ? undefined : { error: CommandError.ILL, back: 0 };
  }

  idle(): CommandRefusal | undefined {
    return this.#invalidations.flush();
  }

  control(): void {
    const enabled = (Number(this.#unit.read(Reg.CR0ACK, 4)) & Cr0.EVENTQEN) !== 0;
    if (enabled) this.#events.start(2 ** (Number(this.#unit.read(Reg.EVENTQ_BASE, 8)) & LOG2SIZE));
    this.#streams.followAll();
  }
}
