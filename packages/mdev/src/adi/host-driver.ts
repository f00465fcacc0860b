/**
 * The host's driver of a DSA function that is shared out: it owns the function while one of its mediated devices exists, divides the
 * entries among the work queues, and says which queue and which PASIDs a new one gets.
 */
import { type IommufdContext, type MdevFoundation, refuse, RequesterSlots } from "@iommukit/core";
import type { DsaParent } from "../dsa/parent.js";
import { Cmd, CmdSts, Command, CommandError } from "../dsa/spec/commands.js";
import { GrpWord } from "../dsa/spec/queues.js";
import { GRPCFG_BYTES, Register, Table } from "../dsa/spec/registers.js";
import { PasidNumberSpace } from "../pasid/number-space.js";
import { SharedPasids } from "../pasid/shared-pasids.js";
import type { VirtualDsa } from "./device.js";

/** Half of the numbers are each requester's own, half are the machine's: no number of one is one of the other. */
const PASID_BITS = 19;
const GLOBAL_BITS = 20;
/** Devices that one shared queue serves. */
export const SHARED_USERS = 256;

/** What all parents of a machine have in common. */
export class MachinePasids {
  readonly global: PasidNumberSpace = new PasidNumberSpace(0, "the machine", GLOBAL_BITS, 2 ** PASID_BITS);
  /** Of all parents, by UUID. */
  readonly devices: Map<string, VirtualDsa> = new Map<string, VirtualDsa>();
  readonly #shared = new WeakMap<IommufdContext, SharedPasids>();
  #spaces = 0;
  static readonly #all = new WeakMap<object, MachinePasids>();

  static of(machine: object): MachinePasids {
    const known = MachinePasids.#all.get(machine) ?? new MachinePasids();
    MachinePasids.#all.set(machine, known);
    return known;
  }

  newSpace(what: string): PasidNumberSpace {
    return new PasidNumberSpace(++this.#spaces, what, PASID_BITS);
  }

  /** One iommufd is one virtual machine. */
  sharedOf(context: IommufdContext): SharedPasids {
    const known = this.#shared.get(context) ?? new SharedPasids(this.global);
    this.#shared.set(context, known);
    return known;
  }
}

/** A queue that has been given out. */
interface Lease {
  readonly dedicated: boolean;
  users: number;
}

export class DsaHostDriver {
  readonly device: DsaParent;
  readonly pasids: PasidNumberSpace;
  readonly foundation: MdevFoundation;
  readonly #machine: MachinePasids;
  readonly #leases = new Map<number, Lease>();
  #slots: RequesterSlots | undefined;

  constructor(device: DsaParent, foundation: MdevFoundation) {
    this.device = device;
    this.foundation = foundation;
    this.#machine = MachinePasids.of(foundation.machine);
    this.pasids = this.#machine.newSpace(foundation.bindable.device.name);
  }

  sharedOf(context: IommufdContext): SharedPasids {
    return this.#machine.sharedOf(context);
  }

  /** Virtual DSAs of the machine, by UUID. */
  get devices(): Map<string, VirtualDsa> {
    return this.#machine.devices;
  }

  /** How many more devices there is room for. */
  available(dedicated: boolean): number {
    const free = this.device.queueCount - this.#leases.size;
    if (dedicated) return free;
    let room = free * SHARED_USERS;
    for (const lease of this.#leases.values()) if (!lease.dedicated) room += SHARED_USERS - lease.users;
    return room;
  }

  /**
   * A queue for a new device.
   * @throws IommuError EBUSY while somebody has the function itself, ENOSPC
   */
  lease(dedicated: boolean): { readonly queue: number; readonly slots: RequesterSlots } {
    const slots = (this.#slots ??= this.#take());
    try {
      const queue = this.#queueFor(dedicated);
      const lease = this.#leases.get(queue) ?? { dedicated, users: 0 };
      lease.users++;
      this.#leases.set(queue, lease);
      return { queue, slots };
    } catch (error) {
      this.#letGo();
      throw error;
    }
  }

  #queueFor(dedicated: boolean): number {
    if (!dedicated) for (const [queue, lease] of this.#leases) if (!lease.dedicated && lease.users < SHARED_USERS) return queue;
    const queue = Array.from({ length: this.device.queueCount }, (_, i) => i).find((i) => !this.#leases.has(i));
    if (queue === undefined) return refuse("ENOSPC", `none of the ${this.device.queueCount} work queues is free`, { argument: "type", rule: "available_instances" });
    if (dedicated) return queue;
    // A shared queue is on as long as anybody uses it; PASIDs come with the descriptors.
    this.device.configureQueue(queue, { dedicated: false, pasid: 0, priority: 1, threshold: this.device.queueState(queue).size, blockOnFault: this.blocksOnFault });
    this.#must("enable a shared queue", this.device.enableQueue(queue));
    return queue;
  }

  giveBack(queue: number): void {
    const lease = this.#leases.get(queue);
    if (lease === undefined || --lease.users > 0) return;
    this.#leases.delete(queue);
    if (this.device.queueState(queue).enabled) this.device.resetQueue(queue);
    if (this.#leases.size === 0) this.#letGo();
  }

  get blocksOnFault(): boolean {
    const { device } = this.foundation.bindable;
    return device.pageRequests ?? false;
  }

  /** Takes the function from whoever could bind it, and turns it on with its entries divided evenly. */
  #take(): RequesterSlots {
    const { bindable, enable } = this.foundation;
    const slots = new RequesterSlots(bindable);
    enable();
    const { queueCount } = this.device;
    const entries = Number(this.device.readBar(0, Register.WQCAP, 2));
    const engines = Number(this.device.readBar(0, Register.ENGCAP, 1));
    this.#command(Command.RESET_DEVICE);
    for (let queue = 0; queue < queueCount; queue++) this.device.configureQueue(queue, { size: Math.max(1, Math.floor(entries / queueCount)) });
    for (let word = 0; word < GrpWord.ENGINES; word++) this.#write(Table.GRPCFG + 4 * word, bitsOf(queueCount, word));
    this.#write(Table.GRPCFG + 4 * GrpWord.ENGINES, bitsOf(engines, 0));
    for (let group = 1; group < Number(this.device.readBar(0, Register.GRPCAP, 1)); group++) this.#write(Table.GRPCFG + GRPCFG_BYTES * group + 4 * GrpWord.ENGINES, 0);
    this.#must("enable the device", this.#command(Command.ENABLE_DEVICE));
    return slots;
  }

  /** Nobody uses a part of the function any more: it can be bound again. */
  #letGo(): void {
    if (this.#leases.size > 0 || this.#slots === undefined) return;
    this.#command(Command.RESET_DEVICE);
    this.#slots.close();
    this.#slots = undefined;
  }

  #write(offset: number, value: number): void {
    this.device.writeBar(0, offset, 4, BigInt(value >>> 0));
  }

  #command(command: number, operand = 0): number {
    this.#write(Register.CMD, (command << Cmd.COMMAND_SHIFT) | operand);
    const status = Number(this.device.readBar(0, Register.CMDSTS, 4));
    return status >= CmdSts.ACTIVE ? CommandError.HARDWARE : status & 0xff;
  }

  #must(what: string, error: number): void {
    if (error !== CommandError.NONE) refuse("EIO", `could not ${what}: command error 0x${error.toString(16)}`, { rule: "DSA device commands" });
  }
}

/** Word `word` of a set that holds 0 to count - 1. */
function bitsOf(count: number, word: number): number {
  const left = Math.max(0, Math.min(32, count - 32 * word));
  return left === 32 ? 0xffff_ffff : 2 ** left - 1;
}
