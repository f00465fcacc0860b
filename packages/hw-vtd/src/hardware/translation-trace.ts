/** Answered requests, for who listens. */
import { Access, NO_PASID, type TranslationEvent, type Tracer } from "@iommukit/core";

export class TranslationTrace {
  readonly #name: string;
  // `private`, not `#`, where every request passes: see `Iotlb`.
  private readonly tracer: Tracer | undefined;

  constructor(name: string, tracer: Tracer | undefined) {
    this.#name = name;
    this.tracer = tracer;
  }

  get on(): boolean {
    return this.tracer?.listener !== undefined;
  }

  /** @param out output page, or -1 */
  tell(rid: number, pasid: number, page: number, access: number, source: TranslationEvent["source"], out: number, snooped: boolean): void {
    this.tracer?.listener?.({
      kind: "translation",
      unit: this.#name,
      rid,
      iova: BigInt(page) << 12n,
      access: (access & Access.WRITE) !== 0 ? ((access & Access.READ) !== 0 ? "atomic" : "write") : "read",
      source,
      ...(pasid === NO_PASID ? {} : { pasid }),
      ...(out === -1 ? {} : { pa: out * 4096 }),
      ...(snooped ? { snooped } : {}),
    });
  }
}
