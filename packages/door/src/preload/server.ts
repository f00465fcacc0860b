/**
 * The preload door's socket, in Linux's abstract namespace, which leaves nothing on disk, guarded by a token. A connection is
 * either a thread's (HELLO) or an open file (OPEN, SPARE), whose end is the file's release.
 */
import { randomBytes } from "node:crypto";
import { createServer, type Server, type Socket } from "node:net";
import { type KernelFile, type MmapRegion, refuse } from "@iommukit/core";
import { attempt, EINVAL, ioctl, IO_BYTES, read, write } from "../calls.js";
import type { Client } from "../client.js";
import type { Door } from "../door.js";
import { isDrained, type ServedFile } from "../open-files.js";
import { InlineArgument } from "./inline-argument.js";
import { type Copy, encodeReply, HAS_SPARE, Operation, ProtocolError, ReplyFlag, type Request, RequestReader, TOKEN_BYTES, TRAPS } from "./protocol.js";
import { accessRegisters } from "./registers.js";
import { Spare } from "./spare.js";

const ENOENT = 2;
const EBADF = 9;
const ENODEV = 19;
const ENOTTY = 25;
/** Flags of MMAP. */
const MAP_SHARED = 1;
const MAP_EXECUTABLE = 1 << 16;

export class PreloadServer {
  readonly token: string = randomBytes(TOKEN_BYTES / 2).toString("hex");
  /** Name in the abstract namespace. */
  readonly name: string = `iommukit-${process.pid}-${randomBytes(6).toString("hex")}`;
  readonly #door: Door;
  readonly #server: Server;
  readonly #connections = new Set<Connection>();
  /** How many connections each process has. */
  readonly #perClient = new Map<number, number>();
  /** Mappings by the inode of the descriptor that lives as long. */
  readonly #mapped = new Map<bigint, MmapRegion>();
  /** Descriptors that clients made for files to come, by inode. */
  readonly #spares = new Map<bigint, Socket>();

  constructor(door: Door) {
    this.#door = door;
    this.#server = createServer((socket) => this.#accept(socket));
  }

