/** Rules of virtio-iommu (virtio 1.3, 5.13.6), as one table: among them those that hypervisors have fixed late. */
import { Access, IommuError, PhysicalMemory } from "@iommukit/core";
import { describe, expect, it } from "vitest";
import { Feature, FaultReason, type HostDomain, type HostDomains, MapFlag, type Mode, RequestType, Status, VirtioIommu, VirtioIommuGuestDriver, type VirtioIommuOptions, VirtioMmio } from "./index.js";

const NAMES: Readonly<Record<number, string>> = Object.fromEntries(Object.entries(Status).map(([name, value]) => [value, name]));
const ALL = Feature.VERSION_1 | 0x77n;
const { READ, WRITE, MMIO } = MapFlag;

function guest(options: Partial<VirtioIommuOptions> = {}, features: bigint = ALL) {
  const memory = new PhysicalMemory();
  memory.addRam(0, 2 ** 20);
  const device = new VirtioIommu(memory, { endpoints: [8, 9], limits: { inputRange: { start: 0n, last: 0xff_ffffn }, domainRange: { start: 1, last: 99 } }, ...options });
  const registers = new VirtioMmio(device.transport);
  const driver = new VirtioIommuGuestDriver(registers, memory, 0x1000, features);
  const send = (bytes: readonly number[], room = 4): string => {
    const answer = driver.request(Uint8Array.from(bytes), room);
    return answer === undefined ? "broken" : NAMES[answer[room - 4]];
  };
  return { device, driver, registers, memory, send };
}

const u32 = (value: number): number[] => [...new Uint8Array(Uint32Array.of(value).buffer)];
const u64 = (value: bigint): number[] => [...new Uint8Array(BigUint64Array.of(value).buffer)];
const head = (type: number): number[] => [type, 0, 0, 0];
const attach = (domain: number, endpoint: number, flags = 0, reserved = 0): number[] => [...head(RequestType.ATTACH), ...u32(domain), ...u32(endpoint), ...u32(flags), ...u32(reserved)];
const detach = (domain: number, endpoint: number, reserved = 0): number[] => [...head(RequestType.DETACH), ...u32(domain), ...u32(endpoint), ...u32(reserved), ...u32(0)];
const map = (domain: number, start: bigint, last: bigint, physical: bigint, flags: number): number[] => [...head(RequestType.MAP), ...u32(domain), ...u64(start), ...u64(last), ...u64(physical), ...u32(flags)];
const unmap = (domain: number, start: bigint, last: bigint, reserved = 0): number[] => [...head(RequestType.UNMAP), ...u32(domain), ...u64(start), ...u64(last), ...u32(reserved)];
const probe = (endpoint: number): number[] => [...head(RequestType.PROBE), ...u32(endpoint), ...new Uint8Array(64)];

type Row = readonly [rule: string, requests: readonly (readonly number[])[], strict: string, qemu?: string];

