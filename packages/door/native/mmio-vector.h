/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOMMUKIT_MMIO_VECTOR_H
#define IOMMUKIT_MMIO_VECTOR_H

#include "mmio.h"

/* Asks the CPU what the functions below need. */
void vector_setup(void);

/* Register 0 to 31, all its 64 bytes; zeros where the CPU has fewer. */
void vector_get(ucontext_t *cpu, unsigned number, uint8_t bytes[64]);

/* `keep_above_16`: as instructions of SSE do; those of AVX clear what they do not load. */
void vector_put(ucontext_t *cpu, unsigned number, const uint8_t bytes[64], int keep_above_16);

/* K0 to K7. */
uint64_t vector_mask(ucontext_t *cpu, unsigned number);

#endif
