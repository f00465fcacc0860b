/** What an IORT table must obey beyond its layout (DEN0049E). */
import { acpiHex, type AcpiValues } from "@iommukit/core/acpi";
import type { FoundElement, FoundNode } from "./read.js";
import { NodeType, RMR_ATTRIBUTES, SMMU_MODELS, SMMUV3_MODELS } from "./structures.js";

const LAST_ID = 0xffff_ffffn;
const RANGE_PAGE = 0x1_0000n;
const REGISTER_PAGE = 0x1_0000n;
const COUNTER_PAGE = 0x1000n;
const MAX_PASID_BITS = 20n;
/** Revisions of the table that were withdrawn: E, E.a, E.c. */
const WITHDRAWN = new Set([1, 2, 4]);
const WITHDRAWN_RMR = 2;
/** The first with identifiers of nodes: E.b. */
const IDENTIFIERS_SINCE = 3;
/** The first whose SMMUv3 says whether its DeviceID mapping counts: E.e. */
const DEVICE_ID_VALID_SINCE = 5;

export const Smmuv3Flag = { COHACC: 1n, HTTU: 6n, PROXIMITY: 8n, DEVICE_ID: 16n } as const;
export const SINGLE = 1n;

export type NodeAt = (offset: bigint) => FoundNode | undefined;

export const elementsOf = ({ elements }: FoundNode, array: string): FoundElement[] => elements.filter((element) => element.array.name === array);

/** Of the table as a whole. */
export function* checkTable(revision: number, found: readonly FoundNode[]): Generator<string> {
  if (WITHDRAWN.has(revision)) yield `revision ${revision} of the table was withdrawn`;
  const seen = new Map<number, FoundNode>();
  const bases = new Map<bigint, FoundNode>();
  for (const one of found) {
    const { base } = one.node.values;
    const sharing = base === undefined ? undefined : bases.get(base);
    if (sharing !== undefined) yield `the ${nameOf(one)} has its registers at ${acpiHex(base)}, as the ${nameOf(sharing)} has`;
    if (base !== undefined) bases.set(base, one);
    const { identifier } = one.node;
    if (one.layout === undefined) continue;
    if (revision < IDENTIFIERS_SINCE) {
      if (identifier !== 0) yield `bytes 4 to 7 of the ${nameOf(one)} are reserved in a table of revision ${revision}`;
      continue;
    }
    const other = seen.get(identifier);
    if (other !== undefined) yield `the ${nameOf(one)} has identifier ${identifier}, as the ${nameOf(other)} has`;
    seen.set(identifier, one);
  }
}

/** "SMMUv3 at 0x48" */
export function nameOf({ layout, node, offset }: FoundNode): string {
  return `${layout?.name ?? `node of type ${node.type}`} at ${acpiHex(offset)}`;
}

/** Of one node among the others. */
export function checkNode(one: FoundNode, at: NodeAt): string[] {
  return one.layout === undefined ? [] : [...checkOverlaps(one), ...RULES[one.layout.name](one, at)];
}

/** Where ID mappings of a node may lead, and whether one may stand for a single ID. */
const MAPPED: Readonly<Record<number, { readonly to: readonly number[]; readonly single: boolean }>> = {
  [NodeType.ITS]: { to: [], single: false },
  [NodeType.NAMED]: { to: [NodeType.SMMU, NodeType.SMMUV3, NodeType.ITS], single: true },
  [NodeType.ROOT_COMPLEX]: { to: [NodeType.SMMU, NodeType.SMMUV3, NodeType.ITS], single: true },
  [NodeType.SMMU]: { to: [NodeType.ITS], single: false },
  [NodeType.SMMUV3]: { to: [NodeType.ITS], single: true },
  [NodeType.PMCG]: { to: [NodeType.ITS], single: true },
  [NodeType.RMR]: { to: [NodeType.SMMU, NodeType.SMMUV3], single: false },
};

/** Of one element of a node's arrays. */
export function checkElement(one: FoundNode, { array, values }: FoundElement, at: NodeAt): string[] {
  return [...(array.name === "mappings" ? checkMapping(one, values, at) : array.name === "ranges" ? checkRange(values) : [])];
}

