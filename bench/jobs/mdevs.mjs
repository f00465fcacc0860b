/**
 * mdevs.mjs: 1,024 virtual DSAs on one parent and 64 software mdevs, each with an address space of its own, all open at once and all working. Prints
 * how many moves arrived where they should, microseconds for one round of all, and the KiB that a virtual DSA takes. Needs --expose-gc.
 */
import { buildMachine } from "../../packages/core/dist/index.js";
import { vtdIommuFactory } from "../../packages/hw-vtd/dist/plugin.js";
import { CopyChannel } from "../../packages/mdev/dist/guest/copy.js";
import { Guest, move, recordStatus } from "../../packages/mdev/dist/guest/dsa.js";
import { deviceModels, mdevBus, mdevDrivers } from "../../packages/mdev/dist/index.js";
import { print } from "./common.mjs";

const ADIS = 1024;
const CHANNELS = 64;
const PARENT = "0000:00:05.0";
const [SOURCE, TARGET, RECORD, RING] = [0x1_0000, 0x2_0000, 0x3_0000, 0x4_0000];
const uuid = (kind, i) => `0000000${kind}-0000-4000-8000-${i.toString(16).padStart(12, "0")}`;

const spec = {
  name: "mdevs", memory: { size: "1GiB" }, iommus: [{ type: "vtd", options: { preset: "full" } }],
  devices: [{ model: "dsa", bdf: "00:05.0", vfio: "vfio0" }],
  mdev: { parents: [{ driver: "copy", name: "copy0", options: { channels: CHANNELS } }] },
};
const machine = buildMachine(spec, { iommus: [vtdIommuFactory], devices: deviceModels, mdevBus, mdevDrivers });
const guest = new Guest(machine);
const memory = () => {
  gc();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
};

const before = memory();
const adis = Array.from({ length: ADIS }, (_, i) => {
  const adi = guest.create("idxd-1swq-v1", PARENT, uuid(1, i));
  const ioas = guest.ioas();
  const [source, target, record] = [SOURCE, TARGET, RECORD].map((iova) => guest.page(ioas, BigInt(iova)));
  source.fill(i & 0xff);
  adi.attach(adi.table(ioas), 1 + i);
  if (adi.start({ pasid: 1 }) !== 0) throw new Error(`virtual DSA ${i} does not start`);
  return { adi, target, record, work: move({ source: SOURCE, destination: TARGET, size: 4096, completion: RECORD, pasid: 1 + i }) };
});
// Three pages of each are the guest's own.
const kib = (memory() - before) / ADIS / 1024 - 12;

const channels = Array.from({ length: CHANNELS }, (_, i) => {
  machine.mdev.create("copy0", "copy-channel", uuid(2, i));
  const channel = new CopyChannel(guest, uuid(2, i), BigInt(RING));
  const [source, target] = [SOURCE, TARGET].map((iova) => guest.page(channel.ioas, BigInt(iova)));
  source.fill(0x80 | i);
  return { channel, target };
});

const start = process.hrtime.bigint();
const ROUNDS = 10;
for (let round = 0; round < ROUNDS; round++) {
  for (const { adi, work, record, target } of adis) {
    record[0] = 0;
    target[4095] = ~target[4095];
    adi.submit(work, true);
  }
  for (const { channel } of channels) channel.copy(BigInt(SOURCE), BigInt(TARGET), 4096);
}
const us = Number(process.hrtime.bigint() - start) / 1000 / ROUNDS;
const arrived = adis.filter(({ target, record }, i) => recordStatus(record) === 1 && target[0] === (i & 0xff) && target[4095] === (i & 0xff)).length;
const copied = channels.filter(({ target }, i) => target[0] === (0x80 | i)).length;
print({ arrived, copied, us, kib });
