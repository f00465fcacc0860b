/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "regions.h"
#include "shim.h"

#include <pthread.h>
#include <sched.h>
#include <string.h>

#define PARTS 1024

struct part {
	uintptr_t start, end;
	uint64_t offset;
	int prot, mapping;
};

static struct mapping mappings[REGION_MAPPINGS];
static int parts_of[REGION_MAPPINGS]; /* how many parts each has; 0: free */
static struct part parts[PARTS];
static int part_count;

/* Taken in signal handlers, too: whoever holds it has all signals blocked, and touches no registers. */
static int locked;

uint64_t regions_lock(void)
{
	uint64_t before = door_block_signals();

	while (__atomic_exchange_n(&locked, 1, __ATOMIC_ACQUIRE))
		sched_yield();
	return before;
}

void regions_unlock(uint64_t state)
{
	__atomic_store_n(&locked, 0, __ATOMIC_RELEASE);
	door_restore_signals(state);
}

/* A child must not find the lock taken by a thread that it does not have. */
static uint64_t forking;

static void before_fork(void)
{
	uint64_t state = regions_lock();

	forking = state;
}

static void after_fork(void)
{
	regions_unlock(forking);
}

__attribute__((constructor)) static void regions_setup(void)
{
	pthread_atfork(before_fork, after_fork, after_fork);
}

int regions_any(void)
{
	return __atomic_load_n(&part_count, __ATOMIC_ACQUIRE) > 0;
}

static int free_mapping(void)
{
	int number = 0;

	while (number < REGION_MAPPINGS && parts_of[number] > 0)
		number++;
	return number;
}

/* A cut makes one part more at most, a change of protection two, a new mapping may cut another. */
int regions_room(void)
{
	return part_count + 2 <= PARTS && free_mapping() < REGION_MAPPINGS;
}

static void set_count(int count)
{
	__atomic_store_n(&part_count, count, __ATOMIC_RELEASE);
}

int regions_next(uintptr_t address, struct region *region)
{
	const struct part *best = NULL;

	for (int i = 0; i < part_count; i++)
		if (parts[i].end > address && (!best || parts[i].start < best->start))
			best = &parts[i];
	if (!best)
		return 0;
	*region = (struct region){ mappings[best->mapping], best->start, best->end, best->offset, best->prot };
	return 1;
}

int regions_find(uintptr_t address, struct region *region)
{
	if (!regions_any())
		return 0;
	uint64_t state = regions_lock();
	int found = regions_next(address, region) && region->start <= address;

	regions_unlock(state);
	return found;
}

static void add_part(struct part part)
{
	parts[part_count] = part;
	parts_of[part.mapping]++;
	set_count(part_count + 1);
}

void regions_add(uintptr_t start, uintptr_t end, int prot, const struct mapping *mapping)
{
	int number = free_mapping();

	mappings[number] = *mapping;
	add_part((struct part){ start, end, 0, prot, number });
}

/* Makes a border of parts at an address. */
static void split(uintptr_t at)
{
	for (int i = 0; i < part_count; i++) {
		struct part upper = parts[i];

		if (at <= upper.start || at >= upper.end)
			continue;
		upper.offset += at - upper.start;
		upper.start = at;
		parts[i].end = at;
		add_part(upper);
		return;
	}
}

int regions_cut(uintptr_t start, uintptr_t end, int *lives)
{
	int ended = 0;

	split(start);
	split(end);
	for (int i = 0; i < part_count;) {
		if (parts[i].start < start || parts[i].end > end) {
			i++;
			continue;
		}
		if (--parts_of[parts[i].mapping] == 0)
			lives[ended++] = mappings[parts[i].mapping].life;
		parts[i] = parts[part_count - 1];
		set_count(part_count - 1);
	}
	return ended;
}

void regions_move(uintptr_t start, uintptr_t end, uintptr_t target)
{
	split(start);
	split(end);
	for (int i = 0; i < part_count; i++) {
		if (parts[i].start < start || parts[i].end > end)
			continue;
		parts[i].end = target + (parts[i].end - start);
		parts[i].start = target + (parts[i].start - start);
	}
}

void regions_protect(uintptr_t start, uintptr_t end, int prot)
{
	split(start);
	split(end);
	for (int i = 0; i < part_count; i++)
		if (parts[i].start >= start && parts[i].end <= end)
			parts[i].prot = prot;
}
