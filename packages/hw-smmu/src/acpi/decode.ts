/** An IORT table from bytes, every node explained and every broken rule named. It reads whatever it can and never throws. */
import { formatRid } from "@iommukit/core";
import { acpiHex, acpiIdentity, type AcpiReport, type AcpiStructure, type AcpiValues, readAcpiHeader, readAcpiRows } from "@iommukit/core/acpi";
import { type FoundElement, type FoundNode, readNodes } from "./read.js";
import { checkElement, checkNode, checkTable, elementsOf, type NodeAt, nameOf, SINGLE, Smmuv3Flag } from "./rules.js";
import { IORT_HEADER_BYTES, IORT_HEADER_ROWS, type IortName, type IortTable, NodeType, RMR_ATTRIBUTES, SMMU_MODELS, SMMUV3_MODELS } from "./structures.js";

/** The table as values, and as a report. */
export interface DecodedIort {
  readonly table: IortTable;
  readonly report: AcpiReport;
}

export function decodeIort(given: Uint8Array): DecodedIort {
  const { fields, problems, length } = readAcpiHeader(given, "IORT");
  const empty: IortTable = { revision: 0, nodeOffset: IORT_HEADER_BYTES, nodes: [] };
  const unreadable = (text: string): DecodedIort => ({ table: empty, report: { signature: "IORT", header: fields, text, structures: [], problems } });
  if (fields.length === 0 || fields[0].value !== "IORT") return unreadable("not an IORT table");
  if (length < IORT_HEADER_BYTES) {
    problems.push(`the table has ${length} bytes; its header alone takes ${IORT_HEADER_BYTES}`);
    return unreadable("an IORT table without its header");
  }
  const bytes = given.subarray(0, length);
  const header = readAcpiRows(bytes, IORT_HEADER_BYTES - 12, IORT_HEADER_ROWS);
  fields.push(...header.fields);
  problems.push(...header.problems);
  const revision = bytes[8];
  const nodeOffset = Number(header.values["node offset"]);
  const inside = nodeOffset >= IORT_HEADER_BYTES && nodeOffset <= length;
  if (!inside) problems.push(`the first node is said to be at offset ${acpiHex(nodeOffset)}; the table's header ends at ${acpiHex(IORT_HEADER_BYTES)}, the table at ${acpiHex(length)}`);
  else if (bytes.subarray(IORT_HEADER_BYTES, nodeOffset).some((byte) => byte !== 0)) problems.push("bytes between the header and the first node are not 0");
  const found = inside ? readNodes(bytes, nodeOffset, Number(header.values.nodes), revision, problems) : [];
  problems.push(...checkTable(revision, found));
  const byOffset = new Map(found.map((one) => [BigInt(one.offset), one]));
  const at: NodeAt = (offset) => byOffset.get(offset);
  const structures = found.map((one) => reportOf(one, at));
  return {
    table: { revision, nodeOffset, nodes: found.map(({ node }) => node), identity: acpiIdentity(bytes) },
    report: { signature: "IORT", header: fields, text: tableText(found), structures, problems },
  };
}

/** "1 root complex, 2 SMMUv3, 1 ITS group" */
function tableText(found: readonly FoundNode[]): string {
  const names = found.map(({ layout, node }) => layout?.name ?? `node of type ${node.type}`);
  const counts = [...new Set(names)].map((name) => `${names.filter((other) => other === name).length} ${name}`);
  return counts.length === 0 ? "no nodes" : counts.join(", ");
}

function reportOf(one: FoundNode, at: NodeAt): AcpiStructure {
  const { layout, offset, length, fields, node, problems } = one;
  return {
    name: layout?.name ?? "unknown", section: "DEN0049E", offset, length, fields,
    text: layout === undefined ? `node of type ${node.type}, kept as ${length} bytes` : TEXTS[layout.name](one, at),
    children: one.elements.map((element) => elementReport(one, element, at)),
    problems: [...problems, ...checkNode(one, at)],
  };
}

function elementReport(one: FoundNode, element: FoundElement, at: NodeAt): AcpiStructure {
  const { array, offset, length, fields, values, problems } = element;
  return { name: array.element, section: "DEN0049E", offset, length, fields, text: elementText(one, element.array.name, values, at), children: [], problems: [...problems, ...checkElement(one, element, at)] };
}

const range = (first: bigint, more: bigint): string => (more === 0n ? acpiHex(first) : `${acpiHex(first)}-${acpiHex(first + more)}`);

