/** Options of a "dsa" device in machine files. */
export interface DsaOptions {
  /** It asks for translations (ATS), for pages (PRI), and sends PASIDs. */
  readonly ats: boolean;
  readonly pri: boolean;
  readonly pasid: boolean;
  readonly workQueues: number;
  /** Descriptors that the work queues hold in all, to be shared out by WQCFG. */
  readonly entries: number;
  readonly engines: number;
  readonly groups: number;
  /** Log2 of the longest transfer, and of the most descriptors in a batch. */
  readonly maxTransferShift: number;
  readonly maxBatchShift: number;
  /** Software has to ask for interrupt handles: parts of the first generation take entry numbers as they are. */
  readonly interruptHandles: boolean;
  /** "manual": descriptors wait until a test steps an engine. */
  readonly engine: "automatic" | "manual";
}

const DEFAULTS: DsaOptions = { ats: true, pri: true, pasid: true, workQueues: 8, entries: 128, engines: 4, groups: 4, maxTransferShift: 31, maxBatchShift: 10, interruptHandles: false, engine: "automatic" };

/** Least and most of the numbers: what the tables in BAR 0 and the fields that count them have room for. */
const RANGES: Readonly<Record<string, readonly [number, number]>> = {
  workQueues: [1, 64],
  entries: [1, 0xffff],
  engines: [1, 64],
  groups: [1, 64],
  maxTransferShift: [12, 31],
  maxBatchShift: [1, 15],
};

/** @throws RangeError for an option that is not known, or has a value that is not possible */
export function readDsaOptions(given: Readonly<Record<string, unknown>>): DsaOptions {
  for (const [name, value] of Object.entries(given)) {
    const fallback: unknown = DEFAULTS[name as keyof DsaOptions];
    if (fallback === undefined) throw new RangeError(`a dsa device has no option "${name}"; there are: ${Object.keys(DEFAULTS).join(", ")}`);
    const range = RANGES[name];
    const good = range ? Number.isInteger(value) && (value as number) >= range[0] && (value as number) <= range[1] : typeof value === typeof fallback;
    if (good && (name !== "engine" || value === "automatic" || value === "manual")) continue;
    const wanted = range ? `a whole number from ${range[0]} to ${range[1]}` : name === "engine" ? '"automatic" or "manual"' : "true or false";
    throw new RangeError(`option ${name} of a dsa device is ${JSON.stringify(value)}, not ${wanted}`);
  }
  const options = { ...DEFAULTS, ...given } as DsaOptions;
  if ((options.pri || options.pasid) && !options.ats) throw new RangeError("a dsa device without ats has neither pri nor pasid: ENABLE_DEVICE takes either only with ATS");
  return options;
}
