/**
 * Records what a process does with device nodes as `iommufd-transcript/1` (conformance/transcripts/FORMAT.md): every call with its
 * answer, and before it the memory that it read, so that a replay finds the same.
 */
import { fieldOffset, findIoctl, type IoctlRow, structLayout } from "../../abi/index.js";
import { IommuError } from "../../errors.js";
import { openedBy } from "../../files/opened-by.js";
import type { CallContext, DeviceNodes, KernelFile, MemoryFile, MmapRegion, OpenFile, UserMemory } from "../../files/types.js";
import { nodesOf } from "../../abi/nodes.js";
import { ArgumentWindow } from "./argument-window.js";
import { hex, PageBook, type Step, toHex } from "./page-book.js";
import { type Current, heardPin, RecordedBytes, RecordedMemory, Touches } from "./recorded-memory.js";

/** Where mappings of nodes are put in a replay: the recorder does not learn where they were. */
const MAPPED_FROM = 0x6000_0000_0000n;
const MAPPED_STRIDE = 0x1_0000_0000n;
/** vfio_irq_set without its data. */
const IRQ_SET_BYTES = 20;

export interface RecordOptions {
  /** Platform, variant and machine, for the header. */
  readonly machine: Readonly<Record<string, unknown>>;
  readonly about: string;
  /** Receives lines, without their end. */
  readonly write: (line: string) => void;
  /** Receives what could not be recorded. */
  readonly warn: (text: string) => void;
}

/** The same nodes; what is done with them is recorded. */
export function recordNodes(nodes: DeviceNodes, options: RecordOptions): DeviceNodes {
  const recorder = new Recorder(options);
  return openedBy(nodes, (call, path) => (path.startsWith("/sys/") ? nodes.open(call, path) : recorder.open(nodes, call, path)));
}

interface Outcome {
  readonly ret: number;
  readonly errno: string | null;
}

class Recorder {
  readonly #options: RecordOptions;
  readonly #names = new Map<OpenFile, string>();
  readonly #counts = new Map<string, number>();
  readonly #memories = new WeakMap<UserMemory, RecordedMemory>();
  readonly #current: Current = { touches: undefined };
  /** Names of descriptors that the program has, or had. */
  readonly #given = new Set<string>();
  readonly #book = new PageBook((step) => this.#emit(step));
  #process: number | undefined;
  #limit = 0n;
  #capabilities: ReadonlySet<string> = new Set();
  #stopped = false;
  #mapped = MAPPED_FROM;
  /** Memory files of the replay: name, length, and where they are mapped there. */
  readonly #memoryFiles = new Map<string, { readonly name: string; length: bigint; readonly base: bigint }>();

  constructor(options: RecordOptions) {
    this.#options = options;
  }

  #emit(step: Step): void {
    if (step.op === "open" && step.ret === 0) this.#given.add(String(step.fd));
    if (step.newfd !== undefined) this.#given.add(String(step.newfd));
    for (const { fd } of (step.newfds ?? []) as readonly { readonly fd: string }[]) this.#given.add(fd);
    if (!this.#stopped) this.#options.write(JSON.stringify(step));
  }

  /** A format of one process ends where a second comes in. */
  #follow(call: CallContext): void {
    if (this.#process === undefined) {
      this.#process = call.pid;
      this.#limit = call.memlockLimit;
      this.#capabilities = new Set(call.capabilities);
      this.#emit(this.#header(call));
    }
    if (this.#stopped) return;
    if (call.pid !== this.#process) {
      const text = `recording ends here: process ${call.pid} came in, and a transcript holds one process`;
      this.#emit({ op: "note", text });
      this.#stopped = true;
      this.#options.warn(text);
      return;
    }
    if (call.memlockLimit !== this.#limit) this.#emit({ op: "setrlimit_memlock", bytes: shownLimit(call.memlockLimit) });
    this.#limit = call.memlockLimit;
    const lost = [...this.#capabilities].filter((name) => !call.capabilities.has(name));
    if (lost.length > 0) this.#emit({ op: "dropcaps", caps: lost.map((name) => `CAP_${name}`) });
    this.#capabilities = new Set(call.capabilities);
  }

  #header(call: CallContext): Step {
    return {
      format: "iommufd-transcript/1", kernel: "iommukit", arch: process.arch === "arm64" ? "aarch64" : "x86_64", ...this.#options.machine,
      page_size: 4096, thp: false, caps: [...call.capabilities].map((name) => `CAP_${name}`), rlimit_memlock: shownLimit(call.memlockLimit),
      maps_registers: call.mapsRegisters !== false, set: "recorded", about: this.#options.about,
    };
  }

  /** Runs a call and records it: first the memory that it read, then the step, then the memory that it wrote. */
  #call(call: CallContext, run: (seen: CallContext, fds: FdLog) => number, step: (outcome: Outcome, fds: FdLog) => Step): number {
    this.#follow(call);
    const fds: FdLog = { used: [], made: [] };
    const touches = new Touches();
    const outer = this.#current.touches;
    this.#current.touches = touches;
    // A call that ends with anything but a refusal has not happened: its door makes it again, with what it lacked.
    let outcome: Outcome | undefined;
    try {
      const ret = run(this.#seen(call, fds), fds);
      outcome = { ret, errno: null };
      return ret;
    } catch (error) {
      if (error instanceof IommuError) outcome = { ret: -1, errno: error.errno };
      throw error;
    } finally {
      this.#current.touches = outer;
      const ended = outcome;
      if (ended !== undefined) this.#record(call, touches, () => step(ended, fds));
    }
  }

  #record(call: CallContext, touches: Touches, step: () => Step): void {
    for (const { address, bytes } of touches.reads) {
      this.#book.ensureReadable(address, bytes.length);
      this.#book.poke(address, bytes);
    }
    this.#emit(step());
    this.#peek(call, touches);
  }

