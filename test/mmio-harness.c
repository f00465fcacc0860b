/*
 * Runs each sample twice: on a page of memory as it is, and on one that is not there, where the shim's decoder does it. The list of samples is in
 * samples.h, list.h and refused.h, which the test writes.
 */
#define _GNU_SOURCE
#include "mmio.h"

#include <cpuid.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "declared.h"
#include "mmio-vector.h"

#define PAGE 4096
#define MIDDLE 1024

unsigned char page[PAGE] __attribute__((aligned(PAGE)));
unsigned char trap[PAGE] __attribute__((aligned(PAGE)));
unsigned char plain[PAGE] __attribute__((aligned(PAGE)));
static unsigned char shadow[PAGE];

struct cpu {
	unsigned long regs[16]; /* by number; RSP is not touched */
	unsigned long flags;
};
struct cpu cpu_in, cpu_out;
unsigned char vectors_in[4096] __attribute__((aligned(64))), vectors_out[4096] __attribute__((aligned(64)));
unsigned long components;
void (*sample)(void);
void run_sample(void);

__asm__(".text\nrun_sample:\n"
	"push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15; push %r15\n"
	"mov components(%rip), %eax; xor %edx, %edx; xrstor64 vectors_in(%rip)\n"
	"push cpu_in+128(%rip); popf\n"
	"mov cpu_in(%rip), %rax; mov cpu_in+8(%rip), %rcx; mov cpu_in+16(%rip), %rdx; mov cpu_in+24(%rip), %rbx\n"
	"mov cpu_in+40(%rip), %rbp; mov cpu_in+48(%rip), %rsi; mov cpu_in+56(%rip), %rdi\n"
	"mov cpu_in+64(%rip), %r8; mov cpu_in+72(%rip), %r9; mov cpu_in+80(%rip), %r10; mov cpu_in+88(%rip), %r11\n"
	"mov cpu_in+96(%rip), %r12; mov cpu_in+104(%rip), %r13; mov cpu_in+112(%rip), %r14; mov cpu_in+120(%rip), %r15\n"
	"call *sample(%rip)\n"
	"mov %rax, cpu_out(%rip); mov %rcx, cpu_out+8(%rip); mov %rdx, cpu_out+16(%rip); mov %rbx, cpu_out+24(%rip)\n"
	"mov %rbp, cpu_out+40(%rip); mov %rsi, cpu_out+48(%rip); mov %rdi, cpu_out+56(%rip)\n"
	"mov %r8, cpu_out+64(%rip); mov %r9, cpu_out+72(%rip); mov %r10, cpu_out+80(%rip); mov %r11, cpu_out+88(%rip)\n"
	"mov %r12, cpu_out+96(%rip); mov %r13, cpu_out+104(%rip); mov %r14, cpu_out+112(%rip); mov %r15, cpu_out+120(%rip)\n"
	"pushf; pop cpu_out+128(%rip)\n"
	"mov components(%rip), %eax; xor %edx, %edx; xsave64 vectors_out(%rip)\n"
	"cld; pop %r15; pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx; ret\n");

#define SAMPLE(name, native, trapped) __asm__(".text\n" name "_native: " native "; ret\n" name "_trapped: " trapped "; ret\n");
#define REFUSED(name, text) __asm__(".text\n" name ": " text "\n");
#include "samples.h"
#undef SAMPLE
#undef REFUSED

static int traps;

static unsigned char *place(uint64_t address)
{
	uint64_t offset = address - (uint64_t)(uintptr_t)trap;

	return offset < PAGE ? shadow + offset : (unsigned char *)(uintptr_t)address;
}

int mmio_read(void *bus, uint64_t address, void *bytes, size_t length, size_t width)
{
	(void)bus;
	(void)width;
	memcpy(bytes, place(address), length);
	return 0;
}

int mmio_write(void *bus, uint64_t address, const void *bytes, size_t length, size_t width)
{
	(void)bus;
	(void)width;
	memcpy(place(address), bytes, length);
	return 0;
}

int mmio_block(void *bus, uint64_t address, const void *bytes, int deferrable, int *retry)
{
	(void)bus; (void)address; (void)bytes; (void)deferrable; (void)retry;
	return -1;
}

int mmio_protection(void *bus, const char *why)
{
	(void)bus; (void)why;
	return -1;
}

static void on_fault(int signal, siginfo_t *info, void *context)
{
	ucontext_t *cpu = context;
	struct mmio_insn insn;

	(void)signal;
	(void)info;
	traps++;
	if (mmio_decode((const uint8_t *)cpu->uc_mcontext.gregs[REG_RIP], &insn) != 0 || mmio_run(&insn, cpu, NULL) != 0 || traps > 1000) {
		static const char text[] = "not decoded\n";

		_exit(write(1, text, sizeof(text) - 1) > 0 ? 1 : 2);
	}
}

static unsigned long noise(void)
{
	static unsigned long state = 88172645463325252UL;

	state ^= state << 13;
	state ^= state >> 7;
	return state ^= state << 17;
}

static void fill(void *target, size_t length)
{
	for (size_t i = 0; i < length; i++)
		((unsigned char *)target)[i] = (unsigned char)(noise() >> 11);
}

/* What both runs begin with; registers that point into the page do so by `base`. */
static void prepare(const struct cpu *start, const unsigned char *base)
{
	uint64_t at = (uint64_t)(uintptr_t)base;

	cpu_in = *start;
	cpu_in.regs[3] = cpu_in.regs[5] = cpu_in.regs[12] = cpu_in.regs[13] = at + MIDDLE;
	cpu_in.regs[6] = at + 256;
	cpu_in.regs[7] = at + 2048;
}

