/** Global errors and interrupts (SMMU 3.18, 6.3.16 to 6.3.20): message writes or wires, and GERROR, whose bits toggle. */
import type { PhysicalMemory, RegisterBank } from "@iommukit/core";
import { Gerror, IrqCtrl, Reg } from "../spec/registers.js";

export type InterruptLine = "gerror" | "eventq" | "priq" | "sync";

export interface InterruptOptions {
  readonly msi: boolean;
  /** Output address size: message addresses are cut off to it. */
  readonly oas: number;
  /** Takes message writes that go to an interrupt controller; false lets them go to memory. */
  readonly onMessage?: (address: bigint, data: number) => boolean;
  /** Edge of a wired interrupt: for a line that no message is configured for. */
  readonly onWire?: (line: InterruptLine) => void;
}

type Line = Exclude<InterruptLine, "sync">;

/** IRQ_CTRL bit, first IRQ_CFG register, and what an aborted message makes active. */
const LINES: Readonly<Record<Line, { readonly enable: number; readonly config: number; readonly abort: number }>> = {
  gerror: { enable: IrqCtrl.GERROR, config: Reg.GERROR_IRQ_CFG0, abort: Gerror.MSI_GERROR_ABT_ERR },
  eventq: { enable: IrqCtrl.EVENTQ, config: Reg.EVENTQ_IRQ_CFG0, abort: Gerror.MSI_EVENTQ_ABT_ERR },
  priq: { enable: IrqCtrl.PRIQ, config: Reg.PRIQ_IRQ_CFG0, abort: Gerror.MSI_PRIQ_ABT_ERR },
};

export class Interrupts {
  readonly #bank: RegisterBank;
  readonly #memory: PhysicalMemory;
  readonly #options: InterruptOptions;

  constructor(bank: RegisterBank, memory: PhysicalMemory, options: InterruptOptions) {
    this.#bank = bank;
    this.#memory = memory;
    this.#options = options;
  }

  /** True while GERROR and GERRORN differ in the bit. */
  isActive(error: number): boolean {
    return ((this.#bank.get32(Reg.GERROR) ^ this.#bank.get32(Reg.GERRORN)) & error) !== 0;
  }

  /** Makes an error active; one that is active already is not told again. */
  error(error: number): void {
    if (this.isActive(error)) return;
    this.#bank.set(Reg.GERROR, this.#bank.get(Reg.GERROR) ^ BigInt(error));
    if (error !== Gerror.MSI_GERROR_ABT_ERR) this.raise("gerror");
  }

  raise(line: Line): void {
    const { enable, config, abort } = LINES[line];
    if ((this.#bank.get32(Reg.IRQ_CTRLACK) & enable) === 0) return;
    const address = this.#bank.get(config);
    this.#send(line, address, this.#bank.get32(config + 8), abort);
  }

  /** Completion interrupt of a CMD_SYNC: there is no enable bit. */
  sync(address: bigint, data: number): void {
    this.#send("sync", address, data, Gerror.MSI_CMDQ_ABT_ERR);
  }

  #send(line: InterruptLine, address: bigint, data: number, abort: number): void {
    const target = address & ((1n << BigInt(this.#options.oas)) - 1n);
    if (!this.#options.msi || target === 0n) {
      this.#options.onWire?.(line);
      return;
    }
    if (this.#options.onMessage?.(target, data) === true) return;
    if (!this.#memory.store32(Number(target), data | 0)) this.error(abort);
  }
}
