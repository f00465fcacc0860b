/** Page requests of one requester on their way to who attached: a PASID's own sink, else the requester's. */
import type { IommuDevice, IommuDriver, PageFault, PageFaultSink } from "../driver/types.js";

export class PageRequests implements PageFaultSink {
  readonly #driver: IommuDriver;
  readonly #device: IommuDevice;
  /** Takes what no PASID's own does. */
  #whole: PageFaultSink | undefined;
  readonly #byPasid = new Map<number, PageFaultSink>();

  constructor(driver: IommuDriver, device: IommuDevice) {
    this.#driver = driver;
    this.#device = device;
  }

  /**
   * @param pasid undefined: everything of this requester that has no sink of its own
   * @param sink undefined: no more; the device may make requests while anybody takes them
   */
  send(pasid: number | undefined, sink: PageFaultSink | undefined): void {
    const before = this.#wanted;
    if (pasid === undefined) this.#whole = sink;
    else if (sink) this.#byPasid.set(pasid, sink);
    else this.#byPasid.delete(pasid);
    if (this.#wanted !== before) this.#driver.reportPageFaults?.(this.#device, this.#wanted ? this : undefined);
  }

  get #wanted(): boolean {
    return this.#whole !== undefined || this.#byPasid.size > 0;
  }

  report(fault: PageFault): void {
    const sink = (fault.pasid === undefined ? undefined : this.#byPasid.get(fault.pasid)) ?? this.#whole;
    if (sink) sink.report(fault);
    else if (fault.last) this.#driver.respondToPageFault?.(this.#device, { pasid: fault.pasid, group: fault.group, code: "invalid" });
  }

  discardPartial(): void {
    for (const sink of [this.#whole, ...this.#byPasid.values()]) sink?.discardPartial();
  }
}
