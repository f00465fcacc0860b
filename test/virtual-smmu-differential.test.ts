/** The same guest on a virtual SMMUv3 and on hardware of its own: the same histories, the same memory, the same events. */
import { it } from "vitest";
import { compareHistories, DEVICES } from "./guest-history.js";
import { bareGuest, type Guest, smmuGuest, STREAM } from "./guest-smmu.js";
import { CFGI_STE, descriptorAddress, sendAside, STE_CHANGES, steAddress, SYNC } from "./guest-ste.js";

/** `HISTORIES=20000` for a long run; `SEED` for others. */
const HISTORIES = Number(process.env.HISTORIES ?? 70);
const SEED = Number(process.env.SEED ?? 20_261_125);
const PASIDS = 3;
/** Words of an STE in which a bit is flipped. */
const STE_WORDS = 2;
const CD_BYTES = 64;
/** ENDI, V, AA64, S, R, A of a context descriptor: what others of its ASID need not agree with. */
const CD_FLAGS = [15n, 31n, 41n, 44n, 45n, 46n] as const;
const S1_CONTEXT_PTR = 0xff_ffff_ffff_ffc0n;
const TLBI_NSNH_ALL = 0x30n;
const ATC_INV = 0x40n;
/** Of ATC_INV: Size, and G with SSV. */
const EVERYTHING = 52n;
const EVERY_SUBSTREAM = (1n << 9n) | (1n << 11n);

type Random = (n: number) => number;

/** With tables whose entries are made wrong by hand now and then, until the driver writes them again, or the next time. */
function tampering<G extends Guest>(guest: G) {
  const { unit, memory } = guest;
  const flip = (at: number, bit: bigint): void => {
    const word = memory.readU64(at);
    if (word !== undefined) memory.writeU64(at, word ^ bit);
  };
  /** What the level-1 descriptor was, while it is none. */
  let descriptor: bigint | undefined;
  const ways: ((ste: number, random: Random) => void)[] = [
    (ste, random) => {
      const { word, to } = STE_CHANGES[random(STE_CHANGES.length)];
      memory.writeU64(ste + word * 8, to(memory.readU64(ste + word * 8) ?? 0n));
    },
    () => {
      const at = descriptorAddress(guest);
      descriptor = memory.readU64(at);
      memory.writeU64(at, 0n);
    },
    (ste, random) => { flip(ste + random(STE_WORDS) * 8, 1n << BigInt(random(64))); },
    (ste, random) => {
      const table = Number((memory.readU64(ste) ?? 0n) & S1_CONTEXT_PTR);
      flip(table + random(PASIDS) * CD_BYTES, 1n << CD_FLAGS[random(CD_FLAGS.length)]);
    },
  ];
  return {
    ...guest,
    /** Every other time with a translation cache that is on, whatever turned it off. */
    dma(device: number, write: boolean, iova: bigint, value = 0n, pasid?: number): boolean {
      if (value % 2n === 0n) guest.turnOnCache(device);
      return guest.dma(device, write, iova, value, pasid);
    },
    tamper(device: number, random: Random): void {
      const ste = steAddress(guest, STREAM + device);
      const way = ways[random(ways.length)];
      if (descriptor === undefined) way(ste, random);
      else {
        memory.writeU64(descriptorAddress(guest), descriptor);
        descriptor = undefined;
      }
      // Of every device, as they have the descriptor in common: nothing is left of what was.
      const streams = guest.devices.map(({ rid }) => BigInt(rid) << 32n);
      const about = (...commands: readonly (readonly [bigint, bigint])[]) => streams.flatMap((stream) => commands.map(([low, high]) => [low | stream, high] as const));
      sendAside(unit, memory, [...about([CFGI_STE, 0n]), [TLBI_NSNH_ALL, 0n], [SYNC, 0n], ...about([ATC_INV, EVERYTHING], [ATC_INV | EVERY_SUBSTREAM, EVERYTHING])]);
    },
  };
}

it.each([["server", false], ["server", true], ["server-52", true]])(`${HISTORIES} histories are the same to the guest on a host's unit "%s"; its devices have translation caches: %s`, (preset, ats) => {
  const nested = smmuGuest({ devices: DEVICES, preset, ats });
  compareHistories(tampering(nested), tampering(bareGuest(nested.identification, DEVICES, ats)), PASIDS, HISTORIES, SEED);
}, 3_600_000);
