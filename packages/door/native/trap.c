/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Registers of a device are mapped as memory that cannot be touched. Whoever does gets here, in a signal handler: the access goes to the
 * door, and the program goes on behind it. MOVDIR64B, MOVDIRI and ENQCMD are done here on CPUs that have none, too.
 */
#define _GNU_SOURCE
#include "trap.h"

#if defined(__x86_64__)
#include "mmio-vector.h"
#include "mmio.h"
#include "regions.h"
#include "shim.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define PAGE 4096
#define REGION_SHIFT 40

/* Which signal an access ends in. */
struct outcome {
	int signal, code;
	uint64_t address;
	const char *why;	/* said on stderr */
};

/* A line for stderr: no stdio in a signal handler. */
struct line {
	char text[512];
	size_t length;
};

static void say(struct line *line, const char *text)
{
	size_t length = strlen(text);

	if (length > sizeof(line->text) - line->length)
		length = sizeof(line->text) - line->length;
	memcpy(line->text + line->length, text, length);
	line->length += length;
}

static void say_hex(struct line *line, uint64_t value, int digits)
{
	char text[17];
	int at = 16;

	text[at] = '\0';
	do {
		text[--at] = "0123456789abcdef"[value & 15];
		value >>= 4;
	} while (value != 0 || 16 - at < digits);
	say(line, text + at);
}

static void report(const ucontext_t *cpu, const uint8_t *code, const struct outcome *outcome, const char *why)
{
	struct line line = { .length = 0 };
	struct region region;

	say(&line, "iommu: the instruction at 0x");
	say_hex(&line, (uint64_t)cpu->uc_mcontext.gregs[REG_RIP], 1);
	say(&line, ", bytes");
	for (int i = 0; i < MMIO_LONGEST; i++) {
		say(&line, " ");
		say_hex(&line, code[i], 2);
	}
	if (regions_find(outcome->address, &region) && region.mapping.registers) {
		uint64_t position = region.mapping.position + region.offset + (outcome->address - region.start);

		say(&line, ", touches a device's registers (region ");
		say_hex(&line, position >> REGION_SHIFT, 1);
		say(&line, ", offset 0x");
		say_hex(&line, position & ((1ULL << REGION_SHIFT) - 1), 1);
		say(&line, ")");
	}
	say(&line, ": ");
	say(&line, why);
	say(&line, outcome->signal == SIGBUS ? ": SIGBUS\n" : outcome->signal == SIGILL ? ": SIGILL\n" : ": SIGSEGV\n");
	syscall(SYS_write, STDERR_FILENO, line.text, line.length);
}

static int fail(struct outcome *outcome, int signal, int code, uint64_t address, const char *why)
{
	*outcome = (struct outcome){ signal, code, address, why };
	return -1;
}

/* The registers at [address, address + length): 1; other memory: 0; not to be touched so: -1. */
static int registers_at(uint64_t address, size_t length, int prot, struct region *region, struct outcome *outcome)
{
	if (!regions_find(address, region) || !region->mapping.registers)
		return 0;
	if (!(region->prot & prot))
		return fail(outcome, SIGSEGV, SEGV_ACCERR, address, NULL);
	if (length > region->end - address)
		return fail(outcome, SIGSEGV, SEGV_ACCERR, address, "it reaches over the end of the mapping");
	return 1;
}

static struct request access_of(enum operation op, const struct region *region, uint64_t address)
{
	return (struct request){ .op = op, .inode = region->mapping.inode, .a = region->offset + (address - region->start) };
}

/* What the door says: negative when the registers do not answer. */
static int answered(long result, uint64_t address, struct outcome *outcome)
{
	if (result >= 0)
		return 0;
	return fail(outcome, SIGBUS, BUS_ADRERR, address, result == -EFAULT ? "memory decoding is off, or the device asleep" : "nothing answers behind the mapping");
}

int mmio_read(void *bus, uint64_t address, void *bytes, size_t length, size_t width)
{
	struct region region;
	int kind = registers_at(address, length, PROT_READ, &region, bus);

	if (kind == 0)
		return door_copy_from((const void *)(uintptr_t)address, bytes, length) == (long)length ? 0 : fail(bus, SIGSEGV, SEGV_MAPERR, address, NULL);
	if (kind < 0)
		return kind;
	struct request call = access_of(OP_LOAD, &region, address);

	call.b = width;
	call.c = length;
	return answered(door_fetch(&call, bytes, length), address, bus);
}

int mmio_write(void *bus, uint64_t address, const void *bytes, size_t length, size_t width)
{
	struct region region;
	int kind = registers_at(address, length, PROT_WRITE, &region, bus);

	if (kind == 0)
		return door_copy_to(address, bytes, length) == 0 ? 0 : fail(bus, SIGSEGV, SEGV_MAPERR, address, NULL);
	if (kind < 0)
		return kind;
	struct request call = access_of(OP_STORE, &region, address);

	call.b = width;
	call.inlen = (uint32_t)length;
	return answered(door_call(&call, bytes, NULL), address, bus);
}

