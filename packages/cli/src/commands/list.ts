/** `iommu list`: names that machine files and options can use. */
import { compose, type GlobalOptions } from "../composition.js";
import { print, printJson, style } from "../style.js";

export async function list(options: { readonly json?: boolean }, globals: GlobalOptions): Promise<void> {
  const { plugins, iommus, devices, decoders, faultCatalogues, replayUnits, platforms } = await compose(globals);
  const named = (parts: readonly { readonly name: string; readonly about: string }[]): Record<string, string> =>
    Object.fromEntries(parts.map(({ name, about }) => [name, about]));
  const found = {
    plugins,
    iommus: named(iommus),
    devices: named(devices),
    decoders: decoders.map(({ iommu }) => iommu),
    faults: faultCatalogues.map(({ iommu }) => iommu),
    transcripts: ["none", "mock", ...platforms.map(({ platform }) => platform)],
    replay: replayUnits.map(({ iommu }) => iommu),
  };
  if (options.json) {
    printJson(found);
    return;
  }
  for (const [title, entries] of Object.entries(found)) {
    print(style.title(title));
    if (Array.isArray(entries)) for (const name of entries) print(`  ${name}`);
    else for (const [name, about] of Object.entries(entries)) print(`  ${style.name(name)}  ${about}`);
  }
}
