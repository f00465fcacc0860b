/**
 * Registers of a virtual DSA: those of the parent, cut down to the one work queue that the device has. Sizes and groups are the host's to
 * say, so the guest reads them and cannot change them.
 */
import type { DsaParent } from "../dsa/parent.js";
import { GrpWord, WQ_WORDS, WqLimits, WqMode, WqStatus, WqWord } from "../dsa/spec/queues.js";
import { VIRTUAL_COMMAND_CAPABILITIES } from "./commands.js";
import { DeviceState, GenCap, GENCTRL_WRITABLE, Register, Table, WqCap } from "../dsa/spec/registers.js";

export const GENERAL_BYTES = 0x200;
/** Bits of WQCFG that the guest chooses while its queue is off. */
const WQ_MODE_WRITABLE = WqMode.PASID_ENABLE | (0xf_ffff << WqMode.PASID_SHIFT) | WqMode.PRIVILEGED | WqMode.BLOCK_ON_FAULT;

export interface VirtualQueueLimits {
  readonly dedicated: boolean;
  readonly size: number;
  readonly threshold: number;
  readonly blocksOnFault: boolean;
}

export class VirtualRegisters {
  readonly general: DataView = new DataView(new ArrayBuffer(GENERAL_BYTES));
  readonly queue: Uint32Array = new Uint32Array(WQ_WORDS);
  readonly #parent: DsaParent;
  readonly #limits: VirtualQueueLimits;
  readonly #vectors: number;

  /** @param vectors of the MSI-X table */
  constructor(parent: DsaParent, limits: VirtualQueueLimits, vectors: number) {
    this.#parent = parent;
    this.#limits = limits;
    this.#vectors = vectors;
    this.reset();
  }

  /** Everything as after a reset of the device. */
  reset(): void {
    const { general } = this;
    for (let at = 0; at < GENERAL_BYTES; at += 4) general.setUint32(at, 0, true);
    const copied = [Register.VERSION, Register.OPCAP, Register.OPCAP + 8, Register.OPCAP + 16, Register.OPCAP + 24];
    for (const offset of copied) general.setBigUint64(offset, this.#parent.readBar(0, offset, 8), true);
    general.setBigUint64(Register.GENCAP, this.#generalCapabilities, true);
    general.setBigUint64(Register.CMDCAP, BigInt(VIRTUAL_COMMAND_CAPABILITIES), true);
    general.setBigUint64(Register.WQCAP, this.#queueCapabilities, true);
    general.setBigUint64(Register.GRPCAP, 1n, true);
    general.setBigUint64(Register.ENGCAP, 1n, true);
    // No message storage for the guest: its fourth place reads 0.
    general.setBigUint64(Register.OFFSETS, this.#parent.readBar(0, Register.OFFSETS, 8) & 0xffff_ffff_ffffn, true);
    this.resetQueue();
  }

  get #generalCapabilities(): bigint {
    const imsSize = 0x3fn << GenCap.IMS_SIZE_SHIFT;
    const hidden = GenCap.CONFIGURABLE | imsSize | GenCap.EVENT_LOG_64 | (this.#limits.blocksOnFault ? 0n : GenCap.BLOCK_ON_FAULT);
    return (this.#parent.readBar(0, Register.GENCAP, 8) & ~hidden) | GenCap.COMMAND_CAPABILITIES;
  }

  get #queueCapabilities(): bigint {
    const whole = this.#parent.readBar(0, Register.WQCAP, 8);
    const configSize = whole & (0xfn << WqCap.CONFIG_SIZE_SHIFT);
    return BigInt(this.#limits.size) | (1n << WqCap.COUNT_SHIFT) | configSize | (this.#limits.dedicated ? WqCap.DEDICATED : WqCap.SHARED);
  }

  resetQueue(): void {
    const general = this.#generalCapabilities;
    const [transfer, batch] = [GenCap.MAX_TRANSFER_SHIFT, GenCap.MAX_BATCH_SHIFT].map((shift) => Number((general >> shift) & 0x1fn));
    this.queue.fill(0);
    this.queue[WqWord.SIZE] = this.#limits.size;
    this.queue[WqWord.THRESHOLD] = this.#limits.threshold;
    this.queue[WqWord.MODE] = (this.#limits.dedicated ? WqMode.DEDICATED : 0) | (1 << WqMode.PRIORITY_SHIFT);
    this.queue[WqWord.LIMITS] = transfer | ((batch & WqLimits.BATCH_MASK) << WqLimits.BATCH_SHIFT);
    for (let i = 0; i < 8; i++) this.queue[WqWord.OPERATIONS + i] = this.general.getUint32(Register.OPCAP + 4 * i, true);
  }

  get mode(): number {
    return this.queue[WqWord.MODE];
  }

  get queueEnabled(): boolean {
    return this.queue[WqWord.OCCUPANCY] >>> WqStatus.STATE_SHIFT === 1;
  }

  set queueEnabled(on: boolean) {
    this.queue[WqWord.OCCUPANCY] = on ? 2 ** WqStatus.STATE_SHIFT : 0;
  }

  get state(): number {
    return this.general.getUint32(Register.GENSTS, true) & 3;
  }

  set state(state: number) {
    this.general.setUint32(Register.GENSTS, state, true);
  }

  /** The aligned word at an offset. */
  read(offset: number): number {
    if (offset < GENERAL_BYTES) return this.general.getUint32(offset, true);
    if (offset >= Table.WQCFG && offset < Table.WQCFG + 4 * WQ_WORDS) return this.queue[(offset - Table.WQCFG) / 4];
    // One group, with the queue and an engine in it.
    return offset === Table.GRPCFG || offset === Table.GRPCFG + 4 * GrpWord.ENGINES ? 1 : 0;
  }

  /** Stores what the guest may change. True when the write is a command or something else to be done. */
  write(offset: number, value: number): boolean {
    const { general } = this;
    const clear = (mask: number): void => general.setUint32(offset, (general.getUint32(offset, true) & ~(value & mask)) >>> 0, true);
    if (offset === Register.CMD) {
      general.setUint32(offset, value, true);
      return true;
    }
    if (offset === Register.GENCTRL && this.state === DeviceState.DISABLED) general.setUint32(offset, value & GENCTRL_WRITABLE, true);
    else if (offset === Register.INTCAUSE) clear(0xffff_ffff);
    else if (offset === Register.SWERR) clear(3);
    else if (offset === Table.WQCFG + 4 * WqWord.MODE && !this.queueEnabled) {
      const writable = WQ_MODE_WRITABLE & ~(this.#limits.blocksOnFault ? 0 : WqMode.BLOCK_ON_FAULT);
      this.queue[WqWord.MODE] = ((this.mode & ~writable) | (value & writable)) >>> 0;
    }
    return false;
  }

  get vectors(): number {
    return this.#vectors;
  }
}
