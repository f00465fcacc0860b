// A software mdev of your own, as a plugin: it adds up bytes of its client's memory.
//   iommu --plugin ./mdev-driver.mjs run --mdev sum -- sh -c 'iommu mdev create sum-bytes && ./my-test'
import { SoftwareBinding } from "@iommukit/core";

/** ADDRESS (0x00, 8 bytes), LENGTH (0x08), SUM (0x0c): writing LENGTH adds up. STATUS (0x10): 1 done, 2 the memory refused. */
function summer({ host }) {
  let memory;
  let [address, sum, status] = [0n, 0, 0];
  const add = (length) => {
    const bytes = new Uint8Array(Math.min(length, 4096));
    try {
      memory.read(address, bytes);
      sum = bytes.reduce((total, byte) => total + byte, 0);
      status = 1;
    } catch {
      status = 2; // nothing is mapped there, or it may not be read
    }
    host.interrupt(0);
  };
  return {
    pci: {
      identity: { vendorId: 0x1d1d, deviceId: 0x0004, classCode: 0xff0000, revision: 0 },
      bars: [{ index: 0, size: 4096 }],
      interrupts: { intx: false, msiVectors: 1, msixVectors: 0 },
      pasidBits: 0,
      ats: false,
      resettable: true,
      readBar: (_bar, offset) => (offset === 0x00 ? address : BigInt({ 0x0c: sum, 0x10: status }[offset] ?? 0)),
      writeBar(_bar, offset, _size, value) {
        if (offset === 0x00) address = value;
        if (offset === 0x08) add(Number(value));
      },
      reset: () => void ([address, sum, status] = [0n, 0, 0]),
    },
    // No IOMMU knows it: what it may reach is what its client maps. It pins nothing, so it has nothing to let go of.
    binding: new SoftwareBinding({ bound: (given) => void (memory = given), unmapping() {}, unbound: () => void (memory = undefined) }),
  };
}

export default {
  name: "sum-plugin",
  register(container) {
    container.register(Symbol.for("@iommukit/core:mdev-drivers"), {
      useValue: {
        name: "sum",
        about: "adds up bytes of its client's memory",
        createParent: () => ({ driver: "sum", deviceApi: "vfio-pci", maxInstances: 2, types: [{ name: "bytes", prettyName: "Sum of bytes", create: summer }] }),
      },
    });
  },
};
