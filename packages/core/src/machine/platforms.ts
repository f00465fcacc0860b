/** What firmware and the kernel's build leave in a machine's devices, apart from IOMMUs: by name, as in a machine file. */

/** RAM above this goes behind 4 GiB. */
export const LOW_RAM_LIMIT = 0xc000_0000;

export interface Platform {
  /** Where firmware begins to place BARs. */
  readonly barBase: number;
  /** PCI command register of a function before its first use, and what opening it turns on besides memory. */
  readonly command: number;
  readonly enables: number;
  /** Interrupt line of a function with a pin. */
  readonly line: number;
  /** BARs can be exported as dma-bufs, which kernels without peer-to-peer DMA lack. */
  readonly exportsBars: boolean;
}

const IO = 1;
const SERR = 0x100;

export const PLATFORMS: Readonly<Record<string, Platform>> = {
  /** SeaBIOS on QEMU's q35. */
  pc: { barBase: 0xfea0_0000, command: SERR, enables: IO, line: 0x0b, exportsBars: true },
  /** QEMU's virt with a kernel that boots without firmware. */
  virt: { barBase: 0x1000_0000, command: 0, enables: 0, line: 0x14, exportsBars: false },
};

export const DEFAULT_PLATFORM = "pc";
