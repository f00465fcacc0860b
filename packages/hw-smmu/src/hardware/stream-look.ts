/** What the stream table in memory says now, past every cache: for who carries out on a host what a guest ordered (`spec/orders.ts`). */
import { NO_PASID, type PhysicalMemory } from "@iommukit/core";
import type { Capabilities } from "../spec/identification.js";
import type { StreamView } from "../spec/orders.js";
import { Configuration } from "./configuration.js";
import { ConfigurationReader, type StreamTable } from "./configuration-reader.js";
import { Fault } from "./fault.js";
import { Stage2 } from "./stage2.js";
import { Tlbs } from "./tlbs.js";

const NOTHING = { sets: 0, ways: 1 } as const;

export class StreamLook {
  readonly #reader: ConfigurationReader;
  readonly #configuration = new Configuration();

  constructor(memory: PhysicalMemory, caps: Capabilities) {
    const fault = new Fault();
    const tlbs = new Tlbs({ input: NOTHING, intermediate: NOTHING, configurations: 0 }, false, false);
    this.#reader = new ConfigurationReader(memory, caps, tlbs, new Stage2(memory, caps, tlbs, fault), fault, 0);
  }

  look(table: StreamTable, stream: number): StreamView {
    this.#reader.table = table;
    return this.#reader.readStream(stream, NO_PASID, this.#configuration) ? this.#reader.stream : undefined;
  }
}
