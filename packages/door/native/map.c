/* SPDX-License-Identifier: Apache-2.0 */
/* mmap of our files, what else moves mappings, and huge pages where the system has none. */
#define _GNU_SOURCE
#include "regions.h"
#include "shim.h"
#include "trap.h"
#include "wrap.h"

#include <linux/mman.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096UL
#define HUGE_PAGE (2UL << 20)

typedef void *(*mmap_function)(void *, size_t, int, int, int, off_t);

/*
 * Huge pages where the system has none left: ordinary memory at the same alignment. The door takes a mapping for one
 * piece anyway.
 */
static void *ordinary_pages(mmap_function real, void *address, size_t length, int prot, int flags)
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

static uintptr_t page_end(uintptr_t address)
{
	return (address + PAGE - 1) & ~(uintptr_t)(PAGE - 1);
}

/* What the door made of a mapping, where the program wants it. */
static void *show(mmap_function real, void *address, size_t length, int prot, int flags, long memory, uint64_t start)
{
	int place = flags & (MAP_FIXED | MAP_FIXED_NOREPLACE);

	/* Registers: each access is to trap. */
	if (memory == -1)
		return real(address, length, PROT_NONE, place | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return real(address, length, prot, flags, (int)memory, (off_t)start);
}

/* Maps, and has the table say so at the same moment. */
static void *map_at(mmap_function real, void *address, size_t length, int prot, int flags, long memory, uint64_t start, const struct mapping *mapping)
{
	int lives[REGION_MAPPINGS], ended = 0, error = ENOMEM;
	void *result = MAP_FAILED;
	uint64_t state = regions_lock();

	if (regions_room()) {
		result = show(real, address, length, prot, flags, memory, start);
		error = errno;
	}
	if (result != MAP_FAILED) {
		uintptr_t at = (uintptr_t)result, end = page_end(at + length);

		ended = regions_cut(at, end, lives);
		regions_add(at, end, prot, mapping);
	}
	regions_unlock(state);
	while (ended > 0)
		close(lives[--ended]);
	errno = error;
	return result;
}

static void *map_node(mmap_function real, void *address, size_t length, int prot, int flags, uint64_t inode, off_t offset)
{
	/* The door writes to `start` where in its descriptor the memory begins. */
	uint64_t start = 0, at = (uint64_t)(uintptr_t)&start;
	struct request call = { .op = OP_MMAP, .inode = inode, .a = (uint64_t)offset, .inlen = sizeof(at) };
	struct mapping mapping = { .life = door_spare(&mapping.inode), .position = (uint64_t)offset };
	void *result = MAP_FAILED;
	uint32_t answer_flags = 0;

	if (mapping.life < 0)
		return (void *)answer(mapping.life);
	mapping.life = door_raise(mapping.life);
	call.b = page_end(length);
	call.c = mapping.inode;
	call.flags = (uint32_t)(flags & (MAP_SHARED | MAP_PRIVATE)) | (uint32_t)((prot & PROT_EXEC) != 0) << 16;
	long memory = door_call(&call, &at, &answer_flags);

	if (memory >= 0 && (answer_flags & REGISTERS)) {
		mapping.registers = 1;
		memory = -1;
		trap_setup();
	} else if (memory >= 0) {
		memory = door_descriptor((int)memory);
	}
	if (memory >= 0 || mapping.registers) {
		result = map_at(real, address, length, prot, flags, memory, start, &mapping);
		if (memory >= 0)
			door_discard((int)memory);
		memory = result == MAP_FAILED ? -errno : 0;
	}
	if (memory < 0) {
		door_discard(mapping.life);
		return (void *)answer(memory);
	}
	return result;
}

int munmap(void *address, size_t length)
{
	REAL(munmap);
	uintptr_t start = (uintptr_t)address;
	int lives[REGION_MAPPINGS], ended = 0, result = -1, error = ENOMEM;

	if (!regions_any())
		return real(address, length);
	uint64_t state = regions_lock();

	if (regions_room()) {
		result = real(address, length);
		error = errno;
	}
	if (result == 0)
		ended = regions_cut(start, page_end(start + length), lives);
	regions_unlock(state);
	while (ended > 0)
		close(lives[--ended]);
	errno = error;
	return result;
}

/* Registers stay as they are, and trap; the table says what the program may do. */
int mprotect(void *address, size_t length, int prot)
{
	REAL(mprotect);
	uintptr_t at = (uintptr_t)address, end = page_end(at + length);
	struct region region;
	int result = 0;

	if (!regions_any() || at % PAGE != 0 || end < at)
		return real(address, length, prot);
	uint64_t state = regions_lock();
	int error = errno;

	while (at < end && result == 0) {
		int found = regions_next(at, &region) && region.start < end;
		uintptr_t stop = found && region.start > at ? region.start : found && region.end < end ? region.end : end;

		if (!found || region.start > at || !region.mapping.registers) {
			result = real((void *)at, stop - at, prot);
			error = result == 0 ? error : errno;
		}
		if (result == 0 && found && region.start <= at) {
			if (!regions_room()) {
				error = ENOMEM;
				result = -1;
				break;
			}
			regions_protect(at, stop, prot);
		}
		at = stop;
	}
	regions_unlock(state);
	errno = error;
	return result;
}

/* Mappings of devices do not grow, and leave nothing behind where they were (VM_DONTEXPAND, VM_PFNMAP). */
void *mremap(void *address, size_t old_length, size_t length, int flags, ...)
{
	REAL(mremap);
	uintptr_t start = (uintptr_t)address, end = page_end(start + old_length);
	int lives[REGION_MAPPINGS], ended = 0, error = 0;
	struct region region;
	void *target = NULL, *result = MAP_FAILED;

	if (flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) {
		va_list list;

		va_start(list, flags);
		target = va_arg(list, void *);
		va_end(list);
	}
	if (!regions_any())
		return real(address, old_length, length, flags, target);
	uint64_t state = regions_lock();
	int ours = regions_next(start, &region) && region.start < end;

	if (!regions_room())
		error = ENOMEM;
	else if (ours && (flags & MREMAP_DONTUNMAP))
		error = EINVAL;
	else if (ours && (region.start > start || region.end < end || page_end(length) > end - start))
		error = EFAULT;
	if (error == 0) {
		result = real(address, old_length, length, flags, target);
		error = result == MAP_FAILED ? errno : 0;
	}
	if (result != MAP_FAILED) {
		uintptr_t at = (uintptr_t)result, kept = start + page_end(length);

		if (at != start)
			ended = regions_cut(at, at + page_end(length), lives);
		if (ours && kept < end)
			ended += regions_cut(kept, end, lives + ended);
		if (ours && at != start)
			regions_move(start, kept, at);
	}
	regions_unlock(state);
	while (ended > 0)
		close(lives[--ended]);
	if (error != 0)
		errno = error;
	return result;
}

/* Something of the program's own in the place of a mapping of ours. */
static void *replace(mmap_function real, void *address, size_t length, int prot, int flags, int fd, off_t offset)
{
	int lives[REGION_MAPPINGS], ended = 0, error = ENOMEM;
	void *result = MAP_FAILED;
	uint64_t state = regions_lock();

	if (regions_room()) {
		result = real(address, length, prot, flags, fd, offset);
		error = errno;
	}
	if (result != MAP_FAILED)
		ended = regions_cut((uintptr_t)result, page_end((uintptr_t)result + length), lives);
	regions_unlock(state);
	while (ended > 0)
		close(lives[--ended]);
	errno = error;
	return result;
}

void *mmap(void *address, size_t length, int prot, int flags, int fd, off_t offset)
{
	REAL(mmap);
	uint64_t inode;

	if (fd >= 0 && !(flags & MAP_ANONYMOUS) && door_is_ours(fd, &inode))
		return map_node(real, address, length, prot, flags, inode, offset);
	if ((flags & MAP_FIXED) && regions_any())
		return replace(real, address, length, prot, flags, fd, offset);
	void *result = real(address, length, prot, flags, fd, offset);

	if (result == MAP_FAILED && door_available() && (flags & MAP_HUGETLB) && (flags & MAP_ANONYMOUS))
		return ordinary_pages(real, address, length, prot, flags);
	return result;
}

void *mmap64(void *address, size_t length, int prot, int flags, int fd, off64_t offset)
{
	return mmap(address, length, prot, flags, fd, (off_t)offset);
}
