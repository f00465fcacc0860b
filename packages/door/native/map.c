/* SPDX-License-Identifier: Apache-2.0 */
/* mmap of our files, and huge pages where the system has none. */
#define _GNU_SOURCE
#include "shim.h"
#include "wrap.h"

#include <linux/mman.h>
#include <sys/mman.h>
#include <unistd.h>

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
	/* The door writes to `start` where in its descriptor the memory begins. */
	uint64_t start = 0, at = (uint64_t)(uintptr_t)&start;
	struct request call = { .op = OP_MMAP, .inode = inode, .a = (uint64_t)offset, .inlen = sizeof(at) };
	void *result = MAP_FAILED;
	size_t slot = 0;

	while (slot < sizeof(regions) / sizeof(regions[0]) && regions[slot].left > 0)
		slot++;
	int life = slot < sizeof(regions) / sizeof(regions[0]) ? door_spare(&call.c) : -ENOMEM;

	if (life < 0)
		return (void *)answer(life);
	call.b = (length + 4095) & ~4095UL;
	call.flags = (uint32_t)(flags & (MAP_SHARED | MAP_PRIVATE)) | (uint32_t)((prot & PROT_EXEC) != 0) << 16;
	long memory = door_call(&call, &at, NULL);

	if (memory >= 0)
		memory = door_descriptor((int)memory);
	if (memory >= 0) {
		result = real(address, length, prot, flags, (int)memory, (off_t)start);
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

