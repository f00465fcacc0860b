/**
 * `iommu tour`: one device, one address space, step by step. What each step shows
 * comes from the trace of the machine and from its explanation of a walk; the
 * checks compare bytes and device registers.
 */
import { buildMachine, type IommuUnit, type Machine, SimulatedClient, type TraceEvent, Tracer } from "@iommukit/core";
import { DmaTestCommand, DmaTestRegister as R, DmaTestStatus } from "@iommukit/core/devices";
import { chooseMachine, compose, type GlobalOptions } from "../composition.js";
import { eventLine } from "../events.js";
import { sanitize } from "../sanitize.js";
import { hex, print, printJson, style } from "../style.js";
import { walkLines } from "./walk.js";
import { nativeStop } from "./tour-native.js";
import { tellStory } from "./tour-story.js";

interface Check {
  readonly what: string;
  readonly held: boolean;
}

interface Stop {
  readonly title: string;
  readonly events: TraceEvent[];
  readonly explanation: string[];
  readonly checks: Check[];
}

const CONFIG_REGION = 7n << 40n;
const COMMAND_MEMORY_AND_MASTER = 6;
const IOVA = 0x4000_0000n;
const LENGTH = 0x40_0000n;
const MESSAGE = new TextEncoder().encode("hello from the client");

export async function tour(story: string | undefined, options: { readonly machine?: string; readonly mode?: string; readonly json?: boolean; readonly sanitize?: true }, globals: GlobalOptions): Promise<void> {
  const composition = await compose(globals);
  if (story !== undefined) return tellStory(composition, story, options);
  if (options.mode !== undefined) throw new Error("--mode is for a story that has modes: guest-sva, page-fault");
  const tracer = new Tracer();
  const machine = buildMachine(chooseMachine(composition, options.machine), composition, tracer);
  const sanitizer = options.sanitize && sanitize(machine);
  const stops: Stop[] = [];
  const guide = new Guide(machine, (stop) => {
    stops.push(stop);
    if (!options.json) for (const line of stopLines(stop)) print(line);
  });
  guide.walkThrough();
  const native = await nativeStop(composition, options.machine);
  if (!options.json) for (const line of native.lines) print(line);
  const checks = [...stops.flatMap((stop) => stop.checks), ...native.checks];
  const held = checks.filter((check) => check.held).length;
  if (options.json) printJson({ machine: machine.spec, stops, native, checks: { held, of: checks.length } });
  else print(`\n${held === checks.length ? style.good("every check held") : style.bad("NOT every check held")}: ${held} of ${checks.length}`);
  const exitCode = held === checks.length ? 0 : 1;
  process.exitCode = sanitizer ? sanitizer.exitCode(exitCode) : exitCode;
}

function* stopLines(stop: Stop): Generator<string> {
  yield `\n${style.title(stop.title)}`;
  for (const event of stop.events) yield `  ${eventLine(event)}`;
  for (const line of stop.explanation) yield `    ${line}`;
  for (const check of stop.checks) yield `  ${check.held ? style.good("check ") : style.bad("FAILED")} ${check.what}`;
}

/** A device node that the client has open. */
interface Device {
  readonly fd: number;
  readonly path: string;
  readonly rid: number;
}

class Guide {
  readonly #machine: Machine;
  readonly #unit: IommuUnit;
  readonly #client: SimulatedClient;
  readonly #show: (stop: Stop) => void;

  constructor(machine: Machine, show: (stop: Stop) => void) {
    this.#machine = machine;
    this.#unit = machine.units[0];
    this.#client = new SimulatedClient(machine.nodes);
    this.#show = show;
  }

