// What does this dump say about one address? Usage: node decode.mjs FILE
import { readFileSync } from "node:fs";
import { loadTables, mergeLeaves } from "@iommukit/core/decode";
import { vtdTableDecoder } from "@iommukit/hw-vtd/decode";

const source = loadTables(JSON.parse(readFileSync(process.argv[2], "utf8")));
for (const space of vtdTableDecoder.dump(source)) {
  for (const range of mergeLeaves(space.leaves())) {
    console.log(space.rid.toString(16), range.iova.toString(16), "->", range.pa.toString(16), range.permissions, range.length);
  }
}
const { verdict } = vtdTableDecoder.walk(source, { rid: 0x20, iova: 0x40000000n, access: "write" });
console.log(verdict);
if (!verdict.ok) process.exit(1);