/** Each row: what is sent, and the status of the last. QEMU's where it is another. */
const RULES: readonly Row[] = [
  ["ATTACH makes a domain", [attach(1, 8)], "OK"],
  ["ATTACH of an endpoint that does not exist", [attach(1, 7)], "NOENT"],
  ["ATTACH with a flag that means nothing", [attach(1, 8, 2)], "INVAL"],
  ["ATTACH with a reserved field that is not 0", [attach(1, 8, 0, 1)], "INVAL", "OK"],
  ["ATTACH to a domain below the range", [attach(0, 8)], "RANGE", "OK"],
  ["ATTACH to a domain above the range", [attach(100, 8)], "RANGE", "OK"],
  ["ATTACH of two endpoints to one domain", [attach(1, 8), attach(1, 9)], "OK"],
  ["ATTACH to another domain leaves the old one, which goes", [attach(1, 8), attach(2, 8), map(1, 0n, 0xfffn, 0n, READ)], "NOENT"],
  ["ATTACH to the same domain keeps its mappings", [attach(1, 8), map(1, 0n, 0xfffn, 0n, READ), attach(1, 8), map(1, 0n, 0xfffn, 0n, READ)], "INVAL", "OK"],
  ["ATTACH as bypass to a domain that has mappings", [attach(1, 8), attach(1, 9, 1)], "INVAL"],
  ["ATTACH without bypass to a bypass domain", [attach(1, 8, 1), attach(1, 9)], "INVAL"],
  ["a refused ATTACH leaves the endpoint where it was", [attach(1, 8), attach(2, 9), attach(2, 8, 1), detach(1, 8)], "OK", "INVAL"],
  ["DETACH", [attach(1, 8), detach(1, 8)], "OK"],
  ["DETACH of an endpoint that does not exist", [detach(1, 7)], "NOENT"],
  ["DETACH from another domain", [attach(1, 8), detach(2, 8)], "INVAL"],
  ["DETACH of what is not attached", [detach(1, 8)], "INVAL", "NOENT"],
  ["DETACH with a reserved field that is not 0", [attach(1, 8), detach(1, 8, 1)], "INVAL", "OK"],
  ["DETACH of the last endpoint ends the domain", [attach(1, 8), detach(1, 8), unmap(1, 0n, 0xfffn)], "NOENT"],
  ["MAP in an unknown domain", [map(1, 0n, 0xfffn, 0n, READ)], "NOENT"],
  ["MAP in a bypass domain", [attach(1, 8, 1), map(1, 0n, 0xfffn, 0n, READ)], "INVAL"],
  ["MAP with a flag that means nothing", [attach(1, 8), map(1, 0n, 0xfffn, 0n, 8)], "INVAL"],
  ["MAP of a range that ends before it begins", [attach(1, 8), map(1, 0x2000n, 0xfffn, 0n, READ)], "INVAL"],
  ["MAP that begins inside a page", [attach(1, 8), map(1, 0x800n, 0xfffn, 0n, READ)], "RANGE"],
  ["MAP that ends inside a page", [attach(1, 8), map(1, 0n, 0xffen, 0n, READ)], "RANGE"],
  ["MAP to the middle of a page", [attach(1, 8), map(1, 0n, 0xfffn, 0x10n, READ)], "RANGE"],
  ["MAP beyond the input range", [attach(1, 8), map(1, 0x100_0000n, 0x100_0fffn, 0n, READ)], "RANGE", "OK"],
  ["MAP across the end of the input range", [attach(1, 8), map(1, 0xff_f000n, 0x100_0fffn, 0n, READ)], "RANGE", "OK"],
  ["MAP of the last page of the input range", [attach(1, 8), map(1, 0xff_f000n, 0xff_ffffn, 0n, READ)], "OK"],
  ["MAP whose target wraps", [attach(1, 8), map(1, 0n, 0x1fffn, 0xffff_ffff_ffff_f000n, READ)], "RANGE"],
  ["MAP over the start of a mapping", [attach(1, 8), map(1, 0x1000n, 0x2fffn, 0n, READ), map(1, 0n, 0x1fffn, 0n, READ)], "INVAL"],
  ["MAP over the end of a mapping", [attach(1, 8), map(1, 0x1000n, 0x2fffn, 0n, READ), map(1, 0x2000n, 0x3fffn, 0n, READ)], "INVAL"],
  ["MAP inside a mapping", [attach(1, 8), map(1, 0x1000n, 0x3fffn, 0n, READ), map(1, 0x2000n, 0x2fffn, 0n, READ)], "INVAL"],
  ["MAP around a mapping", [attach(1, 8), map(1, 0x1000n, 0x1fffn, 0n, READ), map(1, 0n, 0x2fffn, 0n, READ)], "INVAL"],
  ["MAP beside a mapping", [attach(1, 8), map(1, 0x1000n, 0x1fffn, 0n, READ), map(1, 0x2000n, 0x2fffn, 0n, READ)], "OK"],
  ["MAP of MMIO", [attach(1, 8), map(1, 0n, 0xfffn, 0n, READ | MMIO)], "OK"],
  ["UNMAP in an unknown domain", [unmap(1, 0n, 0xfffn)], "NOENT"],
  ["UNMAP in a bypass domain", [attach(1, 8, 1), unmap(1, 0n, 0xfffn)], "INVAL"],
  ["UNMAP where nothing is mapped", [attach(1, 8), unmap(1, 0n, 0xfffn)], "OK"],
  ["UNMAP of several mappings and the holes between", [attach(1, 8), map(1, 0n, 0xfffn, 0n, READ), map(1, 0x2000n, 0x2fffn, 0n, READ), unmap(1, 0n, 0x3fffn), map(1, 0n, 0x2fffn, 0n, READ)], "OK"],
  ["UNMAP that would cut a mapping's start off", [attach(1, 8), map(1, 0x1000n, 0x2fffn, 0n, READ), unmap(1, 0n, 0x1fffn)], "RANGE"],
  ["UNMAP that would cut a mapping's end off", [attach(1, 8), map(1, 0x1000n, 0x2fffn, 0n, READ), unmap(1, 0x2000n, 0x3fffn)], "RANGE"],
  ["UNMAP from the middle of a mapping", [attach(1, 8), map(1, 0n, 0x2fffn, 0n, READ), unmap(1, 0x1000n, 0x1fffn)], "RANGE"],
  ["a refused UNMAP removes nothing", [attach(1, 8), map(1, 0n, 0xfffn, 0n, READ), map(1, 0x1000n, 0x2fffn, 0n, READ), unmap(1, 0n, 0x1fffn), map(1, 0n, 0xfffn, 0n, READ)], "INVAL", "OK"],
  ["UNMAP of everything", [attach(1, 8), map(1, 0xff_f000n, 0xff_ffffn, 0n, READ), unmap(1, 0n, 2n ** 64n - 1n), map(1, 0xff_f000n, 0xff_ffffn, 0n, READ)], "OK"],
  ["UNMAP with a reserved field that is not 0", [attach(1, 8), unmap(1, 0n, 0xfffn, 1)], "INVAL", "OK"],
  ["a request of an unknown type", [head(6)], "UNSUPP"],
  ["a request without its body", [head(RequestType.MAP)], "INVAL"],
  ["a request without its head", [[1, 0]], "broken"],
];

