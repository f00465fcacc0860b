/**
 * Player of `iommufd-transcript/1` (conformance/transcripts/FORMAT.md): a recorded process's calls are made again on
 * simulated device nodes, and every answer is compared byte for byte.
 */
import { IommuError, refuse } from "../errors.js";
import { FrameObject, SimulatedMemfd } from "../files/frames.js";
import type { Backing } from "../files/address-space.js";
import { SimulatedEventfd } from "../files/simulated-eventfd.js";
import type { DeviceNodes } from "../files/types.js";
import { asArray, asBigInt, asBytes, asNumber, asObject, asString, FormatError, type JsonObject, parseJson } from "./json.js";
import { bareNodes } from "./mock/index.js";
import type { CaseResult, Failure } from "./result.js";
import { ArgumentAt, SimulatedProcess } from "./simulated-process.js";

/** Failures of one transcript that are kept: what follows a first one is often its consequence. */
const FAILURE_LIMIT = 20;
const POLLNVAL = 0x20;
const DEFAULT_POLL = 1 | 4 | 0x40 | 0x100;

/** Builds the machine that a header describes: of a platform with a real IOMMU. */
export interface TranscriptPlatform {
  /** "vtd", as in a header. */
  readonly platform: string;
  build(header: JsonObject): TranscriptMachine;
}

export interface TranscriptMachine {
  readonly nodes: DeviceNodes;
  /** Lets the device behind an open file write `data` to `iova`; how that ended. */
  dma?(file: import("../files/types.js").KernelFile, iova: bigint): "landed" | "faulted" | "SIGBUS";
}

/** What a step is answered with, by name. */
type Answers = Record<string, unknown>;

/** One case a file. */
export function* playTranscript(header: JsonObject, lines: Iterable<string>, platforms: readonly TranscriptPlatform[]): Generator<CaseResult> {
  const machine = machineOf(header, platforms);
  const player = new TranscriptPlayer(header, machine);
  const failures: Failure[] = [];
  let step = 0;
  for (const line of lines) {
    if (line.trim() === "") continue;
    step++;
    const recorded = asObject(parseJson(line, `line ${step + 1}`), `line ${step + 1}`);
    for (const failure of compare(recorded, player.play(recorded))) {
      if (failures.length < FAILURE_LIMIT) failures.push({ step, ...failure });
    }
  }
  yield { id: `${asString(header.set ?? "directed", "set")} ${String(header.seed ?? header.about ?? "")}`.trim(), failures };
}

function machineOf(header: JsonObject, platforms: readonly TranscriptPlatform[]): TranscriptMachine {
  const platform = asString(header.platform, "platform");
  if (platform === "none" || platform === "mock") return { nodes: bareNodes(header.iommufd_test === true) };
  const found = platforms.find((candidate) => candidate.platform === platform);
  if (found === undefined) throw new FormatError(`no machine for transcripts of the platform "${platform}" is loaded`);
  return found.build(header);
}

function compare(recorded: JsonObject, answers: Answers): Omit<Failure, "step">[] {
  const name = String(recorded.name ?? recorded.op);
  const failures: Omit<Failure, "step">[] = [];
  for (const [key, got] of Object.entries(answers)) {
    if (key === "why") continue;
    const expected = JSON.stringify(recorded[key]);
    const shown = JSON.stringify(got);
    if (expected !== shown) failures.push({ what: `${name}: ${key}`, expected: expected ?? "nothing", got: `${shown ?? "nothing"}${answers.why ? ` (${String(answers.why)})` : ""}` });
  }
  return failures;
}

const toHex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

class TranscriptPlayer {
  readonly #machine: TranscriptMachine;
  /** The parent sleeps while a child runs. */
  readonly #processes: SimulatedProcess[];

  constructor(header: JsonObject, machine: TranscriptMachine) {
    this.#machine = machine;
    const capabilities = asArray(header.caps, "caps").map((capability) => asString(capability, "caps").replace(/^CAP_/, ""));
    this.#processes = [new SimulatedProcess(machine.nodes, capabilities, limit(header.rlimit_memlock))];
    this.#process.mapsRegisters = header.maps_registers !== false;
  }

