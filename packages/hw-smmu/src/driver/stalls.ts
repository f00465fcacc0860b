/**
 * Stalled requests of devices that can wait (SMMU 3.12, 7.3): their event records are page requests of one each, named by their STAG, and the
 * answer is a CMD_RESUME.
 */
import { decodeFields, type DeviceRequest, FaultPermission, type PageRequestSource } from "@iommukit/core";
import { Op } from "../spec/commands.js";
import { Event, eventType } from "../spec/events.js";
import type { CommandQueue } from "./command-queue.js";

/** Stall in the record's second word. */
const STALL = 1n << 31n;
const MAY_STALL: ReadonlySet<number> = new Set([Event.F_TRANSLATION, Event.F_ADDR_SIZE, Event.F_ACCESS, Event.F_PERMISSION]);

/** True for the record of a transaction that waits for a CMD_RESUME. */
export function isStall(code: number, words: readonly bigint[]): boolean {
  return MAY_STALL.has(code) && (words[1] & STALL) !== 0n;
}

export class StalledRequests implements PageRequestSource {
  readonly #queue: CommandQueue;
  #requests: DeviceRequest[] = [];

  constructor(queue: CommandQueue) {
    this.#queue = queue;
  }

  /** @param words of a record for which `isStall` */
  add(code: number, words: readonly bigint[]): void {
    const fields = new Map(decodeFields(eventType(code)?.table ?? unknown(code), words).map(({ name, value }) => [name, value]));
    const value = (name: string): number => Number(fields.get(name) ?? 0n);
    const { READ, WRITE, EXECUTE, PRIVILEGED } = FaultPermission;
    this.#requests.push({
      rid: value("StreamID"),
      pasid: value("SSV") === 1 ? value("SubstreamID") : undefined,
      group: value("STAG"),
      permissions: (value("RnW") === 1 ? READ : WRITE) + value("InD") * EXECUTE + value("PnU") * PRIVILEGED,
      address: fields.get("InputAddr") ?? 0n,
      last: true,
    });
  }

  take(): { readonly requests: readonly DeviceRequest[]; readonly lost: boolean } {
    const requests = this.#requests;
    this.#requests = [];
    // The records of stalls wait for room: none is lost.
    return { requests, lost: false };
  }

  respond(rid: number, _pasid: number | undefined, group: number, success: boolean): void {
    this.#queue.add(Op.RESUME, { StreamID: BigInt(rid), STAG: BigInt(group), ...(success ? { Ac: 1n } : { Ab: 1n }) });
    this.#queue.sync();
  }
}

function unknown(code: number): never {
  throw new RangeError(`there is no event 0x${code.toString(16)}`);
}
