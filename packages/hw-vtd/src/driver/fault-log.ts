/** Faults that the unit recorded (VT-d 7.2.1): taken out, so that there is room for the next ones, counted and told of. */
import { decodeFields, type DeviceFault, FaultPermission, formatRid, type Tracer } from "@iommukit/core";
import type { Capabilities } from "../spec/capabilities.js";
import { explainReason } from "../spec/faults.js";
import { FAULT_RECORD } from "../spec/records.js";
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
  /** By requester id: who wants to know. */
  readonly #sinks = new Map<number, (fault: DeviceFault) => void>();
  /** Of these, who has yet to learn that records were lost. */
  readonly #missed = new Set<number>();
  /** Faults taken since the start. */
  count = 0;

  constructor(registers: RegisterAccess, caps: Capabilities, unit: string, tracer: Tracer | undefined) {
    this.#registers = registers;
    this.#caps = caps;
    this.#unit = unit;
    this.#tracer = tracer;
  }

  connect(rid: number, sink: ((fault: DeviceFault) => void) | undefined): void {
    if (sink) this.#sinks.set(rid, sink);
    else this.#sinks.delete(rid);
    this.#missed.delete(rid);
  }

  /** Records were lost, nobody knows whose: each listener learns it with its next one. */
  #lose(): void {
    for (const rid of this.#sinks.keys()) this.#missed.add(rid);
  }

  #report(rid: number, fault: () => DeviceFault): void {
    const sink = this.#sinks.get(rid);
    if (sink === undefined) return;
    const afterLoss = this.#missed.delete(rid);
    sink(afterLoss ? { ...fault(), afterLoss } : fault());
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
    if ((status & Fsts.PFO) !== 0) this.#lose();
    const left = status & (Fsts.PFO | Fsts.ICE);
    if (left !== 0) this.#registers.write(Reg.FSTS, 4, BigInt(left));
  }

  #take(offset: number): boolean {
    const high = this.#registers.read(offset + 8, 8);
    if ((high & F) === 0n) return false;
    const low = this.#registers.read(offset, 8);
    this.#registers.write(offset + 12, 4, F_OF_TOP);
    this.count++;
    if (!isOfInterrupt(high)) this.#report(Number(high & 0xffffn), () => faultOf(low, high));
    if (this.#tracer?.listener) this.#tracer.listener({ kind: "report", unit: this.#unit, text: describe(low, high), count: this.count });
    return true;
  }
}

/** Reasons 20h to 2Fh are of interrupt requests, whose record holds an index. */
function isOfInterrupt(high: bigint): boolean {
  return ((high >> 36n) & 0xfn) === 2n;
}

function faultOf(low: bigint, high: bigint): DeviceFault {
  const fields = new Map(decodeFields(FAULT_RECORD, [low, high]).map(({ name, value }) => [name, value]));
  const has = (name: string): boolean => (fields.get(name) ?? 0n) !== 0n;
  const { READ, WRITE, EXECUTE, PRIVILEGED } = FaultPermission;
  // T2 is of atomic accesses, which read and write.
  const access = has("T2") ? READ | WRITE : has("T1") ? READ : WRITE;
  return {
    pasid: has("PP") ? Number(fields.get("PV") ?? 0n) : undefined,
    permissions: access | (has("EXE") ? EXECUTE : 0) | (has("PRIV") ? PRIVILEGED : 0),
    address: (fields.get("FI") ?? 0n) << 12n,
  };
}

function describe(low: bigint, high: bigint): string {
  const code = Number((high >> 32n) & 0xffn);
  const pasid = (high & PP) === 0n ? "" : ` PASID 0x${((high >> 40n) & 0xfffffn).toString(16)}`;
  const access = (high & READ) === 0n ? "write" : "read";
  const who = `${formatRid(Number(high & 0xffffn))}${pasid}`;
  if (isOfInterrupt(high)) return `interrupt ${low >> 48n} of ${who} was blocked: ${explainReason(code)}`;
  return `${access} of 0x${(low & ~0xfffn).toString(16)} by ${who} was blocked: ${explainReason(code)}`;
}
