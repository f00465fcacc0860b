/** Interrupts of a VFIO PCI device, and what SET_IRQS does with them (iommufd facts, 10.6 and 10.7). */
import type { PciInterrupts } from "../devices/types.js";
import type { InterruptMessage } from "../machine/interrupts.js";
import { refuse } from "../errors.js";
import type { CallContext, EventFile } from "../files/types.js";
import { eventFile, watchEvent } from "./events.js";
import type { PciFunction } from "./pci-function.js";

/** Interrupt indexes of vfio-pci. */
export const Irq = { INTX: 0, MSI: 1, MSIX: 2, ERR: 3, REQ: 4 } as const;
export const IRQ_COUNT = 5;
/** vfio_irq_info.flags */
const INFO_INTX = 7;
const INFO_OTHERS = 9;
/** vfio_irq_set.flags */
const DATA = { NONE: 1, BOOL: 2, EVENTFD: 4 } as const;
const DATA_MASK = 7;
const ACTION = { MASK: 8, UNMASK: 16, TRIGGER: 32 } as const;
const ACTION_MASK = 56;
const NONE: PciInterrupts = { intx: false, msiVectors: 0, msixVectors: 0 };

export interface IrqRequest {
  readonly flags: number;
  readonly index: number;
  readonly start: number;
  readonly count: number;
  /** Payload bytes: one, or four, for each interrupt. */
  readonly data: Uint8Array;
}

/** A message-signalled interrupt of a function that is on. */
export interface ProgrammedInterrupt {
  /** What it writes, for one that is a write. */
  readonly message?: InterruptMessage;
  /** The function sends it. */
  send(): void;
  free(): void;
}

/** Gives a handler a message of its own, taken through the function's IOMMU. @throws IommuError ENOSPC */
export type InterruptPath = (handler: () => void) => ProgrammedInterrupt;

/** A vector that is on: who is told, and for a message-signalled one how. */
interface Vector {
  readonly event: EventFile;
  readonly programmed: ProgrammedInterrupt | undefined;
}

/** Its driver signals the eventfd: nothing is on the way. */
const direct: InterruptPath = (handler) => ({ send: handler, free: () => undefined });

export class VfioInterrupts {
  readonly #pci: PciFunction;
  readonly #path: InterruptPath;
  readonly #kinds: PciInterrupts;
  /** Which of INTx, MSI, MSI-X is on. */
  #mode: number | undefined;
  readonly #vectors = new Map<number, Vector>();
  #size = 0;
  /** By index: who hears that the device is wanted back, or that it has failed. */
  readonly #singles = new Map<number, EventFile>();
  /** INTx is masked: by the client, or because it was delivered. */
  #masked = false;
  /** Ends the wait for the eventfd that unmasks INTx. */
  #endUnmasking: (() => void) | undefined;

  constructor(pci: PciFunction, path: InterruptPath = direct) {
    this.#pci = pci;
    this.#path = path;
    this.#kinds = pci.device.interrupts ?? NONE;
  }

  /** The function drives its pin. INTx is masked with its delivery, until the client unmasks it. */
  pinDriven(): void {
    if (this.#mode !== Irq.INTX || this.#masked || this.#pci.intxDisabled || !this.#pci.device.pinAsserted) return;
    this.#masked = true;
    this.#signal(0);
  }

  /** What SET_IRQS sends by itself goes to the eventfd at once, as in Linux. */
  #signal(vector: number): void {
    this.#vectors.get(vector)?.event.signal();
  }