  /** Runs one stop: collects the events, turns an unexpected refusal into a failed check. */
  #stop<T>(title: string, run: (stop: Stop) => T): T {
    const stop: Stop = { title, events: [], explanation: [], checks: [] };
    const stopListening = this.#machine.tracer.listen((event) => {
      if (isWorthShowing(event)) stop.events.push(event);
    });
    try {
      return run(stop);
    } finally {
      stopListening();
      this.#show(stop);
    }
  }

  walkThrough(): void {
    const client = this.#client;
    const { devices, spec } = this.#machine;
    const [first, second] = spec.devices.map((device, i) => ({ path: `/dev/vfio/devices/${device.vfio}`, rid: devices[i].rid }));
    if (first === undefined || second === undefined) throw new Error("the tour needs a machine with two dma-test devices");

    const iommu = this.#stop("1. Open a context", () => client.open("/dev/iommu"));
    const one = this.#stop("2. Bind a device: from now on its DMA is blocked", (stop) => {
      const device = this.#bind(iommu, first);
      this.#expectBlocked(stop, device, "before any attach");
      return device;
    });
    const ioas = this.#stop("3. Allocate an address space and attach the device", () => {
      const id = Number(client.ioctl(iommu, "IOMMU_IOAS_ALLOC").out_ioas_id);
      client.ioctl(one.fd, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { pt_id: id });
      return id;
    });
    const buffer = client.memory.map(Number(LENGTH));
    this.#stop(`4. Map ${hex(LENGTH)} bytes of client memory at IOVA ${hex(IOVA)}`, (stop) => {
      client.ioctl(iommu, "IOMMU_IOAS_MAP", { flags: 7, ioas_id: ioas, user_va: buffer.address, length: LENGTH, iova: IOVA });
      this.#explain(stop, one.rid);
    });
    this.#stop("5. The device reads the buffer", (stop) => {
      buffer.bytes.set(MESSAGE);
      this.#expectDone(stop, one, DmaTestCommand.READ, "the device read the bytes that the client wrote", () => same(this.#deviceBuffer(one), MESSAGE));
    });
    this.#stop("6. The device writes the buffer", (stop) => {
      buffer.bytes.fill(0);
      this.#expectDone(stop, one, DmaTestCommand.WRITE, "the client's memory holds what the device wrote", () => same(buffer.bytes.subarray(0, MESSAGE.length), MESSAGE));
    });
    const two = this.#stop("7. A second device joins the same address space: no other mapping is made", (stop) => {
      const device = this.#bind(iommu, second);
      client.ioctl(device.fd, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { pt_id: ioas });
      const before = stop.events.length;
      this.#expectDone(stop, device, DmaTestCommand.READ, "the second device reads the same bytes", () => same(this.#deviceBuffer(device), MESSAGE));
      const mapped = stop.events.slice(0, before).some((event) => event.kind === "call" && event.name === "IOMMU_IOAS_MAP");
      stop.checks.push({ what: "no IOMMU_IOAS_MAP was needed", held: !mapped });
      return device;
    });
    this.#stop("8. Unmap: the next DMA faults", (stop) => {
      client.ioctl(iommu, "IOMMU_IOAS_UNMAP", { ioas_id: ioas, iova: IOVA, length: LENGTH });
      this.#expectBlocked(stop, one, "after the unmap");
      this.#explain(stop, one.rid);
    });
    this.#stop("9. Detach: blocked again", (stop) => {
      client.ioctl(one.fd, "VFIO_DEVICE_DETACH_IOMMUFD_PT");
      this.#expectBlocked(stop, one, "after the detach");
    });
    this.#stop("10. Close: everything is given back", (stop) => {
      for (const fd of [one.fd, two.fd, iommu]) client.close(fd);
      stop.checks.push({ what: "a new open starts with id 1 again", held: this.#firstId() === 1 });
    });
  }

  #bind(iommu: number, node: { readonly path: string; readonly rid: number }): Device {
    const fd = this.#client.open(node.path);
    this.#client.ioctl(fd, "VFIO_DEVICE_BIND_IOMMUFD", { iommufd: iommu });
    this.#client.pwrite(fd, CONFIG_REGION + 4n, Uint8Array.of(COMMAND_MEMORY_AND_MASTER, 0));
    return { fd, ...node };
  }

  #firstId(): number {
    const fd = this.#client.open("/dev/iommu");
    const id = Number(this.#client.ioctl(fd, "IOMMU_IOAS_ALLOC").out_ioas_id);
    this.#client.close(fd);
    return id;
  }

  #write(device: Device, register: number, value: bigint, size: 4 | 8): void {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, value, true);
    this.#client.pwrite(device.fd, BigInt(register), bytes.subarray(0, size));
  }

  #read32(device: Device, register: number): number {
    const bytes = this.#client.pread(device.fd, BigInt(register), 4);
    return new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  }

  #deviceBuffer(device: Device): Uint8Array {
    return this.#client.pread(device.fd, BigInt(R.BUFFER), MESSAGE.length);
  }

  /** Programs the device and returns its status register. */
  #dma(device: Device, command: number): number {
    this.#write(device, R.SOURCE, IOVA, 8);
    this.#write(device, R.DESTINATION, IOVA, 8);
    this.#write(device, R.LENGTH, BigInt(MESSAGE.length), 4);
    this.#write(device, R.COMMAND, BigInt(command), 4);
    return this.#read32(device, R.STATUS);
  }

  #expectDone(stop: Stop, device: Device, command: number, what: string, holds: () => boolean): void {
    const status = this.#dma(device, command);
    stop.checks.push({ what, held: status === DmaTestStatus.DONE && holds() });
  }

  #expectBlocked(stop: Stop, device: Device, when: string): void {
    const status = this.#dma(device, DmaTestCommand.READ);
    stop.checks.push({ what: `the device's read is refused ${when} (status ${status})`, held: status === DmaTestStatus.REFUSED });
    const recorded = stop.events.some((event) => event.kind === "fault");
    const stopped = stop.events.some((event) => event.kind === "translation" && event.pa === undefined);
    // Some units keep no record of a requester that nobody has given an address space.
    stop.checks.push({ what: recorded ? "the unit recorded a fault" : "the unit stopped it, without a record", held: recorded || stopped });
  }

  #explain(stop: Stop, rid: number): void {
    const report = this.#unit.explain?.({ rid, iova: IOVA, access: "read" });
    if (report) stop.explanation.push(...walkLines(report));
  }
}

/** The device's register accesses would drown the rest. */
function isWorthShowing(event: TraceEvent): boolean {
  return event.kind !== "call" || (event.name !== "pread" && event.name !== "pwrite");
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

