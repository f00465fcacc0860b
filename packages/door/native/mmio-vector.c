/* SPDX-License-Identifier: Apache-2.0 */
/* XMM, YMM, ZMM and mask registers in the context of a signal: the XSAVE area as the kernel writes it, in standard form (SDM volume 1, 13.4). */
#if defined(__x86_64__)
#include "mmio-vector.h"

#include <cpuid.h>
#include <string.h>

#define FXSAVE_XMM 160
/* struct _fpx_sw_bytes: at the end of what FXSAVE leaves free. */
#define SOFTWARE 464
#define MAGIC 0x46505853U
#define HEADER 512
/* State components. */
enum { AVX = 2, OPMASK = 5, ZMM_HIGH = 6, ZMM_16_TO_31 = 7 };

static uint32_t offsets[8];

/* CPUID is dear in a virtual machine: once. */
static uint32_t offset_of(int component)
{
	uint32_t a, b, c, d;

	if (offsets[component] == 0 && __get_cpuid_count(0xd, (unsigned)component, &a, &b, &c, &d))
		offsets[component] = b;
	return offsets[component];
}

void vector_setup(void)
{
	offset_of(AVX);
	offset_of(OPMASK);
	offset_of(ZMM_HIGH);
	offset_of(ZMM_16_TO_31);
}

/* Where a component is; NULL where the CPU, or the kernel, has none. Its initial state, zeros, is made explicit. */
static uint8_t *component(uint8_t *area, int number, size_t bytes)
{
	uint64_t present, features;
	uint32_t magic;

	memcpy(&magic, area + SOFTWARE, sizeof(magic));
	memcpy(&features, area + SOFTWARE + 8, sizeof(features));
	if (magic != MAGIC || !(features >> number & 1) || offset_of(number) == 0)
		return NULL;
	uint8_t *at = area + offset_of(number);

	memcpy(&present, area + HEADER, sizeof(present));
	if (!(present >> number & 1)) {
		memset(at, 0, bytes);
		present |= 1ULL << number;
		memcpy(area + HEADER, &present, sizeof(present));
	}
	return at;
}

/* The up to four parts of a register, lowest first. */
struct part {
	uint8_t *at;
	size_t bytes;
};

static void parts_of(ucontext_t *cpu, unsigned number, struct part parts[3])
{
	uint8_t *area = (uint8_t *)cpu->uc_mcontext.fpregs;
	uint8_t *whole = number >= 16 ? component(area, ZMM_16_TO_31, 16 * 64) : NULL;
	uint8_t *ymm = number < 16 ? component(area, AVX, 16 * 16) : NULL;
	uint8_t *zmm = number < 16 ? component(area, ZMM_HIGH, 16 * 32) : NULL;

	memset(parts, 0, 3 * sizeof(*parts));
	if (number >= 16) {
		if (whole)
			parts[0] = (struct part){ whole + 64 * (number - 16), 64 };
		return;
	}
	parts[0] = (struct part){ area + FXSAVE_XMM + 16 * number, 16 };
	if (ymm)
		parts[1] = (struct part){ ymm + 16 * number, 16 };
	if (zmm)
		parts[2] = (struct part){ zmm + 32 * number, 32 };
}

uint64_t vector_mask(ucontext_t *cpu, unsigned number)
{
	uint8_t *masks = component((uint8_t *)cpu->uc_mcontext.fpregs, OPMASK, 8 * 8);
	uint64_t mask = 0;

	if (masks)
		memcpy(&mask, masks + 8 * number, sizeof(mask));
	return mask;
}

void vector_get(ucontext_t *cpu, unsigned number, uint8_t bytes[64])
{
	struct part parts[3];
	size_t done = 0;

	memset(bytes, 0, 64);
	parts_of(cpu, number, parts);
	for (int i = 0; i < 3; i++) {
		if (parts[i].at)
			memcpy(bytes + done, parts[i].at, parts[i].bytes);
		done += parts[i].bytes;
	}
}

void vector_put(ucontext_t *cpu, unsigned number, const uint8_t bytes[64], int keep_above_16)
{
	struct part parts[3];
	size_t done = 0;

	parts_of(cpu, number, parts);
	for (int i = 0; i < 3; i++) {
		if (parts[i].at && (i == 0 || !keep_above_16))
			memcpy(parts[i].at, bytes + done, parts[i].bytes);
		done += parts[i].bytes;
	}
}
#endif
