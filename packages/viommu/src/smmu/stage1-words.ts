/** A guest's STE of stage 1, as the host takes it (iommufd facts 9.3). */
import { type Capabilities, effectiveEats, type Fields, fieldsByName, putField, STE, substreamBits } from "@iommukit/hw-smmu/spec";
import type { Words } from "./host-objects.js";

/** The rest says nothing of stage 1, and Linux sets some of it. */
const TAKEN = ["V", "Config", "S1Fmt", "S1ContextPtr", "S1CDMax", "S1DSS", "S1CIR", "S1COR", "S1CSH", "EATS"] as const;
const LAYOUT = fieldsByName(STE);

/** What the guest's unit would ignore is 0: the host's may have what makes something of it, or the host refuse it. */
export function stage1Words(ste: Fields, caps: Capabilities): Words {
  const meant: Fields = { ...ste, S1CDMax: substreamBits(ste, caps), EATS: effectiveEats(ste, caps, true) };
  const words = new Uint32Array(16);
  for (const name of TAKEN) putField(words, LAYOUT[name], meant[name]);
  const [low, high] = new BigUint64Array(words.buffer);
  return [low, high];
}
