/** How one (StreamID, SubstreamID) is translated: what its STE and CD say, as the translation path wants it. */
import type { Iotlb, PageTableFormat } from "@iommukit/core";
import type { QuickWalk } from "./quick-walk.js";

/** What is done with a stream's traffic (SMMU 3.3.3, 5.2 Config). */
export const Action = { ABORT: 0, BYPASS: 1, TRANSLATE: 2 } as const;

/** One half of the stage-1 input range. */
export class Half {
  enabled = false;
  /** The start table's physical or intermediate address. */
  root = 0;
  /** The start table's physical address, if it was translated together with the CD; -1: each walk does. */
  fixedRoot = -1;
  topLevel = 0;
  /** 4 KiB pages of the input range. */
  pages = 0;
  granule = 0;
  topByteIgnored = false;
  /** HADx: hierarchical permissions do not count. */
  flat = false;
  /** E0PDx: unprivileged accesses fault. */
  privilegedOnly = false;
  format: PageTableFormat | undefined = undefined;
}

export class Configuration {
  valid = false;
  stream = -1;
  /** Of the request, or NO_PASID. */
  substream = -1;
  action: number = Action.ABORT;
  /** STE.Config, STE.EATS as they are in effect. */
  config = 0;
  eats = 0;
  /** STE.MEV. */
  mergesEvents = false;
  /** Of translated traffic, whose CD is not read: the event that its SubstreamID is refused with, or 0. */
  substreamError = 0;
  /** STE.PPAR. */
  pasidInResponse = false;

  /** Which cache its translations are in, and their tags there. */
  tlb: Iotlb | undefined = undefined;
  tagA = 0;
  tagB = 0;
  groupA = 0;
  groupB = 0;
  /** The input page is the cache's page: neither a top byte to ignore nor rights that the cache does not know. */
  plain = false;
  /** `tlb`, when this is valid and plain. */
  plainTlb: Iotlb | undefined = undefined;
  /** Row of NEEDED. */
  needed = 0;
  /** For plain tables. */
  quick: QuickWalk | undefined = undefined;

  stage1 = false;
  stage2 = false;
  /** Stage 1 is off, so that the input is checked against the intermediate address size. */
  skipsStage1 = false;
  world = 0;
  bigEndian = false;
  readonly halves: readonly [Half, Half] = [new Half(), new Half()];
  writeNever = false;
  privilegedNever = false;
  privilegedNeverExecutable = false;
  accessFlagIgnored = false;
  updatesAccess = false;
  updatesDirty = false;
  updatesTables = false;
  /** CD.A, R, S. */
  aborts = true;
  records = true;
  stalls = false;

  vmid = 0;
  s2Format: PageTableFormat | undefined = undefined;
  s2Root = 0;
  s2TopLevel = 0;
  s2Granule = 0;
  s2Pages = 0;
  /** 4 KiB input pages of one start table, and the table's bytes: concatenated tables lie one behind the other. */
  s2TableSpan = 1;
  s2TableBytes = 4096;
  s2BigEndian = false;
  s2AccessFlagIgnored = false;
  s2UpdatesAccess = false;
  s2UpdatesDirty = false;
  s2UpdatesTables = false;
  s2ProtectsWalks = false;
  s2ForceWriteBack = false;
  s2Records = true;
  s2Stalls = false;
}
