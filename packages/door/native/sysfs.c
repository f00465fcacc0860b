/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulated machine's part of /sys: a tree of ordinary files that the door made. It replaces the real one's PCI devices
 * and IOMMU groups: a mixture of both machines would be neither.
 */
#define _GNU_SOURCE
#include "shim.h"
#include "wrap.h"

#include <dirent.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Folders of the tree; "/sys/devices/pci" stands for every host bridge. */
static const char *const folders[] = {
	"/sys/bus/pci/", "/sys/class/vfio/", "/sys/class/vfio-dev/", "/sys/class/iommu/", "/sys/devices/virtual/iommu/",
	"/sys/devices/virtual/vfio/", "/sys/devices/virtual/mdev/", "/sys/class/mdev_bus/", "/sys/bus/mdev/", "/sys/kernel/iommu_groups/", "/sys/kernel/debug/iommu/", "/dev/vfio/",
};
static const char host_bridges[] = "/sys/devices/pci";

static char root[PATH_MAX];
static size_t root_length;

__attribute__((constructor)) static void sysfs_setup(void)
{
	const char *path = getenv("IOMMUKIT_SYSFS");
	size_t length = path ? strlen(path) : 0;

	if (length == 0 || length >= sizeof(root))
		return;
	memcpy(root, path, length + 1);
	root_length = length;
}

/* A folder itself, with or without its slash, or something in it. */
static int in_tree(const char *path)
{
	for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
		size_t length = strlen(folders[i]);

		if (strncmp(path, folders[i], length - 1) == 0 && (path[length - 1] == '\0' || path[length - 1] == '/'))
			return 1;
	}
	return strncmp(path, host_bridges, sizeof(host_bridges) - 1) == 0;
}

const char *door_redirect(const char *path, char *buffer)
{
	size_t length;

	if (root_length == 0 || !path || path[0] != '/' || !in_tree(path))
		return path;
	length = strlen(path);
	if (root_length + length >= PATH_MAX)
		return path;
	memcpy(buffer, root, root_length);
	memcpy(buffer + root_length, path, length + 1);
	return buffer;
}

const char *door_unredirect(const char *path)
{
	return root_length > 0 && strncmp(path, root, root_length) == 0 && path[root_length] == '/' ? path + root_length : path;
}

DIR *opendir(const char *path)
{
	REAL(opendir);
	char redirected[PATH_MAX];

	return real(door_redirect(path, redirected));
}

int scandir(const char *path, struct dirent ***list, int (*filter)(const struct dirent *), int (*compare)(const struct dirent **, const struct dirent **))
{
	REAL(scandir);
	char redirected[PATH_MAX];

	return real(door_redirect(path, redirected), list, filter, compare);
}

/* On LP64 both structs are one. */
int scandir64(const char *path, struct dirent64 ***list, int (*filter)(const struct dirent64 *), int (*compare)(const struct dirent64 **, const struct dirent64 **))
{
	return scandir(path, (struct dirent ***)list, (int (*)(const struct dirent *))filter, (int (*)(const struct dirent **, const struct dirent **))compare);
}

ssize_t readlink(const char *path, char *target, size_t size)
{
	REAL(readlink);
	char redirected[PATH_MAX];

	return real(door_redirect(path, redirected), target, size);
}

ssize_t __readlink_chk(const char *path, char *target, size_t size, size_t room);
ssize_t __readlink_chk(const char *path, char *target, size_t size, size_t room)
{
	if (size > room)
		__builtin_trap();
	return readlink(path, target, size);
}

ssize_t readlinkat(int dir, const char *path, char *target, size_t size)
{
	REAL(readlinkat);
	char redirected[PATH_MAX];

	return real(dir, door_redirect(path, redirected), target, size);
}

/* The result is in the tree of the machine again. */
char *realpath(const char *path, char *resolved)
{
	REAL(realpath);
	char redirected[PATH_MAX];
	char *result = real(door_redirect(path, redirected), resolved);

	if (result && root_length > 0 && strncmp(result, root, root_length) == 0 && result[root_length] == '/')
		memmove(result, result + root_length, strlen(result + root_length) + 1);
	return result;
}

char *__realpath_chk(const char *path, char *resolved, size_t room);
char *__realpath_chk(const char *path, char *resolved, size_t room)
{
	if (room < PATH_MAX)
		__builtin_trap();
	return realpath(path, resolved);
}
