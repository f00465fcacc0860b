/* SPDX-License-Identifier: Apache-2.0
 *
 * The client's side of the door: a library that is preloaded into a program and
 * answers for /dev/iommu and /dev/vfio/ by asking the `iommu run` that started it.
 *
 * A fake descriptor is the program's own connection to that process's socket, so
 * dup, fork, exec, SCM_RIGHTS and close work by themselves; its inode is its name.
 * Requests travel over a connection of each thread, since the fake one is shared.
 *
 * No malloc, no stdio: any of this may run inside a signal handler or an allocator.
 */
#ifndef IOMMUKIT_SHIM_H
#define IOMMUKIT_SHIM_H

#include <stddef.h>
#include <stdint.h>

enum operation {
	OP_HELLO = 1,	/* first on a thread's connection; in: token */
	OP_OPEN = 2,	/* first on a fake descriptor; in: token, path */
	OP_IOCTL = 3,	/* a: request, b: argument; in: the first bytes there */
	OP_PREAD = 4,	/* a: position, b: address, c: length */
	OP_PWRITE = 5,	/* a: position, c: length; in: the bytes */
	OP_READ = 6,	/* b: address, c: length */
	OP_WRITE = 7,	/* c: length; in: the bytes */
	OP_SYNC = 8,	/* answered after every close that came before */
	OP_PATH = 9,	/* in: path; 0 when it is a node of ours */
	OP_MMAP = 12,	/* a: offset, b: length, c: inode of a spare descriptor that lives as long as the mapping; flags: MAP_… | PROT_EXEC << 16;
			 * in: address of a u64 for the offset in it; result: the door's descriptor of the memory, or REGISTERS */
	OP_STATUS = 11,	/* a: process, b: where its pinned and locked pages go, two u64 */
	OP_ATTRIBUTE = 16, /* in: a bytes of path, then what is written there */
	OP_LOAD = 13,	/* inode: of a mapping of registers; a: offset in it, b: bytes of one access, c: bytes; they come as one piece */
	OP_STORE = 14,	/* inode, a, b: as LOAD; in: the bytes */
	OP_BLOCK = 15,	/* inode, a: as LOAD; b: 1 for a deferrable one; in: 64 bytes; result: 1 when it was turned away */
	OP_SPARE = 10,	/* first on a fake descriptor without a file yet; in: token */
};

/* request.flags of OP_IOCTL: the high half of a is a spare descriptor, c its inode. */
#define HAS_SPARE 1
/* request.flags of all: this process can have registers mapped. */
#define TRAPS (1U << 31)

/* reply.flags */
#define WANTS_SPARE 1	/* nothing was done: the call makes a file, ask again with a spare descriptor */
#define TOOK_SPARE 2	/* the spare descriptor has a file now */
#define DRAIN 4		/* nothing is left to read: take the byte that said so */
#define REGISTERS 8	/* what was mapped acts when it is touched: LOAD, STORE and BLOCK reach it */

/* Little-endian; followed by inlen bytes. */
struct request {
	uint32_t length;
	uint32_t op;
	uint64_t inode;
	uint64_t a, b, c;
	uint32_t pid, tid, inlen, flags;
};

/* Followed by `copies` times a struct copy with its bytes. */
struct reply {
	uint32_t length;
	int32_t result;		/* or a negative errno */
	uint32_t copies;
	uint32_t flags;
};

struct copy {
	uint64_t address;
	uint32_t length;
	uint32_t reserved;
};

#define TOKEN_BYTES 32
#define INLINE_BYTES 512
#define IO_BYTES 4096		/* bytes of one pread or pwrite; more is a short transfer */

/* rpc.c */
int door_available(void);
int door_is_ours(int fd, uint64_t *inode);
int door_open(const char *path, int flags);
long door_call(struct request *request, const void *in, uint32_t *flags);
int door_spare(uint64_t *inode);
void door_discard(int fd);
void door_drain(int fd);
int door_descriptor(int number);
/* A call whose one piece of reply comes to `bytes`: for signal handlers, it needs little stack. */
long door_fetch(struct request *request, void *bytes, size_t length);
/* Moves a descriptor out of the way of programs that count theirs. */
int door_raise(int fd);
long door_copy_from(const void *address, void *target, size_t length);
/* 0 or -1. */
int door_copy_to(uint64_t address, const void *source, size_t length);
uint64_t door_block_signals(void);
void door_restore_signals(uint64_t mask);
/* KVM reaches memory by itself, and cannot be trapped: from now on no registers are mapped. */
void door_kvm_opened(void);
int door_traps(void);

/* True for the paths that the door answers for. */
int door_path(const char *path);

/* files.c: where a path of the simulated machine's /sys really is, written to `buffer` (PATH_MAX); other paths as they are. */
const char *door_redirect(const char *path, char *buffer);
/* The path in the simulated machine of a path that was redirected. */
const char *door_unredirect(const char *path);

#endif
