/** WQCFG, GRPCFG, MSIX_PERM and interrupt message storage (341204, 9.2.16 and on). Offsets are of 4-byte words. */

export const WqWord = { SIZE: 0, THRESHOLD: 1, MODE: 2, LIMITS: 3, OCCUPANCY: 6, OPERATIONS: 8 } as const;
export const WQ_WORDS = 16;

/** Word 2. */
export const WqMode = { DEDICATED: 1, BLOCK_ON_FAULT: 2, ATS_DISABLE: 4, PRS_DISABLE: 8, PRIORITY_SHIFT: 4, PASID_SHIFT: 8, PASID_ENABLE: 0x1000_0000, PRIVILEGED: 0x2000_0000 } as const;
/** Word 3. */
export const WqLimits = { TRANSFER_MASK: 0x1f, BATCH_SHIFT: 5, BATCH_MASK: 0xf } as const;
/** Word 6. */
export const WqStatus = { MODE_SUPPORT: 0x2000_0000, STATE_SHIFT: 30 } as const;
export const WqState = { DISABLED: 0, ENABLED: 1 } as const;

/** Bits of each word that software may write. The size is the device's to share out, so the device must be disabled; for the others the queue. */
export const WQ_WRITABLE: readonly { readonly word: number; readonly mask: number; readonly device?: boolean }[] = [
  { word: WqWord.SIZE, mask: 0xffff, device: true },
  { word: WqWord.THRESHOLD, mask: 0xffff },
  { word: WqWord.MODE, mask: 0x3fff_ffff },
  { word: WqWord.LIMITS, mask: 0x1ff },
  ...Array.from({ length: 8 }, (_, i) => ({ word: WqWord.OPERATIONS + i, mask: 0xffff_ffff })),
];

/** GRPCFG: queues as 256 bits, engines as 64, then flags. */
export const GrpWord = { QUEUES: 0, ENGINES: 8, FLAGS: 10 } as const;
export const GRP_WORDS = 16;
/** Words of GRPCFG that hold anything; limits of read buffers and of progress are stored without effect. */
export const GRP_WRITABLE = 12;
/** FLAGS: traffic classes A (bits 2:0) and B (bits 5:3). */
export const TRAFFIC_CLASS_MASK = 7;
export const TRAFFIC_CLASS_B_SHIFT = 3;
/** Traffic classes that have a channel to go by. */
export const TRAFFIC_CLASSES = 2;

/** Who may use an interrupt: MSIX_PERM, and the control word of an IMS entry. */
export const Owner = { MASKED: 1, PENDING: 2, IGNORE_PASID: 4, PASID_ENABLE: 8, PASID_SHIFT: 12 } as const;
/** An IMS entry's words. */
export const ImsWord = { ADDRESS: 0, ADDRESS_HIGH: 1, DATA: 2, CONTROL: 3 } as const;
