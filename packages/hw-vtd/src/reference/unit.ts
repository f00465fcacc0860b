/** What a unit is able to do, by bit number out of CAP and ECAP (VT-d 11.4.2, 11.4.3); and where the manual leaves it a choice. */

/** Bits high:low. */
export function bits(word: bigint, high: number, low: number = high): bigint {
  return (word >> BigInt(low)) & ((1n << BigInt(high - low + 1)) - 1n);
}

export interface UnitWords {
  readonly version: number;
  readonly cap: bigint;
  readonly ecap: bigint;
  readonly haw: number;
}

/** Choices the manual leaves open, as the unit under test makes them. */
export interface Choices {
  /** Reserved bits count in the half of a root entry that is used, or in each that is present (9.2). */
  readonly rootHalves: "used" | "both";
  /** U/S=0 above an entry that stops the walk for another reason wins, or that reason does (7.1). */
  readonly userDenial: "first" | "last";
  /** AW of a first-stage or pass-through entry without ECAP.SSTS (9.6). */
  readonly firstStageWidth: "reserved" | "ignored";
  /** A context entry with TT=2 must carry the largest AW (9.3), or any that is supported. */
  readonly passThroughAw: "largest" | "supported";
  /** Bits of SSPTPTR, FSPTPTR above the host address width are reserved for every PGTT, or ignored with the pointer (9.6). */
  readonly unusedPointerTops: "reserved" | "ignored";
  /** With SSADE, D of the page that holds a first-stage entry is set when a flag of the entry is, or at any read of it (3.8.1). */
  readonly dirtyTables: "updates" | "reads";
  /** Code when a table may be read but SSADE needs write permission too (3.8.1): 75h and 76h, or 77h. */
  readonly ssadeDenied: "SFS.6" | "SFS.8";
}

export const CHOICES: Choices = {
  rootHalves: "used", userDenial: "first", firstStageWidth: "reserved", passThroughAw: "largest", unusedPointerTops: "reserved", dirtyTables: "updates", ssadeDenied: "SFS.6",
};

export class ReferenceUnit {
  readonly haw: bigint;
  readonly major: number;
  readonly choices: Choices;
  readonly #cap: bigint;
  readonly #ecap: bigint;

  constructor(words: UnitWords, choices: Choices = CHOICES) {
    this.haw = BigInt(words.haw);
    this.major = words.version >> 4;
    this.choices = choices;
    this.#cap = words.cap;
    this.#ecap = words.ecap;
  }

  cap(high: number, low: number = high): bigint {
    return bits(this.#cap, high, low);
  }

  ecap(bit: number): boolean {
    return bits(this.#ecap, bit) === 1n;
  }

  get domainBits(): bigint {
    return 4n + 2n * this.cap(2, 0);
  }

  get mgaw(): bigint {
    return this.cap(21, 16) + 1n;
  }

  /** PASIDs have PSS+1 bits (11.4.3). */
  get pasidBits(): bigint {
    return bits(this.#ecap, 39, 35) + 1n;
  }

  /** AW 1, 2, 3: 39, 48, 57 bits (9.3, 9.6), if SAGAW has it. */
  widthOf(aw: bigint): bigint | undefined {
    return aw >= 1n && aw <= 3n && this.cap(8 + Number(aw)) === 1n ? 30n + 9n * aw : undefined;
  }

  get largestAw(): bigint {
    return [3n, 2n, 1n].find((aw) => this.widthOf(aw) !== undefined) ?? 0n;
  }

  /** Input limit of a second stage (3.7): 2^min(MGAW, AGAW). */
  inputBits(aw: bigint): bigint {
    const agaw = this.widthOf(aw) ?? 0n;
    return agaw < this.mgaw ? agaw : this.mgaw;
  }

  /** log2 of the largest page that some stage supports: CAP.SSLPS, CAP.FS1GP. */
  get largestPage(): bigint {
    const first = this.ecap(E.FSTS);
    if (this.cap(35) === 1n || (first && this.cap(56) === 1n)) return 30n;
    return this.cap(34) === 1n || first ? 21n : 12n;
  }
}

/** ECAP bits by their names (11.4.3). */
export const E = {
  DT: 2, PT: 6, SC: 7, MTS: 25, NEST: 26, PRS: 29, ERS: 30, SRS: 31, NWFS: 33, EAFS: 34, PASID: 40, SMTS: 43, SSADS: 45, SSTS: 46,
  FSTS: 47, SMPWC: 48, RPS: 49, ADMS: 52, RPRIVS: 53, HPTS: 55, PTRS: 56, SSIRWS: 57, HPT1GPS: 59,
} as const;
