/**
 * QEMU's `iommu-testdev` (1b36:0005): writes a 32-bit word to an IOVA when told to, and reads it back.
 *
 * BAR 0: 0x00 run (read), 0x04/0x08 IOVA, 0x0c length, 0x10 result, 0x14 arm, 0x1c/0x20 where the word is expected.
 */
import type { DmaPort } from "../bus/types.js";
import type { DeviceModel, PciBar, PciDevice, PciIdentity } from "./types.js";

export const IommuTestdevRegister = { RUN: 0x00, IOVA: 0x04, LENGTH: 0x0c, RESULT: 0x10, ARM: 0x14, EXPECTED: 0x1c } as const;
export const IOMMU_TESTDEV_WORD = 0x12345678;

const R = IommuTestdevRegister;
const BAR_BYTES = 4096;
/** Results: 0 the word arrived, else why not. */
const OK = 0;
const BAD_LENGTH = 0xdead0001;
const WRITE_FAILED = 0xdead0002;
const MISMATCH = 0xdead0004;
const NOT_ARMED = 0xdead0006;
const IDLE = 0xffff_fffe;

class IommuTestdev implements PciDevice {
  readonly identity: PciIdentity = { vendorId: 0x1b36, deviceId: 0x0005, classCode: 0x00ff00, revision: 0, subsystem: { vendorId: 0x1af4, deviceId: 0x1100 } };
  readonly bars: readonly PciBar[] = [{ index: 0, size: BAR_BYTES }];
  readonly pasidBits = 0;
  readonly ats = false;
  readonly resettable = false;
  readonly #port: DmaPort;
  readonly #view = new DataView(new ArrayBuffer(BAR_BYTES));
  #armed = false;

  constructor(port: DmaPort) {
    this.#port = port;
    this.reset();
  }

  reset(): void {
    new Uint8Array(this.#view.buffer).fill(0);
    this.#view.setUint32(R.RESULT, IDLE, true);
    this.#armed = false;
  }

  readBar(_bar: number, offset: number, size: number): bigint {
    if (offset === R.RUN) this.#run();
    let value = 0n;
    for (let i = size - 1; i >= 0; i--) value = (value << 8n) | BigInt(this.#view.getUint8(offset + i));
    return value;
  }

  writeBar(_bar: number, offset: number, size: number, value: bigint): void {
    for (let i = 0; i + 4 <= size; i += 4) {
      const half = Number((value >> BigInt(8 * i)) & 0xffff_ffffn);
      if (offset + i === R.ARM) this.#armed = (half & 1) === 1;
      else if (offset + i !== R.RUN && offset + i !== R.RESULT) this.#view.setUint32(offset + i, half, true);
    }
  }

  #run(): void {
    this.#view.setUint32(R.RESULT, this.#transfer(), true);
    this.#armed = false;
  }

  #transfer(): number {
    if (!this.#armed) return NOT_ARMED;
    const length = this.#view.getUint32(R.LENGTH, true);
    if (length !== 4) return BAD_LENGTH;
    const address = this.#view.getBigUint64(R.IOVA, true);
    const word = new Uint8Array(Uint32Array.of(IOMMU_TESTDEV_WORD).buffer);
    if (!this.#port.write(address, word).ok) return WRITE_FAILED;
    const back = new Uint8Array(4);
    if (!this.#port.read(address, back).ok) return OK; // written; a write-only mapping cannot be read back
    return back.every((byte, i) => byte === word[i]) ? OK : MISMATCH;
  }
}

export const iommuTestdevModel: DeviceModel = {
  name: "iommu-testdev",
  about: "QEMU's iommu-testdev: one word to an IOVA on command",
  ungated: true,
  create: (port) => new IommuTestdev(port),
};