  /** Interrupts of an index. @throws IommuError EINVAL for one that the device lacks */
  info(index: number): { flags: number; count: number } {
    if (index >= IRQ_COUNT) refuse("EINVAL", `interrupt index ${index} is not below ${IRQ_COUNT}`, { argument: "index" });
    if (index === Irq.ERR && !this.#pci.express) refuse("EINVAL", "the function is not PCIe and has no error interrupt", { argument: "index" });
    return { flags: index === Irq.INTX ? INFO_INTX : INFO_OTHERS, count: this.#count(index) };
  }

  #count(index: number): number {
    if (index === Irq.INTX) return this.#kinds.intx ? 1 : 0;
    if (index === Irq.MSI) return this.#kinds.msiVectors;
    if (index === Irq.MSIX) return this.#kinds.msixVectors;
    return index === Irq.REQ || (index === Irq.ERR && this.#pci.express) ? 1 : 0;
  }

  /** Bytes of payload that a request needs. @throws IommuError EINVAL, as the checks come in Linux */
  check(flags: number, index: number, start: number, count: number, room: number): number {
    const bad = (why: string, argument: string): never => refuse("EINVAL", why, { argument });
    if (index >= IRQ_COUNT) bad(`interrupt index ${index} is not below ${IRQ_COUNT}`, "index");
    if (count >= 0xffff_ffff - start) bad(`start ${start} + count ${count} wraps`, "count");
    if ((flags & ~(DATA_MASK | ACTION_MASK)) !== 0) bad(`flags has 0x${(flags >>> 0).toString(16)}`, "flags");
    const there = this.#count(index);
    if (start >= there || start + count > there) bad(`interrupts ${start} to ${start + count} of index ${index}: there are ${there}`, "start");
    const sizes: Readonly<Record<number, number>> = { [DATA.NONE]: 0, [DATA.BOOL]: 1, [DATA.EVENTFD]: 4 };
    const size = sizes[flags & DATA_MASK] ?? bad("flags name no kind of data, or several", "flags");
    if (room < count * size) bad(`argsz leaves ${room} bytes for ${count * size} bytes of data`, "argsz");
    return count * size;
  }

  set(call: CallContext, request: IrqRequest): void {
    const { index } = request;
    const action = request.flags & ACTION_MASK;
    if (index === Irq.INTX && (action === ACTION.MASK || action === ACTION.UNMASK)) this.#maskIntx(call, request, action);
    else if (action !== ACTION.TRIGGER || (index === Irq.ERR && !this.#pci.express)) refuse("ENOTTY", `index ${index} has no such action`, { argument: "flags" });
    else if (index === Irq.INTX) this.#triggerIntx(call, request);
    else if (index === Irq.REQ || index === Irq.ERR) this.#triggerSingle(call, request);
    else this.#triggerMessages(call, request);
  }

  #maskIntx(call: CallContext, { flags, start, count, data }: IrqRequest, action: number): void {
    if (this.#mode !== Irq.INTX || start !== 0 || count !== 1) refuse("EINVAL", `INTx is ${this.#mode === Irq.INTX ? "one interrupt" : "off"}: start ${start}, count ${count}`, { argument: "index" });
    if ((flags & DATA.EVENTFD) !== 0) {
      if (action === ACTION.MASK) refuse("ENOTTY", "flags ask for masking by eventfd, which is not there", { argument: "flags" });
      this.#unmaskBy(call, data);
    } else if ((flags & DATA.NONE) !== 0 || data[0] !== 0) this.#setMask(action === ACTION.MASK);
  }

  #setMask(masked: boolean): void {
    if (!masked && this.#pci.intxDisabled) return;
    this.#masked = masked;
    this.pinDriven();
  }

  /** The client sets or clears "interrupt disable" in the command register: vfio-pci masks and unmasks. */
  disablePin(disabled: boolean): void {
    if (this.#mode === Irq.INTX) this.#setMask(disabled);
  }

  /** Each signal of the eventfd unmasks INTx; -1 ends that. */
  #unmaskBy(call: CallContext, data: Uint8Array): void {
    const event = eventOf(call, data, 0);
    if (event === undefined) return this.#stopUnmasking();
    if (this.#endUnmasking) {
      event.close?.();
      refuse("EBUSY", "data names an eventfd while another unmasks INTx", { argument: "data" });
    }
    this.#endUnmasking = watchEvent(event, () => this.#setMask(false));
  }

  #stopUnmasking(): void {
    this.#endUnmasking?.();
    this.#endUnmasking = undefined;
  }

  #triggerIntx(call: CallContext, { flags, start, count, data }: IrqRequest): void {
    const on = this.#mode === Irq.INTX;
    if (on && count === 0 && (flags & DATA.NONE) !== 0) return this.disable();
    if (!(on || this.#mode === undefined) || start !== 0 || count !== 1) refuse("EINVAL", `start ${start}, count ${count}: INTx is one interrupt, and not for while another kind is on`, { argument: "count" });
    if ((flags & DATA.EVENTFD) !== 0) {
      const event = eventOf(call, data, 0);
      this.#mode = Irq.INTX;
      this.#size = 1;
      this.#put(0, event);
      return;
    }
    if (!on) refuse("EINVAL", `index ${Irq.INTX}: INTx is not on`, { argument: "index" });
    if (((flags & DATA.NONE) !== 0 || data[0] !== 0) && !this.#pci.intxDisabled) this.#signal(0);
  }

  #triggerMessages(call: CallContext, { flags, index, start, count, data }: IrqRequest): void {
    const on = this.#mode === index;
    if (on && count === 0 && (flags & DATA.NONE) !== 0) return this.disable();
    if (!on && this.#mode !== undefined) refuse("EINVAL", `index ${index}: interrupts of index ${this.#mode} are on`, { argument: "index" });
    if ((flags & DATA.EVENTFD) !== 0) {
      if (!on && start + count === 0) refuse("ERANGE", "no vectors are asked for", { argument: "count" });
      if (!on) {
        this.#mode = index;
        this.#size = start + count;
        this.#pci.messages = new Map();
      }
      try {
        this.#setBlock(call, start, count, data);
      } catch (error) {
        if (!on) this.disable();
        throw error;
      }
      return;
    }
    if (!on) refuse("EINVAL", `index ${index} is not on`, { argument: "index" });
    for (let i = start; i < start + count; i++) if ((flags & DATA.NONE) !== 0 || data[i - start] !== 0) this.#signal(i);
  }

  /** A refusal half-way takes down what was set up to there. */
  #setBlock(call: CallContext, start: number, count: number, data: Uint8Array): void {
    let at = 0;
    try {
      for (; at < count; at++) this.#put(start + at, this.#vectorEvent(call, start + at, data, at));
    } catch (error) {
      for (let i = 0; i <= at; i++) this.#put(start + i, undefined);
      throw error;
    }
  }

  #vectorEvent(call: CallContext, vector: number, data: Uint8Array, at: number): EventFile | undefined {
    const fd = new DataView(data.buffer, data.byteOffset).getInt32(4 * at, true);
    if (fd >= 0 && vector >= this.#size) refuse("EINVAL", `vector ${vector}: ${this.#size} are on`, { argument: "start" });
    return eventOf(call, data, at);
  }

  /** The request and the error interrupt: an eventfd each. */
  #triggerSingle(call: CallContext, { flags, index, start, count, data }: IrqRequest): void {
    const bad = (): never => refuse("EINVAL", `nothing can be done so to interrupt index ${index}`, { argument: "flags" });
    const event = this.#singles.get(index);
    if (start !== 0 || count > 1) bad();
    if ((flags & DATA.NONE) !== 0) {
      if (event === undefined) bad();
      if (count > 0) event?.signal();
      else this.#setSingle(index, undefined);
    } else if (count === 0) bad();
    else if ((flags & DATA.BOOL) !== 0) {
      if (data[0] !== 0) event?.signal();
    } else {
      const fd = new DataView(data.buffer, data.byteOffset).getInt32(0, true);
      if (fd === -1) this.#setSingle(index, undefined);
      else if (fd >= 0) this.#setSingle(index, eventOf(call, data, 0));
    }
  }

  /** The device is wanted back. */
  request(): void {
    this.#singles.get(Irq.REQ)?.signal();
  }

  #setSingle(index: number, event: EventFile | undefined): void {
    this.#singles.get(index)?.close?.();
    if (event) this.#singles.set(index, event);
    else this.#singles.delete(index);
  }

  #put(vector: number, event: EventFile | undefined): void {
    this.#drop(vector);
    if (event === undefined) return;
    try {
      const { messages } = this.#pci;
      const programmed = messages && this.#path(() => event.signal());
      if (programmed) messages.set(vector, programmed);
      this.#vectors.set(vector, { event, programmed });
    } catch (error) {
      event.close?.();
      throw error;
    }
  }

  #drop(vector: number): void {
    const old = this.#vectors.get(vector);
    this.#vectors.delete(vector);
    this.#pci.messages?.delete(vector);
    old?.programmed?.free();
    old?.event.close?.();
  }

  disable(): void {
    this.#stopUnmasking();
    this.#mode = undefined;
    for (const vector of [...this.#vectors.keys()]) this.#drop(vector);
    this.#pci.messages = undefined;
    this.#size = 0;
    this.#masked = false;
  }

  /** The device is closed. */
  release(): void {
    this.disable();
    for (const index of [...this.#singles.keys()]) this.#setSingle(index, undefined);
  }
}

/** The eventfd that the payload names; undefined for -1. @throws IommuError EBADF, EINVAL */
function eventOf(call: CallContext, data: Uint8Array, i: number): EventFile | undefined {
  const fd = new DataView(data.buffer, data.byteOffset).getInt32(4 * i, true);
  if (fd < 0) return undefined;
  return eventFile(call, fd, "data");
}
