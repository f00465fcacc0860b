/** `iommu list`: names that machine files and options can use. */
import { compose, type GlobalOptions } from "../composition.js";
import { hex, print, printJson, style } from "../style.js";

interface ListOptions {
  readonly presets?: boolean;
  readonly json?: boolean;
}

export async function list(options: ListOptions, globals: GlobalOptions): Promise<void> {
  if (options.presets) {
    await listPresets(options, globals);
    return;
  }
  const { plugins, iommus, devices, decoders, structureDecoders, acpiTables, faultCatalogues, replayUnits, platforms, mdevDrivers, stories } = await compose(globals);
  const named = (parts: readonly { readonly name: string; readonly about: string }[]): Record<string, string> =>
    Object.fromEntries(parts.map(({ name, about }) => [name, about]));
  const found = {
    plugins,
    iommus: named(iommus),
    devices: named(devices),
    mdevs: named(mdevDrivers),
    decoders: decoders.map(({ iommu }) => iommu),
    faults: faultCatalogues.map(({ iommu }) => iommu),
    structures: structureDecoders.map(({ iommu }) => iommu),
    acpi: Object.fromEntries(acpiTables.map(({ signature, about }) => [signature, about])),
    transcripts: ["none", "mock", ...platforms.map(({ platform }) => platform)],
    stories: named(stories),
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

/** Units by name, with their registers and what these announce. */
async function listPresets(options: ListOptions, globals: GlobalOptions): Promise<void> {
  const { iommus } = await compose(globals);
  const found = iommus.flatMap(({ name: iommu, presets = [] }) => presets.map((preset) => ({ iommu, ...preset })));
  if (options.json) {
    printJson(found);
    return;
  }
  for (const { iommu, name, about, registers, announces } of found) {
    print(`${style.title(`${iommu}: ${name}`)}  ${about}`);
    print(style.dim(`  ${Object.entries(registers).map(([register, value]) => `${register}=${hex(value)}`).join(" ")}`));
    for (const line of announces) print(`  ${line}`);
  }
}
