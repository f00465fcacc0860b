/** Faults that the unit recorded (VT-d 7.2.1): taken out, so that there is room for the next ones, counted and told of. */
import { formatRid, type Tracer } from "@iommukit/core";
import type { Capabilities } from "../spec/capabilities.js";
import { explainReason } from "../spec/faults.js";
import { Fsts, Reg } from "../spec/registers.js";
import type { RegisterAccess } from "./registers.js";

const F = 1n << 63n;
/** The same bit of the record's highest 4 bytes. */
const F_OF_TOP = 0x8000_0000n;
const PP = 1n << 31n;
const READ = 1n << 62n;

export class FaultLog {
  readonly #registers: RegisterAccess;
  readonly #caps: Capabilities;
  readonly #unit: string;
  readonly #tracer: Tracer | undefined;
  /** Faults taken since the start. */
  count = 0;

  constructor(registers: RegisterAccess, caps: Capabilities, unit: string, tracer: Tracer | undefined) {
    this.#registers = registers;
    this.#caps = caps;
    this.#unit = unit;
    this.#tracer = tracer;
  }

  /** The fault event's handler. The queue looks after its own errors; a completion that no invalidation asked for is dropped. */
  handle(): void {
    const status = Number(this.#registers.read(Reg.FSTS, 4));
    const { faultRecords: records, faultRecordOffset: base } = this.#caps;
    const first = (status >> 8) & 0xff;
    for (let i = 0; (status & Fsts.PPF) !== 0 && i < records; i++) {
      if (!this.#take(base + ((first + i) % records) * 16)) break;
    }
    // Overflow last: until then, what comes is not recorded, and no half-read record is reused.
    const left = status & (Fsts.PFO | Fsts.ICE);
    if (left !== 0) this.#registers.write(Reg.FSTS, 4, BigInt(left));
  }

  #take(offset: number): boolean {
    const high = this.#registers.read(offset + 8, 8);
    if ((high & F) === 0n) return false;
    const low = this.#registers.read(offset, 8);
    this.#registers.write(offset + 12, 4, F_OF_TOP);
    this.count++;
    if (this.#tracer?.listener) this.#tracer.listener({ kind: "report", unit: this.#unit, text: describe(low, high), count: this.count });
    return true;
  }
}

function describe(low: bigint, high: bigint): string {
  const code = Number((high >> 32n) & 0xffn);
  const pasid = (high & PP) === 0n ? "" : ` PASID 0x${((high >> 40n) & 0xfffffn).toString(16)}`;
  const access = (high & READ) === 0n ? "write" : "read";
  const who = `${formatRid(Number(high & 0xffffn))}${pasid}`;
  // Reasons 20h to 2Fh are of interrupt requests, whose record holds an index.
  if (code >> 4 === 2) return `interrupt ${low >> 48n} of ${who} was blocked: ${explainReason(code)}`;
  return `${access} of 0x${(low & ~0xfffn).toString(16)} by ${who} was blocked: ${explainReason(code)}`;
}
