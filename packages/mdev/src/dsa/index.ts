// @iommukit/mdev/dsa: Intel Data Streaming Accelerator, as a PCI function and as the parent of mediated devices.
import type { DeviceModel } from "@iommukit/core";
import { DsaDevice } from "./device.js";
import { readDsaOptions } from "./options.js";

export const dsaModel: DeviceModel = {
  name: "dsa",
  about: "Intel Data Streaming Accelerator, 8086:0b25; options: ats, pri, pasid, workQueues, entries, engines, groups, maxTransferShift, maxBatchShift, interruptHandles, engine",
  create: (port, options, host) => new DsaDevice(port, host, readDsaOptions(options)),
};

export { DsaDevice } from "./device.js";
export { dsaParent } from "./parent.js";
export type { DeviceErrorRecord, DsaParent, ErrorSink, QueueSettings, QueueState } from "./parent.js";
export { RECORD_BYTES, RecordByte, Status as DsaStatus, STATUS_WRITE } from "./spec/completion.js";
export { Command as DsaCommand, CommandError as DsaCommandError } from "./spec/commands.js";
export { DESCRIPTOR_BYTES, Field as DsaField, Flag as DsaFlag, Opcode as DsaOpcode } from "./spec/descriptor.js";
export { GrpWord, WqLimits, WqMode, WqWord } from "./spec/queues.js";
export { DeviceState as DsaState, IntCause as DsaIntCause, Portal as DsaPortal, PORTAL_PAGES, Register as DsaRegister, ResetNeeded, Table as DsaTable } from "./spec/registers.js";
