/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attributes of the simulated /sys that take writes. A descriptor of one is an O_PATH descriptor of its file in the tree, so that
 * a write that does not pass this library fails with EBADF, and does not seem to succeed.
 */
#define _GNU_SOURCE
#include "shim.h"
#include "wrap.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What the door gives their files. */
#define ATTRIBUTE_MODE (S_IFREG | 0200)

static int is_attribute(const char *path)
{
	char redirected[PATH_MAX];
	struct stat st;
	const char *real = door_redirect(path, redirected);

	return real != path && syscall(SYS_newfstatat, AT_FDCWD, real, &st, 0) == 0 && st.st_mode == ATTRIBUTE_MODE;
}

int attribute_flags(const char *path, int flags)
{
	if ((flags & O_ACCMODE) == O_RDONLY || !is_attribute(path))
		return flags;
	return O_PATH | (flags & O_CLOEXEC);
}

static int is_attribute_fd(int fd)
{
	struct stat st;
	long flags = syscall(SYS_fcntl, fd, F_GETFL);

	return flags >= 0 && (flags & O_PATH) && syscall(SYS_newfstatat, fd, "", &st, AT_EMPTY_PATH) == 0 && st.st_mode == ATTRIBUTE_MODE;
}

ssize_t attribute_write(int fd, const void *buffer, size_t count)
{
	char link[64], path[PATH_MAX], message[IO_BYTES];
	struct request call = { .op = OP_ATTRIBUTE };

	if (!is_attribute_fd(fd))
		return answer(-EBADF);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	long length = syscall(SYS_readlink, link, path, sizeof(path) - 1);

	if (length <= 0)
		return answer(-EBADF);
	path[length] = '\0';
	const char *name = door_unredirect(path);
	size_t named = strlen(name);

	if (named >= sizeof(message))
		return answer(-ENAMETOOLONG);
	/* As from sysfs, what does not fit is a short write. */
	if (count > sizeof(message) - named)
		count = sizeof(message) - named;
	memcpy(message, name, named);
	if (door_copy_from(buffer, message + named, count) != (long)count)
		return answer(-EFAULT);
	call.a = named;
	call.inlen = (uint32_t)(named + count);
	return answer(door_call(&call, message, NULL));
}

/* stdio ----------------------------------------------------------------------------------------------------------- */

static ssize_t stream_write(void *cookie, const char *buffer, size_t count)
{
	ssize_t put = attribute_write((int)(long)cookie, buffer, count);

	return put < 0 ? 0 : put; /* 0 is the error here, with errno */
}

static int stream_close(void *cookie)
{
	return close((int)(long)cookie);
}

FILE *attribute_stream(const char *path, const char *mode)
{
	char redirected[PATH_MAX];
	const cookie_io_functions_t calls = { .write = stream_write, .close = stream_close };

	if ((mode[0] == 'r' && !strchr(mode, '+')) || !is_attribute(path))
		return NULL;
	int fd = (int)syscall(SYS_openat, AT_FDCWD, door_redirect(path, redirected), O_PATH | O_CLOEXEC);

	return fd < 0 ? NULL : fopencookie((void *)(long)fd, "w", calls);
}

#ifdef __GLIBC__
/*
 * "echo TEXT > attribute" in bash, and programs with their standard output there, write from inside glibc, where no library gets in
 * between. So what such a stream holds is written here when it is flushed or closed.
 */
#define LINE_BUFFERED 0x200
#define HAS_FAILED 0x20

/* 0, or -1 with errno: the stream's error flag is set then. */
static int flush_attribute(FILE *stream)
{
	int failed = 0;

	if (__fpending(stream) == 0 || !is_attribute_fd(fileno(stream)))
		return 0;
	flockfile(stream);
	ssize_t put = attribute_write(fileno(stream), stream->_IO_write_base, __fpending(stream));
	int saved = errno;

	__fpurge(stream);
	if (put < 0) {
		stream->_flags |= HAS_FAILED;
		failed = -1;
	}
	funlockfile(stream);
	errno = saved;
	return failed;
}

int fflush(FILE *stream)
{
	REAL(fflush);

	if (flush_attribute(stream ? stream : stdout) != 0)
		return EOF;
	return real(stream);
}

int fclose(FILE *stream)
{
	REAL(fclose);
	int failed = flush_attribute(stream);
	int saved = errno;
	int result = real(stream);

	if (!failed)
		return result;
	errno = saved;
	return EOF;
}

/* Lines are not written one by one, by glibc, while standard output is an attribute. */
static void follow_stdout(void)
{
	static int taken;
	int ours = is_attribute_fd(STDOUT_FILENO);

	if (ours && (stdout->_flags & LINE_BUFFERED)) {
		stdout->_flags &= ~LINE_BUFFERED;
		taken = 1;
	} else if (!ours && taken) {
		stdout->_flags |= LINE_BUFFERED;
		taken = 0;
	}
}

int dup2(int fd, int to)
{
	REAL(dup2);
	int result = real(fd, to);

	if (result == STDOUT_FILENO && door_available())
		follow_stdout();
	return result;
}
#endif
