/**
 * Virtual commands (VT-d 11.4: VCMD, VCRSP, VCCAP; ECAP.VCS): the guest asks for its PASIDs, because only who runs it knows which numbers
 * are free. An allocation can fail, but knows no device: it reserves a number, and no place of a table (RFC v2's list, R17).
 */
import { IdPool, IommuError, type MmioHandler } from "@iommukit/core";

/** Offsets. */
export const VirtualCommandReg = { VCMD: 0xe00, VCMD_EO: 0xe08, VCRSP: 0xe10, VCCAP: 0xe30 } as const;
/** VCMD.CMD. */
export const VirtualCommand = { ALLOCATE_PASID: 1, FREE_PASID: 2 } as const;
/** VCRSP.SC; what is from 16 on belongs to the command: none is left, or it is not one that was given. */
export const VirtualCommandStatus = { SUCCESS: 0, UNDEFINED: 1, REFUSED: 16 } as const;

const FIRST = VirtualCommandReg.VCMD;
const END = 0xe40;
const ECAP = 0x10;
const ECAP_VCS = 1n << 44n;
/** Allocation and freeing of PASIDs. */
const CAPABILITIES = 6n;
const PASID_SHIFT = 16n;
const PASID_MASK = 0xf_ffffn;
const ALL32 = 0xffff_ffffn;

/** Numbers for PASIDs, over all virtual IOMMUs of one guest. */
export class GuestPasids {
  readonly #pool: IdPool;
  readonly #given = new Set<number>();

  /** @param bits width of the guest's PASIDs; 0 is never given out: requests without PASID are looked up there */
  constructor(bits: number) {
    this.#pool = new IdPool("PASID of the guest", "ECAP.PSS", bits, 1);
  }

  /** undefined: none is left. */
  allocate(): number | undefined {
    try {
      const pasid = this.#pool.take();
      this.#given.add(pasid);
      return pasid;
    } catch (error) {
      if (!(error instanceof IommuError)) throw error;
      return undefined;
    }
  }

  /** False: it was not given out. */
  free(pasid: number): boolean {
    if (!this.#given.delete(pasid)) return false;
    this.#pool.free(pasid);
    return true;
  }
}

/** A unit's registers with those of virtual commands among them. */
export class VirtualCommands implements MmioHandler {
  readonly #unit: MmioHandler;
  readonly #pasids: GuestPasids;
  readonly #bank = new DataView(new ArrayBuffer(END - FIRST));

  constructor(unit: MmioHandler, pasids: GuestPasids) {
    this.#unit = unit;
    this.#pasids = pasids;
    this.#store(VirtualCommandReg.VCCAP, CAPABILITIES);
  }

  #store(register: number, value: bigint): void {
    this.#bank.setBigUint64(register - FIRST, value, true);
  }

  read(offset: number, size: number): bigint {
    if (offset < FIRST || offset >= END) return this.#unit.read(offset, size) | announced(offset, size);
    if (size < 4 || offset % size !== 0) return BigInt.asUintN(8 * size, -1n);
    return size === 8 ? this.#bank.getBigUint64(offset - FIRST, true) : BigInt(this.#bank.getUint32(offset - FIRST, true));
  }

  /** A command begins when the lower half of VCMD is written: the upper one, and VCMD_EO, come before. */
  write(offset: number, size: number, value: bigint): void {
    if (offset < FIRST || offset >= END) return this.#unit.write(offset, size, value);
    if (size < 4 || offset % size !== 0) return;
    const { VCMD, VCMD_EO } = VirtualCommandReg;
    const writable = offset >= VCMD && offset < VCMD_EO + 8;
    if (!writable) return;
    if (size === 8) this.#bank.setBigUint64(offset - FIRST, value, true);
    else this.#bank.setUint32(offset - FIRST, Number(value & ALL32), true);
    if (offset === VCMD) this.#run(this.#bank.getBigUint64(0, true));
  }

  #run(command: bigint): void {
    switch (Number(command & 0xffn)) {
      case VirtualCommand.ALLOCATE_PASID: {
        const pasid = this.#pasids.allocate();
        return pasid === undefined ? this.#respond(VirtualCommandStatus.REFUSED) : this.#respond(VirtualCommandStatus.SUCCESS, pasid);
      }
      case VirtualCommand.FREE_PASID: {
        const given = this.#pasids.free(Number((command >> PASID_SHIFT) & PASID_MASK));
        return this.#respond(given ? VirtualCommandStatus.SUCCESS : VirtualCommandStatus.REFUSED);
      }
      default:
        return this.#respond(VirtualCommandStatus.UNDEFINED);
    }
  }

  /** Done at once: IP is never seen set. */
  #respond(status: number, pasid = 0): void {
    this.#store(VirtualCommandReg.VCRSP, BigInt(status << 1) | (BigInt(pasid) << PASID_SHIFT));
  }
}

/** What a read of ECAP, or of its upper half, shows besides. */
function announced(offset: number, size: number): bigint {
  if (offset === ECAP && size === 8) return ECAP_VCS;
  return offset === ECAP + 4 && size === 4 ? ECAP_VCS >> 32n : 0n;
}