  /** The call's world, with ears. */
  #seen(call: CallContext, fds: FdLog): CallContext {
    return {
      pid: call.pid,
      process: this.#memory(call.process),
      memory: this.#memory(call.process),
      user: call.user,
      ...(call.mapsRegisters !== undefined && { mapsRegisters: call.mapsRegisters }),
      get capabilities() {
        return call.capabilities;
      },
      get memlockLimit() {
        return call.memlockLimit;
      },
      file: (fd) => {
        const file = call.file(fd);
        fds.used.push({ fd, name: this.#nameOf(file) });
        return file && this.#heard(file);
      },
      install: (file) => {
        const fd = call.install(this.#wrap(file, "q"));
        fds.made.push({ fd, name: this.#name(file, "q") });
        return fd;
      },
      uninstall: (fd) => call.uninstall(fd),
    };
  }

  #memory(memory: UserMemory): RecordedMemory {
    let recorded = this.#memories.get(memory);
    if (recorded === undefined) {
      recorded = new RecordedMemory(memory, this.#book, this.#current);
      this.#memories.set(memory, recorded);
    }
    return recorded;
  }

  /** Writes by DMA and through pointers, as they stand now. */
  #peek(call: CallContext, touches: Touches): void {
    for (const { address, length } of touches.writes) {
      const bytes = new Uint8Array(length);
      try {
        call.process.read(address, bytes);
      } catch {
        continue;
      }
      this.#emit({ op: "peek", va: hex(address), len: length, hex: toHex(bytes) });
    }
  }

  // Names of files ------------------------------------------------------------------------------------------------

  #name(file: OpenFile, prefix: string): string {
    let name = this.#names.get(file);
    if (name === undefined) {
      const count = this.#counts.get(prefix) ?? 0;
      this.#counts.set(prefix, count + 1);
      name = `${prefix}${count}`;
      this.#names.set(file, name);
    }
    return name;
  }

  /** A descriptor that a struct names; steps make what the recorder has not seen yet. */
  #nameOf(file: OpenFile | undefined): string {
    if (file === undefined) return "unknown";
    if (file.kind === undefined) return this.#name(file, "q");
    if (file.kind === "memory") return this.#memoryFile(file).name;
    const fresh = !this.#names.has(file);
    const name = this.#name(file, "e");
    if (fresh) this.#emit({ op: "eventfd", fd: name, ret: 0, errno: null });
    return name;
  }

  /** A memfd of the replay, mapped too, so that it can be filled. It grows to what is asked of it. */
  #memoryFile(file: MemoryFile): { readonly name: string; length: bigint; readonly base: bigint } {
    const key = file.identity ?? this.#name(file, "m");
    let known = this.#memoryFiles.get(key);
    if (known === undefined) {
      const name = this.#name(file, "m");
      known = { name, length: 0n, base: this.#mapped };
      this.#mapped += MAPPED_STRIDE;
      this.#memoryFiles.set(key, known);
      this.#emit({ op: "memfd", len: 0, hugetlb: false, fd: name, ret: 0, errno: null });
      this.#emit({ op: "mmap", va: hex(known.base), len: hex(MAPPED_STRIDE), kind: "fd", prot: "rw", fd: name, off: "0x0", ret: 0, errno: null });
      this.#book.adopt(known.base, known.base + MAPPED_STRIDE);
    }
    return known;
  }

  #heard(file: OpenFile): OpenFile {
    if (file.kind !== "memory") return file;
    const memfd = this.#memoryFile(file);
    const current = this.#current;
    return {
      kind: "memory",
      pin: (offset, length, writable) => {
        const pinned = file.pin(offset, length, writable);
        if (offset + length > memfd.length) {
          memfd.length = offset + length;
          this.#emit({ op: "ftruncate", fd: memfd.name, len: Number(memfd.length), ret: 0, errno: null });
        }
        return heardPin(pinned, memfd.base + offset, current);
      },
    };
  }

