/**
 * Player of `iommu-vectors/1` (conformance/vectors/FORMAT.md): gives a unit the
 * recorded registers and memory, makes the recorded requests, and compares what
 * may be trusted of the recorded answers.
 */
import { Access, NO_PASID } from "../bus/types.js";
import type { ReplayUnit, ReplayUnitFactory } from "../machine/types.js";
import { PhysicalMemory } from "../memory/physical-memory.js";
import { asArray, asBigInt, asBytes, asNumber, asObject, asString, FormatError, type JsonObject, parseJson } from "./json.js";
import type { CaseResult, Failure } from "./result.js";

/** What a write stores. */
const PATTERN = Uint8Array.of(0x78, 0x56, 0x34, 0x12);
/** Reads of a register before a poll is given up: nothing here happens later than at once. */
const POLL_LIMIT = 16;

interface Header {
  readonly registers: Readonly<Record<string, string>>;
  readonly haw: number | undefined;
  readonly ram: readonly { readonly base: number; readonly size: number }[];
  readonly endpoints: readonly number[] | undefined;
}

function readHeader(header: JsonObject): Header {
  const chosen = asObject(header.replay ?? header.registers, "header.replay");
  const registers: Record<string, string> = {};
  for (const [name, value] of Object.entries(chosen)) {
    // A range is two values: `input_range` becomes `input_range[0]` and `input_range[1]`.
    if (Array.isArray(value)) for (const [i, end] of asArray(value, name).entries()) registers[`${name}[${i}]`] = asString(end, `header register ${name}`);
    else registers[name] = asString(value, `header register ${name}`);
  }
  const list = Array.isArray(header.ram) ? asArray(header.ram, "header.ram") : [header.ram];
  const ram = list.map((entry) => {
    const range = asObject(entry, "header.ram");
    return { base: asNumber(range.base, "ram base"), size: asNumber(range.size, "ram size") };
  });
  return {
    registers,
    ram,
    haw: header.haw === undefined ? undefined : asNumber(header.haw, "header.haw"),
    endpoints: header.endpoints === undefined ? undefined : asArray(header.endpoints, "header.endpoints").map((id) => asNumber(id, "header.endpoints")),
  };
}

/** Plays every case of a file; `lines` are its lines without the header. */
export function* playVectors(headerLine: JsonObject, lines: Iterable<string>, factory: ReplayUnitFactory): Generator<CaseResult> {
  const header = readHeader(headerLine);
  let number = 1;
  for (const line of lines) {
    number++;
    if (line.trim() === "") continue;
    const what = `line ${number}`;
    const recorded = asObject(parseJson(line, what), what);
    const id = asString(recorded.id, `${what}: id`);
    yield { id, failures: playCase(header, asArray(recorded.steps, `${what}: steps`), factory) };
  }
}

