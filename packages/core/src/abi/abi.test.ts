import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { cHeader, decodeStruct, encodeStruct, IOCTLS, IOMMUFD_STRUCTS, structLayout, VFIO_STRUCTS } from "./index.js";

/** Sizes and offsets as a C compiler found them in the 7.2 headers. */
interface Facts {
  readonly structs: Record<string, [size: number, fields: [name: string, offset: number, size: number][]]>;
  readonly ioctls: Record<string, string>;
}
const facts = JSON.parse(readFileSync(new URL("layout.testdata.json", import.meta.url), "utf8")) as Facts;

describe("struct layouts", () => {
  it.each(Object.keys(facts.structs))("%s is laid out as the compiler does", (name) => {
    const [size, fields] = facts.structs[name];
    const layout = structLayout(name);
    expect(layout.size).toBe(size);
    expect(layout.fields.map((field) => [field.name, field.offset, field.size])).toEqual(fields);
  });

  it("has every request with its number", () => {
    expect(Object.fromEntries(IOCTLS.map((row) => [row.name, `0x${row.request.toString(16)}`]))).toEqual(facts.ioctls);
  });
});

describe("codec", () => {
  it("decodes any bytes, and gives the same bytes back for structs of plain fields", () => {
    const plain = [...IOMMUFD_STRUCTS, ...VFIO_STRUCTS].filter((layout) =>
      layout.fields.every((field) => field.count === undefined && /^[us]\d+$/.test(field.type) && field.union === undefined),
    );
    const dense = plain.filter((layout) => layout.fields.reduce((sum, field) => sum + field.size, 0) === layout.size);
    fc.assert(
      fc.property(fc.constantFrom(...dense), fc.uint8Array({ minLength: 128, maxLength: 128 }), (layout, noise) => {
        const bytes = noise.slice(0, layout.size);
        expect(encodeStruct(layout.name, decodeStruct(layout.name, bytes))).toEqual(bytes);
      }),
    );
  });

  it("reads fields behind the end as 0", () => {
    expect(decodeStruct("iommu_ioas_map", new Uint8Array(6).fill(1))).toMatchObject({ size: 0x01010101, flags: 0, iova: 0n });
  });

  it("refuses a value that does not fit", () => {
    expect(() => encodeStruct("iommu_destroy", { id: 2 ** 32 })).toThrow("does not fit 32 bits");
  });
});

const compiler = spawnSync("cc", ["--version"]).status === 0;
describe.skipIf(!compiler)("C header (needs cc)", () => {
  it("compiles as C11 and C++ without a warning and agrees on every size", () => {
    const folder = mkdtempSync(join(tmpdir(), "iommukit-abi-"));
    try {
      writeFileSync(join(folder, "iommukit-abi.h"), cHeader());
      const asserts = [...IOMMUFD_STRUCTS, ...VFIO_STRUCTS].map((s) => `_Static_assert(sizeof(struct ${s.name}) == ${s.size}, "${s.name}");`);
      writeFileSync(join(folder, "t.c"), `#include "iommukit-abi.h"\n${asserts.join("\n")}\nint main(void) { return IOMMU_IOAS_MAP == 0x3b85 ? 0 : 1; }\n`);
      execFileSync("cc", ["-Wall", "-Wextra", "-Werror", "-std=c11", "-o", join(folder, "t"), join(folder, "t.c")]);
      execFileSync(join(folder, "t"));
      writeFileSync(join(folder, "t.cc"), `#include "iommukit-abi.h"\nint main() { return 0; }\n`);
      if (spawnSync("c++", ["--version"]).status === 0) execFileSync("c++", ["-Wall", "-Werror", "-c", "-o", join(folder, "t.o"), join(folder, "t.cc")]);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
