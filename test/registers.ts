/** What programs that map a device's registers begin with. */
import { buildMachine, type DeviceModel, type DeviceNodes, type PciDevice } from "@iommukit/core";
import { vtdIommuFactory } from "@iommukit/hw-vtd/plugin";
import { DEVICE_C } from "./native.js";

const REGISTER_BYTES = 0x4000;

/** A device that writes down each access: registers in BAR 0, which keep what is written, a portal in BAR 2. */
export class Ledger {
  readonly log: string[] = [];
  readonly nodes: DeviceNodes;
  readonly #bytes = new Uint8Array(REGISTER_BYTES + 8);

  constructor() {
    const model: DeviceModel = { name: "ledger", about: "writes down each access", create: () => this.#device() };
    const machine = { name: "test", memory: { size: "64MiB" }, iommus: [{ type: "vtd" }], devices: [{ model: "ledger", bdf: "00:03.0", vfio: "vfio0" }] };
    this.nodes = buildMachine(machine, { iommus: [vtdIommuFactory], devices: [model] }).nodes;
  }

  #device(): PciDevice {
    const view = new DataView(this.#bytes.buffer);
    const keep = (size: number): bigint => (1n << BigInt(8 * size)) - 1n;
    return {
      identity: { vendorId: 0x1d1d, deviceId: 0x0041, classCode: 0xff0000, revision: 1 },
      bars: [{ index: 0, size: REGISTER_BYTES }, { index: 2, size: 0x2000 }],
      pasidBits: 0,
      ats: false,
      resettable: true,
      readBar: (_bar, offset, size) => {
        this.log.push(`r ${offset.toString(16)}/${size}`);
        return view.getBigUint64(offset, true) & keep(size);
      },
      writeBar: (_bar, offset, size, value) => {
        this.log.push(`w ${offset.toString(16)}/${size}=${value.toString(16)}`);
        view.setBigUint64(offset, (view.getBigUint64(offset, true) & ~keep(size)) | value, true);
      },
      writeBlock: (bar, offset, bytes, deferrable) => {
        if (bar === 0 && !deferrable) {
          const words = new DataView(bytes.buffer, bytes.byteOffset);
          for (let i = 0; i < 64; i += 8) {
            this.log.push(`w ${(offset + i).toString(16)}/8=${words.getBigUint64(i, true).toString(16)}`);
            view.setBigUint64(offset + i, words.getBigUint64(i, true), true);
          }
        } else this.log.push(`block ${offset.toString(16)}=${bytes.join()}${deferrable ? ", deferrable" : ""}`);
        return true;
      },
      reset: () => void this.#bytes.fill(0),
    };
  }
}

export const REGISTERS: string = `${DEVICE_C}static volatile char *map_bar(unsigned int bar, size_t length, int prot)
{
  struct vfio_region_info info = { .argsz = sizeof(info), .index = bar };
  CHECK(ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info) == 0 && (info.flags & VFIO_REGION_INFO_FLAG_MMAP));
  void *at = mmap(NULL, length, prot, MAP_SHARED, device, (off_t)info.offset);
  CHECK(at != MAP_FAILED);
  return at;
}
static inline uint32_t readl(const volatile void *at) { return *(const volatile uint32_t *)at; }
static inline void writel(uint32_t value, volatile void *at) { *(volatile uint32_t *)at = value; }
static inline uint64_t readq(const volatile void *at) { return *(const volatile uint64_t *)at; }
static inline void writeq(uint64_t value, volatile void *at) { *(volatile uint64_t *)at = value; }
`;
