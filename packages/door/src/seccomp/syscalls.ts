/** System calls of x86-64 that the door answers, and where their arguments are. */

export const SYS = {
  read: 0, write: 1, open: 2, stat: 4, fstat: 5, lstat: 6, mmap: 9, munmap: 11, ioctl: 16, pread64: 17, pwrite64: 18,
  readv: 19, writev: 20, access: 21, dup: 32, fcntl: 72, creat: 85, readlink: 89, openat: 257, newfstatat: 262, readlinkat: 267,
  faccessat: 269, preadv: 295, pwritev: 296, memfd_create: 319, preadv2: 327, pwritev2: 328, statx: 332, openat2: 437, faccessat2: 439,
  close: 3,
} as const;

export type CallName = keyof typeof SYS;

/**
 * Fake descriptors have numbers from here on, so that the filter tells reads and writes of them from others by number. Room is
 * left below 1024, where select(2) ends.
 */
export const FIRST_FD = 700;
/** Both iommufd and VFIO use this ioctl type. */
export const IOCTL_TYPE = 0x3b;
export const MAP_ANONYMOUS = 0x20;
export const MAP_HUGETLB = 0x40000;
export const MFD_HUGETLB = 4;
export const AT_EMPTY_PATH = 0x1000;
export const F_DUPFD = 0;
export const F_DUPFD_CLOEXEC = 1030;
/** In the upper half of mmap's descriptor, which the kernel ignores: a call that the door itself makes in the client. */
export const OWN_CALL = 0x696f_6d6d;
