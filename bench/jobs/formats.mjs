/** formats.mjs: random walks over four formats, before and after two more formats came and were walked. */
import { createFormat, WalkResult, walk } from "../../packages/core/dist/index.js";
import { PRESETS } from "../../packages/hw-vtd/dist/presets.js";
import { firstStageFormat, readCapabilities, secondStageFormat } from "../../packages/hw-vtd/dist/spec/index.js";
import { print, randomPages, tables, time, x86 } from "./common.mjs";

const PAGES = 16384;
const list = randomPages(1 << 18, PAGES);
const out = new WalkResult();

const prepare = (formats) => formats.map((format) => ({ format, ...tables(format, PAGES) }));

function walks({ memory, format, table: { root } }) {
  let sum = 0;
  for (let i = 0; i < list.length; i++) {
    if (walk(memory, format, root, 3, list[i], out) !== 0) throw new Error("not mapped");
    sum += out.outPage;
  }
  return sum;
}

const measure = (machines) => time(() => machines.forEach(walks), list.length * machines.length);

const { version, cap, ecap, haw } = PRESETS.scalable;
const caps = readCapabilities(version, cap, ecap, haw);
const first = prepare([x86("4K only", []), firstStageFormat(caps), secondStageFormat(caps), x86("no gigabyte", [1])]);
measure(first);
const four = measure(first);
const armLike = createFormat({
  name: "Arm-like", maxLevel: 3, presentMask: 1, leafMask: 2, leafValue: 0, pageMask: 3, pageValue: 3, leafLevels: [1, 2],
  illegalLeaf: 1, addressWidth: 48, reserved: () => 0n, tableLo: 3, pageLo: 3, blockLo: 1,
});
measure(prepare([armLike, x86("outsider", [1, 2], { addressWidth: 46 })]));
print({ four, six: measure(first) });
