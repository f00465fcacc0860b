/** The same guest on a virtual SMMUv3 and on hardware of its own: the same histories, the same memory, the same events. */
import { it } from "vitest";
import { compareHistories, DEVICES } from "./guest-history.js";
import { bareGuest, type Guest, smmuGuest, STREAM } from "./guest-smmu.js";
import { CFGI_STE, descriptorAddress, sendAside, STE_CHANGES, steAddress } from "./guest-ste.js";

/** `HISTORIES=20000` for a long run; `SEED` for others. */
const HISTORIES = Number(process.env.HISTORIES ?? 100);
const SEED = Number(process.env.SEED ?? 20_261_125);
/** Of the ways to tamper, those with the level-1 descriptor. */
const DESCRIPTOR = 3;

/** With stream table entries that are made wrong by hand now and then, until the driver writes them again, or the next time. */
function tampering<G extends Guest>(guest: G) {
  const { unit, memory } = guest;
  let descriptor: bigint | undefined;
  return {
    ...guest,
    /** Every other time with a translation cache that is on, whatever turned it off. */
    dma(device: number, write: boolean, iova: bigint, value = 0n, pasid?: number): boolean {
      if (value % 2n === 0n) guest.turnOnCache(device);
      return guest.dma(device, write, iova, value, pasid);
    },
    tamper(device: number, random: (n: number) => number): void {
      const way = random(STE_CHANGES.length + DESCRIPTOR);
      const [ste, table] = [steAddress(guest, STREAM + device), descriptorAddress(guest)];
      if (descriptor !== undefined) {
        memory.writeU64(table, descriptor);
        descriptor = undefined;
      } else if (way >= STE_CHANGES.length) {
        descriptor = memory.readU64(table);
        memory.writeU64(table, 0n);
      } else {
        const { word, to } = STE_CHANGES[way];
        memory.writeU64(ste + word * 8, to(memory.readU64(ste + word * 8) ?? 0n));
      }
      // Of every device, as they have the descriptor in common.
      sendAside(unit, memory, guest.devices.map(({ rid }) => [CFGI_STE | (BigInt(rid) << 32n), 0n]));
    },
  };
}

it.each([["", false], [", with translation caches in the devices", true]])(`${HISTORIES} histories are the same to the guest%s`, (_what, ats) => {
  const nested = smmuGuest({ devices: DEVICES, ats });
  compareHistories(tampering(nested), tampering(bareGuest(nested.identification, DEVICES, ats)), 3, HISTORIES, SEED);
}, 3_600_000);
