/**
 * A second SMMUv3, naive and in BigInt, written from the manual and sharing nothing with the model: what one request does to a
 * machine without caches. Tests compare the two.
 */
import { DEFAULT, first as firstAttributes, replace, second as secondAttributes, shown } from "./attributes.js";
import { bit, num } from "./bits.js";
import { contextDescriptor, streamEntry } from "./configuration.js";
import { hasDs, inputSize, override, SIZES } from "./controls.js";
import { checkCd, checkSte } from "./illegal.js";
import { stopped } from "./records.js";
import { type Answer, E, type Identification, type Memory, type Registers, type Request, type State, Stop } from "./request.js";
import { firstStage } from "./stage1.js";
import { secondStage } from "./stage2.js";

export class ReferenceUnit {
  readonly #id: Identification;
  #reachedStage1 = false;

  constructor(id: Identification) {
    this.#id = id;
  }

  /** The last request got as far as stage 1. */
  get reachedStage1(): boolean {
    return this.#reachedStage1;
  }

  request(memory: Memory, registers: Registers, request: Request): Answer {
    const id = this.#id;
    const state: State = {
      id, oas: SIZES[id.idr5 & 7], minor: id.aidr & 15, memory, registers, ste: 0n, cd: 0n, need: request, stage1: false, stage2: false, attributes: DEFAULT,
    };
    try {
      const address = translate(state, request);
      return address === undefined ? {} : { address, attributes: shown(state.attributes) };
    } catch (error) {
      if (!(error instanceof Stop)) throw error;
      return stopped(state, error, request);
    } finally {
      this.#reachedStage1 = state.stage1;
    }
  }
}

/** The ladder (3.3, 5.2). */
function translate(s: State, r: Request): bigint | undefined {
  s.ste = streamEntry(s, r.stream);
  const ste = s.ste;
  if (!bit(ste, 0)) throw new Stop(E.BAD_STE);
  const config = num(ste, 3, 1);
  if (config < 4) return undefined;
  const s1 = (config & 1) !== 0;
  const s2 = (config & 2) !== 0;
  checkSte(s, config);
  override(s, r);
  const overrides = { mtcfg: num(ste, 100, 100), memattr: num(ste, 99, 96), shcfg: num(ste, 109, 108), alloccfg: num(ste, 104, 101) };
  s.attributes = bit(s.id.idr1, 27) ? replace(DEFAULT, overrides) : DEFAULT;
  if (!s1 && r.substream !== undefined) throw new Stop(E.BAD_SUBSTREAMID);
  if (config === 4) {
    if (r.address >= 1n << BigInt(s.oas)) throw new Stop(E.ADDR_SIZE);
    return r.address;
  }
  const ssidSize = (s.id.idr1 >> 6) & 31;
  const cdMax = ssidSize === 0 ? 0 : num(ste, 63, 59);
  let skip = !s1;
  let index = 0;
  if (s1) {
    const dss = num(ste, 65, 64);
    if (r.substream === undefined) {
      if (cdMax > 0 && (dss === 0 || dss === 3)) throw new Stop(E.STREAM_DISABLED);
      if (cdMax > 0 && dss === 1) skip = true;
    } else {
      if (cdMax === 0 || r.substream >= 2 ** cdMax) throw new Stop(E.BAD_SUBSTREAMID);
      if (r.substream === 0 && dss === 2) throw new Stop(E.STREAM_DISABLED);
      index = r.substream;
    }
  }
  s.stage2 = s2;
  if (skip) {
    if (r.address >= 1n << BigInt(inputSize(s))) throw new Stop(E.ADDR_SIZE);
    if (!s2) return r.address % (1n << BigInt(s.oas));
    const found = secondStage(s, r.address, s.need, "IN");
    secondAttributesOf(s, found.d);
    found.update?.();
    return found.address;
  }
  s.stage1 = true;
  s.cd = contextDescriptor(s, index, cdMax);
  checkCd(s);
  const first = firstStage(s, r.address);
  s.attributes = firstAttributes(s.attributes, ...first.attributes);
  if (!s2) {
    first.update?.();
    return first.address;
  }
  const found = secondStage(s, first.address, s.need, "IN");
  secondAttributesOf(s, found.d);
  first.update?.();
  found.update?.();
  return found.address;
}

function secondAttributesOf(s: State, d: bigint): void {
  const ds = hasDs(s) && bit(s.ste, 195) && num(s.ste, 175, 174) !== 1;
  const sh = ds ? num(s.ste, 173, 172) : num(d, 9, 8);
  s.attributes = secondAttributes(s.attributes, num(d, 5, 2), sh, bit(s.id.idr3, 8) && bit(s.ste, 89), bit(s.id.idr3, 22));
}
