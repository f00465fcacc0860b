/* SPDX-License-Identifier: Apache-2.0 */
/* Does what a decoded instruction does. Memory comes from mmio_read and mmio_write; registers are those of a signal's context. */
#if defined(__x86_64__)
#define _GNU_SOURCE
#include "mmio-alu.h"
#include "mmio-vector.h"
#include "mmio.h"

#include <string.h>
#include <sys/ucontext.h>

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI };

#define ZERO_FLAG 0x40UL
#define STATUS_FLAGS 0x8d5UL
#define DIRECTION_FLAG 0x400UL
#define BLOCK 64
/* Bytes that one step of a string instruction moves at most. */
#define STRING_BYTES 1024
#define PAGE 4096

static const uint8_t places[16] = {
	REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
	REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15,
};

static uint64_t low_bytes(uint64_t value, unsigned size)
{
	return size >= 8 ? value : value & ((1ULL << 8 * size) - 1);
}

static uint64_t sign_extended(uint64_t value, unsigned size)
{
	return size >= 8 ? value : (uint64_t)((int64_t)(value << (64 - 8 * size)) >> (64 - 8 * size));
}

static greg_t *full(ucontext_t *cpu, unsigned number)
{
	return &cpu->uc_mcontext.gregs[places[number & 15]];
}

/* AH, CH, DH, BH */
static int is_high_byte(const struct mmio_insn *insn, unsigned number, unsigned size)
{
	return size == 1 && !insn->rex && number >= 4 && number < 8;
}

static uint64_t get(const struct mmio_insn *insn, ucontext_t *cpu, unsigned number, unsigned size)
{
	if (is_high_byte(insn, number, size))
		return ((uint64_t)*full(cpu, number - 4) >> 8) & 0xff;
	return low_bytes((uint64_t)*full(cpu, number), size);
}

/* 32 bits clear those above, fewer leave them. */
static void put(const struct mmio_insn *insn, ucontext_t *cpu, unsigned number, unsigned size, uint64_t value)
{
	greg_t *reg = full(cpu, is_high_byte(insn, number, size) ? number - 4 : number);

	if (is_high_byte(insn, number, size))
		*reg = (greg_t)(((uint64_t)*reg & ~0xff00ULL) | (value & 0xff) << 8);
	else if (size >= 4)
		*reg = (greg_t)low_bytes(value, size);
	else
		*reg = (greg_t)(((uint64_t)*reg & ~low_bytes(~0ULL, size)) | low_bytes(value, size));
}

uint64_t mmio_address(const struct mmio_insn *insn, const ucontext_t *cpu)
{
	const greg_t *regs = cpu->uc_mcontext.gregs;
	uint64_t address = (uint64_t)insn->displacement;

	if (insn->base == MMIO_RIP)
		address += (uint64_t)regs[REG_RIP] + insn->length;
	else if (insn->base != MMIO_NO_REGISTER)
		address += (uint64_t)regs[places[insn->base & 15]];
	if (insn->index != MMIO_NO_REGISTER)
		address += (uint64_t)regs[places[insn->index & 15]] << insn->scale;
	/* PUSH of memory that RSP points to is addressed before it moves: nothing to do. */
	return insn->narrow ? low_bytes(address, 4) : address;
}

static int load(void *bus, uint64_t address, unsigned size, uint64_t *value)
{
	*value = 0;
	return mmio_read(bus, address, value, size, size);
}

static int store(void *bus, uint64_t address, unsigned size, uint64_t value)
{
	return mmio_write(bus, address, &value, size, size);
}

static uint64_t other(const struct mmio_insn *insn, ucontext_t *cpu)
{
	return insn->reg == MMIO_NO_REGISTER ? (uint64_t)insn->imm : get(insn, cpu, insn->reg, insn->size);
}

static uint64_t swapped(uint64_t value, unsigned size)
{
	return __builtin_bswap64(value) >> (64 - 8 * size);
}

