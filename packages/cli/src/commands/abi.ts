/** `iommu abi`: the tables of the binary interface. */
import { cHeader, EXTENSION_IOCTLS, EXTENSION_STRUCTS, IOCTLS, IOMMUFD_STRUCTS, VFIO_STRUCTS } from "@iommukit/core/abi";
import { hex, print, printJson, style } from "../style.js";

export function abi(options: { readonly c?: boolean; readonly json?: boolean }): void {
  if (options.c) {
    process.stdout.write(cHeader());
    return;
  }
  const structs = [...IOMMUFD_STRUCTS, ...VFIO_STRUCTS, ...EXTENSION_STRUCTS];
  const ioctls = [...IOCTLS, ...EXTENSION_IOCTLS];
  if (options.json) {
    printJson({ ioctls, structs: Object.fromEntries(structs.map((layout) => [layout.name, layout])) });
    return;
  }
  for (const row of ioctls) print(`${hex(row.request)}  ${row.node.padEnd(9)}  ${style.name(row.name.padEnd(36))} ${row.struct ?? ""}`);
  for (const layout of structs) {
    print(`${style.title(layout.name)}  ${layout.size} bytes`);
    for (const field of layout.fields) {
      const count = field.count === undefined ? "" : `[${field.count || ""}]`;
      print(`  ${String(field.offset).padStart(3)}  ${field.type.padEnd(4)} ${field.name}${count}`);
    }
  }
}