  get #process(): SimulatedProcess {
    return this.#processes[this.#processes.length - 1];
  }

  play(step: JsonObject): Answers {
    const op = asString(step.op, "op");
    const handler = STEPS[op];
    if (handler === undefined) throw new FormatError(`a step that this player does not know: ${op}`);
    return handler.call(this, step);
  }

  /** ret and errno of something that may be refused. */
  attempt(run: () => number | void): { ret: number; errno: string | null; why?: string } {
    try {
      return { ret: Number(run() ?? 0), errno: null };
    } catch (error) {
      if (!(error instanceof IommuError)) throw error;
      return { ret: -1, errno: error.errno, why: error.reason.message };
    }
  }

  get process(): SimulatedProcess {
    return this.#process;
  }

  ioctl(step: JsonObject): Answers {
    const process = this.#process;
    const literal = step.arg !== undefined;
    const argument = new ArgumentAt(step.in === undefined ? new Uint8Array(0) : asBytes(step.in, "in"), process.space);
    const fds = asArray(step.fds ?? [], "fds").map((entry) => asObject(entry, "fds"));
    const view = new DataView(argument.bytes.buffer);
    for (const { at, fd } of fds) view.setInt32(asNumber(at, "at"), process.number(asString(fd, "fd")), true);
    const answers: Answers = this.attempt(() => {
      const file = process.kernelFile(asString(step.fd, "fd"));
      const ret = file.ioctl(process.context(argument), asNumber(step.cmd, "cmd"), literal ? asBigInt(step.arg, "arg") : argument.address);
      if (step.newfd === undefined) return ret;
      process.name(asString(step.newfd, "newfd"), ret);
      return 0;
    });
    for (const { at } of fds) view.setUint32(asNumber(at, "at"), 0, true);
    if (answers.ret !== -1) {
      for (const entry of asArray(step.newfds ?? [], "newfds")) {
        const { at, fd } = asObject(entry, "newfds");
        process.name(asString(fd, "fd"), view.getInt32(asNumber(at, "at"), true));
        view.setUint32(asNumber(at, "at"), 0, true);
      }
    }
    if (step.in !== undefined) answers.out = toHex(argument.bytes);
    if (step.mem !== undefined) answers.mem = this.memory(step.mem);
    return answers;
  }

  /** User memory after a call. */
  memory(list: unknown): unknown {
    return asArray(list, "mem").map((entry) => {
      const area = asObject(entry, "mem");
      const length = area.len === undefined ? asBytes(area.hex, "hex").length : asNumber(area.len, "len");
      const bytes = new Uint8Array(length);
      try {
        this.#process.space.read(asBigInt(area.va, "va"), bytes);
        return { va: area.va, hex: toHex(bytes) };
      } catch {
        return { va: area.va, len: area.len ?? length, fault: true };
      }
    });
  }

  mmap(step: JsonObject): Answers {
    const process = this.#process;
    const kind = asString(step.kind, "kind");
    const prot = asString(step.prot, "prot");
    const length = asBigInt(step.len, "len");
    return this.attempt(() => {
      let first = 0;
      let backing: Backing;
      if (kind === "fd") {
        const file = process.file(asString(step.fd, "fd"));
        const shared = step.private !== true;
        const position = asBigInt(step.off ?? "0x0", "off");
        if (file instanceof SimulatedMemfd) {
          first = Number(position) / 4096;
          backing = { kind: "frames", object: file.object, size: () => file.size, copyOnWrite: !shared, copyOnFork: false };
        } else if (file.kind === undefined && file.mmap) {
          const region = file.mmap(process.context(), { position, length: Number((length + 4095n) / 4096n) * 4096, shared, executable: prot.includes("x") });
          backing = { kind: "device", backend: region.backend, writeBlock: region.writeBlock, retain: region.retain, unmapped: region.unmapped };
        } else return refuse("ENODEV", "the file cannot be mapped", { argument: "fd" });
      } else {
        backing = { kind: "frames", object: new FrameObject(kind === "hugetlb"), copyOnWrite: false, copyOnFork: kind === "anon-private" };
      }
      process.space.map(asBigInt(step.va, "va"), length, protection(prot), backing, first);
      return 0;
    });
  }

  read(step: JsonObject): Answers {
    const process = this.#process;
    const target = new Uint8Array(asNumber(step.len, "len"));
    const buffer = step.va === undefined ? undefined : asBigInt(step.va, "va");
    const answers: Answers = this.attempt(() => {
      const open = process.file(asString(step.fd, "fd"));
      if (open instanceof SimulatedEventfd) return open.read(target);
      const file = process.kernelFile(asString(step.fd, "fd"));
      const context = process.context();
      const position = step.pos === undefined ? undefined : asBigInt(step.pos, "pos");
      const read = position === undefined ? file.read?.bind(file, context) : file.pread?.bind(file, context, position);
      if (read === undefined && file.read) return refuse("ESPIPE", `${file.path} is a stream`, { argument: "position" });
      if (read === undefined) return refuse("EINVAL", `${file.path} cannot be read`, { argument: "fd" });
      const count = read(target);
      if (buffer !== undefined) {
        try {
          process.space.write(buffer, target.subarray(0, count));
        } catch (error) {
          file.unread?.();
          throw error;
        }
      }
      return count;
    });
    if (buffer === undefined && Number(answers.ret) >= 0) answers.hex = toHex(target.subarray(0, Number(answers.ret)));
    if (step.mem !== undefined) answers.mem = this.memory(step.mem);
    return answers;
  }

  fork(): void {
    this.#processes.push(this.#process.fork());
  }

  exit(): void {
    this.#processes.pop()?.exit();
  }

  dma(step: JsonObject): Answers {
    if (this.#machine.dma === undefined) throw new FormatError("this machine has no device that does DMA");
    const file = this.#process.kernelFile(asString(step.fd, "fd"));
    return { result: this.#machine.dma(file, asBigInt(step.iova, "iova")), ...(step.mem === undefined ? {} : { mem: this.memory(step.mem) }) };
  }
}

const STEPS: Readonly<Record<string, (this: TranscriptPlayer, step: JsonObject) => Answers>> = {
  ioctl(step) {
    return this.ioctl(step);
  },
  open(step) {
    return this.attempt(() => {
      this.process.name(asString(step.fd, "fd"), this.process.open(asString(step.path, "path")));
      return 0;
    });
  },
  close(step) {
    return this.attempt(() => this.process.close(asString(step.fd, "fd")));
  },
  memfd(step) {
    return this.attempt(() => {
      const file = new SimulatedMemfd(asNumber(step.len, "len"), step.hugetlb === true);
      this.process.name(asString(step.fd, "fd"), this.process.install(file));
      return 0;
    });
  },
  eventfd(step) {
    return this.attempt(() => {
      this.process.name(asString(step.fd, "fd"), this.process.install(new SimulatedEventfd()));
      return 0;
    });
  },
  ftruncate(step) {
    return this.attempt(() => {
      const file = this.process.file(asString(step.fd, "fd"));
      if (file instanceof SimulatedMemfd) file.truncate(asNumber(step.len, "len"));
      return 0;
    });
  },
  mmap(step) {
    return this.mmap(step);
  },
  munmap(step) {
    return this.attempt(() => this.process.space.unmap(asBigInt(step.va, "va"), asBigInt(step.len, "len")));
  },
  mprotect(step) {
    return this.attempt(() => this.process.space.protect(asBigInt(step.va, "va"), asBigInt(step.len, "len"), protection(asString(step.prot, "prot"))));
  },
  poke(step) {
    const { ret, errno, ...rest } = this.attempt(() => this.process.space.write(asBigInt(step.va, "va"), asBytes(step.hex, "hex")));
    return step.ret === undefined ? {} : { ret, errno, ...rest };
  },
  peek(step) {
    const bytes = new Uint8Array(asNumber(step.len, "len"));
    const { errno } = this.attempt(() => this.process.space.read(asBigInt(step.va, "va"), bytes));
    return errno === null ? { hex: toHex(bytes) } : { errno };
  },
  block(step) {
    let accepted = false;
    const { errno } = this.attempt(() => {
      accepted = this.process.space.writeBlock(asBigInt(step.va, "va"), asBytes(step.hex, "hex"), step.deferrable === true);
    });
    return errno === null ? { accepted } : { errno };
  },
  read(step) {
    return this.read(step);
  },
  write(step) {
    return this.attempt(() => {
      const open = this.process.file(asString(step.fd, "fd"));
      const bytes = asBytes(step.hex, "hex");
      if (open instanceof SimulatedEventfd) return open.write(bytes);
      const file = this.process.kernelFile(asString(step.fd, "fd"));
      const context = this.process.context();
      if (step.pos !== undefined && file.pwrite) return file.pwrite(context, asBigInt(step.pos, "pos"), bytes);
      if (step.pos !== undefined && file.read) return refuse("ESPIPE", `${file.path} is a stream`, { argument: "position" });
      return file.write === undefined ? refuse("EINVAL", `${file.path} cannot be written`, { argument: "fd" }) : file.write(context, bytes);
    });
  },
  poll(step) {
    let events = POLLNVAL;
    try {
      const file = this.process.file(asString(step.fd, "fd"));
      if (file instanceof SimulatedEventfd) events = (file.count > 0 ? 1 : 0) | 4;
      else if (file.kind === undefined) events = file.poll ? file.poll() : DEFAULT_POLL;
    } catch {
      // A closed descriptor: POLLNVAL.
    }
    const revents = events & (asNumber(step.events, "events") | POLLNVAL);
    return { ret: revents === 0 ? 0 : 1, revents };
  },
  dma(step) {
    return this.dma(step);
  },
  status() {
    const { pinned, locked } = this.process.space.counters;
    return { VmPin: pinned * 4, VmLck: locked * 4 };
  },
  setrlimit_memlock(step) {
    this.process.memlockLimit = limit(step.bytes);
    return {};
  },
  dropcaps(step) {
    for (const capability of asArray(step.caps, "caps")) this.process.capabilities.delete(asString(capability, "caps").replace(/^CAP_/, ""));
    return {};
  },
  fork() {
    this.fork();
    return {};
  },
  exit() {
    this.exit();
    return {};
  },
  note() {
    return {};
  },
};

function protection(letters: string): { read: boolean; write: boolean } {
  return { read: letters.includes("r"), write: letters.includes("w") };
}

function limit(value: unknown): bigint {
  return value === "unlimited" ? 2n ** 64n : asBigInt(value, "rlimit_memlock");
}