static int run_move(const struct mmio_insn *insn, ucontext_t *cpu, void *bus, uint64_t address)
{
	unsigned size = insn->size;
	uint64_t value;
	int failed;

	if (insn->op != MMIO_SWAP && insn->store)
		return store(bus, address, size, other(insn, cpu));
	if (insn->store)
		return store(bus, address, size, swapped(get(insn, cpu, insn->reg, size), size));
	failed = load(bus, address, size, &value);
	if (failed)
		return failed;
	if (insn->op == MMIO_SIGN_EXTEND)
		value = sign_extended(value, size);
	else if (insn->op == MMIO_SWAP)
		value = swapped(value, size);
	put(insn, cpu, insn->reg, insn->width, value);
	return 0;
}

/* One operand is memory, the other a register or an immediate; the result goes to either, or is flags alone. */
static int run_alu(const struct mmio_insn *insn, ucontext_t *cpu, void *bus, uint64_t address)
{
	unsigned size = insn->size;
	unsigned long flags = (unsigned long)cpu->uc_mcontext.gregs[REG_EFL];
	uint64_t memory, right = insn->op == MMIO_SHIFT && insn->reg != MMIO_NO_REGISTER ? get(insn, cpu, RCX, 8) & 0xff : other(insn, cpu);
	int is_flags_only = insn->op == MMIO_TEST || (insn->op == MMIO_ALU && insn->code == 7) || (insn->op == MMIO_BIT && insn->code == 0);
	int failed;

	/* A bit of a register's number may lie far away. */
	if (insn->op == MMIO_BIT && insn->reg != MMIO_NO_REGISTER)
		address += (uint64_t)((int64_t)sign_extended(right, size) >> (size == 8 ? 6 : size == 4 ? 5 : 4)) * size;
	failed = load(bus, address, size, &memory);
	if (failed)
		return failed;
	if (insn->store) {
		uint64_t result = alu_run(insn->op, insn->code, size, memory, right, &flags);

		failed = is_flags_only ? 0 : store(bus, address, size, result);
		if (failed)
			return failed;
	} else if (insn->op == MMIO_IMUL && insn->times_imm) {
		put(insn, cpu, insn->reg, size, alu_run(MMIO_IMUL, 0, size, memory, (uint64_t)insn->imm, &flags));
	} else {
		uint64_t result = alu_run(insn->op, insn->code, size, right, memory, &flags);

		if (!is_flags_only)
			put(insn, cpu, insn->reg, size, result);
	}
	cpu->uc_mcontext.gregs[REG_EFL] = (greg_t)flags;
	return 0;
}

static int run_exchange(const struct mmio_insn *insn, ucontext_t *cpu, void *bus, uint64_t address)
{
	unsigned size = insn->size;
	unsigned long flags = (unsigned long)cpu->uc_mcontext.gregs[REG_EFL];
	uint64_t memory, value = get(insn, cpu, insn->reg, size), result = value;
	int failed = load(bus, address, size, &memory);

	if (failed)
		return failed;
	if (insn->op == MMIO_XADD) {
		result = alu_run(MMIO_ALU, 0, size, memory, value, &flags);
	} else if (insn->op == MMIO_CMPXCHG) {
		uint64_t expected = get(insn, cpu, RAX, size);

		alu_run(MMIO_ALU, 7, size, expected, memory, &flags);
		/* Memory is written in either case. */
		result = memory == expected ? value : memory;
	}
	failed = store(bus, address, size, result);
	if (failed)
		return failed;
	if (insn->op != MMIO_CMPXCHG)
		put(insn, cpu, insn->reg, size, memory);
	else if (!(flags & ZERO_FLAG))
		put(insn, cpu, RAX, size, memory);
	cpu->uc_mcontext.gregs[REG_EFL] = (greg_t)flags;
	return 0;
}

static int run_conditional(const struct mmio_insn *insn, ucontext_t *cpu, void *bus, uint64_t address)
{
	int holds = alu_condition(insn->code, (unsigned long)cpu->uc_mcontext.gregs[REG_EFL]);
	uint64_t value;

	if (insn->op == MMIO_SET)
		return store(bus, address, 1, (uint64_t)holds);
	/* The load happens, and 32 bits clear those above, whatever the condition says. */
	int failed = load(bus, address, insn->size, &value);

	if (!failed)
		put(insn, cpu, insn->reg, insn->size, holds ? value : get(insn, cpu, insn->reg, insn->size));
	return failed;
}

