/* SPDX-License-Identifier: Apache-2.0 */
/* The libc functions that a program reaches the nodes with. Everything that is not ours goes on to libc. */
#define _GNU_SOURCE
#include "shim.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <linux/mman.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* Misc device of no registered number: programs look at the type, not at the number. */
#define FAKE_MAJOR 10
#define FAKE_MINOR 250

#define REAL(name) \
	static __typeof__(name) *real; \
	if (!real) \
		real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

static long answer(long result)
{
	if (result < 0) {
		errno = (int)-result;
		return -1;
	}
	return result;
}

/* open(2) and its kin ------------------------------------------------------------------------------------------- */

#define OPEN_MODE(flags, last) \
	mode_t mode = 0; \
	if ((flags) & (O_CREAT | O_TMPFILE)) { \
		va_list list; \
		va_start(list, last); \
		mode = va_arg(list, mode_t); \
		va_end(list); \
	}

int open(const char *path, int flags, ...)
{
	REAL(open);
	OPEN_MODE(flags, flags)
	return door_path(path) ? (int)answer(door_open(path, flags)) : real(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
	REAL(open64);
	OPEN_MODE(flags, flags)
	return door_path(path) ? (int)answer(door_open(path, flags)) : real(path, flags, mode);
}

int openat(int dir, const char *path, int flags, ...)
{
	REAL(openat);
	OPEN_MODE(flags, flags)
	return door_path(path) ? (int)answer(door_open(path, flags)) : real(dir, path, flags, mode);
}

int openat64(int dir, const char *path, int flags, ...)
{
	REAL(openat64);
	OPEN_MODE(flags, flags)
	return door_path(path) ? (int)answer(door_open(path, flags)) : real(dir, path, flags, mode);
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

	return door_is_ours(fd, &inode) ? transfer_out(OP_WRITE, inode, buffer, count, 0) : real(fd, buffer, count);
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

/* mmap ----------------------------------------------------------------------------------------------------------- */

#define HUGE_PAGE (2UL << 20)

/*
 * Huge pages where the system has none left: ordinary memory at the same alignment. The door takes a mapping for one
 * piece anyway.
 */
static void *ordinary_pages(void *(*real)(void *, size_t, int, int, int, off_t), void *address, size_t length, int prot, int flags)
{
	size_t whole = (length + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);

	flags &= ~(MAP_HUGETLB | (MAP_HUGE_MASK << MAP_HUGE_SHIFT));
	if (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE))
		return real(address, whole, prot, flags, -1, 0);
	char *room = real(NULL, whole + HUGE_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (room == MAP_FAILED)
		return MAP_FAILED;
	char *start = (char *)(((uintptr_t)room + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1));

	if (start > room)
		munmap(room, (size_t)(start - room));
	if (room + HUGE_PAGE > start)
		munmap(start + whole, (size_t)(room + HUGE_PAGE - start));
	return real(start, whole, prot, flags | MAP_FIXED, -1, 0);
}

/* Mappings of our files: while one lasts, a descriptor of its own tells the door so, also in children. */
static struct region {
	char *start;
	size_t length, left;
	int life;
} regions[64];

static void *map_node(void *(*real)(void *, size_t, int, int, int, off_t), void *address, size_t length, int prot, int flags, uint64_t inode, off_t offset)
{
	struct request call = { .op = OP_MMAP, .inode = inode, .a = (uint64_t)offset };
	void *result = MAP_FAILED;
	size_t slot = 0;

	while (slot < sizeof(regions) / sizeof(regions[0]) && regions[slot].left > 0)
		slot++;
	int life = slot < sizeof(regions) / sizeof(regions[0]) ? door_spare(&call.c) : -ENOMEM;

	if (life < 0)
		return (void *)answer(life);
	call.b = (length + 4095) & ~4095UL;
	call.flags = (uint32_t)(flags & (MAP_SHARED | MAP_PRIVATE)) | (uint32_t)((prot & PROT_EXEC) != 0) << 16;
	long memory = door_call(&call, NULL, NULL);

	if (memory >= 0)
		memory = door_descriptor((int)memory);
	if (memory >= 0) {
		result = real(address, length, prot, flags, (int)memory, 0);
		door_discard((int)memory);
		memory = result == MAP_FAILED ? -errno : 0;
	}
	if (memory < 0) {
		door_discard(life);
		return (void *)answer(memory);
	}
	regions[slot] = (struct region){ .start = result, .length = call.b, .left = call.b, .life = life };
	return result;
}

int munmap(void *address, size_t length)
{
	REAL(munmap);
	int result = real(address, length);
	char *start = address, *end = start + ((length + 4095) & ~4095UL);

	for (size_t i = 0; result == 0 && i < sizeof(regions) / sizeof(regions[0]); i++) {
		struct region *region = &regions[i];
		char *from = start > region->start ? start : region->start;
		char *to = end < region->start + region->length ? end : region->start + region->length;

		if (region->left == 0 || from >= to)
			continue;
		region->left -= region->left < (size_t)(to - from) ? region->left : (size_t)(to - from);
		if (region->left == 0)
			close(region->life);
	}
	return result;
}

void *mmap(void *address, size_t length, int prot, int flags, int fd, off_t offset)
{
	REAL(mmap);
	uint64_t inode;

	if (fd >= 0 && !(flags & MAP_ANONYMOUS) && door_is_ours(fd, &inode))
		return map_node(real, address, length, prot, flags, inode, offset);
	void *result = real(address, length, prot, flags, fd, offset);

	if (result == MAP_FAILED && door_available() && (flags & MAP_HUGETLB) && (flags & MAP_ANONYMOUS))
		return ordinary_pages(real, address, length, prot, flags);
	return result;
}

void *mmap64(void *address, size_t length, int prot, int flags, int fd, off64_t offset)
{
	return mmap(address, length, prot, flags, fd, (off_t)offset);
}

/* /proc/PID/status: VmPin and VmLck as they would be ----------------------------------------------------------------- */

/* The process whose status a path names; 0 for any other path. */
static int status_of(const char *path)
{
	const char *at = path;
	int pid = 0;

	if (!door_available() || !path || strncmp(at, "/proc/", 6) != 0)
		return 0;
	at += 6;
	if (strncmp(at, "self", 4) == 0) {
		at += 4;
		pid = getpid();
	} else {
		for (; *at >= '0' && *at <= '9'; at++)
			pid = pid * 10 + (*at - '0');
	}
	return strcmp(at, "/status") == 0 ? pid : 0;
}

/* Appends the line with `pages` more pages than it says. */
static size_t with_pages(char *out, size_t room, const char *line, uint64_t pages)
{
	unsigned long long kib = strtoull(line + 6, NULL, 10) + pages * 4;

	return (size_t)snprintf(out, room, "%.6s\t%8llu kB\n", line, kib);
}

/* A copy of the status with what the door has pinned and locked for the process; the real one when that fails. */
static int status_copy(int real_fd, int pid)
{
	char text[8192], changed[8192 + 128];
	uint64_t pages[2] = { 0, 0 };
	struct request call = { .op = OP_STATUS, .a = (uint64_t)pid, .b = (uint64_t)(uintptr_t)pages };
	ssize_t got = (ssize_t)syscall(SYS_read, real_fd, text, sizeof(text) - 1);
	size_t put = 0;

	if (got <= 0 || door_call(&call, NULL, NULL) != 0)
		return real_fd;
	text[got] = '\0';
	for (char *line = text, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
		size_t length = (size_t)(end + 1 - line);

		if (strncmp(line, "VmPin:", 6) == 0) {
			put += with_pages(changed + put, sizeof(changed) - put, line, pages[0]);
		} else if (strncmp(line, "VmLck:", 6) == 0) {
			put += with_pages(changed + put, sizeof(changed) - put, line, pages[1]);
		} else {
			memcpy(changed + put, line, length);
			put += length;
		}
	}
	int copy = (int)syscall(SYS_memfd_create, "status", 1U /* MFD_CLOEXEC */);

	if (copy < 0 || syscall(SYS_pwrite64, copy, changed, put, 0L) != (long)put)
		return real_fd;
	syscall(SYS_close, real_fd);
	return copy;
}

FILE *fopen(const char *path, const char *mode)
{
	REAL(fopen);
	int pid = status_of(path);

	if (pid == 0 || mode[0] != 'r')
		return real(path, mode);
	int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return real(path, mode);
	return fdopen(status_copy(fd, pid), mode);
}

FILE *fopen64(const char *path, const char *mode)
{
	return fopen(path, mode);
}

/* stat: a character device, as programs check --------------------------------------------------------------------- */

static void fake_stat(struct stat *st)
{
	memset(st, 0, sizeof(*st));
	st->st_mode = S_IFCHR | 0660;
	st->st_rdev = makedev(FAKE_MAJOR, FAKE_MINOR);
	st->st_nlink = 1;
}

static int node_exists(const char *path)
{
	struct request call = { .op = OP_PATH, .inlen = (uint32_t)strlen(path) };

	return call.inlen < 256 ? (int)answer(door_call(&call, path, NULL)) : (int)answer(-ENOENT);
}

int fstat(int fd, struct stat *st)
{
	REAL(fstat);
	uint64_t inode;
	int result = real(fd, st);

	if (result == 0 && S_ISSOCK(st->st_mode) && door_is_ours(fd, &inode))
		fake_stat(st);
	return result;
}

int stat(const char *path, struct stat *st)
{
	REAL(stat);
	if (!door_path(path))
		return real(path, st);
	if (node_exists(path) != 0)
		return -1;
	fake_stat(st);
	return 0;
}

int lstat(const char *path, struct stat *st)
{
	REAL(lstat);
	return door_path(path) ? stat(path, st) : real(path, st);
}

/* On LP64 both structs are one. */
int fstat64(int fd, struct stat64 *st)
{
	return fstat(fd, (struct stat *)st);
}

int stat64(const char *path, struct stat64 *st)
{
	return stat(path, (struct stat *)st);
}

int lstat64(const char *path, struct stat64 *st)
{
	return lstat(path, (struct stat *)st);
}

int access(const char *path, int mode)
{
	REAL(access);
	return door_path(path) ? node_exists(path) : real(path, mode);
}
