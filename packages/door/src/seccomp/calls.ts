/** System calls that the filter sends here, and who answers them. */
import type { Call, Outcome } from "./call.js";
import { FD_CALLS } from "./fd-calls.js";
import { MEMORY_CALLS } from "./memory-calls.js";
import { PATH_CALLS } from "./path-calls.js";

export const CALLS: ReadonlyMap<number, (call: Call) => Outcome> = new Map([...PATH_CALLS, ...FD_CALLS, ...MEMORY_CALLS]);