static int run_push(const struct mmio_insn *insn, ucontext_t *cpu, void *bus, uint64_t address)
{
	uint64_t value, top = (uint64_t)*full(cpu, RSP) - insn->size;
	int failed = load(bus, address, insn->size, &value);

	if (!failed)
		failed = store(bus, top, insn->size, value);
	if (!failed)
		*full(cpu, RSP) = (greg_t)top;
	return failed;
}

/* Elements that the mask leaves out are not touched in memory: each run of the others is an access. */
static int run_masked(const struct mmio_insn *insn, ucontext_t *cpu, void *bus, uint64_t address)
{
	unsigned element = insn->element, count = insn->size / element;
	uint64_t mask = vector_mask(cpu, insn->mask);
	uint8_t bytes[64];
	int failed = 0;

	vector_get(cpu, insn->reg, bytes);
	memset(bytes + insn->size, 0, insn->store ? 0 : sizeof(bytes) - insn->size);
	for (unsigned first = 0, end; first < count && !failed; first = end) {
		int wanted = (int)(mask >> first & 1);

		for (end = first + 1; end < count && (int)(mask >> end & 1) == wanted; end++)
			;
		size_t at = first * element, length = (end - first) * element;

		if (!wanted && insn->zeroing)
			memset(bytes + at, 0, length);
		else if (wanted && insn->store)
			failed = mmio_write(bus, address + at, bytes + at, length, length);
		else if (wanted)
			failed = mmio_read(bus, address + at, bytes + at, length, length);
	}
	if (!failed && !insn->store)
		vector_put(cpu, insn->reg, bytes, 0);
	return failed;
}

static int run_vector(const struct mmio_insn *insn, ucontext_t *cpu, void *bus, uint64_t address)
{
	size_t at = insn->op == MMIO_HIGH ? 8 : 0;
	uint8_t bytes[64];
	int failed;

	if (insn->mask)
		return run_masked(insn, cpu, bus, address);
	if (insn->store) {
		vector_get(cpu, insn->reg, bytes);
		return mmio_write(bus, address, bytes + at, insn->size, insn->size);
	}
	if (insn->op == MMIO_VECTOR) {
		memset(bytes, 0, sizeof(bytes));
	} else {
		vector_get(cpu, insn->source, bytes);
		memset(bytes + 16, 0, sizeof(bytes) - 16);
	}
	failed = mmio_read(bus, address, bytes + at, insn->size, insn->size);
	if (!failed)
		vector_put(cpu, insn->reg, bytes, insn->encoding == MMIO_LEGACY);
	return failed;
}

