/* SPDX-License-Identifier: Apache-2.0 */
/* What this process has mapped of our files. While a mapping lasts, a descriptor of its own tells the door so, also in children. */
#ifndef IOMMUKIT_REGIONS_H
#define IOMMUKIT_REGIONS_H

#include <stddef.h>
#include <stdint.h>

#define REGION_MAPPINGS 256

/* A mapping, as mmap made it. */
struct mapping {
	int life;		/* its descriptor */
	uint64_t inode;		/* the descriptor's, by which the door knows it */
	uint64_t position;	/* in the file */
	int registers;
};

/* The part of one that holds an address. */
struct region {
	struct mapping mapping;
	uintptr_t start, end;
	uint64_t offset;	/* of `start` in the mapping */
	int prot;		/* as the program asked for it */
};

/* What the functions below need. Signals are held back meanwhile; the state is for regions_unlock. */
uint64_t regions_lock(void);
void regions_unlock(uint64_t state);

/* False: none is mapped; asked without the lock. */
int regions_any(void);

/* The part at or, failing that, next behind an address; 0 when there is none. */
int regions_next(uintptr_t address, struct region *region);

/* True when there is room for one mapping more, or a change of one. */
int regions_room(void);

void regions_add(uintptr_t start, uintptr_t end, int prot, const struct mapping *mapping);

/* Forgets [start, end). Descriptors of mappings that have ended go to `lives`, of which there are REGION_MAPPINGS; returns how many. */
int regions_cut(uintptr_t start, uintptr_t end, int *lives);

/* [start, end) is at `target` now. */
void regions_move(uintptr_t start, uintptr_t end, uintptr_t target);

void regions_protect(uintptr_t start, uintptr_t end, int prot);

/* The part that holds an address, with the lock taken and given back; 0 when there is none. */
int regions_find(uintptr_t address, struct region *region);

#endif
