/** Messages between shim and door: the mirror of native/shim.h. Little-endian. */

export const Operation = {
  HELLO: 1, OPEN: 2, IOCTL: 3, PREAD: 4, PWRITE: 5, READ: 6, WRITE: 7, SYNC: 8, PATH: 9, SPARE: 10, STATUS: 11, MMAP: 12, LOAD: 13, STORE: 14, BLOCK: 15, ATTRIBUTE: 16,
} as const;

export const REQUEST_BYTES = 56;
export const TOKEN_BYTES = 32;
/** Largest message that a shim sends: a header and one page. */
export const MAX_MESSAGE: number = REQUEST_BYTES + 4096;
/** `Request.flags` of an ioctl: it brings a spare descriptor. */
export const HAS_SPARE = 1;
/** Of any: accesses to registers that the process maps will trap. */
export const TRAPS = 0x8000_0000;
/** Flags of a reply. */
export const ReplyFlag = { WANTS_SPARE: 1, TOOK_SPARE: 2, DRAIN: 4, REGISTERS: 8 } as const;
const REPLY_BYTES = 16;
const COPY_BYTES = 16;

export interface Request {
  readonly op: number;
  readonly inode: bigint;
  readonly a: bigint;
  readonly b: bigint;
  readonly c: bigint;
  readonly pid: number;
  readonly tid: number;
  readonly flags: number;
  readonly input: Uint8Array;
}

/** Bytes for the client's memory. */
export interface Copy {
  readonly address: bigint;
  readonly bytes: Uint8Array;
}

/** Somebody who does not speak the protocol. */
export class ProtocolError extends Error {}

/** Cuts a stream into requests. */
export class RequestReader {
  #pending: Buffer = Buffer.alloc(0);

  /** Takes what arrived; yields each request that is complete. @throws ProtocolError */
  *push(chunk: Buffer): Generator<Request> {
    this.#pending = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk]);
    while (this.#pending.length >= 4) {
      const length = this.#pending.readUInt32LE(0);
      if (length < REQUEST_BYTES || length > MAX_MESSAGE) throw new ProtocolError(`a message of ${length} bytes`);
      if (this.#pending.length < length) return;
      const message = this.#pending.subarray(0, length);
      this.#pending = this.#pending.subarray(length);
      yield decodeRequest(message);
    }
  }
}

/** @throws ProtocolError */
export function decodeRequest(message: Buffer): Request {
  const inlen = message.readUInt32LE(48);
  if (REQUEST_BYTES + inlen !== message.length) throw new ProtocolError(`${inlen} input bytes in a message of ${message.length}`);
  return {
    op: message.readUInt32LE(4),
    inode: message.readBigUInt64LE(8),
    a: message.readBigUInt64LE(16),
    b: message.readBigUInt64LE(24),
    c: message.readBigUInt64LE(32),
    pid: message.readUInt32LE(40),
    tid: message.readUInt32LE(44),
    flags: message.readUInt32LE(52),
    input: message.subarray(REQUEST_BYTES),
  };
}

/** @param result the call's result, or a negative errno */
export function encodeReply(result: number, copies: readonly Copy[] = [], flags = 0): Buffer {
  const length = copies.reduce((sum, copy) => sum + COPY_BYTES + copy.bytes.length, REPLY_BYTES);
  const reply = Buffer.alloc(length);
  reply.writeUInt32LE(length, 0);
  reply.writeInt32LE(result, 4);
  reply.writeUInt32LE(copies.length, 8);
  reply.writeUInt32LE(flags, 12);
  let at = REPLY_BYTES;
  for (const { address, bytes } of copies) {
    reply.writeBigUInt64LE(address, at);
    reply.writeUInt32LE(bytes.length, at + 8);
    reply.set(bytes, at + COPY_BYTES);
    at += COPY_BYTES + bytes.length;
  }
  return reply;
}