  // Calls ---------------------------------------------------------------------------------------------------------

  open(nodes: DeviceNodes, call: CallContext, path: string): KernelFile {
    const prefix = path === "/dev/iommu" ? "i" : path.startsWith("/dev/vfio/devices/") ? "d" : path === "/dev/vfio/vfio" ? "c" : "g";
    let file: KernelFile | undefined;
    this.#call(
      call,
      (seen) => {
        file = nodes.open(seen, path);
        return 0;
      },
      (outcome) => ({ op: "open", path, fd: file ? this.#name(file, prefix) : "none", ...outcome }),
    );
    return this.#wrap(file as KernelFile, prefix);
  }

  /** Puts ears on a file's methods, in place: others compare files by identity. */
  #wrap(file: KernelFile, prefix: string): KernelFile {
    const fd = this.#name(file, prefix);
    const { ioctl, pread, pwrite, read, write, mmap, release } = file;
    file.ioctl = (call, request, argument) => this.#ioctl(file, fd, ioctl, call, request, argument);
    const input = (call: CallContext, target: Uint8Array, position: bigint | undefined, run: (seen: CallContext) => number): number =>
      this.#call(call, run, (outcome) => ({
        op: "read", fd, len: target.length, ...(position !== undefined && { pos: hex(position) }), ...outcome,
        ...(outcome.ret >= 0 && { hex: toHex(target.subarray(0, outcome.ret)) }),
      }));
    const output = (call: CallContext, source: Uint8Array, position: bigint | undefined, run: (seen: CallContext) => number): number =>
      this.#call(call, run, (outcome) => ({ op: "write", fd, ...(position !== undefined && { pos: hex(position) }), hex: toHex(source), ...outcome }));
    if (read) file.read = (call, target) => input(call, target, undefined, (seen) => read.call(file, seen, target));
    if (pread) file.pread = (call, position, target) => input(call, target, position, (seen) => pread.call(file, seen, position, target));
    if (write) file.write = (call, source) => output(call, source, undefined, (seen) => write.call(file, seen, source));
    if (pwrite) file.pwrite = (call, position, source) => output(call, source, position, (seen) => pwrite.call(file, seen, position, source));
    if (mmap) file.mmap = (call, request) => this.#mmap(fd, call, request, (seen) => mmap.call(file, seen, request));
    file.release = () => {
      // What a refused call made, and took back, never had a name.
      if (this.#given.has(fd)) this.#emit({ op: "close", fd, ret: 0, errno: null });
      release.call(file);
    };
    return file;
  }

  #mmap(fd: string, call: CallContext, request: Parameters<NonNullable<KernelFile["mmap"]>>[1], run: (seen: CallContext) => MmapRegion): MmapRegion {
    const va = this.#mapped;
    this.#mapped += BigInt(request.length) + MAPPED_STRIDE;
    let region: MmapRegion | undefined;
    this.#call(
      call,
      (seen) => {
        region = run(seen);
        return 0;
      },
      (outcome) => ({
        op: "mmap", va: hex(va), len: hex(request.length), kind: "fd", prot: request.executable ? "rwx" : "rw", fd, off: hex(request.position),
        ...(!request.shared && { private: true }), ...outcome,
      }),
    );
    const { backend, writeBlock, retain, unmapped } = region as MmapRegion;
    const access = (step: Step, run: () => void, answer: () => Step): void => {
      this.#call(
        call,
        () => {
          run();
          return 0;
        },
        ({ ret, errno }) => ({ ...step, ...(errno === null ? answer() : { ret, errno }) }),
      );
    };
    let parts = 1;
    return {
      ...(region as MmapRegion),
      backend: {
        read: (at, target) => access({ op: "peek", va: hex(va + BigInt(at)), len: target.length }, () => backend.read(at, target), () => ({ hex: toHex(target) })),
        write: (at, source) => access({ op: "poke", va: hex(va + BigInt(at)), hex: toHex(source) }, () => backend.write(at, source), () => ({ ret: 0, errno: null })),
      },
      ...(writeBlock && {
        writeBlock: (at, bytes, deferrable) => {
          let accepted = false;
          access({ op: "block", va: hex(va + BigInt(at)), hex: toHex(bytes), deferrable }, () => void (accepted = writeBlock(at, bytes, deferrable)), () => ({ accepted }));
          return accepted;
        },
      }),
      retain: () => {
        parts++;
        retain();
      },
      unmapped: () => {
        if (--parts === 0) this.#emit({ op: "munmap", va: hex(va), len: hex(request.length), ret: 0, errno: null });
        unmapped();
      },
    };
  }

  #ioctl(file: KernelFile, fd: string, run: KernelFile["ioctl"], call: CallContext, request: number, argument: bigint): number {
    const row = nodesOf(file.path).map((node) => findIoctl(node, request)).find((found) => found !== undefined);
    let window: ArgumentWindow | undefined;
    return this.#call(
      call,
      (seen) => {
        window = new ArgumentWindow(call.memory, new RecordedBytes(call.memory, this.#book, this.#current), argument);
        return run.call(file, { ...descriptors(seen), memory: window }, request, argument);
      },
      (outcome, fds) => {
        const step = { op: "ioctl", fd, cmd: hex(request), name: row?.name ?? "unknown" };
        if (window === undefined || !window.touched || window.unwritable) {
          if (window?.touched) this.#readOnlyArgument(argument, window);
          return { ...step, arg: hex(argument), ...outcome };
        }
        return { ...step, ...argumentOf(window, row, outcome, fds) };
      },
    );
  }

  /** The argument lies in memory that cannot be written: the replay's does too. */
  #readOnlyArgument(argument: bigint, window: ArgumentWindow): void {
    const { before } = window;
    this.#book.ensure(argument, BigInt(before.length), true);
    this.#book.poke(argument, before);
    this.#book.readOnly(argument);
    this.#book.readOnly(argument + BigInt(before.length - 1));
  }
}

