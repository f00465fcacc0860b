/** Player of `iommu-tables/1` (conformance/tables/FORMAT.md): what a decoder reads in tables against what the kernel says they mean. */
import { loadTables } from "../decode/load.js";
import type { AddressSpaceDump, MappedLeaf, TableDecoder, TableSource } from "../decode/types.js";
import { asArray, asBigInt, asNumber, asObject, asString, type JsonObject } from "./json.js";
import type { CaseResult, Failure } from "./result.js";

/** One case a device of `truth`. */
export function* playTables(file: JsonObject, decoder: TableDecoder): Generator<CaseResult> {
  const source = loadTables(file);
  const spaces = [...decoder.dump(source)];
  for (const entry of asArray(asObject(file.truth, "truth").devices, "truth.devices")) {
    const device = asObject(entry, "truth device");
    const rid = asNumber(device.rid, "truth rid");
    const pasid = device.pasid === undefined ? 0 : asNumber(device.pasid, "truth pasid");
    const space = spaces.find((candidate) => candidate.rid === rid && (candidate.pasid ?? 0) === pasid);
    yield { id: `${asString(device.rid, "rid")}`, failures: compareDevice(source, decoder, device, space) };
  }
}

function compareDevice(
  source: TableSource,
  decoder: TableDecoder,
  device: JsonObject,
  space: AddressSpaceDump | undefined,
): Failure[] {
  if (space === undefined) return [{ step: 0, what: "device", expected: "an address space", got: "none" }];
  const failures: Failure[] = [];
  const same = (step: number, what: string, expected: string, got: string): void => {
    if (expected !== got) failures.push({ step, what, expected, got });
  };
  same(0, "type", asString(device.type, "truth type"), space.type);
  if (device.domain !== undefined) same(0, "domain", String(asNumber(device.domain, "domain")), String(space.ids.domain));
  const expected = asArray(device.leaves, "truth leaves").map((leaf) => asObject(leaf, "truth leaf"));
  const got = [...space.leaves()];
  same(0, "number of leaves", String(expected.length), String(got.length));
  for (const [i, leaf] of expected.entries()) {
    same(i, `leaf ${i}`, describeTruth(leaf), got[i] ? describeLeaf(got[i]) : "none");
    for (const failure of compareWalk(source, decoder, space, leaf)) failures.push({ step: i, ...failure });
  }
  return failures;
}

/** The first and the last byte of a leaf translate; a write does only where the leaf allows it. */
function compareWalk(source: TableSource, decoder: TableDecoder, { rid, pasid }: AddressSpaceDump, leaf: JsonObject): Omit<Failure, "step">[] {
  const failures: Omit<Failure, "step">[] = [];
  const iova = asBigInt(leaf.iova, "iova");
  const pa = asNumber(leaf.pa, "pa");
  const size = asNumber(leaf.size, "size");
  const permissions = asString(leaf.perm, "perm");
  for (const access of ["read", "write"] as const) {
    for (const offset of [0, size - 1]) {
      const { verdict } = decoder.walk(source, { rid, iova: iova + BigInt(offset), access, ...(pasid === undefined ? {} : { pasid }) });
      const got = verdict.ok ? `0x${verdict.pa.toString(16)}` : "blocked";
      const expected = permissions.includes(access[0]) ? `0x${(pa + offset).toString(16)}` : "blocked";
      if (got !== expected) failures.push({ what: `${access} of 0x${(iova + BigInt(offset)).toString(16)}`, expected, got });
    }
  }
  return failures;
}

function describeTruth(leaf: JsonObject): string {
  return describeLeaf({
    iova: asBigInt(leaf.iova, "iova"),
    pa: asNumber(leaf.pa, "pa"),
    size: asNumber(leaf.size, "size"),
    permissions: asString(leaf.perm, "perm"),
    entry: asBigInt(leaf.entry, "entry"),
  });
}

function describeLeaf(leaf: MappedLeaf): string {
  return `0x${leaf.iova.toString(16)} -> 0x${leaf.pa.toString(16)} size 0x${leaf.size.toString(16)} ${leaf.permissions} entry 0x${leaf.entry.toString(16)}`;
}
