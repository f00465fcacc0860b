/** struct stat and struct statx of x86-64. */
import { addressOf, cString, syscall } from "../system.js";
import { SYS } from "./syscalls.js";

const AT_FDCWD = -100;
const MODE = 0o020660; // a character device
/** A misc device of no registered number: programs look at the type, and that it equals what /sys says. As in the shim. */
const MAJOR = 10;
const MINOR = 250;

export function deviceStat(): Uint8Array {
  const view = new DataView(new ArrayBuffer(144));
  view.setBigUint64(16, 1n, true); // st_nlink
  view.setUint32(24, MODE, true);
  view.setBigUint64(40, BigInt((MAJOR << 8) | MINOR), true); // st_rdev
  return new Uint8Array(view.buffer);
}

const STATX_BASIC_STATS = 0x7ff;

export function deviceStatx(): Uint8Array {
  const view = new DataView(new ArrayBuffer(256));
  view.setUint32(0, STATX_BASIC_STATS, true);
  view.setUint32(16, 1, true); // stx_nlink
  view.setUint16(28, MODE, true);
  view.setUint32(128, MAJOR, true);
  view.setUint32(132, MINOR, true);
  return new Uint8Array(view.buffer);
}

/** @throws SystemError */
export function pathStat(path: string, flags: number): Uint8Array {
  const bytes = new Uint8Array(144);
  syscall(`stat of ${path}`, SYS.newfstatat, AT_FDCWD, cString(path), addressOf(bytes), flags);
  return bytes;
}

/** @throws SystemError */
export function pathStatx(path: string, flags: number, mask: number): Uint8Array {
  const bytes = new Uint8Array(256);
  syscall(`statx of ${path}`, SYS.statx, AT_FDCWD, cString(path), flags, mask, addressOf(bytes));
  return bytes;
}
