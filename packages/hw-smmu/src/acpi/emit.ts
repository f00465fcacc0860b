/** The IORT table that firmware of a simulated machine would have: ITS groups, units, and one root complex whose requesters they translate. */
import { formatRid, refuse, type UnitPlace } from "@iommukit/core";
import type { AcpiValues } from "@iommukit/core/acpi";
import { identificationOf } from "../options.js";
import { type Capabilities, readCapabilities } from "../spec/identification.js";
import { encodeNode } from "./encode.js";
import { type IortOptions, readIortOptions, type Wires } from "./options.js";
import { SINGLE, Smmuv3Flag } from "./rules.js";
import { IORT_HEADER_BYTES, IORT_REVISION, type IortNode, type IortTable, layoutOf, NodeType } from "./structures.js";

const LAST_RID = 0xffff;
/** DeviceIDs of the units themselves lie above those of PCI requesters. */
const FIRST_UNIT_DEVICE_ID = 0x1_0000;
/** First GSIV of the first unit's wires, where a machine file gives none: above those that a GIC keeps for itself (0 to 31). */
const FIRST_GSIV = 96;
const WIRES_PER_UNIT = 4;

interface Described {
  readonly place: UnitPlace;
  /** In the machine. */
  readonly index: number;
  readonly caps: Capabilities;
  readonly iort: IortOptions;
}

/** @throws IommuError EINVAL */
export function iortOf(places: readonly UnitPlace[], type: string): IortTable {
  const units = places.map((place, index) => ({ place, index })).filter(({ place }) => place.type === type);
  const described = units.map(({ place, index }): Described => ({ place, index, caps: readCapabilities(identificationOf(place.options)), iort: readIortOptions(place.options.iort) }));
  const nodes: IortNode[] = [];
  let end = IORT_HEADER_BYTES;
  /** Appends a node and gives its offset: references only lead back. */
  const add = (kind: number, values: AcpiValues, arrays: IortNode["arrays"]): bigint => {
    const node: IortNode = { type: kind, revision: layoutOf(kind)?.revision ?? 0, identifier: nodes.length, values, arrays };
    const offset = end;
    nodes.push(node);
    end += encodeNode(node).length;
    return BigInt(offset);
  };
  const groups = new Map<string, bigint>();
  for (const { iort: { its } } of described) {
    if (its.length > 0 && !groups.has(its.join())) groups.set(its.join(), add(NodeType.ITS, {}, { its: its.map((id) => ({ id: BigInt(id) })) }));
  }
  const offsets = new Map(described.map((unit) => [unit.index, add(NodeType.SMMUV3, ...unitNode(unit, groups.get(unit.iort.its.join())))]));
  const mappings = requesters(places, described).map(({ first, last, unit }) => mapping(first, last, offsets.get(unit) ?? 0n));
  add(NodeType.ROOT_COMPLEX, rootComplex(described), { mappings });
  return { revision: IORT_REVISION, nodeOffset: IORT_HEADER_BYTES, nodes };
}

/** IDs go through unchanged: a requester id is the StreamID, and the DeviceID. */
const mapping = (first: number, last: number, output: bigint): AcpiValues => ({ "input base": BigInt(first), "IDs minus 1": BigInt(last - first), "output base": BigInt(first), output });

function unitNode({ place, index, caps, iort }: Described, its: bigint | undefined): [AcpiValues, IortNode["arrays"]] {
  const messages = caps.msi && iort.wires === undefined && its !== undefined;
  const wires = messages ? { event: 0, pri: 0, gerror: 0, sync: 0 } : (iort.wires ?? ownWires(index, caps));
  const through = its === undefined ? [] : [mapping(0, lastRequester(caps), its)];
  const own = messages && its !== undefined ? [{ "output base": BigInt(FIRST_UNIT_DEVICE_ID + index), output: its, flags: SINGLE }] : [];
  return [
    {
      base: BigInt(place.registerBase),
      flags:
        (caps.coherent ? Smmuv3Flag.COHACC : 0n) |
        // Updates of table descriptors have no value of their own here.
        (BigInt(Math.min(caps.httu, 2)) << 1n) |
        (iort.proximity === undefined ? 0n : Smmuv3Flag.PROXIMITY) |
        (messages ? Smmuv3Flag.DEVICE_ID : 0n),
      "event GSIV": BigInt(wires.event), "PRI GSIV": BigInt(wires.pri), "GERROR GSIV": BigInt(wires.gerror), "sync GSIV": BigInt(wires.sync),
      proximity: BigInt(iort.proximity ?? 0),
      "DeviceID mapping": BigInt(messages ? through.length : 0),
    },
    { mappings: [...through, ...own] },
  ];
}

function ownWires(index: number, { pri }: Capabilities): Wires {
  const first = FIRST_GSIV + index * WIRES_PER_UNIT;
  return { event: first, pri: pri ? first + 1 : 0, gerror: first + 2, sync: first + 3 };
}

/** The memory that devices reach is the processors' own, and coherent. */
const COHERENT: AcpiValues = { coherency: 1n, "memory flags": 3n };

function rootComplex(units: readonly Described[]): AcpiValues {
  const some = (able: (caps: Capabilities) => boolean): boolean => units.some(({ caps }) => able(caps));
  const pasidBits = Math.max(...units.map(({ caps }) => caps.ssidBits));
  const ats = some((caps) => caps.ats);
  return {
    ...COHERENT,
    ATS: (ats ? 1n : 0n) | (some((caps) => caps.pri) ? 2n : 0n) | (ats && pasidBits > 0 ? 4n : 0n),
    "address bits": 64n,
    "PASID capabilities": BigInt(pasidBits),
    flags: pasidBits > 0 ? 1n : 0n,
  };
}

interface Requesters {
  readonly first: number;
  readonly last: number;
  readonly unit: number;
}

const lastRequester = ({ sidBits }: Capabilities): number => Math.min(LAST_RID, 2 ** sidBits - 1);

/**
 * Ranges of requester ids by the unit that they are behind, as few as can be: one reaches to where the first device behind another unit
 * begins. Requesters of other kinds of units are left out, as are those that a unit has no StreamID for.
 */
function requesters(places: readonly UnitPlace[], units: readonly Described[]): Requesters[] {
  const devices = places.flatMap(({ rids }, unit) => rids.map((rid) => ({ rid, unit }))).sort((a, b) => a.rid - b.rid);
  const runs = devices.filter(({ unit }, i) => i === 0 || devices[i - 1].unit !== unit);
  const starts = runs.length === 0 ? [{ rid: 0, unit: units[0].index }] : runs;
  for (const { place, caps } of units) {
    const beyond = place.rids.find((rid) => rid > lastRequester(caps));
    if (beyond !== undefined) refuse("EINVAL", `${formatRid(beyond)} has no StreamID at the unit at 0x${place.registerBase.toString(16)}, which has ${2 ** caps.sidBits}`, { argument: "devices", rule: "IDR1.SIDSIZE" });
  }
  return starts.flatMap(({ rid, unit }, i) => {
    const caps = units.find(({ index }) => index === unit)?.caps;
    if (caps === undefined) return [];
    const next = i + 1 < starts.length ? starts[i + 1].rid - 1 : LAST_RID;
    return [{ first: i === 0 ? 0 : rid, last: Math.min(next, lastRequester(caps)), unit }];
  });
}
