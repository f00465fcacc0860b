/** A unit built from the identification registers of a recording, and how its event records read. */
import type { PhysicalMemory, ReplayUnit, ReplayUnitFactory } from "@iommukit/core";
import { eventName, eventType, FaultClass } from "../spec/events.js";
import { Cr0, Reg } from "../spec/registers.js";
import { readBits, readFields } from "../spec/words.js";
import { EVENT_QUEUE, EVENT_WORDS } from "./event-queue.js";
import { Ring } from "./ring.js";
import { SmmuUnit } from "./unit.js";

type Registers = Readonly<Record<string, string>>;

class SmmuReplayUnit implements ReplayUnit {
  readonly hardware: SmmuUnit;
  readonly #memory: PhysicalMemory;
  readonly #ring: Ring;
  /** The record that comes next. */
  #next = 0;

  constructor(memory: PhysicalMemory, registers: Registers) {
    const word = (name: string): number => {
      if (registers[name] === undefined) throw new RangeError(`the header gives no ${name}, which an SMMUv3 is built from`);
      return Number(registers[name]);
    };
    this.#memory = memory;
    this.hardware = new SmmuUnit(memory, {
      // Cases do not resume what stalls, so that nothing may be held back for want of room.
      stallLimit: 0x1_0000,
      identification: { idr0: word("IDR0"), idr1: word("IDR1"), idr3: word("IDR3"), idr5: word("IDR5"), aidr: word("AIDR") },
    });
    const { eventqBits } = this.hardware.capabilities;
    this.#ring = new Ring(this.hardware.bank, EVENT_QUEUE.base, EVENT_QUEUE.producer, EVENT_QUEUE.consumer, eventqBits, EVENT_WORDS * 4);
  }

  read(offset: number, size: number): bigint {
    return this.hardware.read(offset, size);
  }

  write(offset: number, size: number, value: bigint): void {
    this.hardware.write(offset, size, value);
    // Software may set the index while the queue is off.
    if (!this.#queueIsOn) this.#next = this.#ring.producer;
    // The recorded unit had an event where this one, by the manual, has none: the case takes it off the queue all the same.
    else if (offset === Reg.EVENTQ_CONS && this.#ring.used > this.#ring.size) this.#moveProducer(this.#ring.consumer);
  }

  /** The record was not the recorded unit's: the slot is used again, since the case knows where each of its own lies. */
  clearFaults(): void {
    this.#moveProducer(this.#ring.consumer);
  }

  /** As software can: with the queue turned off for a moment. */
  #moveProducer(index: number): void {
    const control = this.hardware.read(Reg.CR0, 4);
    this.hardware.write(Reg.CR0, 4, control & ~BigInt(Cr0.EVENTQEN));
    this.hardware.write(Reg.EVENTQ_PROD, 4, BigInt(index));
    this.hardware.write(Reg.CR0, 4, control);
    this.#next = index;
  }

  get #queueIsOn(): boolean {
    return (this.hardware.bank.get32(Reg.CR0ACK) & Cr0.EVENTQEN) !== 0;
  }

  takeFault(): Readonly<Record<string, string | boolean | number>> | undefined {
    if (this.#next === this.#ring.producer) return undefined;
    const bytes = new Uint8Array(EVENT_WORDS * 4);
    this.#memory.read(this.#ring.address(this.#next), bytes);
    this.#next = this.#ring.next(this.#next);
    return decode(new Uint32Array(bytes.buffer));
  }
}

/** Fields of a record by the names that vectors use. */
function decode(words: Uint32Array): Record<string, string | boolean | number> {
  const type = readBits(words, 0, 8);
  const known = eventType(type);
  const f = known === undefined ? {} : readFields(known.table, words);
  const isSet = (value: number | undefined): boolean => value === 1;
  // C_BAD_SUBSTREAMID has no SSV: its SubstreamID is always valid.
  const valid = f.SSV === undefined ? f.SubstreamID !== undefined : f.SSV === 1;
  const record: Record<string, string | boolean | number> = { type: eventName(type), rid: hex(f.StreamID ?? 0), pasidPresent: valid, pasid: hex(f.SubstreamID ?? 0) };
  if (f.RnW !== undefined) {
    record.write = !isSet(f.RnW);
    record.priv = isSet(f.PnU);
    record.exec = isSet(f.InD);
    record.address = hex(BigInt(words[4]) | (BigInt(words[5]) << 32n));
  }
  if (f.CLASS !== undefined) {
    record.stage = isSet(f.S2) ? 2 : 1;
    record.class = ["CD", "TT", "IN"][f.CLASS] ?? "reserved";
    record.stall = isSet(f.Stall);
    record.tableWrite = f.CLASS === FaultClass.TT && f.TTRnW === 0;
  }
  if (isSet(f.S2) && f.IPA !== undefined) record.ipa = hex(f.IPA);
  if (f.FetchAddr !== undefined) record.fetch = hex(f.FetchAddr);
  return record;
}

const hex = (value: number | bigint): string => `0x${value.toString(16)}`;

export const smmuReplayUnitFactory: ReplayUnitFactory = {
  iommu: "smmuv3",
  create: (memory, header) => new SmmuReplayUnit(memory, header.registers),
};
