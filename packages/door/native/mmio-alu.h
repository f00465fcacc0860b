/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOMMUKIT_MMIO_ALU_H
#define IOMMUKIT_MMIO_ALU_H

#include "mmio.h"

/* What `op` makes of a and b, both of `size` bytes; the flags of EFLAGS change with it. */
uint64_t alu_run(enum mmio_op op, unsigned code, unsigned size, uint64_t a, uint64_t b, unsigned long *flags);

/* Whether a condition of Jcc, SETcc and CMOVcc holds. */
int alu_condition(unsigned code, unsigned long flags);

#endif
