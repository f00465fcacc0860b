import type { MdevBusFactory } from "@iommukit/core";
import { MediatedBus } from "./bus.js";

export { MediatedBus } from "./bus.js";

export const mdevBus: MdevBusFactory = (environment) => new MediatedBus(environment);
