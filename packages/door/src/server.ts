/**
 * The door itself: a socket in Linux's abstract namespace, which leaves nothing on
 * disk, guarded by a token. A connection is either a thread's (HELLO) or an open file
 * (OPEN), whose end is the file's release.
 */
import { randomBytes } from "node:crypto";
import { readFileSync, readlinkSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { type CallContext, type DeviceNodes, IommuError, type KernelFile, type MmapRegion, type OpenFile, refuse, SharedPages, type UserBytes } from "@iommukit/core";
import { SharedFile } from "./shared-file.js";
import { ClientEventfd } from "./client-eventfd.js";
import { ClientMemory, InlineArgument } from "./client-memory.js";
import { ForeignMemoryFile } from "./foreign-file.js";
import { FrameRegistry } from "./frames.js";
import { type Copy, encodeReply, HAS_SPARE, Operation, ProtocolError, ReplyFlag, type Request, RequestReader, TOKEN_BYTES } from "./protocol.js";

const EINVAL = 22;
const EIO = 5;
const ESPIPE = 29;
const ENOENT = 2;
const ENOTTY = 25;
const POLLIN = 1;
/** Flags of MMAP. */
const MAP_SHARED = 1;
const MAP_EXECUTABLE = 1 << 16;
/** CAP_IPC_LOCK and CAP_SYS_RESOURCE in /proc/PID/status. */
const CAPABILITIES = { IPC_LOCK: 14n, SYS_RESOURCE: 24n } as const;

export class DoorServer {
  readonly token: string = randomBytes(TOKEN_BYTES / 2).toString("hex");
  /** Name in the abstract namespace. */
  readonly name: string = `iommukit-${process.pid}-${randomBytes(6).toString("hex")}`;
  readonly #nodes: DeviceNodes;
  readonly #grant: readonly string[];
  readonly #server: Server;
  readonly #files = new Map<bigint, ServedFile>();
  readonly #frames = new FrameRegistry();
  readonly #clients = new Map<number, { readonly client: Client; connections: number }>();
  readonly #connections = new Set<Connection>();
  readonly #shared = new Map<SharedPages, SharedFile>();
  /** Mappings by the inode of the descriptor that lives as long. */
  readonly #mapped = new Map<bigint, MmapRegion>();
  /** Descriptors that clients made for files to come, by inode. */
  readonly #spares = new Map<bigint, Socket>();

  /** @param grant capabilities, without CAP_, that every client has besides its own */
  constructor(nodes: DeviceNodes, grant: readonly string[] = []) {
    this.#nodes = nodes;
    this.#grant = grant;
    this.#server = createServer((socket) => this.#accept(socket));
  }

  /** Open files of all clients. */
  get openFiles(): number {
    return this.#files.size;
  }

  async listen(): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(`\0${this.name}`, () => resolve());
    });
  }

  /** Releases every file. */
  async close(): Promise<void> {
    // Now, not when the sockets get to it: a caller may close what the files need.
    for (const connection of this.#connections) {
      this.#ended(connection);
      connection.socket.destroy();
    }
    for (const file of this.#shared.values()) file.close();
    this.#shared.clear();
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
    });
  }

  #accept(socket: Socket): void {
    const reader = new RequestReader();
    const connection: Connection = { socket, role: "new", inode: 0n, pid: 0, backlog: [] };
    this.#connections.add(connection);
    socket.on("data", (chunk) => {
      try {
        for (const request of reader.push(chunk)) connection.backlog.push(request);
      } catch (error) {
        if (!(error instanceof ProtocolError)) throw error;
        socket.destroy(); // not a shim: it alone is turned away
        return;
      }
      // After this round's closes: a file that was closed before is released before (see shim OP_SYNC).
      setImmediate(() => this.#drain(connection));
    });
    socket.on("end", () => this.#ended(connection));
    socket.on("error", () => socket.destroy());
    socket.on("close", () => {
      this.#connections.delete(connection);
      this.#ended(connection);
    });
  }

  #drain(connection: Connection): void {
    for (let request = connection.backlog.shift(); request !== undefined; request = connection.backlog.shift()) {
      if (connection.socket.destroyed) return;
      if (connection.role === "new") this.#greet(connection, request);
      else if (connection.role === "thread") this.#serve(connection, request);
      else connection.socket.destroy(); // an open file sends nothing more
    }
  }

  /** First message: the token, and what the connection is for. */
  #greet(connection: Connection, request: Request): void {
    const token = Buffer.from(request.input.subarray(0, TOKEN_BYTES)).toString("latin1");
    const known: readonly number[] = [Operation.HELLO, Operation.OPEN, Operation.SPARE];
    if (token !== this.token || !known.includes(request.op)) {
      connection.socket.destroy();
      return;
    }
    connection.pid = request.pid;
    if (request.op === Operation.HELLO) {
      connection.role = "thread";
      this.#client(request.pid).connections++;
      connection.socket.write(encodeReply(0));
      return;
    }
    if (request.op === Operation.SPARE) {
      // A file may come to it with the next call.
      connection.role = "file";
      connection.inode = request.inode;
      this.#spares.set(request.inode, connection.socket);
      connection.socket.write(encodeReply(0));
      return;
    }
    const path = Buffer.from(request.input.subarray(TOKEN_BYTES)).toString("utf8");
    const context = this.#client(request.pid).client.context();
    const result = attempt(() => {
      if (this.#files.has(request.inode)) refuse("EINVAL", `socket ${request.inode} is an open file already`, { argument: "inode" });
      this.#files.set(request.inode, { file: this.#nodes.open(context, path), socket: connection.socket, readable: false });
      return 0;
    });
    if (result === 0) {
      connection.role = "file";
      connection.inode = request.inode;
    }
    connection.socket.write(encodeReply(result));
    this.#showReadable();
  }

  /**
   * A byte that stays unread makes poll say "readable": for files without a poll of their own at all times, as in Linux, for
   * the others while they have something to read.
   */
  #showReadable(): void {
    for (const served of this.#files.values()) {
      if (served.readable || (served.file.poll && (served.file.poll() & POLLIN) === 0)) continue;
      served.readable = true;
      served.socket.write(Buffer.of(0));
    }
  }

  #serve(connection: Connection, request: Request): void {
    const { client } = this.#client(request.pid);
    if (request.op === Operation.SYNC) {
      connection.socket.write(encodeReply(0));
      return;
    }
    if (request.op === Operation.STATUS) {
      const { pinned, locked } = this.#clients.get(Number(request.a))?.client.memory.counters ?? { pinned: 0, locked: 0 };
      const pages = new Uint8Array(BigUint64Array.of(BigInt(pinned), BigInt(locked)).buffer);
      connection.socket.write(encodeReply(0, [{ address: request.b, bytes: pages }]));
      return;
    }
    if (request.op === Operation.PATH) {
      const known = this.#nodes.paths.includes(Buffer.from(request.input).toString("utf8"));
      connection.socket.write(encodeReply(known ? 0 : -ENOENT));
      return;
    }
    const served = this.#files.get(request.inode);
    if (served === undefined) {
      connection.socket.write(encodeReply(-ENOTTY));
      return;
    }
    if (request.op === Operation.MMAP) {
      const copies: Copy[] = [];
      const result = attempt(() => {
        if (request.input.length !== 8) refuse("EINVAL", "no place for the offset", { argument: "input" });
        const { fd, offset } = this.#map(served.file, client, request);
        const address = new DataView(request.input.buffer, request.input.byteOffset).getBigUint64(0, true);
        copies.push({ address, bytes: new Uint8Array(BigUint64Array.of(BigInt(offset)).buffer) });
        return fd;
      });
      connection.socket.write(encodeReply(result, copies));
      return;
    }
    const spare = (request.flags & HAS_SPARE) === 0 || request.op !== Operation.IOCTL ? undefined : new Spare(Number(request.a >> 32n), request.c);
    let flags = 0;
    const { result, copies } = answer(served.file, client, request, spare);
    if (result === WANTS_SPARE) flags = ReplyFlag.WANTS_SPARE;
    if (spare?.file) {
      const socket = this.#spares.get(spare.inode);
      if (socket) this.#files.set(spare.inode, { file: spare.file, socket, readable: false });
      flags = ReplyFlag.TOOK_SPARE;
    }
    if (served.readable && served.file.poll && (served.file.poll() & POLLIN) === 0) {
      served.readable = false;
      flags |= ReplyFlag.DRAIN;
    }
    connection.socket.write(encodeReply(result, copies, flags));
    this.#showReadable();
  }

  /** Maps a part of a file; returns the descriptor of this process that holds its memory, and where it begins there. */
  #map(file: KernelFile, client: Client, request: Request): { fd: number; offset: number } {
    if (file.mmap === undefined) refuse("ENODEV", `${file.path} cannot be mapped`, { argument: "fd" });
    const wanted = { position: request.a, length: Number(request.b), shared: (request.flags & MAP_SHARED) !== 0, executable: (request.flags & MAP_EXECUTABLE) !== 0 };
    const region = file.mmap?.(client.context(), wanted);
    if (region === undefined) return refuse("EINVAL", `${file.path} cannot be mapped`, { argument: "fd" });
    const { memory } = region;
    if (memory === undefined) {
      region.unmapped();
      return refuse("ENODEV", "registers of a device cannot be mapped through this door", { argument: "fd" });
    }
    let shared = this.#shared.get(memory.pages);
    if (shared === undefined) {
      shared = new SharedFile(memory.pages);
      this.#shared.set(memory.pages, shared);
      this.#frames.addDevice(shared.key);
    }
    this.#mapped.set(request.c, region);
    return { fd: shared.fd, offset: memory.offset };
  }

  #client(pid: number): { readonly client: Client; connections: number } {
    let entry = this.#clients.get(pid);
    if (entry === undefined) {
      entry = { client: new Client(pid, this.#files, this.#frames, this.#grant), connections: 0 };
      this.#clients.set(pid, entry);
    }
    return entry;
  }

  #ended(connection: Connection): void {
    if (connection.role === "file") {
      this.#files.get(connection.inode)?.file.release();
      this.#files.delete(connection.inode);
      this.#spares.delete(connection.inode);
      this.#mapped.get(connection.inode)?.unmapped();
      this.#mapped.delete(connection.inode);
    } else if (connection.role === "thread") {
      const entry = this.#clients.get(connection.pid);
      if (entry && --entry.connections <= 0) {
        entry.client.memory.close();
        this.#clients.delete(connection.pid);
      }
    }
    connection.role = "ended";
    connection.socket.end();
  }
}