function* checkMapping(one: FoundNode, values: AcpiValues, at: NodeAt): Generator<string> {
  const more = values["IDs minus 1"];
  const single = (values.flags & SINGLE) === SINGLE;
  const { to, single: maySingle } = MAPPED[one.node.type];
  const node = at(values.output);
  if (!single && values["input base"] + more > LAST_ID) yield `${more + 1n} IDs from ${acpiHex(values["input base"])} on are more than there are`;
  if (!single && values["output base"] + more > LAST_ID) yield `${more + 1n} IDs from ${acpiHex(values["output base"])} on are more than there are`;
  if (single && !maySingle) yield `SINGLE is not for an ${one.layout?.name ?? ""} node`;
  if (node === undefined) yield `no node begins at offset ${acpiHex(values.output)}`;
  else if (node.layout !== undefined && !to.includes(node.node.type)) yield `it leads to the ${nameOf(node)}: from here IDs do not go there`;
}

function* checkRange({ base, bytes }: AcpiValues): Generator<string> {
  if (base % RANGE_PAGE !== 0n) yield `base ${acpiHex(base)} is not aligned to 64 KiB`;
  if (bytes === 0n || bytes % RANGE_PAGE !== 0n) yield `${acpiHex(bytes)} bytes are no multiple of 64 KiB`;
  if (base + bytes > 1n << 64n) yield `${acpiHex(bytes)} bytes from ${acpiHex(base)} on reach beyond the address space`;
}

/** What a table's ranges [first, last] have twice. */
function* overlaps(ranges: readonly (readonly [first: bigint, last: bigint, what: string])[]): Generator<{ readonly a: string; readonly b: string; readonly first: bigint; readonly last: bigint }> {
  const sorted = [...ranges].sort((a, b) => (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0));
  for (const [i, [first, last, b]] of sorted.entries()) {
    const before = sorted[i - 1];
    if (before === undefined) continue;
    const [, end, a] = before;
    if (first <= end) yield { a, b, first, last: last < end ? last : end };
    if (last < end) sorted[i] = before;
  }
}

function* checkOverlaps(one: FoundNode): Generator<string> {
  if (one.node.type === NodeType.RMR) {
    const ranges = elementsOf(one, "ranges").map(({ values: { base, bytes } }, i) => [base, base + bytes - 1n, String(i)] as const);
    for (const { a, b, first, last } of overlaps(ranges)) yield `memory ranges ${a} and ${b} overlap: ${acpiHex(first)}-${acpiHex(last)}`;
    return;
  }
  const mapped = elementsOf(one, "mappings").map(({ values }, i) => ({ values, i })).filter(({ values }) => (values.flags & SINGLE) === 0n);
  for (const { a, b, first, last } of overlaps(mapped.map(({ values, i }) => [values["input base"], values["input base"] + values["IDs minus 1"], String(i)]))) {
    const hint = first === last ? "; the number of IDs is given minus 1" : "";
    yield `ID mappings ${a} and ${b} overlap: ${acpiHex(first)}-${acpiHex(last)}${hint}`;
  }
}

function* checkAddressBits(bits: bigint | undefined): Generator<string> {
  if (bits !== undefined && (bits === 0n || bits > 64n)) yield `addresses of ${bits} bits are none`;
}

function* checkPasidBits(bits: bigint, what: string): Generator<string> {
  if (bits > MAX_PASID_BITS) yield `${what} of ${bits} bits are none: ${MAX_PASID_BITS} is the most`;
}

function* checkBase(base: bigint | undefined): Generator<string> {
  if (base === 0n) yield "base is 0: it has no registers";
  if (base !== undefined && base % REGISTER_PAGE !== 0n) yield `base ${acpiHex(base)} is not aligned to 64 KiB`;
}

type Rules = (one: FoundNode, at: NodeAt) => Iterable<string>;

