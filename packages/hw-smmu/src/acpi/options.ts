/** What firmware says of a unit beyond its registers and devices: option `iort` of a unit in a machine file. Every problem names its path. */
import { describedList, describedNumber, describedObject, wrongValue } from "@iommukit/core";

/** Global system interrupt vectors that the unit's wires are. */
export interface Wires {
  readonly event: number;
  readonly pri: number;
  readonly gerror: number;
  readonly sync: number;
}

export interface IortOptions {
  /** GIC ITS identifiers that messages of the unit's devices go to; none: they have no messages. */
  readonly its: readonly number[];
  /** Undefined: messages when the unit has them (IDR0.MSI), else wires of the table's choice. */
  readonly wires: Wires | undefined;
  readonly proximity: number | undefined;
}

const LAST_GSIV = 0xffff_ffff;

/** @throws IommuError EINVAL */
export function readIortOptions(value: unknown): IortOptions {
  const { its, wires, proximity } = describedObject(value ?? {}, "iort", ["its", "wires", "proximity"]);
  const ids = its === undefined ? [0] : describedList(its, "iort.its", (id, path) => describedNumber(id, path, 0xffff));
  const twice = ids.findIndex((id, i) => ids.indexOf(id) < i);
  if (twice !== -1) wrongValue(`iort.its[${twice}]`, `is ${ids[twice]}, which the list has already`);
  return { its: ids, wires: wires === undefined ? undefined : readWires(wires), proximity: proximity === undefined ? undefined : describedNumber(proximity, "iort.proximity", 0xffff_ffff) };
}

function readWires(value: unknown): Wires {
  const { event, pri = 0, gerror, sync } = describedObject(value, "iort.wires", ["event", "pri", "gerror", "sync"]);
  const gsiv = (number: unknown, name: string): number => describedNumber(number, `iort.wires.${name}`, LAST_GSIV);
  return { event: gsiv(event, "event"), pri: gsiv(pri, "pri"), gerror: gsiv(gerror, "gerror"), sync: gsiv(sync, "sync") };
}
