/** What a row of the command table is, and the checks that many rows share. */
import type { IoctlRow, StructValues } from "../../abi/index.js";
import { refuse } from "../../errors.js";
import type { CallContext } from "../../files/types.js";
import type { IommufdContext } from "../context.js";
import { type Interval, U64_MAX } from "../../memory/interval.js";
import type { TableObject } from "../object-table.js";

/** A struct's values; handlers store outputs in place. */
export type Values = StructValues;

/** What is to happen once the outputs have reached the caller, or could not. */
export interface Outcome {
  /** Becomes visible under its id. */
  readonly publish?: TableObject;
  /** Undoes what `publish` does not cover. */
  readonly undo?: () => void;
}

export interface Handler {
  readonly run: (context: IommufdContext, call: CallContext, values: Values, memory: ArgumentBytes) => Outcome | undefined | number;
  /** The whole struct is written back on success. */
  readonly copyOut: boolean;
  /** Errnos with which the struct is written back all the same; true: every one. */
  readonly copyOutOn?: string | true;
  /** Only this field is written back. */
  readonly copyOutField?: string;
}

/** The struct as the caller sent it, for what its values do not hold. */
export interface ArgumentBytes {
  readonly bytes: Uint8Array;
  readonly address: bigint;
}

export interface Command extends Handler {
  readonly row: IoctlRow;
  readonly size: number;
}

export const number = (values: Values, name: string): number => Number(values[name]);
export const big = (values: Values, name: string): bigint => BigInt(values[name]);
export const hex = (value: bigint | number): string => `0x${value.toString(16)}`;

/** A flag or reserved field that must be 0: EOPNOTSUPP (1.4). */
export function mustBeZero(values: Values, name: string, allowed = 0): void {
  const rest = number(values, name) & ~allowed;
  if (rest !== 0) refuse("EOPNOTSUPP", `${name} has ${hex(rest >>> 0)} set, which means nothing here`, { argument: name });
}

export function rangeOf(start: bigint, length: bigint, argument: string): Interval {
  if (start + length - 1n > U64_MAX) refuse("EOVERFLOW", `${argument} ${hex(start)} + ${hex(length)} wraps`, { argument });
  return { start, last: start + length - 1n };
}

export function notTheLast(values: Values, ...names: readonly string[]): void {
  for (const name of names) if (big(values, name) === U64_MAX) refuse("EOVERFLOW", `${name} is 2^64 - 1`, { argument: name });
}