  async listen(): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(`\0${this.name}`, () => resolve());
    });
  }

  /** Turns every client away. */
  async close(): Promise<void> {
    // Now, not when the sockets get to it: a caller may close what the files need.
    for (const connection of this.#connections) {
      this.#ended(connection);
      connection.socket.destroy();
    }
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
    // A file that is closed with its byte unread ends so. Before "close", which comes too late for a SYNC of the same round.
    socket.on("error", () => {
      this.#ended(connection);
      socket.destroy();
    });
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
    if (token !== this.token) {
      connection.socket.destroy();
      return;
    }
    const { socket } = connection;
    connection.pid = request.pid;
    connection.inode = request.inode;
    connection.role = "refused";
    this.#perClient.set(request.pid, (this.#perClient.get(request.pid) ?? 0) + 1);
    switch (request.op) {
      case Operation.HELLO:
        connection.role = "thread";
        socket.write(encodeReply(0));
        break;
      case Operation.SPARE: // a file may come to it with the next call
        if (this.#spares.has(request.inode)) return void socket.destroy();
        connection.role = "file";
        this.#spares.set(request.inode, socket);
        socket.write(encodeReply(0));
        break;
      case Operation.OPEN:
        this.#open(connection, request, Buffer.from(request.input.subarray(TOKEN_BYTES)).toString("utf8"));
        break;
      default:
        socket.destroy();
    }
  }

  #open(connection: Connection, request: Request, path: string): void {
    const { inode, socket } = connection;
    const { files, nodes } = this.#door;
    const client = this.#client(connection, request);
    let file: KernelFile | undefined;
    const result = attempt(() => {
      if (files.get(inode)) refuse("EINVAL", `socket ${inode} is an open file already`, { argument: "inode" });
      file = nodes.open(client.context(), path);
      return 0;
    });
    socket.write(encodeReply(result));
    if (file === undefined) return;
    connection.role = "file";
    files.add(inode, file, fileEnd(socket));
    files.showReadable();
  }

  #client({ pid }: Connection, { flags }: Request): Client {
    const client = this.#door.client(pid);
    client.mapsRegisters = (flags & TRAPS) !== 0;
    return client;
  }

  #serve(connection: Connection, request: Request): void {
    const reply = (result: number, copies: readonly Copy[] = [], flags = 0): void => void connection.socket.write(encodeReply(result, copies, flags));
    switch (request.op) {
      case Operation.SYNC:
        return reply(0);
      case Operation.STATUS: {
        const { pinned, locked } = this.#door.pages(Number(request.a));
        return reply(0, [u64Copy(request.b, BigInt(pinned), BigInt(locked))]);
      }
      case Operation.ATTRIBUTE:
        return reply(this.#attribute(this.#door.client(connection.pid), request));
      case Operation.PATH:
        return reply(this.#door.nodes.paths.includes(Buffer.from(request.input).toString("utf8")) ? 0 : -ENOENT);
      case Operation.LOAD:
      case Operation.STORE:
      case Operation.BLOCK: {
        const region = this.#mapped.get(request.inode);
        if (region === undefined) return reply(-EBADF);
        const { result, copies } = accessRegisters(region, this.#client(connection, request), request);
        reply(result, copies);
        return this.#door.files.showReadable();
      }
      default:
    }
    const served = this.#door.files.get(request.inode);
    if (served === undefined) return reply(-ENOTTY);
    const { result, copies, flags } = this.#call(served, this.#client(connection, request), request);
    reply(result, copies, isDrained(served) ? flags | ReplyFlag.DRAIN : flags);
    if (isDrained(served)) served.readable = false;
    this.#door.files.showReadable();
  }

  /** A write to a file of /sys, which was not opened here. */
  #attribute(client: Client, { a: named, input }: Request): number {
    const path = Buffer.from(input.subarray(0, Number(named))).toString("utf8");
    if (!path.startsWith("/sys/")) return -EBADF;
    let result = 0;
    const opened = attempt(() => {
      const file = this.#door.nodes.open(client.context(), path);
      result = write(file, client, undefined, input.subarray(Number(named)));
      file.release();
      return 0;
    });
    return opened === -ENOENT ? -ENODEV : opened || result;
  }

  #call(served: ServedFile, client: Client, request: Request): Answer {
    const { file } = served;
    const position = request.op === Operation.PREAD || request.op === Operation.PWRITE ? request.a : undefined;
    switch (request.op) {
      case Operation.IOCTL:
        return this.#ioctl(served, client, request);
      case Operation.PREAD:
      case Operation.READ: {
        if (request.c > IO_BYTES) return plain(-EINVAL);
        const { result, bytes } = read(file, client, position, Number(request.c));
        return { result, copies: bytes.length > 0 ? [{ address: request.b, bytes }] : [], flags: 0 };
      }
      case Operation.PWRITE:
      case Operation.WRITE:
        return plain(write(file, client, position, request.input));
      case Operation.MMAP:
        return this.#mmap(file, client, request);
      default:
        return plain(-EINVAL);
    }
  }

  #ioctl(served: ServedFile, client: Client, request: Request): Answer {
    const memory = new InlineArgument(client.memory, request.b, request.input);
    const spare = new Spare(request.flags & HAS_SPARE ? Number(request.a >> 32n) : undefined);
    const result = ioctl(served, client, memory, spare, Number(request.a & 0xffff_ffffn), request.b);
    const { copies } = memory;
    if (spare.wanted) return { result, copies: [], flags: ReplyFlag.WANTS_SPARE };
    if (spare.file === undefined) return { result, copies, flags: 0 };
    const socket = this.#spares.get(request.c);
    if (socket === undefined || this.#door.files.get(request.c)) {
      spare.file.release(); // the program died meanwhile, or is no shim
      return plain(-EBADF);
    }
    this.#door.files.add(request.c, spare.file, fileEnd(socket));
    return { result, copies, flags: ReplyFlag.TOOK_SPARE };
  }

  #mmap(file: KernelFile, client: Client, request: Request): Answer {
    const copies: Copy[] = [];
    let flags = 0;
    const result = attempt(() => {
      if (request.input.length !== 8) refuse("EINVAL", "no place for the offset", { argument: "input" });
      if (!this.#spares.has(request.c) || this.#mapped.has(request.c)) refuse("EBADF", "no descriptor that lives as long as the mapping", { argument: "c" });
      const wanted = { position: request.a, length: Number(request.b), shared: (request.flags & MAP_SHARED) !== 0, executable: (request.flags & MAP_EXECUTABLE) !== 0 };
      const region = this.#door.map(file, client, wanted);
      this.#mapped.set(request.c, region);
      const part = this.#door.share(region);
      if (part === undefined) {
        flags = ReplyFlag.REGISTERS;
        return 0;
      }
      copies.push(u64Copy(new DataView(request.input.buffer, request.input.byteOffset).getBigUint64(0, true), BigInt(part.offset)));
      return part.shared.fd;
    });
    return { result, copies, flags };
  }

  #ended(connection: Connection): void {
    const { role, inode, pid } = connection;
    connection.role = "ended";
    connection.socket.end();
    if (role === "new" || role === "ended") return;
    if (role === "file") {
      this.#door.files.release(inode);
      this.#spares.delete(inode);
      const region = this.#mapped.get(inode);
      if (region) this.#door.unmap(region);
      this.#mapped.delete(inode);
    }
    const left = (this.#perClient.get(pid) ?? 0) - 1;
    if (left > 0) {
      this.#perClient.set(pid, left);
    } else {
      this.#perClient.delete(pid);
      this.#door.endClient(pid);
    }
  }
}

interface Connection {
  readonly socket: Socket;
  /** A file that could not be opened is "refused". */
  role: "new" | "thread" | "file" | "refused" | "ended";
  inode: bigint;
  pid: number;
  readonly backlog: Request[];
}

interface Answer {
  readonly result: number;
  readonly copies: readonly Copy[];
  readonly flags: number;
}

function plain(result: number): Answer {
  return { result, copies: [], flags: 0 };
}

function u64Copy(address: bigint, ...words: bigint[]): Copy {
  return { address, bytes: new Uint8Array(BigUint64Array.from(words).buffer) };
}

function fileEnd(socket: Socket): { wake(): void } {
  return { wake: () => void socket.write(Buffer.of(0)) };
}
