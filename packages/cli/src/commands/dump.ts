/** `iommu dump`: what each device can reach. */
import { type AddressSpaceDump, formatRid, type MappedLeaf, parseRid } from "@iommukit/core";
import { mergeLeaves } from "@iommukit/core/decode";
import { compose, type GlobalOptions } from "../composition.js";
import { openSource, type SourceOptions } from "../source.js";
import { hex, print, printJson, size, style } from "../style.js";

interface DumpOptions extends SourceOptions {
  readonly rid?: string;
  readonly leaves?: boolean;
  readonly json?: boolean;
}

export async function dump(file: string, options: DumpOptions, globals: GlobalOptions): Promise<void> {
  const wanted = options.rid === undefined ? undefined : parseRid(options.rid);
  const { decoders } = await compose(globals);
  const { source, decoder } = openSource(file, options, decoders);
  if (!options.json) for (const line of decoder.summary?.(source) ?? []) print(style.dim(line));
  const shown: unknown[] = [];
  let found = 0;
  for (const space of decoder.dump(source)) {
    if (wanted !== undefined && space.rid !== wanted) continue;
    found++;
    if (options.json) shown.push(asJson(space, options.leaves === true));
    else for (const line of spaceLines(space, options.leaves === true)) print(line);
  }
  if (wanted !== undefined && found === 0) throw new Error(`the tables name no requester ${options.rid}`);
  if (options.json) printJson(shown);
  else if (found === 0) print("the tables name no requester");
}

const DIGITS = 12;
const padded = (value: bigint | number): string => `0x${value.toString(16).padStart(DIGITS, "0")}`;

function* spaceLines(space: AddressSpaceDump, leaves: boolean): Generator<string> {
  const ids = Object.entries(space.ids).map(([name, value]) => `${name} ${value}`);
  const pasid = space.pasid === undefined ? "" : ` PASID ${hex(space.pasid)}`;
  yield `${style.title(formatRid(space.rid) + pasid)}  ${style.name(space.type)}  ${ids.join(", ")}`;
  let count = 0;
  if (leaves) {
    for (const leaf of space.leaves()) {
      count++;
      yield leafLine(leaf);
    }
  } else {
    for (const range of mergeLeaves(space.leaves())) {
      count++;
      const last = range.iova + BigInt(range.length) - 1n;
      yield `  ${padded(range.iova)}-${padded(last)} -> ${padded(range.pa)}  ${range.permissions.padEnd(2)}  ${size(range.length).padStart(8)} in ${range.leaves} x ${size(range.pageSize)}`;
    }
  }
  if (count === 0 && space.type !== "pass-through" && space.type !== "blocked") yield style.dim("  nothing is mapped");
  if (space.problem) yield style.bad(`  ${space.problem}`);
}

function leafLine(leaf: MappedLeaf): string {
  return `  ${padded(leaf.iova)} -> ${padded(leaf.pa)}  ${leaf.permissions.padEnd(2)}  ${size(leaf.size).padStart(6)}  ${style.dim(hex(leaf.entry))}`;
}

function asJson(space: AddressSpaceDump, leaves: boolean): unknown {
  const mapped = leaves ? { leaves: [...space.leaves()] } : { ranges: [...mergeLeaves(space.leaves())] };
  return { rid: formatRid(space.rid), pasid: space.pasid, type: space.type, ...space.ids, ...mapped, problem: space.problem };
}