describe.each(["strict", "qemu"] as const)("rules, %s", (mode: Mode) => {
  it.each(RULES.map((row) => [...row] as [string, readonly (readonly number[])[], string, string?]))("%s", (_rule, requests, strict, qemu = strict) => {
    const { send } = guest({ mode });
    const answers = requests.map((request) => send(request));
    expect(answers.at(-1)).toBe(mode === "strict" ? strict : qemu);
  });
});

describe("accesses of endpoints", () => {
  it("are translated within what the flags allow", () => {
    const { device, send } = guest();
    send(attach(1, 8));
    send(map(1, 0x1000n, 0x2fffn, 0x8000n, READ));
    for (const round of [0, 1]) {
      expect(device.translate(8, -1, 1, Access.READ), `round ${round}`).toBe(8);
      expect(device.translate(8, -1, 2, Access.READ)).toBe(9);
      expect(device.translate(8, -1, 1, Access.WRITE)).toBe(-1);
      expect(device.translate(8, -1, 3, Access.READ)).toBe(-1);
    }
    send(unmap(1, 0x1000n, 0x2fffn));
    expect(device.translate(8, -1, 1, Access.READ)).toBe(-1);
  });

  it("end with the domain: another of the same number begins empty", () => {
    const { device, send } = guest();
    send(attach(1, 8));
    send(map(1, 0n, 0xfffn, 0x8000n, WRITE));
    expect(device.translate(8, -1, 0, Access.WRITE)).toBe(8);
    send(detach(1, 8));
    send(attach(1, 8));
    expect(device.translate(8, -1, 0, Access.WRITE)).toBe(-1);
  });

  it("without a domain pass or not, as `bypass` says; a bypass domain always passes", () => {
    const { device, registers, send } = guest();
    expect(device.translate(8, -1, 5, Access.READ)).toBe(5);
    registers.write(0x100 + 36, 1, 0n);
    expect(device.translate(8, -1, 5, Access.READ)).toBe(-1);
    send(attach(1, 8, 1));
    expect(device.translate(8, -1, 5, Access.READ)).toBe(5);
  });

  it("`bypass` is kept over a device reset, and not over one of the system", () => {
    const { device, registers } = guest();
    registers.write(0x100 + 36, 1, 0n);
    registers.write(0x70, 4, 0n);
    expect(device.translate(8, -1, 5, Access.READ)).toBe(-1);
    device.resetSystem();
    expect(device.translate(8, -1, 5, Access.READ)).toBe(5);
  });

  it("do not pass for a driver that has not taken BYPASS_CONFIG", () => {
    expect(guest({}, Feature.VERSION_1 | Feature.MAP_UNMAP).device.translate(8, -1, 5, Access.READ)).toBe(-1);
  });

  it("to reserved memory: messages pass, the rest does not", () => {
    const reserved = [{ start: 0x8000n, last: 0x8fffn, msi: true }, { start: 0x9000n, last: 0x9fffn, msi: false }];
    const { device, send } = guest({ reserved: () => reserved });
    send(attach(1, 8));
    expect(device.translate(8, -1, 8, Access.WRITE)).toBe(8);
    expect(device.translate(8, -1, 9, Access.WRITE)).toBe(-1);
  });

  it.each([
    ["no mapping", 8, -1, FaultReason.MAPPING],
    ["no domain", 9, -1, FaultReason.DOMAIN],
    ["no such endpoint", 7, -1, FaultReason.UNKNOWN],
    ["a PASID, which the protocol lacks", 8, 1, FaultReason.UNKNOWN],
  ] as const)("that fail are told: %s", (_what, endpoint, pasid, reason) => {
    const { device, driver, registers, send } = guest();
    registers.write(0x100 + 36, 1, 0n);
    send(attach(1, 8));
    expect(device.translate(endpoint, pasid, 0x12, Access.WRITE, 0x34)).toBe(-1);
    const event = driver.event();
    expect([event?.getUint8(0), event?.getUint32(4, true), event?.getUint32(8, true), event?.getBigUint64(16, true)]).toEqual([reason, 0x102, endpoint, 0x1_2034n]);
    expect(driver.event()).toBeUndefined();
  });

  it("that fail without a buffer are lost, and counted", () => {
    const { device, send } = guest();
    send(attach(1, 8));
    for (let i = 0; i < 70; i++) device.translate(8, -1, 1, Access.READ);
    expect(device.lostEvents).toBe(70 - 64);
  });
});