int mmio_protection(void *bus, const char *why)
{
	return fail(bus, SIGSEGV, SI_KERNEL, 0, why);
}

/* A deferrable write that nothing takes is to be tried again, as memory has it. */
int mmio_block(void *bus, uint64_t address, const void *bytes, int deferrable, int *retry)
{
	struct region region;
	int kind = registers_at(address, 64, PROT_WRITE, &region, bus);

	*retry = deferrable;
	if (kind < 0)
		return kind;
	if (kind == 0)
		return deferrable ? 0 : mmio_write(bus, address, bytes, 64, 64);
	struct request call = access_of(OP_BLOCK, &region, address);

	call.b = (uint64_t)deferrable;
	call.inlen = 64;
	long result = door_call(&call, bytes, NULL);

	if (result == -EPERM)
		return mmio_protection(bus, "ENQCMD without a PASID in IA32_PASID");
	*retry = result == 1;
	return answered(result, address, bus);
}

/* Reads and writes of one locked instruction are not parted by another's. */
static int locked;

static void lock(void)
{
	while (__atomic_exchange_n(&locked, 1, __ATOMIC_ACQUIRE))
		sched_yield();
}

static void unlock(void)
{
	__atomic_store_n(&locked, 0, __ATOMIC_RELEASE);
}

/* In a child nobody runs that could have taken it. */
static void after_fork(void)
{
	unlock();
}

/* The bytes of an instruction; zeros behind the end of what is mapped. */
static void fetch(const ucontext_t *cpu, uint8_t code[2 * MMIO_LONGEST])
{
	uint64_t at = (uint64_t)cpu->uc_mcontext.gregs[REG_RIP];
	size_t first = PAGE - at % PAGE;

	memset(code, 0, 2 * MMIO_LONGEST);
	if (first > MMIO_LONGEST)
		first = MMIO_LONGEST;
	if (door_copy_from((const void *)(uintptr_t)at, code, first) == (long)first && first < MMIO_LONGEST)
		door_copy_from((const void *)(uintptr_t)(at + first), code + first, MMIO_LONGEST - first);
}

static int is_direct(const struct mmio_insn *insn)
{
	return insn->op == MMIO_MOVDIR64B || insn->op == MMIO_MOVDIRI || insn->op == MMIO_ENQCMD || insn->op == MMIO_ENQCMDS;
}

/* True when it was ours and is done; else `outcome` says what to raise. */
static int serve(int number, const siginfo_t *info, ucontext_t *cpu, struct outcome *outcome)
{
	uint8_t code[2 * MMIO_LONGEST];
	struct mmio_insn insn;
	struct region region;
	int known, failed;

	*outcome = (struct outcome){ number, info->si_code, (uint64_t)(uintptr_t)info->si_addr, NULL };
	if (info->si_code <= 0)
		return 0;
	/* #GP: an ENQCMD that the CPU knows. */
	if (number == SIGSEGV && info->si_code != SI_KERNEL && !(regions_find(outcome->address, &region) && region.mapping.registers))
		return 0;
	fetch(cpu, code);
	known = mmio_decode(code, &insn) == 0;
	if ((number == SIGILL || info->si_code == SI_KERNEL) && !(known && is_direct(&insn)))
		return 0;
	if (!known) {
		report(cpu, code, outcome, "it is not one of those that are known here");
		return 0;
	}
	if (insn.locked)
		lock();
	failed = mmio_run(&insn, cpu, outcome);
	if (insn.locked)
		unlock();
	/* Who expects SIGBUS knows what it means. */
	if (failed && outcome->why && !(outcome->signal == SIGBUS && signals_handled(SIGBUS)))
		report(cpu, code, outcome, outcome->why);
	return !failed;
}

static void on_signal(int number, siginfo_t *info, void *context)
{
	int saved = errno;
	struct outcome outcome;

	if (!serve(number, info, context, &outcome)) {
		siginfo_t other = *info;

		if (outcome.signal != number || outcome.code != info->si_code || outcome.address != (uint64_t)(uintptr_t)info->si_addr) {
			memset(&other, 0, sizeof(other));
			other.si_signo = outcome.signal;
			other.si_code = outcome.code;
			other.si_addr = (void *)(uintptr_t)outcome.address;
		}
		signals_forward(outcome.signal, &other, context);
	}
	errno = saved;
}

__attribute__((constructor)) static void trap_forks(void)
{
	pthread_atfork(NULL, NULL, after_fork);
}

void trap_setup(void)
{
	vector_setup();
	signals_take(on_signal);
}

#else
void trap_setup(void)
{
}
#endif
