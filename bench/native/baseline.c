/* SPDX-License-Identifier: Apache-2.0
 *
 * The same work in C, as the measure of what the machine can do. Each job prints nanoseconds for one operation.
 * What is measured is a function of a library, which takes any format, memory or cache: it is not inlined.
 *
 *	baseline walk PAGES		random 4-level walks, every check that the engine makes
 *	baseline iotlb			hits in an IOTLB of 1,024 entries behind a hash
 *	baseline map PAGES		maps 4 KiB pages one after the other, from the root each time
 *	baseline rbtree COUNT		look-ups by range among COUNT areas in a red-black tree (the C library's), as a kernel keeps them
 *	baseline pingpong		median round trip of 12 bytes over a unix stream socket, process to process
 */
#define _GNU_SOURCE
#include <search.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

struct format {
	uint64_t present, leaf, address;
	uint64_t reserved[8];	/* by level * 2 + leaf */
	uint32_t leaf_levels;
	int index_bits, granule_shift;
};

struct result {
	int level;
	uint64_t entry, and, page;
};

struct memory {
	uint8_t *bytes;
	uint64_t size;
	uint64_t next;
};

static const struct format x86 = {
	.present = 1, .leaf = 0x80, .address = 0x000ffffffffff000ULL, .leaf_levels = 7, .index_bits = 9, .granule_shift = 12,
	.reserved = { 0, 0xf000000000000ULL, 0xf000000000080ULL, 0xf0000001fe000ULL, 0xf000000000080ULL, 0xf00003fffe000ULL, 0xf000000000080ULL, 0 },
};

__attribute__((noinline)) static int walk(const struct memory *memory, const struct format *format, uint64_t root, int top, uint64_t page, struct result *out)
{
	uint64_t table = root, and = ~0ULL;
	int shift = format->granule_shift - 12 + top * format->index_bits;

	for (int level = top;; level--) {
		uint64_t at = table + ((page >> shift) & ((1u << format->index_bits) - 1)) * 8;

		if (at >= memory->size)
			return 3;
		uint64_t entry = *(const uint64_t *)(memory->bytes + at);
		if (!(entry & format->present)) {
			out->level = level;
			return 1;
		}
		int leaf = level == 0 || ((entry & format->leaf) && ((format->leaf_levels >> level) & 1));
		if (entry & format->reserved[level * 2 + leaf]) {
			out->level = level;
			return 2;
		}
		and &= entry;
		if (leaf) {
			uint64_t offset = (1ULL << shift) - 1;

			out->level = level;
			out->entry = entry;
			out->and = and;
			out->page = (((entry & format->address) >> 12) & ~offset) | (page & offset);
			return 0;
		}
		table = entry & format->address;
		shift -= format->index_bits;
	}
}

static uint64_t frame(struct memory *memory)
{
	uint64_t pa = memory->next;

	memory->next += 4096;
	if (memory->next > memory->size)
		abort();
	memset(memory->bytes + pa, 0, 4096);
	return pa;
}

__attribute__((noinline)) static void map(struct memory *memory, uint64_t root, uint64_t page, uint64_t out)
{
	uint64_t table = root;

	for (int level = 3; level > 0; level--) {
		uint64_t *entry = (uint64_t *)(memory->bytes + table + ((page >> (9 * level)) & 511) * 8);

		if (!(*entry & 1))
			*entry = frame(memory) | 7;
		table = *entry & x86.address;
	}
	*(uint64_t *)(memory->bytes + table + (page & 511) * 8) = out << 12 | 7;
}

static struct memory room(uint64_t pages)
{
	struct memory memory = { .size = (pages / 512 + 64) * 4096 + (1 << 20) };

	memory.bytes = calloc(1, memory.size);
	if (!memory.bytes)
		abort();
	return memory;
}

/* The same sequence as in the JavaScript side. */
static uint32_t *random_pages(uint32_t count, uint32_t pages)
{
	uint32_t *list = malloc(count * sizeof(*list));
	uint32_t state = 12345;

	for (uint32_t i = 0; i < count; i++) {
		state = state * 1664525u + 1013904223u;
		list[i] = (uint32_t)(((uint64_t)state * pages) >> 32);
	}
	return list;
}

static double bench_walk(uint32_t pages)
{
	enum { COUNT = 1 << 20, ROUNDS = 6 };
	struct memory memory = room(pages);
	uint64_t root = frame(&memory);
	uint32_t *list = random_pages(COUNT, pages);
	struct result result;
	uint64_t sum = 0;

	for (uint32_t page = 0; page < pages; page++)
		map(&memory, root, page, page ^ 0x55);
	double start = now();
	for (int round = 0; round < ROUNDS; round++)
		for (int i = 0; i < COUNT; i++) {
			if (walk(&memory, &x86, root, 3, list[i], &result))
				abort();
			sum += result.page;
		}
	double taken = now() - start;
	if (sum == 1)
		puts("");
	return taken / COUNT / ROUNDS;
}