it("mappings are limited, over all domains; what goes makes room", () => {
  const { send } = guest({ limits: { mappings: 2 } });
  const at = (domain: number, index: bigint): string => send(map(domain, index * 0x1000n, index * 0x1000n + 0xfffn, 0n, READ));
  send(attach(1, 8));
  send(attach(2, 9));
  expect([at(1, 0n), at(2, 0n), at(1, 1n)]).toEqual(["OK", "OK", "NOMEM"]);
  expect([send(unmap(1, 0n, 0xfffn)), at(1, 1n), at(1, 2n), send(detach(2, 9)), at(1, 2n), at(1, 3n)]).toEqual(["OK", "OK", "NOMEM", "OK", "OK", "NOMEM"]);
});

describe("PROBE", () => {
  it("tells reserved memory, and the rest of the buffer is 0", () => {
    const { driver } = guest({ reserved: () => [{ start: 0x8000n, last: 0x8fffn, msi: true }] });
    const answer = driver.request(Uint8Array.from(probe(8)), 516) ?? new Uint8Array(516);
    const view = new DataView(answer.buffer);
    expect([view.getUint16(0, true), view.getUint16(2, true), view.getUint8(4), view.getBigUint64(8, true), view.getBigUint64(16, true)]).toEqual([1, 20, 1, 0x8000n, 0x8fffn]);
    expect(answer.subarray(24)).toEqual(new Uint8Array(516 - 24));
  });

  it("says INVAL when its buffer is too small, NOENT for no endpoint, UNSUPP when it was not taken", () => {
    const reserved = (): { start: bigint; last: bigint; msi: boolean }[] => [{ start: 0n, last: 0xfffn, msi: false }];
    expect(guest({ reserved }).send(probe(8), 20)).toBe("INVAL");
    expect(guest().send(probe(7), 516)).toBe("NOENT");
    expect(guest({}, Feature.VERSION_1 | Feature.MAP_UNMAP).send(probe(8), 516)).toBe("UNSUPP");
  });
});

