/**
 * The command table: one row an ioctl. A handler checks its arguments in the order
 * that decides which errno wins (iommufd facts, section 4) and stores its outputs into the decoded struct.
 */
import { EXTENSION_IOCTLS, IOCTLS, structLayout } from "../../abi/index.js";
import type { Command } from "./command.js";
import { HWPT_HANDLERS } from "./hwpt.js";
import { IOAS_HANDLERS } from "./ioas.js";
import { EXTENSION_HANDLERS } from "./extension.js";
import { MAPPING_HANDLERS } from "./mapping.js";
import { VIOMMU_HANDLERS } from "./viommu.js";

export type { Command, Handler, Outcome, Values } from "./command.js";

const handlers = { ...IOAS_HANDLERS, ...MAPPING_HANDLERS, ...HWPT_HANDLERS, ...VIOMMU_HANDLERS, ...EXTENSION_HANDLERS };

/** Every request of /dev/iommu. */
export const COMMANDS: ReadonlyMap<number, Command> = new Map(
  [...IOCTLS, ...EXTENSION_IOCTLS].filter((row) => row.node === "iommufd").map((row) => {
    const handler = handlers[row.name];
    if (handler === undefined) throw new Error(`${row.name} has no handler`);
    return [row.request, { ...handler, row, size: structLayout(row.struct ?? "").size }];
  }),
);
