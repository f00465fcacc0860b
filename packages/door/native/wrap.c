/* SPDX-License-Identifier: Apache-2.0 */
/* The libc functions that a program reaches the nodes with. Everything that is not ours goes on to libc. */
#define _GNU_SOURCE
#include "shim.h"
#include "wrap.h"

#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

/* open(2) and its kin ------------------------------------------------------------------------------------------- */

#define OPEN_MODE(flags, last) \
	char redirected[PATH_MAX]; \
	mode_t mode = 0; \
	if ((flags) & (O_CREAT | O_TMPFILE)) { \
		va_list list; \
		va_start(list, last); \
		mode = va_arg(list, mode_t); \
		va_end(list); \
	} \
	flags = attribute_flags(path, flags);

static int is_node(const char *path)
{
	if (path && strcmp(path, "/dev/kvm") == 0)
		door_kvm_opened();
	return door_path(path);
}

int open(const char *path, int flags, ...)
{
	REAL(open);
	OPEN_MODE(flags, flags)
	return is_node(path) ? (int)answer(door_open(path, flags)) : real(door_redirect(path, redirected), flags, mode);
}

int open64(const char *path, int flags, ...)
{
	REAL(open64);
	OPEN_MODE(flags, flags)
	return is_node(path) ? (int)answer(door_open(path, flags)) : real(door_redirect(path, redirected), flags, mode);
}

int openat(int dir, const char *path, int flags, ...)
{
	REAL(openat);
	OPEN_MODE(flags, flags)
	return is_node(path) ? (int)answer(door_open(path, flags)) : real(dir, door_redirect(path, redirected), flags, mode);
}

int openat64(int dir, const char *path, int flags, ...)
{
	REAL(openat64);
	OPEN_MODE(flags, flags)
	return is_node(path) ? (int)answer(door_open(path, flags)) : real(dir, door_redirect(path, redirected), flags, mode);
}

/* What _FORTIFY_SOURCE calls in their place. */
int __open_2(const char *path, int flags);
int __open_2(const char *path, int flags)
{
	return open(path, flags);
}

int __open64_2(const char *path, int flags);
int __open64_2(const char *path, int flags)
{
	return open64(path, flags);
}

int __openat_2(int dir, const char *path, int flags);
int __openat_2(int dir, const char *path, int flags)
{
	return openat(dir, path, flags);
}

int __openat64_2(int dir, const char *path, int flags);
int __openat64_2(int dir, const char *path, int flags)
{
	return openat64(dir, path, flags);
}

int close(int fd)
{
	REAL(close);
	uint64_t inode;
	int ours = door_is_ours(fd, &inode);
	int result = real(fd);

	if (ours && result == 0) {
		/* The next call must find the file released. */
		struct request sync = { .op = OP_SYNC };
		int saved = errno;

		door_call(&sync, NULL, NULL);
		errno = saved;
	}
	return result;
}

/* ioctl --------------------------------------------------------------------------------------------------------- */

/* A call that makes a file is made again with a descriptor for it. */
static long call_with_spare(struct request *call, const void *in)
{
	uint32_t flags = 0;
	long result = door_call(call, in, &flags);

	if (!(flags & WANTS_SPARE))
		return result;
	int fd = door_spare(&call->c);

	if (fd < 0)
		return fd;
	call->a |= (uint64_t)(uint32_t)fd << 32;
	call->flags = HAS_SPARE;
	flags = 0;
	result = door_call(call, in, &flags);
	if (!(flags & TOOK_SPARE))
		door_discard(fd);
	return result;
}

