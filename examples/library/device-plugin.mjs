// A device model of your own, as a plugin: iommu --plugin ./device-plugin.mjs list
const beacon = {
  name: "beacon",
  about: "writes its register to address 0x1000 whenever it changes",
  create(port) {
    let value = 0n;
    return {
      identity: { vendorId: 0x1d1d, deviceId: 0x0002, classCode: 0xff0000, revision: 0 },
      bars: [{ index: 0, size: 16 }],
      pasidBits: 0,
      ats: false,
      readBar: () => value,
      writeBar(_bar, _offset, _size, written) {
        value = written;
        port.write(0x1000n, Uint8Array.of(Number(written & 0xffn)));
      },
      reset() {
        value = 0n;
      },
    };
  },
};

export default {
  name: "beacon-plugin",
  register(container) {
    container.register(Symbol.for("@iommukit/core:devices"), { useValue: beacon });
  },
};
