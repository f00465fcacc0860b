/** Structs whose caller says how long they are: what lies behind the part that is known must be 0 (copy_struct_from_user). */
import { refuse } from "../errors.js";
import type { UserBytes } from "./types.js";

const PAGE = 4096;

/**
 * Checks bytes [known, size) of the struct at `address`, page by page: a byte that is set counts before a page that is not mapped.
 * @throws IommuError E2BIG, EFAULT
 */
export function copyTail(memory: UserBytes, address: bigint, known: number, size: number, argument: string): void {
  for (let at = known; at < size; ) {
    const part = new Uint8Array(Math.min(size - at, PAGE - Number((address + BigInt(at)) % BigInt(PAGE))));
    memory.read(address + BigInt(at), part);
    const set = part.findIndex((byte) => byte !== 0);
    if (set !== -1) refuse("E2BIG", `${argument} ${size}: byte ${at + set}, behind the ${known} that are known, is not 0`, { argument });
    at += part.length;
  }
}
