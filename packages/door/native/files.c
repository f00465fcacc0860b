/* SPDX-License-Identifier: Apache-2.0 */
/* Files that show the simulated machine: /proc/PID/status, the nodes themselves, and the tree of /sys. */
#define _GNU_SOURCE
#include "shim.h"
#include "wrap.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* Misc device of no registered number: programs look at the type, not at the number. */
#define FAKE_MAJOR 10
#define FAKE_MINOR 250

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
	char redirected[PATH_MAX];
	int pid = status_of(path);

	FILE *attribute = attribute_stream(path, mode);

	if (attribute)
		return attribute;
	if (pid == 0 || mode[0] != 'r')
		return real(door_redirect(path, redirected), mode);
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

static int node_stat(const char *path, struct stat *st)
{
	if (node_exists(path) != 0)
		return -1;
	fake_stat(st);
	return 0;
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
	char redirected[PATH_MAX];

	return door_path(path) ? node_stat(path, st) : real(door_redirect(path, redirected), st);
}

int lstat(const char *path, struct stat *st)
{
	REAL(lstat);
	char redirected[PATH_MAX];

	return door_path(path) ? node_stat(path, st) : real(door_redirect(path, redirected), st);
}

int fstatat(int dir, const char *path, struct stat *st, int flags)
{
	REAL(fstatat);
	char redirected[PATH_MAX];
	uint64_t inode;

	if (door_path(path))
		return node_stat(path, st);
	int result = real(dir, door_redirect(path, redirected), st, flags);

	if (result == 0 && (flags & AT_EMPTY_PATH) && S_ISSOCK(st->st_mode) && door_is_ours(dir, &inode))
		fake_stat(st);
	return result;
}

int statx(int dir, const char *restrict path, int flags, unsigned int mask, struct statx *restrict st)
{
	REAL(statx);
	char redirected[PATH_MAX];

	if (!door_path(path))
		return real(dir, door_redirect(path, redirected), flags, mask, st);
	if (node_exists(path) != 0)
		return -1;
	memset(st, 0, sizeof(*st));
	st->stx_mask = STATX_TYPE | STATX_MODE | STATX_NLINK;
	st->stx_mode = S_IFCHR | 0660;
	st->stx_nlink = 1;
	st->stx_rdev_major = FAKE_MAJOR;
	st->stx_rdev_minor = FAKE_MINOR;
	return 0;
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

int fstatat64(int dir, const char *path, struct stat64 *st, int flags)
{
	return fstatat(dir, path, (struct stat *)st, flags);
}

/* What programs built before glibc 2.33 call in their place. */
int __xstat(int version, const char *path, struct stat *st);
int __xstat(int version, const char *path, struct stat *st)
{
	(void)version;
	return stat(path, st);
}

int __lxstat(int version, const char *path, struct stat *st);
int __lxstat(int version, const char *path, struct stat *st)
{
	(void)version;
	return lstat(path, st);
}

int __fxstat(int version, int fd, struct stat *st);
int __fxstat(int version, int fd, struct stat *st)
{
	(void)version;
	return fstat(fd, st);
}

int access(const char *path, int mode)
{
	REAL(access);
	char redirected[PATH_MAX];

	return door_path(path) ? node_exists(path) : real(door_redirect(path, redirected), mode);
}

int faccessat(int dir, const char *path, int mode, int flags)
{
	REAL(faccessat);
	char redirected[PATH_MAX];

	return door_path(path) ? node_exists(path) : real(dir, door_redirect(path, redirected), mode, flags);
}
