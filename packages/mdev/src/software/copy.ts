/** Copy engines as software mdevs: channels of one engine that all of a parent's clients share. */
import { type MdevDriver, type MdevParent, type MdevType, SoftwareBinding } from "@iommukit/core";
import { CopyChannel } from "./copy-channel.js";
import { CopyEngine } from "./copy-engine.js";

const CHANNELS = 8;
const MAX_CHANNELS = 1024;

export const copyDriver: MdevDriver = {
  name: "copy",
  about: "a DMA copy engine in software, shared by its channels (options: channels, stubborn)",
  createParent(options): MdevParent {
    const { channels = CHANNELS, stubborn = false, ...rest } = options;
    const [unknown] = Object.keys(rest);
    if (unknown !== undefined) throw new RangeError(`option ${unknown} is not known; there are: channels, stubborn`);
    if (typeof channels !== "number" || !Number.isInteger(channels) || channels < 1 || channels > MAX_CHANNELS) throw new RangeError(`option channels is ${JSON.stringify(channels)}, not a number from 1 to ${MAX_CHANNELS}`);
    if (typeof stubborn !== "boolean") throw new RangeError(`option stubborn is ${JSON.stringify(stubborn)}, neither true nor false`);
    const engine = new CopyEngine();
    const type: MdevType = {
      name: "channel",
      prettyName: "Copy engine channel",
      description: "copies and fills memory by descriptors in a ring, raises page faults to user space",
      create: (environment) => {
        const channel = new CopyChannel(engine, environment, { stubborn });
        return { pci: channel, binding: new SoftwareBinding(channel), removed: () => channel.end() };
      },
    };
    return { driver: "copy", deviceApi: "vfio-pci", maxInstances: channels, types: [type] };
  },
};
