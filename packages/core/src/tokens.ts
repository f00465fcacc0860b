/**
 * Dependency-injection tokens. `Symbol.for` survives two copies of core in one
 * process. Every token is multiple: a plugin registers one value more, the
 * composition root resolves all.
 */
export const TOKENS: Readonly<Record<"iommus" | "devices" | "decoders" | "structureDecoders" | "faultCatalogues" | "acpiTables" | "replayUnits" | "platforms" | "mdevDrivers" | "mdevBus" | "stories" | "commands", symbol>> = {
  /** `IommuFactory` */
  iommus: Symbol.for("@iommukit/core:iommus"),
  /** `DeviceModel` */
  devices: Symbol.for("@iommukit/core:devices"),
  /** `TableDecoder` */
  decoders: Symbol.for("@iommukit/core:decoders"),
  /** `StructureDecoder` */
  structureDecoders: Symbol.for("@iommukit/core:structure-decoders"),
  /** `AcpiTable` */
  acpiTables: Symbol.for("@iommukit/core:acpi-tables"),
  /** `FaultCatalogue` */
  faultCatalogues: Symbol.for("@iommukit/core:fault-catalogues"),
  /** `ReplayUnitFactory` */
  replayUnits: Symbol.for("@iommukit/core:replay-units"),
  /** `TranscriptPlatform` */
  platforms: Symbol.for("@iommukit/core:platforms"),
  /** `MdevDriver` */
  mdevDrivers: Symbol.for("@iommukit/core:mdev-drivers"),
  /** `MdevBusFactory` */
  mdevBus: Symbol.for("@iommukit/core:mdev-bus"),
  /** `Story` */
  stories: Symbol.for("@iommukit/core:stories"),
  /** `CliCommand`, defined by the cli package */
  commands: Symbol.for("@iommukit/core:commands"),
};