static uint64_t in_page(uint64_t address, unsigned size)
{
	uint64_t fit = (PAGE - address % PAGE) / size;

	return fit > 0 ? fit : 1;
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* As many elements as fit into the buffer and lie in the page: RIP stays while there are more. */
static int run_string(const struct mmio_insn *insn, ucontext_t *cpu, void *bus, int *more)
{
	unsigned size = insn->size, wide = insn->narrow ? 4 : 8;
	int backwards = (cpu->uc_mcontext.gregs[REG_EFL] & DIRECTION_FLAG) != 0;
	uint64_t left = insn->repeat ? low_bytes((uint64_t)*full(cpu, RCX), wide) : 1;
	uint64_t source = low_bytes((uint64_t)*full(cpu, RSI), wide), target = low_bytes((uint64_t)*full(cpu, RDI), wide);
	uint64_t ahead = target - source, count = least(left, STRING_BYTES / size);
	uint8_t bytes[STRING_BYTES];
	int failed = 0;

	if (insn->op != MMIO_STOS)
		count = least(count, in_page(source, size));
	if (insn->op != MMIO_LODS)
		count = least(count, in_page(target, size));
	/* Each element is read after the one before was written. */
	if (insn->op == MMIO_MOVS && ahead < count * size)
		count = ahead >= size ? ahead / size : 1;
	/* Backwards one by one: the order is the device's to see. */
	if (insn->op == MMIO_LODS || backwards)
		count = least(count, 1);
	size_t length = count * size;

	if (count > 0) {
		if (insn->op == MMIO_STOS)
			for (size_t i = 0; i < count; i++)
				memcpy(bytes + i * size, full(cpu, RAX), size);
		else
			failed = mmio_read(bus, source, bytes, length, size);
		if (!failed && insn->op != MMIO_LODS)
			failed = mmio_write(bus, target, bytes, length, size);
		if (failed)
			return failed;
	}
	uint64_t step = backwards ? -(uint64_t)length : length, value = 0;

	if (insn->op == MMIO_LODS && count > 0) {
		memcpy(&value, bytes, size);
		put(insn, cpu, RAX, size, value);
	}
	if (insn->op != MMIO_STOS)
		put(insn, cpu, RSI, wide, source + step);
	if (insn->op != MMIO_LODS)
		put(insn, cpu, RDI, wide, target + step);
	if (insn->repeat)
		put(insn, cpu, RCX, wide, left - count);
	*more = insn->repeat && left > count;
	return 0;
}

/* The target's address is in the register operand, and is as wide as addresses are. */
static int run_block(const struct mmio_insn *insn, ucontext_t *cpu, void *bus, uint64_t address)
{
	uint64_t target = get(insn, cpu, insn->reg, insn->narrow ? 4 : 8);
	uint8_t bytes[BLOCK];
	int retry = 0, failed;

	if (insn->op == MMIO_ENQCMDS)
		return mmio_protection(bus, "ENQCMDS is for ring 0");
	if (target % BLOCK != 0)
		return mmio_protection(bus, "the target is not a multiple of 64");
	failed = mmio_read(bus, address, bytes, sizeof(bytes), sizeof(bytes));
	if (!failed)
		failed = mmio_block(bus, target, bytes, insn->op == MMIO_ENQCMD, &retry);
	if (!failed && insn->op == MMIO_ENQCMD) {
		greg_t *flags = &cpu->uc_mcontext.gregs[REG_EFL];

		*flags = (greg_t)(((unsigned long)*flags & ~STATUS_FLAGS) | (retry ? ZERO_FLAG : 0));
	}
	return failed;
}

int mmio_run(const struct mmio_insn *insn, ucontext_t *cpu, void *bus)
{
	uint64_t address = mmio_address(insn, cpu);
	int more = 0, failed;

	switch ((enum mmio_op)insn->op) {
	case MMIO_MOVE:
	case MMIO_MOVDIRI:
	case MMIO_SWAP:
	case MMIO_ZERO_EXTEND:
	case MMIO_SIGN_EXTEND:
		failed = run_move(insn, cpu, bus, address);
		break;
	case MMIO_XCHG:
	case MMIO_XADD:
	case MMIO_CMPXCHG:
		failed = run_exchange(insn, cpu, bus, address);
		break;
	case MMIO_CMOV:
	case MMIO_SET:
		failed = run_conditional(insn, cpu, bus, address);
		break;
	case MMIO_PUSH:
		failed = run_push(insn, cpu, bus, address);
		break;
	case MMIO_VECTOR:
	case MMIO_LOW:
	case MMIO_HIGH:
		failed = run_vector(insn, cpu, bus, address);
		break;
	case MMIO_MOVS:
	case MMIO_STOS:
	case MMIO_LODS:
		failed = run_string(insn, cpu, bus, &more);
		break;
	case MMIO_FLUSH:
		failed = 0;
		break;
	case MMIO_MOVDIR64B:
	case MMIO_ENQCMD:
	case MMIO_ENQCMDS:
		failed = run_block(insn, cpu, bus, address);
		break;
	default:
		failed = run_alu(insn, cpu, bus, address);
	}
	if (!failed && !more)
		cpu->uc_mcontext.gregs[REG_RIP] += insn->length;
	return failed;
}
#endif