int ioctl(int fd, unsigned long request, ...)
{
	static int (*real)(int, unsigned long, ...);
	struct request call = { .op = OP_IOCTL, .a = request };
	unsigned char in[INLINE_BYTES];
	uint32_t size;
	va_list list;

	if (!real)
		real = (int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl");
	va_start(list, request);
	void *argument = va_arg(list, void *);
	va_end(list);
	/* Both iommufd and VFIO use the type ';' (0x3b). */
	if (((request >> 8) & 0xff) != ';' || !door_is_ours(fd, &call.inode))
		return real(fd, request, argument);
	call.b = (uint64_t)(uintptr_t)argument;
	/* Nearly every struct begins with its size: it travels along, and the door need not fetch it. */
	if (door_copy_from(argument, &size, sizeof(size)) == (long)sizeof(size)) {
		size_t wanted = size < sizeof(size) ? sizeof(size) : size > sizeof(in) ? sizeof(in) : size;
		long got = door_copy_from(argument, in, wanted);

		call.inlen = got > 0 ? (uint32_t)got : 0;
	}
	return (int)answer(call_with_spare(&call, in));
}

/* Reading and writing ------------------------------------------------------------------------------------------- */

static ssize_t transfer_in(int fd, enum operation op, uint64_t inode, void *buffer, size_t count, uint64_t position)
{
	uint32_t flags = 0;
	struct request call = { .op = op, .inode = inode, .a = position, .b = (uint64_t)(uintptr_t)buffer };

	call.c = count < IO_BYTES ? count : IO_BYTES;
	long result = door_call(&call, NULL, &flags);

	if (flags & DRAIN)
		door_drain(fd);
	return answer(result);
}

static ssize_t transfer_out(enum operation op, uint64_t inode, const void *buffer, size_t count, uint64_t position)
{
	unsigned char in[IO_BYTES];
	struct request call = { .op = op, .inode = inode, .a = position };

	call.c = count < IO_BYTES ? count : IO_BYTES;
	call.inlen = (uint32_t)call.c;
	if (door_copy_from(buffer, in, call.inlen) != (long)call.inlen)
		return answer(-EFAULT);
	return answer(door_call(&call, in, NULL));
}

ssize_t read(int fd, void *buffer, size_t count)
{
	REAL(read);
	uint64_t inode;

	return door_is_ours(fd, &inode) ? transfer_in(fd, OP_READ, inode, buffer, count, 0) : real(fd, buffer, count);
}

ssize_t write(int fd, const void *buffer, size_t count)
{
	REAL(write);
	uint64_t inode;

	if (door_is_ours(fd, &inode))
		return transfer_out(OP_WRITE, inode, buffer, count, 0);
	ssize_t put = real(fd, buffer, count);

	return put < 0 && errno == EBADF ? attribute_write(fd, buffer, count) : put;
}

/* The real call comes first and fails with ESPIPE on a socket: other descriptors pay nothing. */
ssize_t pread(int fd, void *buffer, size_t count, off_t position)
{
	REAL(pread);
	uint64_t inode;
	ssize_t got = real(fd, buffer, count, position);

	if (got >= 0 || errno != ESPIPE || !door_is_ours(fd, &inode))
		return got;
	return transfer_in(fd, OP_PREAD, inode, buffer, count, (uint64_t)position);
}

ssize_t pread64(int fd, void *buffer, size_t count, off64_t position)
{
	return pread(fd, buffer, count, (off_t)position);
}

ssize_t __pread_chk(int fd, void *buffer, size_t count, off_t position, size_t size);
ssize_t __pread_chk(int fd, void *buffer, size_t count, off_t position, size_t size)
{
	if (count > size)
		__builtin_trap();
	return pread(fd, buffer, count, position);
}

ssize_t __pread64_chk(int fd, void *buffer, size_t count, off64_t position, size_t size);
ssize_t __pread64_chk(int fd, void *buffer, size_t count, off64_t position, size_t size)
{
	return __pread_chk(fd, buffer, count, (off_t)position, size);
}

ssize_t pwrite(int fd, const void *buffer, size_t count, off_t position)
{
	REAL(pwrite);
	uint64_t inode;
	ssize_t put = real(fd, buffer, count, position);

	if (put >= 0 || errno != ESPIPE || !door_is_ours(fd, &inode))
		return put;
	return transfer_out(OP_PWRITE, inode, buffer, count, (uint64_t)position);
}

ssize_t pwrite64(int fd, const void *buffer, size_t count, off64_t position)
{
	return pwrite(fd, buffer, count, (off_t)position);
}