/** What the IDs are called that come into a node, or out of one. */
const IN: Readonly<Record<number, string>> = { [NodeType.ROOT_COMPLEX]: "requesters", [NodeType.SMMU]: "StreamIDs", [NodeType.SMMUV3]: "StreamIDs", [NodeType.NAMED]: "its IDs" };

function mappingText({ node }: FoundNode, values: AcpiValues, at: NodeAt): string {
  const target = at(values.output);
  const where = target === undefined ? "nowhere" : `the ${nameOf(target)}`;
  const out = target?.node.type === NodeType.ITS ? "DeviceID" : "StreamID";
  const base = values["output base"];
  const more = values["IDs minus 1"];
  if ((values.flags & SINGLE) !== 0n) return `${out} ${acpiHex(base)} at ${where}`;
  if (node.type === NodeType.RMR) return `${out}s ${range(base, more)} at ${where}`;
  const first = values["input base"];
  const last = first + more;
  const from = node.type === NodeType.ROOT_COMPLEX && last <= 0xffffn ? `${formatRid(Number(first))}${more === 0n ? "" : `-${formatRid(Number(last))}`}` : range(first, more);
  return `${IN[node.type] ?? "IDs"} ${from} are ${out}s ${range(base, more)} at ${where}`;
}

function elementText(one: FoundNode, array: string, values: AcpiValues, at: NodeAt): string {
  switch (array) {
    case "mappings":
      return mappingText(one, values, at);
    case "its":
      return `ITS ${values.id}`;
    case "ranges":
      return `memory ${range(values.base, values.bytes - 1n)}`;
    default:
      return `interrupt ${values.GSIV}, ${(values.flags & 1n) === 1n ? "edge" : "level"}`;
  }
}

/** Lines for nodes whose rows could be read; without them `values` is empty. */
const TEXTS: Readonly<Record<IortName, (one: FoundNode, at: NodeAt) => string>> = {
  "ITS group": (one) => `messages go to ${list(elementsOf(one, "its").map(({ values }) => `ITS ${values.id}`))}`,
  "named component": ({ node: { object = "", values } }) => {
    const pasids = ((values.flags ?? 0n) >> 1n) & 31n;
    return `device ${object.replace(/[^ -~]/g, "?")}${pasids === 0n ? "" : `, ${pasids}-bit SubstreamIDs`}${((values.flags ?? 0n) & 1n) === 1n ? ", can be stalled" : ""}`;
  },
  "root complex": ({ node: { values } }) => {
    const ats = values.ATS ?? 0n;
    const pasids = (values["PASID capabilities"] ?? 0n) & 31n;
    const able = [...((ats & 1n) === 1n ? ["ATS"] : []), ...((ats & 2n) === 2n ? ["page requests"] : []), ...(pasids === 0n ? [] : [`${pasids}-bit PASIDs`])];
    return `PCI segment ${values.segment ?? "?"}${able.length === 0 ? "" : `, with ${able.join(", ")}`}`;
  },
  SMMU: ({ node: { values } }) => `${SMMU_MODELS[Number(values.model)] ?? "SMMU"} with registers at ${acpiHex(values.base ?? 0n)}`,
  SMMUv3: ({ node: { values } }) => {
    const wires = (["event", "PRI", "GERROR", "sync"] as const).filter((name) => (values[`${name} GSIV`] ?? 0n) !== 0n).map((name) => `${name} ${values[`${name} GSIV`]}`);
    const messages = ((values.flags ?? 0n) & Smmuv3Flag.DEVICE_ID) === 0n ? [] : ["messages"];
    return `${SMMUV3_MODELS[Number(values.model)] ?? "SMMUv3"} with registers at ${acpiHex(values.base ?? 0n)}, interrupts: ${[...wires, ...messages].join(", ") || "none"}`;
  },
  PMCG: ({ node: { values } }, at) => {
    const counted = at(values.node ?? -1n);
    return `counters at ${acpiHex(values["page 0"] ?? 0n)} of ${counted === undefined ? "no node" : `the ${nameOf(counted)}`}`;
  },
  RMR: (one) => {
    const flags = one.node.values.flags ?? 0n;
    const attributes = RMR_ATTRIBUTES[Number((flags >> 2n) & 0xffn)] ?? "reserved attributes";
    const remapped = (flags & 1n) === 1n ? "software may remap it" : "software keeps it mapped one to one";
    return `memory that firmware uses with devices, ${attributes}: ${remapped}`;
  },
};

const list = (words: readonly string[]): string => words.join(", ") || "nothing";