/* A pointer into either page, as one into the first. */
static unsigned long normal(unsigned long value)
{
	unsigned long offset = value - (unsigned long)(uintptr_t)trap;

	return offset <= PAGE ? (unsigned long)(uintptr_t)page + offset : value;
}

static int compare(const char *text, const struct cpu *native, const unsigned char *native_plain, const unsigned char *native_vectors, size_t vector_bytes)
{
	int bad = 0;

	for (int i = 0; i < 16; i++) {
		if (i == 4 || normal(cpu_out.regs[i]) == normal(native->regs[i]))
			continue;
		printf("%s: register %d is %lx, natively %lx\n", text, i, cpu_out.regs[i], native->regs[i]);
		bad = 1;
	}
	if (cpu_out.flags != native->flags) {
		printf("%s: flags are %lx, natively %lx\n", text, cpu_out.flags, native->flags);
		bad = 1;
	}
	if (memcmp(shadow, page, PAGE) != 0 || memcmp(plain, native_plain, PAGE) != 0) {
		printf("%s: memory differs\n", text);
		bad = 1;
	}
	/* XMM, then everything behind the header: both have every component in use. */
	if (memcmp(vectors_out + 160, native_vectors + 160, 256) != 0 || memcmp(vectors_out + 576, native_vectors + 576, vector_bytes - 576) != 0) {
		printf("%s: vector registers differ\n", text);
		bad = 1;
	}
	return bad;
}

/* GCC 12 knows no name for some. */
static int leaf(unsigned int number, int output, int bit)
{
	unsigned int a, b, c, d;

	__cpuid_count(number, 0, a, b, c, d);
	return (output == 'b' ? b : c) >> bit & 1;
}
#define HAS_avx2 (__builtin_cpu_supports("avx2") != 0)
#define HAS_avx512vl (__builtin_cpu_supports("avx512vl") != 0)
#define HAS_avx512bw (__builtin_cpu_supports("avx512bw") != 0)
#define HAS_movbe leaf(1, 'c', 22)
#define HAS_clflushopt leaf(7, 'b', 23)
#define HAS_clwb leaf(7, 'b', 24)

struct listed {
	void (*native)(void), (*trapped)(void);
	const char *text;
	int able;
};

int main(void)
{
	const struct listed list[] = {
#include "list.h"
	};
	static const struct { void (*code)(void); const char *text; } refused[] = {
#include "refused.h"
	};
	static unsigned char start[PAGE], start_plain[PAGE], native_plain[PAGE], native_vectors[4096];
	struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
	unsigned int low, high;
	int bad = 0, skipped = 0, done = 0;

	sigaction(SIGSEGV, &action, NULL);
	vector_setup();
	__asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	components = low & 0xe7;
	unsigned int size;

	__asm__("cpuid" : "=b"(size) : "a"(0xd), "c"(0) : "edx");
	/* The components that the mask names lie within these bytes, whatever else the CPU saves. */
	if (size > sizeof(vectors_in))
		size = sizeof(vectors_in);
	mprotect(trap, PAGE, PROT_NONE);
	for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
		if (!list[i].able) {
			skipped++;
			continue;
		}
		for (int round = 0; round < 12; round++) {
			struct cpu first, native;

			fill(&first, sizeof(first));
			first.flags = (first.flags & 0x8d5) | 2;
			first.regs[1] &= 7;
			first.regs[9] &= 7;
			first.regs[10] = (unsigned long)((long)(first.regs[10] % 2000) - 1000);
			fill(start, PAGE);
			fill(start_plain, PAGE);
			/* Half of the comparisons find what they expect. */
			if (round & 1)
				memcpy(start + MIDDLE + 16, &first.regs[0], 8);
			__asm__ volatile("xsave64 %0" : "=m"(vectors_in) : "a"(components), "d"(0));
			fill(vectors_in + 160, 256);
			fill(vectors_in + 576, size - 576);
			memcpy(vectors_in + 512, &components, 8);

			memcpy(page, start, PAGE);
			memcpy(plain, start_plain, PAGE);
			prepare(&first, page);
			sample = list[i].native;
			run_sample();
			native = cpu_out;
			memcpy(native_plain, plain, PAGE);
			memcpy(native_vectors, vectors_out, sizeof(vectors_out));

			memcpy(shadow, start, PAGE);
			memcpy(plain, start_plain, PAGE);
			prepare(&first, trap);
			sample = list[i].trapped;
			traps = 0;
			run_sample();
			/* A string of no elements, or a mask without a bit, touches nothing. */
			if (traps == 0 && first.regs[1] != 0 && !strstr(list[i].text, "{%k")) {
				printf("%s: was not trapped\n", list[i].text);
				bad++;
				break;
			}
			if (compare(list[i].text, &native, native_plain, native_vectors, size)) {
				bad++;
				break;
			}
		}
		done++;
	}
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		struct mmio_insn insn;

		if (mmio_decode((const uint8_t *)(uintptr_t)refused[i].code, &insn) == 0) {
			printf("%s: is taken for one of %d bytes\n", refused[i].text, insn.length);
			bad++;
		}
	}
	for (int i = 0; i < 2000000; i++) {
		unsigned char bytes[64];
		struct mmio_insn insn;

		fill(bytes, 16);
		memset(bytes + 16, 0, sizeof(bytes) - 16);
		if (mmio_decode(bytes, &insn) == 0 && (insn.length == 0 || insn.length > MMIO_LONGEST)) {
			printf("%d bytes long\n", insn.length);
			bad++;
		}
	}
	printf("%d done, %d bad, %d beyond this CPU\n", done, bad, skipped);
	return bad != 0;
}