describe("configuration", () => {
  it("reads as the device is made", () => {
    const { registers } = guest();
    expect([registers.read(0x100, 8), registers.read(0x108, 8), registers.read(0x110, 8), registers.read(0x118, 4), registers.read(0x11c, 4), registers.read(0x120, 4), registers.read(0x124, 1)]).toEqual([
      0xffff_ffff_ffff_f000n, 0n, 0xff_ffffn, 1n, 99n, 512n, 1n,
    ]);
  });

  it.each([
    ["2", ALL, 2n],
    ["1 without the feature", Feature.VERSION_1 | Feature.MAP_UNMAP, 1n],
  ])("`bypass` set to %s: the device waits for a reset and says so", (_what, features, value) => {
    const { registers, device, send } = guest({}, features);
    registers.write(0x100 + 36, 1, value);
    expect(registers.read(0x70, 4) & 64n).toBe(64n);
    expect(registers.read(0x60, 4) & 2n).toBe(2n);
    expect(send(attach(1, 8))).toBe("broken");
    registers.write(0x70, 4, 0n);
    expect(device.transport.broken).toBeUndefined();
  });
});

describe("a host behind it", () => {
  /** Refuses what `refuses` says, and remembers the rest. */
  function host(refuses: (call: string) => "ENOMEM" | "EINVAL" | "EIO" | undefined): { domains: HostDomains; calls: string[] } {
    const calls: string[] = [];
    const call = (what: string): void => {
      const errno = refuses(what);
      if (errno) throw new IommuError(errno, { message: `${what} is refused`, rule: "test" });
      calls.push(what);
    };
    const create = (id: number): HostDomain => ({
      attach: (endpoint) => call(`attach ${endpoint}`),
      detach: (endpoint) => call(`detach ${endpoint}`),
      map: (start) => call(`map ${start}`),
      unmap: (start) => call(`unmap ${start}`),
      free: () => call(`free ${id}`),
    });
    return { domains: { create }, calls };
  }

  it("does what the guest asks; MMIO stays with the guest", () => {
    const { domains, calls } = host(() => undefined);
    const { send } = guest({ host: domains });
    for (const request of [attach(1, 8), map(1, 0n, 0xfffn, 0n, READ), map(1, 0x1000n, 0x1fffn, 0n, MMIO), unmap(1, 0n, 0x1fffn), attach(1, 9), detach(1, 8), detach(1, 9)]) expect(send(request)).toBe("OK");
    expect(calls).toEqual(["attach 8", "map 0", "unmap 0", "attach 9", "detach 8", "detach 9", "free 1"]);
  });

  it.each([
    ["ENOMEM", "NOMEM"],
    ["EINVAL", "INVAL"],
    ["EIO", "IOERR"],
  ] as const)("that refuses a map with %s: the guest is told %s, and nothing is mapped", (errno, status) => {
    const { domains } = host((call) => (call === "map 4096" ? errno : undefined));
    const { device, send } = guest({ host: domains });
    send(attach(1, 8));
    expect(send(map(1, 0x1000n, 0x1fffn, 0n, READ))).toBe(status);
    expect(device.translate(8, -1, 1, Access.READ)).toBe(-1);
    expect(send(map(1, 0n, 0xfffn, 0n, READ))).toBe("OK");
  });

  it("that refuses an attach: the domain is not there", () => {
    const { domains, calls } = host((call) => (call === "attach 8" ? "ENOMEM" : undefined));
    const { send } = guest({ host: domains });
    expect(send(attach(1, 8))).toBe("NOMEM");
    expect(calls).toEqual(["free 1"]);
    expect(send(unmap(1, 0n, 0xfffn))).toBe("NOENT");
  });

  it("QEMU says OK to the guest all the same", () => {
    const { domains } = host((call) => (call.startsWith("map") ? "ENOMEM" : undefined));
    const { send } = guest({ host: domains, mode: "qemu" });
    send(attach(1, 8));
    expect(send(map(1, 0n, 0xfffn, 0n, READ))).toBe("OK");
  });
});
