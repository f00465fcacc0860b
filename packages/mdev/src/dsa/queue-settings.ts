/** WQCFG words from a host's settings. */
import type { QueueSettings } from "./parent.js";
import { WqLimits, WqMode, WqWord } from "./spec/queues.js";
import type { WorkQueue } from "./work-queue.js";

/** Each setting's word, its bits there, and its value in place. */
function changes(settings: QueueSettings): [word: number, mask: number, value: number][] {
  const { size, threshold, dedicated, blockOnFault, priority, pasid, privileged, maxTransferShift, maxBatchShift } = settings;
  const list: [number, number, number][] = [];
  const add = (word: number, mask: number, value: number | undefined): void => {
    if (value !== undefined) list.push([word, mask, value & mask]);
  };
  const bit = (flag: number, on: boolean | undefined): number | undefined => on === undefined ? undefined : on ? flag : 0;
  add(WqWord.SIZE, 0xffff, size);
  add(WqWord.THRESHOLD, 0xffff, threshold);
  add(WqWord.MODE, WqMode.DEDICATED, bit(WqMode.DEDICATED, dedicated));
  add(WqWord.MODE, WqMode.BLOCK_ON_FAULT, bit(WqMode.BLOCK_ON_FAULT, blockOnFault));
  add(WqWord.MODE, 0xf << WqMode.PRIORITY_SHIFT, priority === undefined ? undefined : priority << WqMode.PRIORITY_SHIFT);
  add(WqWord.MODE, WqMode.PASID_ENABLE | (0xf_ffff << WqMode.PASID_SHIFT), pasid === undefined ? undefined : pasid === null ? 0 : WqMode.PASID_ENABLE | (pasid << WqMode.PASID_SHIFT));
  add(WqWord.MODE, WqMode.PRIVILEGED, bit(WqMode.PRIVILEGED, privileged));
  add(WqWord.LIMITS, WqLimits.TRANSFER_MASK, maxTransferShift);
  add(WqWord.LIMITS, WqLimits.BATCH_MASK << WqLimits.BATCH_SHIFT, maxBatchShift === undefined ? undefined : maxBatchShift << WqLimits.BATCH_SHIFT);
  return list;
}

/** @throws RangeError when the queue, or for its size the device, is not disabled */
export function settle(queue: WorkQueue, settings: QueueSettings, deviceDisabled: boolean): void {
  if (queue.enabled) throw new RangeError(`work queue ${queue.index} is enabled`);
  if (settings.size !== undefined && settings.size !== queue.size && !deviceDisabled) throw new RangeError(`the size of work queue ${queue.index} cannot change while the device is enabled`);
  for (const [word, mask, value] of changes(settings)) queue.writeWord(word, ((queue.words[word] & ~mask) | value) >>> 0, deviceDisabled);
}
