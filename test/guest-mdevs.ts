/** A guest with virtual DSAs of real parents behind one virtual VT-d: guest driver, virtual unit, /dev/iommu, RID+PASID slots, host hardware. */
import { type Machine, type PagingDomain, Prot } from "@iommukit/core";
import { DsaFlag } from "@iommukit/mdev/dsa";
import { GuestPasids, type HostDevice, VirtualCommandReg } from "@iommukit/viommu/vtd";
import { type AdiType, Adi, Guest as Program, move, recordStatus } from "../packages/mdev/src/guest/dsa.js";
import { type Mode, guestOf, REGISTERS } from "./guest-vtd.js";
import { type Fields, noted } from "./host-program.js";

/** What a copy needs in its process. */
export const [SOURCE, TARGET, RECORD]: readonly bigint[] = [0x40_0000n, 0x40_1000n, 0x40_2000n];
const BYTES = 64;
const SUCCESS = 1;

let created = 0;

function create(program: Program, type: AdiType, parent: number): Adi {
  return program.create(type, `0000:00:0${5 + parent}.0`, `00000000-0000-4000-8001-${(created++).toString(16).padStart(12, "0")}`);
}

export interface MdevOptions {
  readonly mode?: Mode;
  /** Of the devices in the guest. */
  readonly rids?: readonly number[];
  /** The program looks which devices share numbers, and says so. */
  readonly looks?: boolean;
  /** Numbers of their parents. */
  readonly parents?: readonly number[];
  /** They ask for pages. */
  readonly pageRequests?: boolean;
  /** Thrown in place of a call of the program. */
  readonly refuses?: (name: string) => Error | undefined;
}

/** A process of the guest: an address space with something to copy. */
export interface Process {
  readonly domain: PagingDomain;
  /** What its copies have written. */
  readonly target: Uint8Array;
  readonly record: Uint8Array;
}

export class MdevGuest {
  readonly program: Program;
  readonly adis: readonly Adi[];
  readonly system: ReturnType<typeof guestOf>;
  /** Calls of the program. */
  readonly calls: string[] = [];
  /** Told of each before it is made. */
  asked: (name: string, fields: Fields) => void = () => undefined;
  readonly #shared: boolean;
  readonly #waits: boolean;
  #pages = 0;

  /** @throws IommuError what the virtual unit does not show */
  constructor(machine: Machine, type: AdiType, { mode = "nested", rids = [0x28, 0x30], looks = false, parents = rids.map(() => 0), pageRequests = false, refuses = () => undefined }: MdevOptions = {}) {
    this.#shared = type === "idxd-1swq-v1";
    this.#waits = pageRequests;
    this.program = new Program(machine);
    this.adis = parents.map((parent) => create(this.program, type, parent));
    const devices = this.adis.map(({ fd, id, pasidSpace }, i): HostDevice => ({ fd, id, rid: rids[i], pageRequests, pasidSpace: looks ? pasidSpace : undefined }));
    const program = noted(this.program.client, this.calls, (name, fields) => {
      this.asked(name, fields);
      return refuses(name);
    });
    this.system = guestOf(mode, { program, iommufd: this.program.iommufd, devices, pageRequests, pasids: new GuestPasids(8) });
  }

  process(): Process {
    const domain = this.system.domain();
    const pages = [SOURCE, TARGET, RECORD].map((iova) => {
      const page = this.system.page(this.#pages++);
      domain.map(iova, page, 4096, Prot.READ | Prot.WRITE);
      return this.system.ram.subarray(page, page + 4096);
    });
    pages[0].fill(0x5a);
    return { domain, target: pages[1], record: pages[2] };
  }

  /** The guest's driver binds a process by a PASID. */
  bind(device: number, pasid: number, { domain }: Process): void {
    this.system.driver.attach(this.system.devices[device], pasid, domain);
  }

  unbind(device: number, pasid: number): void {
    this.system.driver.detach(this.system.devices[device], pasid);
  }

  /** What the guest's driver has read of faults since the last time. */
  takeFaults(): string[] {
    return this.system.log.splice(0).filter((line) => !line.startsWith("the host refuses"));
  }

  /** Submits a copy of a process by its PASID, which waits for pages if its device asks for them. */
  submit(adi: number, pasid: number): boolean {
    const device = this.adis[adi];
    device.reset();
    device.start({ pasid, blockOnFault: this.#waits });
    const taken = device.submit(move({ source: Number(SOURCE), destination: Number(TARGET), size: BYTES, completion: Number(RECORD), pasid, flags: this.#waits ? DsaFlag.BLOCK_ON_FAULT : 0 }), this.#shared);
    this.system.virtual.service();
    return taken;
  }

  /** A copy of a process arrives in the guest's memory. */
  copies(adi: number, pasid: number, { target, record }: Process): boolean {
    target.fill(0);
    record.fill(0);
    return this.submit(adi, pasid) && recordStatus(record) === SUCCESS && target.subarray(0, BYTES).every((byte) => byte === 0x5a);
  }

  /** The guest's kernel writes VCMD, and reads VCRSP. */
  command(command: number, operand = 0): { readonly status: number; readonly pasid: number } {
    const { memory } = this.system;
    memory.writeMmio(REGISTERS + VirtualCommandReg.VCMD, 8, BigInt(command) | (BigInt(operand) << 16n));
    const response = memory.readMmio(REGISTERS + VirtualCommandReg.VCRSP, 8);
    return { status: Number((response >> 1n) & 0x7fn), pasid: Number((response >> 16n) & 0xfffffn) };
  }
}

/** Another program with an mdev of the first parent, which must not notice: whether it still works, and its memory is as it left it. */
export function neighbour(machine: Machine): () => boolean {
  const program = new Program(machine);
  const adi = create(program, "idxd-1dwq-v1", 0);
  const ioas = program.ioas();
  const [source, target, record] = [SOURCE, TARGET, RECORD].map((iova) => program.page(ioas, iova));
  adi.attach(adi.table(ioas));
  adi.start();
  let count = 0;
  return () => {
    const asItWas = [source, target].every((page) => page.every((byte, i) => byte === (i < BYTES ? count : 0)));
    count = (count + 1) % 256;
    source.fill(count, 0, BYTES);
    record.fill(0);
    const taken = adi.submit(move({ source: Number(SOURCE), destination: Number(TARGET), size: BYTES, completion: Number(RECORD) }), false);
    return asItWas && taken && recordStatus(record) === SUCCESS && target.subarray(0, BYTES).every((byte) => byte === count);
  };
}
