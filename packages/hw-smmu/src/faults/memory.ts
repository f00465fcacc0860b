/** Parts of a scene in memory. */
import { encodeFields, PhysicalMemory } from "@iommukit/core";
import { type Part, RAM_BYTES } from "./scene.js";

let shared: PhysicalMemory | undefined;
/** What scenes and queues use is below. */
const SCENE_BYTES = 0x1_4000;

/** The same from run to run: making one takes longer than a run. */
function freshMemory(): PhysicalMemory {
  if (shared === undefined) {
    shared = new PhysicalMemory();
    shared.addRam(0, RAM_BYTES);
  }
  shared.clear(0, SCENE_BYTES);
  return shared;
}

/** The parts in memory; the page of one of them may take no writes from then on. */
export function memoryWith(parts: readonly Part[], readOnly: string | undefined): PhysicalMemory {
  const sealed = parts.find(({ name }) => name === readOnly);
  const { memory, seal } = sealed === undefined ? { memory: freshMemory(), seal: () => {} } : memoryAround(Math.floor(sealed.pa / 4096) * 4096);
  for (const part of parts) place(memory, part, parts);
  seal();
  return memory;
}

/** RAM with a page in it that takes no writes once it is sealed. */
function memoryAround(page: number): { readonly memory: PhysicalMemory; readonly seal: () => void } {
  const bytes = new Uint8Array(4096);
  let isSealed = false;
  const memory = new PhysicalMemory();
  memory.addRam(0, page);
  memory.addWindow(page, 4096, {
    read: (offset, target) => target.set(bytes.subarray(offset, offset + target.length)),
    write: (offset, source) => {
      if (isSealed) throw new Error("this page takes no writes");
      bytes.set(source, offset);
    },
  });
  memory.addRam(page + 4096, RAM_BYTES - page - 4096);
  return { memory, seal: () => (isSealed = true) };
}

export function place(memory: PhysicalMemory, part: Part, parts: readonly Part[]): void {
  wordsInMemory(part, parts).forEach((value, i) => memory.writeU64(part.pa + i * 8, value));
}

export function wordsInMemory(part: Part, parts: readonly Part[]): readonly bigint[] {
  const words = encodeFields(part.table, part.values);
  return isBigEndian(part, parts) ? words.map(swap) : words;
}

/** CD.ENDI and STE.S2ENDI are about descriptors of tables alone. */
function isBigEndian({ name }: Part, parts: readonly Part[]): boolean {
  const flag = (structure: string, field: string): boolean => parts.find((part) => part.name === structure)?.values[field] === 1n;
  if (name.startsWith("S2 ")) return flag("STE", "S2ENDI");
  return name.startsWith("S1 ") && flag("CD", "ENDI");
}

/** The eight bytes in the other order. */
function swap(value: bigint): bigint {
  let swapped = 0n;
  for (let left = value, i = 0; i < 8; i++, left >>= 8n) swapped = (swapped << 8n) | (left & 0xffn);
  return swapped;
}