function playCase(header: Header, steps: readonly unknown[], factory: ReplayUnitFactory): Failure[] {
  const memory = new PhysicalMemory();
  for (const { base, size } of header.ram) {
    try {
      memory.addRam(base, size);
    } catch (error) {
      throw new FormatError(`header.ram: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
    }
  }
  const unit = factory.create(memory, {
    registers: header.registers,
    ...(header.haw === undefined ? {} : { haw: header.haw }),
    ...(header.endpoints === undefined ? {} : { endpoints: header.endpoints }),
  });
  const player = new CasePlayer(memory, unit);
  const failures: Failure[] = [];
  for (const [index, step] of steps.entries()) {
    const what = `step ${index}`;
    try {
      for (const failure of player.step(asObject(step, what))) failures.push({ step: index, ...failure });
    } catch (error) {
      if (error instanceof FormatError) throw new FormatError(`${what}: ${error.message}`, { cause: error });
      throw error;
    }
  }
  return failures;
}

type Difference = Omit<Failure, "step">;

class CasePlayer {
  readonly #memory: PhysicalMemory;
  readonly #unit: ReplayUnit;

  constructor(memory: PhysicalMemory, unit: ReplayUnit) {
    this.#memory = memory;
    this.#unit = unit;
  }

  step(step: JsonObject): Difference[] {
    if ("dma" in step) return this.#dma(step);
    if ("mem" in step) return this.#store(step);
    if ("reg" in step) {
      this.#unit.write(asNumber(step.reg, "reg"), asNumber(step.size, "size"), asBigInt(step.value, "value"));
      return [];
    }
    if ("poll" in step) return this.#poll(step);
    if ("expectReg" in step) return this.#expectRegister(step);
    if ("expectMem" in step) return this.#expectMemory(step);
    if ("request" in step) return this.#request(step);
    throw new FormatError(`a step that this player does not know: ${Object.keys(step).join(", ")}`);
  }

  #store(step: JsonObject): Difference[] {
    const pa = asNumber(step.mem, "mem");
    if (!this.#memory.write(pa, asBytes(step.hex, "hex"))) throw new FormatError(`memory 0x${pa.toString(16)} is outside header.ram`);
    return [];
  }

  /** A request of a unit that is asked through a queue (virtio-iommu). */
  #request(step: JsonObject): Difference[] {
    if (this.#unit.request === undefined) throw new FormatError("this unit takes no requests");
    const expected = asBytes(step.answer, "answer");
    const got = this.#unit.request(asBytes(step.request, "request"), expected.length);
    if (isDistrusted(step) || (got?.length === expected.length && got.every((byte, i) => byte === expected[i]))) return [];
    return [{ what: `answer to the request ${asString(step.request, "request")}`, expected: bytesHex(expected), got: got === undefined ? "none" : bytesHex(got) }];
  }

  #poll(step: JsonObject): Difference[] {
    const { offset, mask, value, size } = registerStep(step, "poll");
    let got = 0n;
    for (let i = 0; i < POLL_LIMIT; i++) {
      got = this.#unit.read(offset, size) & mask;
      if (got === value) return [];
    }
    return [{ what: `poll of register ${hex(offset)} under ${hex(mask)}`, expected: hex(value), got: hex(got) }];
  }

  #expectRegister(step: JsonObject): Difference[] {
    const { offset, mask, value, size } = registerStep(step, "expectReg");
    if (isDistrusted(step)) return [];
    const got = this.#unit.read(offset, size) & mask;
    return got === value ? [] : [{ what: `register ${hex(offset)} under ${hex(mask)}`, expected: hex(value), got: hex(got) }];
  }

  #expectMemory(step: JsonObject): Difference[] {
    const pa = asNumber(step.expectMem, "expectMem");
    const expected = asBytes(step.hex, "hex");
    if (isDistrusted(step)) return [];
    const got = new Uint8Array(expected.length);
    const readable = this.#memory.read(pa, got);
    if (step.mask !== undefined) {
      const mask = asBytes(step.mask, "mask");
      for (let i = 0; i < got.length; i++) got[i] &= mask[i];
    }
    if (readable && got.every((byte, i) => byte === expected[i])) return [];
    return [{ what: `memory at ${hex(pa)}`, expected: bytesHex(expected), got: readable ? bytesHex(got) : "no memory" }];
  }

  #dma(step: JsonObject): Difference[] {
    const dma = asObject(step.dma, "dma");
    const expect = asObject(step.expect, "expect");
    const trust = new Set(asArray(step.trust ?? [], "trust").map((field) => asString(field, "trust")));
    const operation = asString(dma.op, "dma.op");
    const iova = asBigInt(dma.iova, "dma.iova");
    const rid = asNumber(dma.rid, "dma.rid");
    const pasid = dma.pasid === undefined ? NO_PASID : asNumber(dma.pasid, "dma.pasid");
    const access = accessOf(operation) | (dma.priv === true ? Access.PRIVILEGED : 0);
    const page = this.#unit.hardware.translate(rid, pasid, Number(iova >> 12n), access, Number(iova & 0xfffn));
    const pa = page === -1 ? undefined : page * 4096 + Number(iova & 0xfffn);
    // Outside memory the bus rejects the write; only the translation is observed then.
    if (pa !== undefined && operation === "w") this.#memory.write(pa, PATTERN);
    const fault = this.#unit.takeFault();
    // The recorded unit had nothing to clear here, so the case does not do it.
    if (fault !== undefined && expect.fault === undefined) this.#unit.clearFaults();
    const request = `${operation === "w" ? "write" : operation === "x" ? "execute" : "read"} of ${hex(iova)} by ${hex(rid)}`;
    const differences: Difference[] = [];
    const compare = (field: string, what: string, expected: string, got: string): void => {
      if (trust.has(field) && expected !== got) differences.push({ what: `${request}: ${what}`, expected, got });
    };
    const outcome = pa === undefined ? `blocked${fault ? `, ${JSON.stringify(fault)}` : ", nothing recorded"}` : hex(pa);
    if (expect.pa !== undefined) compare("pa", "physical address", hex(asBigInt(expect.pa, "expect.pa")), outcome);
    if (trust.has("blocked") && pa !== undefined) compare("blocked", "outcome", "blocked", `reached ${hex(pa)}`);
    compare("recorded", "fault record", expect.fault === undefined ? "none" : "recorded", fault === undefined ? "none" : "recorded");
    if (expect.fault !== undefined && fault !== undefined) {
      for (const [name, value] of Object.entries(asObject(expect.fault, "expect.fault"))) {
        compare(name, name, String(value), String(fault[name]));
      }
    }
    return differences;
  }
}

function accessOf(operation: string): number {
  if (operation === "w") return Access.WRITE;
  if (operation === "r") return Access.READ;
  if (operation === "x") return Access.READ | Access.EXECUTE;
  throw new FormatError(`dma.op "${operation}" is none of r, w, x`);
}

/** An expectation with an empty trust list is kept for the order only. */
function isDistrusted(step: JsonObject): boolean {
  return step.trust !== undefined && asArray(step.trust, "trust").length === 0;
}

function registerStep(step: JsonObject, key: string): { offset: number; mask: bigint; value: bigint; size: number } {
  return {
    offset: asNumber(step[key], key),
    mask: asBigInt(step.mask, "mask"),
    value: asBigInt(step.value, "value"),
    size: asNumber(step.size, "size"),
  };
}

function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`;
}

function bytesHex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
