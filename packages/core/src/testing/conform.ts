/** One entry for recorded data of any known format: the file says itself what it is. */
import { gunzipSync } from "node:zlib";
import type { TableDecoder } from "../decode/types.js";
import type { ReplayUnitFactory } from "../machine/types.js";
import { asObject, asString, FormatError, parseJson } from "./json.js";
import type { CaseResult } from "./result.js";
import { playTables } from "./tables.js";
import { playTranscript, type TranscriptPlatform } from "./transcripts.js";
import { playVectors } from "./vectors.js";

export interface Players {
  readonly replayUnits: readonly ReplayUnitFactory[];
  readonly decoders: readonly TableDecoder[];
  readonly platforms?: readonly TranscriptPlatform[];
}

/** Inflates when the bytes begin as gzip does. */
export function gunzipIfNeeded(bytes: Uint8Array): Uint8Array {
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes;
  try {
    return gunzipSync(bytes, { maxOutputLength: 2 ** 30 });
  } catch (error) {
    throw new FormatError(`damaged gzip data: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}

/**
 * Plays a file and yields its cases as they end.
 * @throws FormatError for a file that is damaged, of an unknown format, or about an IOMMU that no player knows
 */
export function* playFile(bytes: Uint8Array, players: Players): Generator<CaseResult> {
  const text = new TextDecoder().decode(gunzipIfNeeded(bytes));
  const newline = text.indexOf("\n");
  const firstLine = newline === -1 ? text : text.slice(0, newline);
  // A tables file is one JSON value, perhaps over many lines; the others are JSON Lines.
  const header = looksComplete(firstLine) ? asObject(parseJson(firstLine, "line 1"), "line 1") : asObject(parseJson(text, "the file"), "the file");
  const format = asString(header.format, "format");
  if (format === "iommufd-transcript/1") {
    yield* playTranscript(header, lines(text, newline), players.platforms ?? []);
    return;
  }
  const iommu = asString(header.iommu, "iommu");
  if (format === "iommu-vectors/1") {
    const factory = players.replayUnits.find((candidate) => candidate.iommu === iommu);
    if (factory === undefined) throw new FormatError(`no unit to replay "${iommu}" on: nothing that is loaded models it`);
    yield* playVectors(header, lines(text, newline), factory);
  } else if (format === "iommu-tables/1") {
    const decoder = players.decoders.find((candidate) => candidate.iommu === iommu);
    if (decoder === undefined) throw new FormatError(`no decoder for tables of "${iommu}" is loaded`);
    yield* playTables(header, decoder);
  } else {
    throw new FormatError(`the format "${format}" is not known`);
  }
}

function looksComplete(line: string): boolean {
  return /^\s*\{.*\}\s*$/.test(line);
}

function* lines(text: string, from: number): Generator<string> {
  if (from === -1) return;
  for (let start = from + 1; start < text.length; ) {
    const end = text.indexOf("\n", start);
    yield text.slice(start, end === -1 ? undefined : end);
    if (end === -1) return;
    start = end + 1;
  }
}

