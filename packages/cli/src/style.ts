/** Colour on a terminal only, unless NO_COLOR or FORCE_COLOR says otherwise, in Node's way: FORCE_COLOR=0 is no colour. */
import { env, stdout } from "node:process";
import pc from "picocolors";

function wantsColour(): boolean {
  if (env.NO_COLOR) return false;
  if (env.FORCE_COLOR !== undefined) return env.FORCE_COLOR !== "0" && env.FORCE_COLOR !== "false";
  return stdout.isTTY === true && env.TERM !== "dumb";
}

const colour = pc.createColors(wantsColour());

export const style = {
  title: (text: string): string => colour.bold(text),
  good: (text: string): string => colour.green(text),
  bad: (text: string): string => colour.red(text),
  dim: (text: string): string => colour.dim(text),
  name: (text: string): string => colour.cyan(text),
};

export function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`;
}

/** 4096 -> "4 KiB" */
export function size(bytes: number): string {
  for (const [unit, name] of [[2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"]] as const) {
    if (bytes % unit === 0) return `${bytes / unit} ${name}`;
  }
  return `${bytes} bytes`;
}

export function print(line = ""): void {
  process.stdout.write(`${line}\n`);
}

export function printJson(value: unknown): void {
  print(JSON.stringify(value, (_key, entry: unknown) => (typeof entry === "bigint" ? hex(entry) : entry), 2));
}
