/* SPDX-License-Identifier: Apache-2.0 */
/* What the wrappers of libc functions share. */
#ifndef IOMMUKIT_WRAP_H
#define IOMMUKIT_WRAP_H

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <sys/types.h>

/* The function of libc that ours stands in front of. */
#define REAL(name) \
	static __typeof__(name) *real; \
	if (!real) \
		real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

/* A result or a negative errno, as libc returns it. */
static inline long answer(long result)
{
	if (result < 0) {
		errno = (int)-result;
		return -1;
	}
	return result;
}

/* attributes.c: how a path is opened, and what becomes of a write that the kernel refused with EBADF. */
int attribute_flags(const char *path, int flags);
ssize_t attribute_write(int fd, const void *buffer, size_t count);
/* A stream for writing to an attribute; NULL when the path is none. */
FILE *attribute_stream(const char *path, const char *mode);

#endif