/* A slot covers span pages from page on under two tags; hints say where to look first. */
struct iotlb {
	struct { uint32_t tag_a, tag_b; uint64_t page, span, out; } slots[1024];
	uint32_t hints[4096];
	uint64_t hits, misses;
};

static uint32_t hint(uint32_t tag_a, uint32_t tag_b, uint64_t page)
{
	return ((uint32_t)page ^ tag_a * 0x9e3779b1u ^ tag_b * 0x85ebca6bu) & 4095;
}

__attribute__((noinline)) static int lookup(struct iotlb *tlb, uint32_t tag_a, uint32_t tag_b, uint64_t page)
{
	uint32_t slot = tlb->hints[hint(tag_a, tag_b, page)];

	if (page - tlb->slots[slot].page < tlb->slots[slot].span && tlb->slots[slot].tag_a == tag_a && tlb->slots[slot].tag_b == tag_b) {
		tlb->hits++;
		return (int)slot;
	}
	tlb->misses++;
	return -1;
}

static double bench_iotlb(void)
{
	enum { SIZE = 1024, COUNT = 1 << 20, ROUNDS = 10 };
	static struct iotlb tlb;
	uint32_t *list = random_pages(COUNT, SIZE);
	uint64_t sum = 0;

	for (uint32_t page = 0; page < SIZE; page++) {
		tlb.slots[page].tag_a = 7;
		tlb.slots[page].tag_b = ~0u;
		tlb.slots[page].page = page;
		tlb.slots[page].span = 1;
		tlb.slots[page].out = page ^ 0x55;
		tlb.hints[hint(7, ~0u, page)] = page;
	}
	double start = now();
	for (int round = 0; round < ROUNDS; round++)
		for (int i = 0; i < COUNT; i++) {
			int slot = lookup(&tlb, 7, ~0u, list[i]);

			if (slot < 0)
				abort();
			sum += tlb.slots[slot].out;
		}
	double taken = now() - start;
	if (sum == 1)
		puts("");
	return taken / COUNT / ROUNDS;
}

static double bench_map(uint32_t pages)
{
	struct memory memory = room(pages);
	uint64_t root = frame(&memory);

	memset(memory.bytes, 0, memory.size);
	double start = now();
	for (uint32_t page = 0; page < pages; page++)
		map(&memory, root, page, page ^ 0x55);
	return (now() - start) / pages;
}

struct area {
	uint64_t start, last;
};

static int apart(const void *a, const void *b)
{
	const struct area *x = a, *y = b;

	return x->last < y->start ? -1 : x->start > y->last;
}

static double bench_rbtree(uint32_t count)
{
	enum { LOOKUPS = 1 << 20 };
	double start = 0;
	void *root = NULL;

	for (uint32_t i = 0; i < count; i++) {
		struct area *area = malloc(sizeof(*area));

		area->start = (uint64_t)i * 7919 % count * 8192;
		area->last = area->start + 4095;
		tsearch(area, &root, apart);
	}
	for (int round = 0; round < 2; round++) {
		uint32_t state = 12345;

		start = now();
		for (int i = 0; i < LOOKUPS; i++) {
			struct area wanted;

			state = state * 1664525 + 1013904223;
			wanted.start = (((uint64_t)state * count) >> 32) * 8192;
			wanted.last = wanted.start + 2047;
			if (tfind(&wanted, &root, apart) == NULL)
				abort();
		}
	}
	return (now() - start) / LOOKUPS;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double bench_pingpong(void)
{
	enum { COUNT = 20000 };
	static double times[COUNT];
	char bytes[12] = { 0 };
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
		abort();
	if (fork() == 0) {
		close(pair[0]);
		while (read(pair[1], bytes, sizeof(bytes)) == sizeof(bytes))
			if (write(pair[1], bytes, sizeof(bytes)) < 0)
				break;
		_exit(0);
	}
	close(pair[1]);
	for (int i = 0; i < COUNT; i++) {
		double start = now();

		if (write(pair[0], bytes, sizeof(bytes)) < 0 || read(pair[0], bytes, sizeof(bytes)) < 0)
			abort();
		times[i] = now() - start;
	}
	qsort(times, COUNT, sizeof(times[0]), compare);
	return times[COUNT / 2];
}

int main(int argc, char **argv)
{
	const char *job = argc > 1 ? argv[1] : "";
	uint32_t pages = argc > 2 ? (uint32_t)atoi(argv[2]) : 0;
	double result;

	if (!strcmp(job, "walk"))
		result = bench_walk(pages);
	else if (!strcmp(job, "iotlb"))
		result = bench_iotlb();
	else if (!strcmp(job, "map"))
		result = bench_map(pages);
	else if (!strcmp(job, "rbtree"))
		result = bench_rbtree(pages);
	else if (!strcmp(job, "pingpong"))
		result = bench_pingpong();
	else
		return 2;
	printf("%.4f\n", result);
	return 0;
}
