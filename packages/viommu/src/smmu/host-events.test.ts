/** Events that the host's queue has lost, which its headers tell by a flag and by their sequence numbers. */
import { describe, expect, it } from "vitest";
import type { Program } from "../host/calls.js";
import type { GuestUnit } from "./guest-unit.js";
import { HostEvents } from "./host-events.js";
import type { HostObjects } from "./host-objects.js";

const QUEUE = 9;
const LOST = 1;

interface Read {
  readonly flags?: number;
  readonly sequence: number;
  readonly type?: number;
}

/** Bytes as read(2) gives them: a record follows each header that says nothing of lost ones. */
function bytesOf(reads: readonly Read[]): Uint8Array {
  const words = reads.flatMap(({ flags = 0, sequence, type = 0 }) => [flags, sequence, ...(flags === LOST ? [] : [type, 0, 0, 0, 0, 0, 0, 0])]);
  return new Uint8Array(Uint32Array.from(words).buffer);
}

/** What the guest's unit is told: types of records, "lost" for those that are not there. */
function told(...batches: readonly (readonly Read[])[]): (number | string)[] {
  const seen: (number | string)[] = [];
  const left = batches.map(bytesOf);
  const program = { read: () => left.shift() ?? new Uint8Array() } as unknown as Program;
  const unit = { report: (words: ArrayLike<number> | undefined) => seen.push(words === undefined ? "lost" : words[0]) } as unknown as GuestUnit;
  const events = new HostEvents({ program, events: () => QUEUE } as unknown as HostObjects, [], unit);
  events.start(16);
  for (const _ of batches) events.service();
  return seen;
}

describe("events of the host", () => {
  it("come as they are while their numbers follow each other", () => {
    expect(told([{ sequence: 0, type: 0x10 }, { sequence: 1, type: 0x13 }], [{ sequence: 2, type: 0x10 }])).toEqual([0x10, 0x13, 0x10]);
  });

  it("a header that says so alone is a loss, and has no record behind it", () => {
    expect(told([{ sequence: 0, type: 0x10 }, { flags: LOST, sequence: 1 }], [{ sequence: 2, type: 0x13 }])).toEqual([0x10, "lost", 0x13]);
  });

  it("a gap in the numbers is a loss, before the record that shows it", () => {
    expect(told([{ sequence: 0, type: 0x10 }, { sequence: 2, type: 0x13 }])).toEqual([0x10, "lost", 0x13]);
  });

  it("numbers that come round at 2^31 are none", () => {
    expect(told([{ sequence: 2 ** 31 - 1, type: 0x10 }, { sequence: 0, type: 0x13 }])).toEqual(["lost", 0x10, 0x13]);
  });
});
