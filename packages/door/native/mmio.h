/* SPDX-License-Identifier: Apache-2.0 */
/* x86-64 instructions that touch memory: taken apart, and done in their place. */
#ifndef IOMMUKIT_MMIO_H
#define IOMMUKIT_MMIO_H

#include <stddef.h>
#include <stdint.h>
#include <ucontext.h>

enum mmio_op {
	MMIO_MOVE,	/* between memory and a general register, or an immediate to memory */
	MMIO_SWAP,	/* the same, bytes in reverse */
	MMIO_ZERO_EXTEND,
	MMIO_SIGN_EXTEND,
	MMIO_ALU,	/* code: ADD OR ADC SBB AND SUB XOR CMP */
	MMIO_TEST,
	MMIO_SHIFT,	/* code: ROL ROR RCL RCR SHL SHR SHL SAR */
	MMIO_BIT,	/* code: BT BTS BTR BTC */
	MMIO_NOT,
	MMIO_NEG,
	MMIO_INC,
	MMIO_DEC,
	MMIO_IMUL,
	MMIO_XCHG,
	MMIO_XADD,
	MMIO_CMPXCHG,
	MMIO_CMOV,	/* code: condition */
	MMIO_SET,	/* code: condition */
	MMIO_PUSH,
	MMIO_VECTOR,	/* between memory and the low bytes of a vector register */
	MMIO_LOW,	/* the low 8 bytes of 16; those above stay */
	MMIO_HIGH,
	MMIO_MOVS,
	MMIO_STOS,
	MMIO_LODS,
	MMIO_FLUSH,	/* of a cache line: nothing to do */
	MMIO_MOVDIRI,
	MMIO_MOVDIR64B,
	MMIO_ENQCMD,
	MMIO_ENQCMDS,
};

enum mmio_encoding { MMIO_LEGACY, MMIO_VEX, MMIO_EVEX };

#define MMIO_NO_REGISTER 0xff
#define MMIO_RIP 16
#define MMIO_LONGEST 15

struct mmio_insn {
	uint8_t length, op, code;
	uint8_t size;		/* bytes of the memory operand */
	uint8_t width;		/* bytes of the register operand, or of one that is extended to */
	uint8_t store;		/* memory is the destination */
	uint8_t reg;		/* the other operand: 0 to 31; MMIO_NO_REGISTER: imm */
	uint8_t source;		/* VEX.vvvv, for those that merge */
	uint8_t encoding;
	uint8_t mask, zeroing, element;	/* EVEX: mask register, or 0; what becomes of elements that it leaves out; bytes of one */
	uint8_t rex;		/* registers 4 to 7 of one byte are SPL to DIL, not AH to BH */
	uint8_t repeat;
	uint8_t locked;		/* LOCK, or an exchange with memory */
	uint8_t times_imm;	/* IMUL of memory by the immediate */
	uint8_t narrow;		/* addresses of 32 bits */
	uint8_t base, index, scale;
	int64_t imm, displacement;
};

/* Reads no byte behind the instruction. 0, or -1: not one that is known here. */
int mmio_decode(const uint8_t *code, struct mmio_insn *insn);

/* Address of the memory operand, as the registers are now. */
uint64_t mmio_address(const struct mmio_insn *insn, const ucontext_t *cpu);

/*
 * Does the instruction: memory, registers, flags, and RIP behind it, or on it when a string instruction has more to do. 0, or what an access below
 * returned: then nothing has changed.
 */
int mmio_run(const struct mmio_insn *insn, ucontext_t *cpu, void *bus);

/* The accesses, which others provide. `width`: bytes of one access; there are `length / width` of them. 0, or why not. */
int mmio_read(void *bus, uint64_t address, void *bytes, size_t length, size_t width);
int mmio_write(void *bus, uint64_t address, const void *bytes, size_t length, size_t width);
/* 64 bytes at once; `deferrable`: *retry is the answer. */
int mmio_block(void *bus, uint64_t address, const void *bytes, int deferrable, int *retry);
/* The CPU raises #GP. */
int mmio_protection(void *bus, const char *why);

#endif