interface ServedFile {
  readonly file: KernelFile;
  /** The client's descriptor, seen from here. */
  readonly socket: Socket;
  /** A byte waits there to be read. */
  readable: boolean;
}

/** A descriptor that a call may give a file to. */
class Spare {
  readonly fd: number;
  readonly inode: bigint;
  file: KernelFile | undefined;

  constructor(fd: number, inode: bigint) {
    this.fd = fd;
    this.inode = inode;
  }
}

/** A call makes a file, and its client sent no descriptor for it: everything is undone, and it asks again. */
class NeedsSpare extends Error {}

/** Result of a call that ended with `NeedsSpare`; no errno. */
const WANTS_SPARE = -0x7fff_ffff;

interface Connection {
  readonly socket: Socket;
  role: "new" | "thread" | "file" | "ended";
  inode: bigint;
  pid: number;
  readonly backlog: Request[];
}

/** Runs a call; a refusal becomes its negative errno, anything else EIO. */
function attempt(run: () => number): number {
  try {
    return run();
  } catch (error) {
    if (error instanceof IommuError) return -error.code;
    if (error instanceof NeedsSpare) return WANTS_SPARE;
    process.stderr.write(`iommu: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
    return -EIO;
  }
}

interface Answer {
  readonly result: number;
  readonly copies: readonly Copy[];
}

function answer(file: KernelFile, client: Client, request: Request, spare: Spare | undefined): Answer {
  const length = Number(request.c);
  const plain = (result: number): Answer => ({ result, copies: [] });
  switch (request.op) {
    case Operation.IOCTL: {
      const memory = new InlineArgument(client.memory, request.b, request.input);
      const result = attempt(() => file.ioctl(client.context(memory, spare), Number(request.a & 0xffff_ffffn), request.b));
      return { result, copies: memory.copies };
    }
    case Operation.PREAD:
    case Operation.READ: {
      if (length > 4096) return plain(-EINVAL);
      const target = new Uint8Array(length);
      const context = client.context();
      const read = request.op === Operation.PREAD ? file.pread?.bind(file, context, request.a) : file.read?.bind(file, context);
      if (read === undefined) return plain(request.op === Operation.PREAD && file.read ? -ESPIPE : -EINVAL);
      const result = attempt(() => read(target));
      return result > 0 ? { result, copies: [{ address: request.b, bytes: target.subarray(0, result) }] } : plain(result);
    }
    case Operation.PWRITE:
    case Operation.WRITE: {
      const write = request.op === Operation.PWRITE ? file.pwrite?.bind(file, client.context(), request.a) : file.write?.bind(file, client.context());
      return plain(write === undefined ? -EINVAL : attempt(() => write(request.input)));
    }
    default:
      return plain(-EINVAL);
  }
}

/** Every client runs as the door's own user. */
const USER = { locked: 0 };

/** A client process: what a call may reach of it. */
class Client {
  readonly memory: ClientMemory;
  readonly #pid: number;
  readonly #files: ReadonlyMap<bigint, ServedFile>;
  readonly #frames: FrameRegistry;
  readonly #grant: readonly string[];

  constructor(pid: number, files: ReadonlyMap<bigint, ServedFile>, frames: FrameRegistry, grant: readonly string[]) {
    this.#grant = grant;
    this.#pid = pid;
    this.#files = files;
    this.#frames = frames;
    this.memory = new ClientMemory(pid, frames);
  }

  context(memory: UserBytes = this.memory, spare?: Spare): CallContext {
    const pid = this.#pid;
    const files = this.#files;
    const frames = this.#frames;
    const grant = this.#grant;
    return {
      pid,
      memory,
      process: this.memory,
      user: USER,
      file: (fd) => fileOf(pid, fd, files, frames),
      mapsRegisters: false,
      install: (file) => {
        if (spare === undefined) throw new NeedsSpare();
        spare.file = file;
        return spare.fd;
      },
      uninstall: () => {
        const file = spare?.file;
        if (spare) spare.file = undefined;
        file?.release();
      },
      get capabilities() {
        return new Set([...readCapabilities(pid), ...grant]);
      },
      get memlockLimit() {
        return readMemlock(pid);
      },
    };
  }
}

/** Descriptor number of a client to file: a fake descriptor is a socket, and its inode its name. */
function fileOf(pid: number, fd: number, files: ReadonlyMap<bigint, ServedFile>, frames: FrameRegistry): OpenFile | undefined {
  const path = `/proc/${pid}/fd/${fd}`;
  let link: string;
  try {
    link = readlinkSync(path);
  } catch {
    return refuse("EBADF", `descriptor ${fd} is not open in process ${pid}`, { argument: "fd" });
  }
  const match = /^socket:\[(\d+)\]$/.exec(link);
  if (match) return files.get(BigInt(match[1]))?.file;
  if (link === "anon_inode:[eventfd]") return new ClientEventfd(pid, fd);
  if (!link.startsWith("/")) return undefined;
  try {
    return new ForeignMemoryFile(path, frames);
  } catch {
    return undefined;
  }
}

function readCapabilities(pid: number): string[] {
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(readProc(pid, "status"))?.[1] ?? "0"}`);
  return Object.entries(CAPABILITIES).flatMap(([name, bit]) => ((effective >> bit) & 1n ? [name] : []));
}

function readMemlock(pid: number): bigint {
  const limit = /^Max locked memory\s+(\S+)/m.exec(readProc(pid, "limits"))?.[1] ?? "0";
  return limit === "unlimited" ? 2n ** 64n : BigInt(limit);
}

function readProc(pid: number, name: string): string {
  try {
    return readFileSync(`/proc/${pid}/${name}`, "latin1");
  } catch {
    return "";
  }
}
