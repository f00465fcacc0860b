/* SPDX-License-Identifier: Apache-2.0 */
/* Arithmetic of the instructions that read a register and change it, with its flags: the CPU's own. */
#if defined(__x86_64__)
#include "mmio-alu.h"

/* CF, PF, AF, ZF, SF, OF */
#define STATUS 0x8d5UL

/* The stack pointer steps over the red zone first. */
#define WITH_FLAGS(text) \
	"lea -128(%%rsp), %%rsp\n\tpush %[f]\n\tpopf\n\t" text "\n\tpushf\n\tpop %[f]\n\tlea 128(%%rsp), %%rsp"

#define RUN(type, constraint, text) \
	{ \
		type x = (type)a, y = (type)b; \
		__asm__(WITH_FLAGS(text) : [x] "+r"(x), [f] "+r"(f) : [y] constraint(y) : "cc"); \
		a = x; \
		break; \
	}

#define BYTE(name, constraint, operands) case 1: RUN(uint8_t, constraint, name "b " operands)
#define WIDER(name, constraint, operands) \
	case 2: RUN(uint16_t, constraint, name "w " operands) \
	case 4: RUN(uint32_t, constraint, name "l " operands) \
	default: RUN(uint64_t, constraint, name "q " operands)

#define FUNCTION(label, cases) \
	static uint64_t label(unsigned size, uint64_t a, uint64_t b, unsigned long *flags) \
	{ \
		unsigned long f = *flags & STATUS; \
		switch (size) { cases } \
		*flags = (*flags & ~STATUS) | (f & STATUS); \
		return a; \
	}

#define TWO "%[y], %[x]"
#define BINARY(label, name) FUNCTION(label, BYTE(name, "r", TWO) WIDER(name, "r", TWO))
/* No form for bytes. */
#define WIDE(label, name) FUNCTION(label, WIDER(name, "r", TWO))
#define SHIFT(label, name) FUNCTION(label, BYTE(name, "c", "%%cl, %[x]") WIDER(name, "c", "%%cl, %[x]"))
#define UNARY(label, name) FUNCTION(label, BYTE(name, "r", "%[x]") WIDER(name, "r", "%[x]"))

BINARY(run_add, "add")
BINARY(run_or, "or")
BINARY(run_adc, "adc")
BINARY(run_sbb, "sbb")
BINARY(run_and, "and")
BINARY(run_sub, "sub")
BINARY(run_xor, "xor")
BINARY(run_cmp, "cmp")
BINARY(run_test, "test")
WIDE(run_imul, "imul")
WIDE(run_bt, "bt")
WIDE(run_bts, "bts")
WIDE(run_btr, "btr")
WIDE(run_btc, "btc")
SHIFT(run_rol, "rol")
SHIFT(run_ror, "ror")
SHIFT(run_rcl, "rcl")
SHIFT(run_rcr, "rcr")
SHIFT(run_shl, "shl")
SHIFT(run_shr, "shr")
SHIFT(run_sar, "sar")
UNARY(run_neg, "neg")
UNARY(run_inc, "inc")
UNARY(run_dec, "dec")

typedef uint64_t (*alu_function)(unsigned, uint64_t, uint64_t, unsigned long *);

static const alu_function alu[8] = { run_add, run_or, run_adc, run_sbb, run_and, run_sub, run_xor, run_cmp };
static const alu_function shifts[8] = { run_rol, run_ror, run_rcl, run_rcr, run_shl, run_shr, run_shl, run_sar };
static const alu_function bits[4] = { run_bt, run_bts, run_btr, run_btc };

uint64_t alu_run(enum mmio_op op, unsigned code, unsigned size, uint64_t a, uint64_t b, unsigned long *flags)
{
	switch (op) {
	case MMIO_ALU:
		return alu[code & 7](size, a, b, flags);
	case MMIO_SHIFT:
		return shifts[code & 7](size, a, b, flags);
	case MMIO_BIT:
		return bits[code & 3](size, a, b & (8 * size - 1), flags);
	case MMIO_TEST:
		return run_test(size, a, b, flags);
	case MMIO_IMUL:
		return run_imul(size, a, b, flags);
	case MMIO_NEG:
		return run_neg(size, a, b, flags);
	case MMIO_INC:
		return run_inc(size, a, b, flags);
	case MMIO_DEC:
		return run_dec(size, a, b, flags);
	default:
		return ~a; /* NOT leaves the flags alone */
	}
}

/* SDM volume 1, appendix B. */
int alu_condition(unsigned code, unsigned long flags)
{
	int carry = flags & 1, parity = (flags >> 2) & 1, zero = (flags >> 6) & 1, sign = (flags >> 7) & 1, overflow = (flags >> 11) & 1;
	int holds[8] = { overflow, carry, zero, carry | zero, sign, parity, sign != overflow, zero | (sign != overflow) };

	return holds[(code >> 1) & 7] ^ (int)(code & 1);
}
#endif