/** Descriptor numbers that a call asked for, and those that it made. */
interface FdLog {
  readonly used: { readonly fd: number; readonly name: string }[];
  readonly made: { readonly fd: number; readonly name: string }[];
}

/** Getters stay getters: a spread would read capabilities and limits now. */
function descriptors(call: CallContext): CallContext {
  return Object.create(Object.prototype, Object.getOwnPropertyDescriptors(call)) as CallContext;
}

function shownLimit(limit: bigint): string {
  return limit >= 2n ** 64n ? "unlimited" : hex(limit);
}

/** `in`, `out` and the descriptors in them, whose numbers read as 0. */
function argumentOf(window: ArgumentWindow, row: IoctlRow | undefined, outcome: Outcome, log: FdLog): Step {
  const { before, after } = window;
  const fds = log.used.flatMap(({ fd, name }, i) => place(before, row, fd, i).map((at) => ({ at, fd: name })));
  const made = outcome.errno === null ? log.made : [];
  const returned = made.find(({ fd }) => fd === outcome.ret && outcome.ret > 0);
  const newfds = made.filter((entry) => entry !== returned).flatMap(({ fd, name }) => place(after, row, fd, 0, before).map((at) => ({ at, fd: name })));
  const blank = (bytes: Uint8Array, places: readonly { readonly at: number }[]): void => {
    for (const { at } of places) bytes.fill(0, at, at + 4);
  };
  blank(before, fds);
  blank(after, [...fds, ...newfds]);
  return {
    in: toHex(before), ...(fds.length > 0 && { fds }), ...(newfds.length > 0 && { newfds }), ...(returned && { newfd: returned.name }),
    ret: returned ? 0 : outcome.ret, errno: outcome.errno, out: toHex(after),
  };
}

/** Where a descriptor number stands in a struct: in a field for it, in the data of SET_IRQS, or where else it appears (and did not before). */
function place(bytes: Uint8Array, row: IoctlRow | undefined, fd: number, nth: number, except?: Uint8Array): number[] {
  const number = (of: Uint8Array, at: number): number | undefined => (at + 4 <= of.length ? new DataView(of.buffer, of.byteOffset).getInt32(at, true) : undefined);
  if (row?.name === "VFIO_DEVICE_SET_IRQS") return [IRQ_SET_BYTES + 4 * nth];
  const struct = row?.struct;
  const fields = struct === undefined ? [] : structLayout(struct).fields.map(({ name }) => name).filter((name) => /(^|_)fd$/.test(name) || name === "iommufd");
  const named = fields.map((name) => fieldOffset(struct as string, name)).find((at) => number(bytes, at) === fd);
  if (named !== undefined) return [named];
  // The first words are sizes and operations.
  for (let at = struct === undefined && bytes.length > 8 ? 8 : 0; at + 4 <= bytes.length; at += 4) if (number(bytes, at) === fd && (except === undefined || number(except, at) !== fd)) return [at];
  return [];
}
