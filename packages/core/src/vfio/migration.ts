/**
 * Migration of a device by its user (Linux, include/uapi/linux/vfio.h, VFIO_DEVICE_FEATURE_MIGRATION): states, and the stream that carries a stopped
 * device's state. Devices here migrate while they are stopped (STOP_COPY); peer-to-peer and pre-copy states are not offered.
 */
import { refuse } from "../errors.js";
import type { CallContext, KernelFile } from "../files/types.js";

/** What a device does for it. */
export interface Migratable {
  /** No DMA from now on. @throws IommuError EBUSY while work is under way that cannot be cut short */
  stop(): void;
  /** Goes on, with the state that it has. @throws IommuError EINVAL when the state asks for what is not there */
  resume(): void;
  save(): Uint8Array;
  /** @throws IommuError EINVAL for bytes that `save` of the same kind of device does not make; nothing is changed then */
  load(bytes: Uint8Array): void;
}

/** vfio_device_mig_state */
export const MigrationState = { ERROR: 0, STOP: 1, RUNNING: 2, STOP_COPY: 3, RESUMING: 4 } as const;
/** vfio_device_feature_migration.flags */
export const MIGRATION_STOP_COPY = 1n;
/** No device's state is longer. */
const STREAM_LIMIT = 2 ** 20;
const NAMES = ["ERROR", "STOP", "RUNNING", "STOP_COPY", "RESUMING"];

class StreamFile implements KernelFile {
  readonly path: string;
  #open = true;

  constructor(path: string) {
    this.path = path;
  }

  /** The device has left the state that the stream belongs to. */
  end(): void {
    this.#open = false;
  }

  protected live(): void {
    if (!this.#open) refuse("ENODEV", `${this.path}: the device has gone on`, { argument: "data_fd", rule: "vfio_device_mig_state" });
  }

  ioctl(): number {
    return refuse("ENOTTY", `${this.path} takes no requests`, { argument: "request" });
  }

  release(): void {
    // The state is the device's.
  }
}

class SavedState extends StreamFile {
  readonly #bytes: Uint8Array;
  #position = 0;

  constructor(bytes: Uint8Array) {
    super("state of a stopped device");
    this.#bytes = bytes;
  }

  read(_call: CallContext, target: Uint8Array): number {
    this.live();
    const part = this.#bytes.subarray(this.#position, this.#position + target.length);
    target.set(part);
    this.#position += part.length;
    return part.length;
  }
}

class ResumingState extends StreamFile {
  readonly #parts: Uint8Array[] = [];
  #length = 0;

  constructor() {
    super("state for a device");
  }

  write(_call: CallContext, source: Uint8Array): number {
    this.live();
    if (this.#length + source.length > STREAM_LIMIT) refuse("ENOMEM", `more than ${STREAM_LIMIT} bytes of state`, { argument: "data_fd" });
    this.#parts.push(source.slice());
    this.#length += source.length;
    return source.length;
  }

  get bytes(): Uint8Array {
    const all = new Uint8Array(this.#length);
    let at = 0;
    for (const part of this.#parts) {
      all.set(part, at);
      at += part.length;
    }
    return all;
  }
}

/** Where an open device is on its way. */
export class Migration {
  state: number = MigrationState.RUNNING;
  readonly #device: Migratable;
  #stream: SavedState | ResumingState | undefined;

  constructor(device: Migratable) {
    this.#device = device;
  }

  /**
   * Goes to a state, through STOP where there is no direct way. Returns the descriptor of a stream, -1 without one.
   * @throws IommuError EINVAL for a state that is not offered, and what the device refuses: then it is in the last state that it reached
   */
  go(call: CallContext, wanted: number): number {
    if (wanted === MigrationState.ERROR || NAMES[wanted] === undefined) refuse("EINVAL", `device_state ${wanted} is not one to go to; there are: ${NAMES.slice(1).join(", ")}`, { argument: "device_state" });
    let fd = -1;
    while (this.state !== wanted) {
      const next = this.state === MigrationState.STOP ? wanted : MigrationState.STOP;
      fd = this.#step(call, next);
      this.state = next;
    }
    return fd;
  }

  #step(call: CallContext, next: number): number {
    const device = this.#device;
    const stream = this.#stream;
    if (this.state === MigrationState.RUNNING) device.stop();
    if (this.state === MigrationState.RESUMING && stream instanceof ResumingState) device.load(stream.bytes);
    stream?.end();
    this.#stream = undefined;
    if (next === MigrationState.RUNNING) device.resume();
    if (next === MigrationState.STOP_COPY) this.#stream = new SavedState(device.save());
    if (next === MigrationState.RESUMING) this.#stream = new ResumingState();
    return this.#stream ? call.install(this.#stream) : -1;
  }

  /** A reset brings the device back to RUNNING. */
  reset(): void {
    this.#stream?.end();
    this.#stream = undefined;
    this.state = MigrationState.RUNNING;
  }
}