const RULES: Readonly<Record<NonNullable<FoundNode["layout"]>["name"], Rules>> = {
  *"ITS group"(one) {
    const ids = elementsOf(one, "its").map(({ values }) => values.id);
    if (ids.length === 0) yield "it names no ITS";
    if (new Set(ids).size < ids.length) yield "it names an ITS twice";
    if (elementsOf(one, "mappings").length > 0) yield "IDs end at an ITS: it has no ID mappings";
  },
  *"named component"({ node: { values } }) {
    if (values.flags === undefined) return;
    yield* checkAddressBits(values["address bits"]);
    yield* checkPasidBits((values.flags >> 1n) & 31n, "SubstreamIDs");
  },
  *"root complex"({ node: { values } }) {
    yield* checkAddressBits(values["address bits"]);
    yield* checkPasidBits((values["PASID capabilities"] ?? 0n) & 31n, "PASIDs");
    if ((values.segment ?? 0n) > 0xffffn) yield `segment ${acpiHex(values.segment)} has more than 16 bits`;
  },
  *SMMU({ node: { values: { base, span, model } } }) {
    yield* checkBase(base);
    if (span === 0n) yield "span is 0: it has no registers";
    if (model !== undefined && Number(model) >= SMMU_MODELS.length) yield `model ${model} is reserved`;
  },
  *SMMUv3(one, at) {
    const { base, model, flags = 0n } = one.node.values;
    yield* checkBase(base);
    if (model !== undefined && Number(model) >= SMMUV3_MODELS.length) yield `model ${model} is reserved`;
    if ((flags & Smmuv3Flag.HTTU) === Smmuv3Flag.HTTU) yield "HTTU 3 is reserved";
    yield* checkDeviceId(one, at);
  },
  *PMCG(one, at) {
    const { node: reference, "page 0": page0, "page 1": page1 } = one.node.values;
    const mapped = elementsOf(one, "mappings");
    if (mapped.length > 1) yield `${mapped.length} ID mappings: its interrupt has one`;
    if (mapped.some(({ values }) => (values.flags & SINGLE) === 0n)) yield "its interrupt's ID mapping is SINGLE";
    for (const [name, page] of [["page 0", page0], ["page 1", page1]] as const) if (page !== undefined && page % COUNTER_PAGE !== 0n) yield `${name} ${acpiHex(page)} is not aligned to 4 KiB`;
    if (reference === undefined) return;
    const counted = at(reference);
    if (counted === undefined) yield `no node begins at offset ${acpiHex(reference)}`;
    else if (COUNTERLESS.includes(counted.node.type)) yield `it counts for the ${nameOf(counted)}, which has no counters`;
  },
  *RMR(one) {
    const { flags } = one.node.values;
    if (one.node.revision === WITHDRAWN_RMR) yield `revision ${WITHDRAWN_RMR} of the node was withdrawn`;
    if (flags !== undefined && Number((flags >> 2n) & 0xffn) >= RMR_ATTRIBUTES.length) yield `attributes ${acpiHex((flags >> 2n) & 0xffn)} are reserved`;
    if (elementsOf(one, "ranges").length === 0) yield "it reserves no memory";
    if (elementsOf(one, "mappings").length === 0) yield "it names no stream";
  },
};

const COUNTERLESS: readonly number[] = [NodeType.ITS, NodeType.PMCG, NodeType.RMR];

/** Interrupts of the unit itself: wires, or messages with the DeviceID of one mapping. */
function* checkDeviceId(one: FoundNode, at: NodeAt): Generator<string> {
  const { values, revision } = one.node;
  const mapped = elementsOf(one, "mappings");
  const index = values["DeviceID mapping"];
  if (index === undefined || values.flags === undefined) return;
  const wired = ["event", "GERROR", "sync"].every((name) => values[`${name} GSIV`] !== 0n);
  const used = revision >= DEVICE_ID_VALID_SINCE ? (values.flags & Smmuv3Flag.DEVICE_ID) !== 0n : !wired && mapped.length > 0;
  if (!used) return;
  if (index >= BigInt(mapped.length)) yield `DeviceID mapping ${index} is none of its ${mapped.length} ID mappings`;
  else {
    const mapping = mapped[Number(index)].values;
    if ((mapping.flags & SINGLE) === 0n) yield `DeviceID mapping ${index} is not SINGLE`;
    if (at(mapping.output)?.node.type !== NodeType.ITS) yield `DeviceID mapping ${index} does not lead to an ITS group`;
  }
}
