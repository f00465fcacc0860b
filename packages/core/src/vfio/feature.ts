/** VFIO_DEVICE_FEATURE: which features a PCI device has, and what may be asked of them (iommufd facts, 10.10). */
import { refuse } from "../errors.js";
import type { CallContext } from "../files/types.js";
import { DMA_BUF_BYTES, exportBar } from "./bar-export.js";
import { eventFile } from "./events.js";
import { MIGRATION_STOP_COPY } from "./migration.js";
import type { OpenDevice } from "./open-device.js";

const INDEX_MASK = 0xffff;
const GET = 1 << 16;
const SET = 1 << 17;
const PROBE = 1 << 18;
const DMA_BUF = 11;
const MIGRATION = 1;
const MIG_DEVICE_STATE = 2;

/** The payload in the caller's memory. */
interface Payload {
  readonly call: CallContext;
  readonly address: bigint;
  readonly set: boolean;
}

interface Feature {
  readonly name: string;
  /** GET, SET, or 0 for one that the kernel knows and this device does not offer. */
  readonly offers: number;
  /** Bytes of payload at least. */
  readonly bytes: number;
  run?(open: OpenDevice, payload: Payload): number;
}

/** A feature that is not here is ENOTTY. */
const FEATURES: ReadonlyMap<number, Feature> = new Map<number, Feature>([
  [3, { name: "LOW_POWER_ENTRY", offers: SET, bytes: 0, run: (open) => enterLowPower(open) }],
  [4, { name: "LOW_POWER_ENTRY_WITH_WAKEUP", offers: SET, bytes: 8, run: enterWithWakeup }],
  [5, { name: "LOW_POWER_EXIT", offers: SET, bytes: 0, run: leaveLowPower }],
  [DMA_BUF, { name: "DMA_BUF", offers: GET, bytes: DMA_BUF_BYTES, run: (open, { call, address }) => exportBar(open, call, address) }],
  [12, { name: "MIG_PRECOPY_INFOv2", offers: 0, bytes: 0 }],
]);

/** Those of a device that migrates. */
const MIGRATING: ReadonlyMap<number, Feature> = new Map<number, Feature>([
  [MIGRATION, { name: "MIGRATION", offers: GET, bytes: 8, run: (_open, { call, address }) => store(call, address, BigUint64Array.of(MIGRATION_STOP_COPY)) }],
  [MIG_DEVICE_STATE, { name: "MIG_DEVICE_STATE", offers: GET | SET, bytes: 8, run: migrate }],
]);

/** @returns 0, or a descriptor for a feature that makes one @throws IommuError EINVAL, ENOTTY, and what the feature refuses */
export function deviceFeature(open: OpenDevice, call: CallContext, flags: number, address: bigint, length: number): number {
  if ((flags & ~(INDEX_MASK | GET | SET | PROBE)) !== 0) refuse("EINVAL", `flags has 0x${(flags >>> 0).toString(16)}`, { argument: "flags" });
  if ((flags & PROBE) === 0 && (flags & GET) !== 0 && (flags & SET) !== 0) refuse("EINVAL", "flags ask for GET and SET together, which is for a probe", { argument: "flags" });
  const index = flags & INDEX_MASK;
  const { mediated, exportsBars } = open.node;
  const own = mediated || (index === DMA_BUF && !exportsBars) ? undefined : FEATURES.get(index);
  const known = open.migration ? (MIGRATING.get(index) ?? own) : own;
  const feature = known ?? refuse("ENOTTY", `flags name feature ${index}, which the device lacks`, { argument: "flags" });
  const asked = flags & (GET | SET);
  if ((asked & ~feature.offers) !== 0) refuse("EINVAL", `feature ${feature.name} does not offer ${(asked & ~feature.offers & GET) !== 0 ? "GET" : "SET"}`, { argument: "flags" });
  const { run } = feature;
  if (run === undefined) return refuse("EINVAL", `feature ${feature.name} is for devices that migrate`, { argument: "flags" });
  if ((flags & PROBE) !== 0) return 0;
  if (asked === 0) refuse("EINVAL", "flags ask for neither GET, SET nor PROBE", { argument: "flags" });
  if (length < feature.bytes) refuse("EINVAL", `argsz leaves ${length} bytes for the ${feature.bytes} of ${feature.name}`, { argument: "argsz" });
  return run(open, { call, address, set: (flags & SET) !== 0 });
}

/** Mapped registers raise SIGBUS until the device wakes up; read(2) and ioctl wake it for themselves. */
function enterLowPower({ node: { pci } }: OpenDevice): number {
  if (pci.lowPower) refuse("EINVAL", `${pci.name} is in low power already`, { argument: "flags" });
  pci.lowPower = true;
  return 0;
}

function enterWithWakeup(open: OpenDevice, { call, address }: Payload): number {
  const bytes = new Uint8Array(8);
  call.memory.read(address, bytes);
  const [fd, reserved] = new Int32Array(bytes.buffer);
  if (fd < 0 || reserved !== 0) refuse("EINVAL", `wakeup_eventfd is ${fd}, reserved ${reserved}`, { argument: fd < 0 ? "wakeup_eventfd" : "reserved" });
  // These devices never wake up by themselves, so the eventfd is never signalled.
  eventFile(call, fd, "wakeup_eventfd").close?.();
  return enterLowPower(open);
}

function leaveLowPower({ node: { pci } }: OpenDevice): number {
  pci.lowPower = false;
  return 0;
}

/** vfio_device_feature_mig_state: state, data_fd. */
function migrate({ migration }: OpenDevice, { call, address, set }: Payload): number {
  if (migration === undefined) return refuse("ENOTTY", "the device does not migrate", { argument: "flags" });
  const bytes = new Uint8Array(8);
  call.memory.read(address, bytes);
  const [wanted] = new Uint32Array(bytes.buffer);
  let fd = -1;
  try {
    if (set) fd = migration.go(call, wanted);
  } finally {
    store(call, address, Int32Array.of(migration.state, fd));
  }
  return 0;
}

function store(call: CallContext, address: bigint, values: { readonly buffer: ArrayBufferLike }): number {
  call.memory.write(address, new Uint8Array(values.buffer));
  return 0;
}
