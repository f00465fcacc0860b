/**
 * One suite over any page-table format: what a format must do in the walker and in the editor. It
 * needs no test runner:
 *
 *     for (const { name, run } of formatSuite(myFormat, { leafLo: 3 })) test(name, run);
 */
import type { PageTableFormat } from "../pt/format.js";
import { FormatBench, type FormatSuiteOptions } from "./format-bench.js";
import * as editor from "./format-editor-checks.js";
import * as walker from "./format-walker-checks.js";

export type { EditorFactory, FormatSuiteOptions, TableEditor } from "./format-bench.js";

export interface FormatCheck {
  readonly name: string;
  /** @throws Error that says what was expected and what came */
  readonly run: () => void;
}

type Check = readonly [name: string, check: (bench: FormatBench) => void];
type LevelCheck = readonly [name: string, check: (bench: FormatBench, level: number) => void];

const CHECKS: readonly Check[] = [
  ["an empty table translates nothing", walker.emptyTable],
  ["a page translates at every place of the input range", editor.everyPlace],
  ["output addresses up to the top of the address field come back", editor.highOutputs],
  ["mapping a page twice is refused and changes nothing", editor.mapTwice],
  ["a range that is not made of whole pages of the input range is refused", editor.badRanges],
  ["a map without frames for its tables is refused and changes nothing", editor.noFrames],
  ["every word that the editor stores is reported", editor.reports],
  ["an absent entry stops the walk at its level", walker.absent],
  ["a table outside memory is a bus error at its level", walker.outside],
  ["a table that points to itself ends the walk", walker.loop],
  ["input bits above the top table are ignored", walker.inputAboveTop],
  ["a walk stores nothing", walker.writesNothing],
  ["random maps and unmaps agree with a list of pages, and every frame comes back", editor.history],
  ["random words translate as the definition says", walker.randomWords],
];

/** For levels above 0 that have leaves. */
const LEAF_CHECKS: readonly LevelCheck[] = [
  ["is used when it fits, and translates every page", editor.largeLeaf],
  ["is not used where input and output are not aligned to it", editor.unalignedLeaf],
  ["keeps its other pages when one is unmapped", editor.split],
];

/** The checks for one format, in the order in which they are best read when they fail. */
export function formatSuite(format: PageTableFormat, options: FormatSuiteOptions): FormatCheck[] {
  const bench = new FormatBench(format, options);
  const checks: FormatCheck[] = CHECKS.map(([name, check]) => ({ name, run: () => check(bench) }));
  for (let level = 1; level <= bench.topLevel; level++) {
    if (bench.hasLeaves(level)) {
      for (const [name, check] of LEAF_CHECKS) checks.push({ name: `a leaf of level ${level} ${name}`, run: () => check(bench, level) });
    } else checks.push({ name: `a leaf at level ${level}, where none is allowed, does not translate`, run: () => walker.illegalLeaf(bench, level) });
  }
  for (let level = 0; level <= bench.topLevel; level++) {
    checks.push({ name: `every reserved bit at level ${level} stops the walk`, run: () => walker.reserved(bench, level) });
  }
  return checks.map(({ name, run }) => ({ name: `${format.name}: ${name}`, run }));
}
