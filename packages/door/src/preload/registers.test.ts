/** What a shim may ask of registers that its program has mapped, and what ENQCMD sends. */
import { type MmapRegion, refuse } from "@iommukit/core";
import { beforeEach, describe, expect, it } from "vitest";
import type { Client } from "../client.js";
import { Operation, type Request } from "./protocol.js";
import { accessRegisters } from "./registers.js";

const EPERM = 1;
const EFAULT = 14;
const EINVAL = 22;
const PAGE = 4096;

let log: string[];
let accepts: boolean;
let decodes: boolean;
let pasid: number | undefined;

const answering = (): void => void (decodes || refuse("EFAULT", "memory decoding is off", { rule: "PCI" }));
const region: MmapRegion = {
  length: PAGE,
  backend: {
    read: (at, target) => {
      answering();
      log.push(`r ${at}+${target.length}`);
      target.fill(at & 0xff);
    },
    write: (at, source) => {
      answering();
      log.push(`w ${at}=${source.join()}`);
    },
  },
  writeBlock: (at, bytes, deferrable) => {
    log.push(`${deferrable ? "deferrable" : "posted"} ${at}=${bytes.subarray(0, 5).join()}`);
    return accepts;
  },
  retain: () => {},
  unmapped: () => {},
};
const { writeBlock: _, ...plain } = region;

function ask(op: number, fields: Partial<Record<"a" | "b" | "c", bigint>>, input: Uint8Array = new Uint8Array(0), of: MmapRegion = region): number {
  const request: Request = { op, inode: 1n, a: 0n, b: 0n, c: 0n, pid: 1, tid: 1, flags: 0, ...fields, input };
  const { result, copies } = accessRegisters(of, { pid: 1, pasid } as Client, request);
  log.push(...copies.map(({ bytes }) => `gives ${bytes.join()}`));
  return result;
}

beforeEach(() => {
  log = [];
  accepts = true;
  decodes = true;
  pasid = undefined;
});

describe("registers that a program has mapped", () => {
  it("are accessed one after the other, each of the width that was asked for", () => {
    expect(ask(Operation.LOAD, { a: 8n, b: 2n, c: 6n })).toBe(6);
    expect(ask(Operation.STORE, { a: 16n, b: 4n }, Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8))).toBe(8);
    expect(log).toEqual(["r 8+2", "r 10+2", "r 12+2", "gives 8,8,10,10,12,12", "w 16=1,2,3,4", "w 20=5,6,7,8"]);
  });

  it("are not accessed behind their end, in wrong pieces, or by more than a page", () => {
    const bad = [
      ask(Operation.LOAD, { a: BigInt(PAGE - 2), b: 4n, c: 4n }), ask(Operation.LOAD, { a: 1n << 63n, b: 4n, c: 4n }), ask(Operation.LOAD, { b: 0n, c: 4n }), ask(Operation.LOAD, { b: 4n, c: 6n }),
      ask(Operation.LOAD, { b: 128n, c: 128n }), ask(Operation.LOAD, { b: 8n, c: 1n << 40n }), ask(Operation.STORE, { a: BigInt(PAGE), b: 1n }, Uint8Array.of(1)),
      ask(Operation.BLOCK, { a: 32n }, new Uint8Array(64)), ask(Operation.BLOCK, { a: BigInt(PAGE) }, new Uint8Array(64)), ask(Operation.BLOCK, {}, new Uint8Array(32)),
    ];
    expect(bad).toEqual(bad.map(() => -EINVAL));
    expect(log).toEqual([]);
  });

  it("say that they do not answer, and give nothing then", () => {
    decodes = false;
    expect([ask(Operation.LOAD, { b: 4n, c: 4n }), ask(Operation.STORE, { b: 1n }, Uint8Array.of(1))]).toEqual([-EFAULT, -EFAULT]);
    expect(log).toEqual([]);
  });

  it("take ENQCMD's 64 bytes with the PASID of the program, and none without", () => {
    const command = new Uint8Array(64).fill(0xff);
    expect(ask(Operation.BLOCK, { a: 64n, b: 1n }, command)).toBe(-EPERM);
    pasid = 0x12345;
    expect(ask(Operation.BLOCK, { a: 64n, b: 1n }, command)).toBe(0);
    accepts = false;
    expect(ask(Operation.BLOCK, { a: 64n, b: 1n }, command)).toBe(1);
    expect(log).toEqual(["deferrable 64=69,35,1,0,255", "deferrable 64=69,35,1,0,255"]);
    expect(command.every((byte) => byte === 0xff)).toBe(true);
  });

  it("take MOVDIR64B's as they are", () => {
    expect(ask(Operation.BLOCK, { a: 128n }, new Uint8Array(64).fill(7))).toBe(0);
    expect(ask(Operation.BLOCK, { a: 128n }, new Uint8Array(64).fill(7), plain)).toBe(0);
    pasid = 1;
    expect(ask(Operation.BLOCK, { a: 128n, b: 1n }, new Uint8Array(64).fill(7), plain)).toBe(1);
    expect(log).toEqual(["posted 128=7,7,7,7,7", `w 128=${new Uint8Array(64).fill(7).join()}`]);
  });
});
