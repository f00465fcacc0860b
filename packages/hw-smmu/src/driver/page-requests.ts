/** Page requests of devices (SMMU 8): out of the unit's queue, and the answers back. */
import { decodeFields, type DeviceRequest, FaultPermission, type PageRequestSource } from "@iommukit/core";
import { Op, PageResponse } from "../spec/commands.js";
import { PAGE_REQUEST } from "../spec/page-requests.js";
import type { CommandQueue } from "./command-queue.js";
import type { OutputQueue } from "./output-queue.js";

export class PageRequestQueue implements PageRequestSource {
  readonly #records: OutputQueue;
  readonly #queue: CommandQueue;

  constructor(records: OutputQueue, queue: CommandQueue) {
    this.#records = records;
    this.#queue = queue;
  }

  respond(rid: number, pasid: number | undefined, group: number, success: boolean): void {
    const who = pasid === undefined ? {} : { SSV: 1n, SubstreamID: BigInt(pasid) };
    const code = success ? PageResponse.SUCCESS : PageResponse.INVALID;
    this.#queue.add(Op.PRI_RESP, { ...who, StreamID: BigInt(rid), PRGIndex: BigInt(group), Resp: BigInt(code) });
    this.#queue.sync();
  }

  take(): { readonly requests: readonly DeviceRequest[]; readonly lost: boolean } {
    const { records, lost } = this.#records.take();
    return { requests: records.map(decode), lost };
  }
}

function decode(words: readonly bigint[]): DeviceRequest {
  const fields = new Map(decodeFields(PAGE_REQUEST, words).map((field) => [field.name, field.value]));
  const value = (name: string): number => Number(fields.get(name) ?? 0n);
  const { READ, WRITE, EXECUTE, PRIVILEGED } = FaultPermission;
  return {
    rid: value("StreamID"),
    pasid: value("SSV") === 1 ? value("SubstreamID") : undefined,
    group: value("PRGIndex"),
    permissions: value("R") * READ + value("W") * WRITE + value("X") * EXECUTE + value("Priv") * PRIVILEGED,
    address: (fields.get("Address") ?? 0n) << 12n,
    last: value("Last") === 1,
  };
}
