/**
 * Every refusal has two halves: the errno of the uAPI and a reason in words
 * (ARCHITECTURE.md, "Errors"). The binary door returns the first and logs the
 * second; the typed API throws both.
 */

/** Linux errno numbers used anywhere in the uAPI (asm-generic/errno*.h). */
export const Errno = {
  EPERM: 1,
  ENOENT: 2,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  E2BIG: 7,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  EINVAL: 22,
  EMFILE: 24,
  ENOTTY: 25,
  ENOSPC: 28,
  ESPIPE: 29,
  ERANGE: 34,
  EDEADLK: 35,
  EBADE: 52,
  EOVERFLOW: 75,
  EBADFD: 77,
  EUSERS: 87,
  EMSGSIZE: 90,
  EOPNOTSUPP: 95,
  EADDRINUSE: 98,
} as const;

export type ErrnoName = keyof typeof Errno;

/** What is to blame for a refusal: an argument, a rule, or both. The type is the proof that no refusal lacks one. */
export type Blame =
  | {
      /** The argument or field that is to blame, as the uAPI names it. */
      readonly argument: string;
      /** The rule, with its source: "iommufd IOAS_MAP", "VT-d 9.8". */
      readonly rule?: string;
    }
  | { readonly argument?: string; readonly rule: string };

/** Why a request was refused. */
export type Reason = Blame & {
  /** One sentence: what was wrong and what was there instead. */
  readonly message: string;
};

/** A refused request. `errno` is what a C caller would see. */
export class IommuError extends Error {
  readonly errno: ErrnoName;
  readonly reason: Reason;

  constructor(errno: ErrnoName, reason: Reason, options?: ErrorOptions) {
    super(`${errno}: ${reason.message}`, options);
    this.name = "IommuError";
    this.errno = errno;
    this.reason = reason;
  }

  /** The positive errno number. */
  get code(): number {
    return Errno[this.errno];
  }
}

/** Refuses a request: throws `IommuError`. */
export function refuse(errno: ErrnoName, message: string, blame: Blame): never {
  throw new IommuError(errno, { message, ...blame });
}
