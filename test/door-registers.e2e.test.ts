/** Registers of a device in a native program's memory, through the preload door. Needs a C compiler, on x86-64. */
import { execFileSync, spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { CLI, compiler, type Ended, type RunSettings, Workshop } from "./native.js";
import { Ledger, REGISTERS } from "./registers.js";

describe.skipIf(compiler === undefined || process.arch !== "x64")("registers in a program's memory", () => {
  let shop: Workshop;
  beforeAll(() => void (shop = new Workshop()));
  afterAll(() => shop.close());

  const run = (name: string, body: string, flags: readonly string[] = [], settings: Partial<RunSettings> = {}): Promise<Ended> =>
    shop.run(shop.compile(name, REGISTERS + body, ...flags), { door: "preload", ...settings });

  it.each([[["-O0"]], [["-O2"]], [["-O3", "-mavx"]]])("drive a DMA by loads and stores, compiled with %j", async (flags) => {
    const body = `
struct registers { uint32_t magic, version; uint64_t source, destination; uint32_t length, pasid, command, status, moved, pad; uint64_t fault; uint32_t count, interrupt; };
int main(void) {
  attach();
  volatile char *bar = map_bar(0, 0x1000, PROT_READ | PROT_WRITE);
  volatile struct registers *r = (volatile struct registers *)bar;
  char *memory = mmap(NULL, 0x200000, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  struct iommu_ioas_map map = { .size = sizeof(map), .flags = 7, .ioas_id = (uint32_t)ioas, .iova = 0x1000000, .length = 0x200000, .user_va = (uint64_t)(uintptr_t)memory };
  CHECK(ioctl(iommufd, IOMMU_IOAS_MAP, &map) == 0);
  CHECK(readl(bar) == 0x54414d44 && r->version == 1);
  for (int i = 0; i < 512; i++) memory[i] = (char)(i * 7 + 1);
  writeq(0x1000000, bar + 0x08);
  writeq(0x1001000, bar + 0x10);
  r->length = 512;
  r->command = 3;
  CHECK(r->status == 1 && r->moved == 512 && r->count == 1);
  CHECK(memcmp(memory, memory + 0x1000, 512) == 0);
  /* The buffer by functions of libc, in both directions, and by the compiler's own loops. */
  char text[600];
  for (size_t length = 1; length < sizeof(text); length += length < 70 ? 1 : 37) {
    memcpy((char *)bar + 0x801, memory + 3, length);
    memset(text, 0, sizeof(text));
    memcpy(text, (char *)bar + 0x801, length);
    CHECK(memcmp(text, memory + 3, length) == 0);
    memset((char *)bar + 0x801, 0x5a, length);
    memmove(text, (char *)bar + 0x800, length);
    CHECK(text[length > 1 ? 1 : 0] == (length > 1 ? 0x5a : 0) || length == 1);
  }
  volatile uint64_t *words = (volatile uint64_t *)(bar + 0x800), sum = 0;
  for (int i = 0; i < 64; i++) words[i] = (uint64_t)i * 3;
  for (int i = 0; i < 64; i++) sum += words[i];
  CHECK(sum == 3 * 63 * 32);
  writeq(0x1002000, bar + 0x10);
  r->command = 2;
  CHECK(r->status == 1 && memcmp(memory + 0x2000, (char *)bar + 0x800, 512) == 0);
  CHECK(r->length++ == 512 && (r->length |= 0x1000) == 0x1201);
  r->length &= 0xff;
  CHECK(r->length == 1);
  /* What pread sees is the same. */
  uint32_t length;
  CHECK(pread(device, &length, 4, 0x18) == 4 && length == 1);
  CHECK(munmap((void *)bar, 0x1000) == 0);
  return 0;
}`;
    expect(await run(`drive${flags.join("")}`, body, flags)).toEqual({ code: 0, output: "" });
  });

  it("reach the device one by one, of the width and in the order that the program has", async () => {
    const ledger = new Ledger();
    const body = `
int main(void) {
  attach();
  volatile char *bar = map_bar(0, 0x4000, PROT_READ | PROT_WRITE);
  char other[64] __attribute__((aligned(64))) = { 0 };
  __asm__ volatile("movb $1, 0x10(%0); movw $2, 0x12(%0); movl $3, 0x14(%0); movq $4, 0x18(%0)" : : "r"(bar) : "memory");
  __asm__ volatile("movb 0x10(%0), %%al; movw 0x12(%0), %%ax; movl 0x14(%0), %%eax; movq 0x18(%0), %%rax" : : "r"(bar) : "rax", "memory");
  __asm__ volatile("orl $0x30, 0x20(%0); lock addq $1, 0x28(%0); testb $1, 0x30(%0); xchgl %%eax, 0x34(%0)" : : "r"(bar), "a"(7) : "memory", "cc");
  __asm__ volatile("movups 0x40(%0), %%xmm1; movups %%xmm1, 0x50(%0)" : : "r"(bar) : "xmm1", "memory");
  void *from = (void *)(bar + 0x60), *to = other;
  unsigned long count = 3;
  __asm__ volatile("rep movsl" : "+S"(from), "+D"(to), "+c"(count) : : "memory");
  CHECK(count == 0 && (char *)from == (char *)bar + 0x6c && (char *)to == other + 12);
  to = (void *)(bar + 0x70);
  count = 2;
  __asm__ volatile("rep stosq" : "+D"(to), "+c"(count) : "a"(9) : "memory");
  /* Not aligned: as pwrite does it. */
  __asm__ volatile("movl $5, 0x81(%0)" : : "r"(bar) : "memory");
  return 0;
}`;
    expect(await run("widths", body, [], { nodes: ledger.nodes })).toEqual({ code: 0, output: "" });
    const hex = (at: number): string => at.toString(16);
    expect(ledger.log).toEqual([
      "w 10/1=1", "w 12/2=2", "w 14/4=3", "w 18/8=4", "r 10/1", "r 12/2", "r 14/4", "r 18/8", "r 20/4", "w 20/4=30", "r 28/8", "w 28/8=1", "r 30/1", "r 34/4", "w 34/4=7",
      "r 40/8", "r 48/8", "w 50/8=0", "w 58/8=0", ...[0x60, 0x64, 0x68].map((at) => `r ${hex(at)}/4`), "w 70/8=9", "w 78/8=9", "w 81/1=5", "w 82/2=0", "w 84/1=0",
    ]);
  });

  it("take 64 bytes by MOVDIR64B, whether the CPU has it or not, and ENQCMD when there is a PASID", async () => {
    const ledger = new Ledger();
    const body = `
#include <setjmp.h>
static jmp_buf back;
static volatile int code;
static void on_segv(int number, siginfo_t *info, void *context) { (void)number; (void)context; code = info->si_code; longjmp(back, 1); }
static void movdir64b(void *to, const void *from) { __asm__ volatile(".byte 0x66, 0x0f, 0x38, 0xf8, 0x02" : : "a"(to), "d"(from) : "memory"); }
static int enqcmd(void *to, const void *from) { unsigned char retry; __asm__ volatile(".byte 0xf2, 0x0f, 0x38, 0xf8, 0x02; setz %0" : "=q"(retry) : "a"(to), "d"(from) : "memory", "cc"); return retry; }
int main(void) {
  attach();
  char *portal = (char *)map_bar(2, 0x2000, PROT_READ | PROT_WRITE), *registers = (char *)map_bar(0, 0x1000, PROT_READ | PROT_WRITE);
  unsigned char from[64], to[64] __attribute__((aligned(64)));
  for (int i = 0; i < 64; i++) from[i] = (unsigned char)(i + 1);
  movdir64b(to, from);
  CHECK(memcmp(from, to, 64) == 0);
  movdir64b(portal + 0x1040, from);
  movdir64b(registers + 0x40, from);
  __asm__ volatile(".byte 0x0f, 0x38, 0xf9, 0x02" : : "a"(0x1234), "d"(registers + 0x10) : "memory"); /* MOVDIRI */
  movdir64b(to, registers + 0x40); /* from registers to memory */
  CHECK(memcmp(from, to, 64) == 0);
  struct sigaction action = { .sa_sigaction = on_segv, .sa_flags = SA_SIGINFO };
  CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
  if (setjmp(back) == 0) { movdir64b(portal + 8, from); CHECK(!"not aligned"); }
  CHECK(code == 0x80 /* SI_KERNEL: #GP */);
  code = 0;
  if (setjmp(back) == 0) { enqcmd(portal, from); CHECK(!"no PASID"); }
  CHECK(code == 0x80);
  code = 0;
  if (setjmp(back) == 0) { movdir64b(to, (void *)8); CHECK(!"no source"); }
  CHECK(code == SEGV_MAPERR);
  return 0;
}`;
    const { code, output } = await run("blocks", body, [], { nodes: ledger.nodes });
    expect(output.replaceAll(/0x[0-9a-f]{6,}/g, "RIP").trim().split("\n")).toEqual([
      "iommu: the instruction at RIP, bytes 66 0f 38 f8 02".concat(" BYTES: the target is not a multiple of 64: SIGSEGV"),
      "iommu: the instruction at RIP, bytes f2 0f 38 f8 02".concat(" BYTES: ENQCMD without a PASID in IA32_PASID: SIGSEGV"),
    ].map((line) => expect.stringMatching(new RegExp(`^${line.replace("BYTES", "[0-9a-f ]+")}$`)) as string));
    expect(code).toBe(0);
    const bytes = Array.from({ length: 64 }, (_, i) => i + 1);
    const word = (i: number): string => bytes.slice(8 * i, 8 * i + 8).reverse().map((byte) => byte.toString(16).padStart(2, "0")).join("").replace(/^0+/, "");
    const eight = Array.from({ length: 8 }, (_, i) => `${(0x40 + 8 * i).toString(16)}/8`);
    expect(ledger.log).toEqual([`block 1040=${bytes.join()}`, ...eight.map((at, i) => `w ${at}=${word(i)}`), "w 10/4=1234", ...eight.map((at) => `r ${at}`)]);
  });

  it("leave the program's own signals to it", async () => {
    const body = `
#include <setjmp.h>
#include <sys/auxv.h>
#include <sys/time.h>
#include <ucontext.h>
static sigjmp_buf back;
static volatile char *bar;
static volatile int count, seen;
static void *volatile address;
static void on_segv(int number, siginfo_t *info, void *context) {
  (void)context;
  CHECK(number == SIGSEGV && readl(bar) == 0x54414d44); /* registers work in handlers */
  address = info->si_addr;
  count++;
  siglongjmp(back, 1);
}
static void on_simple(int number) { CHECK(number == SIGSEGV); count++; siglongjmp(back, 1); }
static void on_timer(int number) { (void)number; CHECK(readl(bar + 4) == 1); seen++; }
static void on_ill(int number, siginfo_t *info, void *context) { (void)info; CHECK(number == SIGILL); count++; ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] += 2; }
static int overflow(int depth) { volatile char room[4096]; room[0] = (char)depth; return depth < 1000000 ? overflow(depth + 1) + room[0] : 0; }
int main(void) {
  struct sigaction action = { .sa_sigaction = on_segv, .sa_flags = SA_SIGINFO | SA_ONSTACK }, old;
  /* What the kernel needs, and a page. */
  size_t size = getauxval(AT_MINSIGSTKSZ) + 4096;
  stack_t stack = { .ss_sp = malloc(size), .ss_size = size };
  CHECK(sigaltstack(&stack, NULL) == 0);
  CHECK(sigaction(SIGSEGV, &action, NULL) == 0); /* before registers are mapped */
  attach();
  bar = map_bar(0, 0x1000, PROT_READ | PROT_WRITE);
  CHECK(sigaction(SIGSEGV, NULL, &old) == 0 && old.sa_sigaction == on_segv && (old.sa_flags & SA_ONSTACK));
  CHECK(readl(bar) == 0x54414d44 && count == 0);
  if (sigsetjmp(back, 1) == 0) { *(volatile int *)16 = 1; CHECK(!"no fault"); }
  CHECK(count == 1 && address == (void *)16);
  CHECK(readl(bar) == 0x54414d44);
  /* A stack that has run out. */
  if (sigsetjmp(back, 1) == 0) { overflow(0); CHECK(!"no fault"); }
  CHECK(count == 2);
  /* After: signal(), and what it gives back. */
  CHECK(signal(SIGSEGV, on_simple) == (void (*)(int))on_segv);
  if (sigsetjmp(back, 1) == 0) { *(volatile int *)16 = 1; CHECK(!"no fault"); }
  CHECK(count == 3 && readl(bar) == 0x54414d44);
  CHECK(sigaction(SIGSEGV, &action, NULL) == 0);
  /* The program's rights of its own mapping. */
  CHECK(mprotect((void *)bar, 0x1000, PROT_READ) == 0 && readl(bar) == 0x54414d44);
  if (sigsetjmp(back, 1) == 0) { writel(1, bar + 0x18); CHECK(!"no fault"); }
  CHECK(count == 4 && address == (void *)(bar + 0x18));
  CHECK(mprotect((void *)bar, 0x1000, PROT_READ | PROT_WRITE) == 0);
  writel(7, bar + 0x18);
  CHECK(readl(bar + 0x18) == 7);
  /* Blocking everything does not block registers. */
  sigset_t all;
  sigfillset(&all);
  CHECK(sigprocmask(SIG_BLOCK, &all, NULL) == 0 && readl(bar + 0x18) == 7);
  CHECK(pthread_sigmask(SIG_SETMASK, &all, NULL) == 0 && readl(bar + 0x18) == 7);
  sigemptyset(&all);
  CHECK(sigprocmask(SIG_SETMASK, &all, NULL) == 0);
  /* Handlers of other signals, which block all others. */
  struct sigaction timer = { .sa_handler = on_timer };
  sigfillset(&timer.sa_mask);
  CHECK(sigaction(SIGALRM, &timer, NULL) == 0);
  struct itimerval often = { { 0, 700 }, { 0, 700 } };
  CHECK(setitimer(ITIMER_REAL, &often, NULL) == 0);
  for (int i = 0; i < 100000 && seen < 50; i++) { writel((uint32_t)i, bar + 0x18); CHECK(readl(bar + 0x18) == (uint32_t)i); }
  often = (struct itimerval){ 0 };
  CHECK(setitimer(ITIMER_REAL, &often, NULL) == 0 && seen >= 50);
  /* SIGILL that is none of ours. */
  struct sigaction ill = { .sa_sigaction = on_ill, .sa_flags = SA_SIGINFO };
  CHECK(sigaction(SIGILL, &ill, NULL) == 0);
  __asm__ volatile("ud2");
  CHECK(count == 5);
  /* Sent, not raised by a fault; for one time. */
  ill.sa_flags = (int)(SA_SIGINFO | SA_RESETHAND);
  ill.sa_sigaction = on_ill;
  CHECK(sigaction(SIGILL, &ill, NULL) == 0);
  __asm__ volatile("ud2");
  CHECK(count == 6 && sigaction(SIGILL, NULL, &old) == 0 && old.sa_handler == SIG_DFL);
  CHECK(signal(SIGSEGV, SIG_IGN) == (void (*)(int))on_segv && kill(getpid(), SIGSEGV) == 0 && readl(bar) == 0x54414d44);
  return 0;
}`;
    expect(await run("signals", body)).toEqual({ code: 0, output: "" });
  });

  it.each([
    ["a fault of the program's own", "*(volatile int *)16 = 1;", 139, ""],
    ["one that it ignores", "signal(SIGSEGV, SIG_IGN); *(volatile int *)16 = 1;", 139, ""],
    ["an undefined instruction", '__asm__ volatile("ud2");', 132, ""],
    ["a signal that is sent", "kill(getpid(), SIGSEGV); usleep(100000);", 139, ""],
    ["registers behind a mapping that went", "munmap((void *)bar, 0x1000); readl(bar);", 139, ""],
    ["writing what was mapped to be read", "bar = map_bar(0, 0x1000, PROT_READ); writel(1, bar);", 139, ""],
    ["memory decoding that is off", "uint16_t off = 0; pwrite(device, &off, 2, REGION(7) + 4); readl(bar + 4);", 135, "(region 0, offset 0x4): memory decoding is off, or the device asleep: SIGBUS"],
    ["an instruction that is not known", '__asm__ volatile("fildl 0x18(%0)" : : "r"(bar));', 139, " bytes db 4[0-7] 18 .*\\(region 0, offset 0x18\\): it is not one of those that are known here: SIGSEGV"],
  ])("end the program by %s", async (_what, statement, code, said) => {
    const body = `int main(void) { attach(); volatile char *bar = map_bar(0, 0x1000, PROT_READ | PROT_WRITE); CHECK(readl(bar) == 0x54414d44); ${statement} puts("went on"); return 0; }`;
    const ended = await run("fatal", body);
    if (said === "") expect(ended).toEqual({ code, output: "" });
    else expect(ended).toEqual({ code, output: expect.stringMatching(new RegExp(`^iommu: the instruction at .*${said.includes("\\") ? said : said.replaceAll(/[()]/g, "\\$&")}\n$`)) as string });
  });

  it("answer SIGBUS while memory decoding is off, and again when it is on", async () => {
    const body = `
#include <setjmp.h>
static sigjmp_buf back;
static void *volatile address;
static volatile int code;
static void on_bus(int number, siginfo_t *info, void *context) { (void)context; CHECK(number == SIGBUS); address = info->si_addr; code = info->si_code; siglongjmp(back, 1); }
int main(void) {
  struct sigaction action = { .sa_sigaction = on_bus, .sa_flags = SA_SIGINFO };
  attach();
  volatile char *bar = map_bar(0, 0x1000, PROT_READ | PROT_WRITE);
  CHECK(sigaction(SIGBUS, &action, NULL) == 0);
  uint16_t command = 0;
  CHECK(pwrite(device, &command, 2, REGION(7) + 4) == 2);
  if (sigsetjmp(back, 1) == 0) { readl(bar + 0x18); CHECK(!"no fault"); }
  CHECK(code == BUS_ADRERR && address == (void *)(bar + 0x18));
  address = NULL;
  if (sigsetjmp(back, 1) == 0) { writel(1, bar + 0x20); CHECK(!"no fault"); }
  CHECK(address == (void *)(bar + 0x20));
  command = 2;
  CHECK(pwrite(device, &command, 2, REGION(7) + 4) == 2 && readl(bar) == 0x54414d44);
  return 0;
}`;
    expect(await run("bus", body)).toEqual({ code: 0, output: "" });
  });

  it("stay mapped after close, move, shrink, and are inherited", async () => {
    const body = `
int main(void) {
  attach();
  char *bar = (char *)map_bar(0, 0x4000, PROT_READ | PROT_WRITE);
  close(device);
  close(iommufd);
  writel(0x11, bar + 0x10);
  writel(0x22, bar + 0x1010);
  writel(0x33, bar + 0x2010);
  writel(0x44, bar + 0x3010);
  /* Still ours: another cannot bind it. */
  int again = open("/dev/vfio/devices/vfio0", O_RDWR), context = open("/dev/iommu", O_RDWR);
  struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind), .iommufd = context };
  CHECK(ioctl(again, VFIO_DEVICE_BIND_IOMMUFD, &bind) == -1 && errno == EINVAL);
  /* A child has it, too, also when its parent lets go. */
  int ends[2];
  CHECK(pipe(ends) == 0);
  pid_t child = fork();
  if (child == 0) {
    char byte;
    CHECK(readl(bar + 0x1010) == 0x22);
    CHECK(read(ends[0], &byte, 1) == 1 && readl(bar + 0x1010) == 0x22);
    writel(0x55, bar + 0x1010);
    exit(0);
  }
  /* Growing, as VM_DONTEXPAND has it; leaving something behind. */
  CHECK(mremap(bar, 0x4000, 0x5000, MREMAP_MAYMOVE) == MAP_FAILED && errno == EFAULT);
  CHECK(mremap(bar, 0x4000, 0x4000, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL) == MAP_FAILED && errno == EINVAL);
  /* A hole, in which something else comes to be. */
  CHECK(munmap(bar + 0x1000, 0x1000) == 0);
  char *hole = mmap(bar + 0x1000, 0x1000, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  CHECK(hole == bar + 0x1000 && hole[0x10] == 0);
  hole[0x10] = 1;
  CHECK(readl(bar + 0x10) == 0x11 && readl(bar + 0x2010) == 0x33);
  /* Rights over both, registers and memory between them. */
  CHECK(mprotect(bar, 0x4000, PROT_READ) == 0 && hole[0x10] == 1 && readl(bar + 0x3010) == 0x44);
  CHECK(mprotect(bar, 0x4000, PROT_READ | PROT_WRITE) == 0);
  hole[0x10] = 2;
  writel(0x66, bar + 0x3010);
  CHECK(readl(bar + 0x3010) == 0x66);
  /* Two pages move, and one of them goes. */
  char *moved = mmap(NULL, 0x3000, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(mremap(bar + 0x2000, 0x2000, 0x1000, MREMAP_MAYMOVE | MREMAP_FIXED, moved + 0x1000) == moved + 0x1000);
  CHECK(readl(moved + 0x1010) == 0x33 && readl(bar + 0x10) == 0x11);
  /* Memory of the program's own in the place of registers. */
  CHECK(mmap(bar, 0x1000, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == bar && *(int *)(bar + 0x10) == 0);
  CHECK(munmap(moved, 0x3000) == 0);
  CHECK(ioctl(again, VFIO_DEVICE_BIND_IOMMUFD, &bind) == -1 && errno == EINVAL); /* the child */
  CHECK(write(ends[1], "x", 1) == 1);
  int status;
  CHECK(waitpid(child, &status, 0) == child && status == 0);
  CHECK(ioctl(again, VFIO_DEVICE_BIND_IOMMUFD, &bind) == 0);
  device = again;
  bar = (char *)map_bar(0, 0x1000, PROT_READ | PROT_WRITE);
  CHECK(readl(bar + 0x10) == 0); /* it was reset in between */
  return 0;
}`;
    expect(await run("lives", body, [], { nodes: new Ledger().nodes })).toEqual({ code: 0, output: "" });
  });

  it("are no memory for system calls and type1", async () => {
    const body = `
int main(void) {
  int container = open("/dev/vfio/vfio", O_RDWR), group = open("/dev/vfio/0", O_RDWR), ends[2];
  CHECK(container >= 0 && group >= 0 && ioctl(group, VFIO_GROUP_SET_CONTAINER, &container) == 0 && ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) == 0);
  device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, "0000:00:03.0");
  CHECK(device >= 0 && pipe(ends) == 0);
  char *bar = (char *)map_bar(0, 0x1000, PROT_READ | PROT_WRITE);
  CHECK(write(ends[1], bar, 4) == -1 && errno == EFAULT);
  CHECK(pread(device, bar, 4, 0) == -1 && errno == EFAULT);
  CHECK(pwrite(device, bar, 4, 0x18) == -1 && errno == EFAULT);
  struct vfio_iommu_type1_dma_map map = { .argsz = sizeof(map), .flags = VFIO_DMA_MAP_FLAG_READ, .vaddr = (uint64_t)(uintptr_t)bar, .iova = 0x1000000, .size = 0x1000 };
  CHECK(ioctl(container, VFIO_IOMMU_MAP_DMA, &map) == -1 && errno == EFAULT);
  CHECK(readl(bar + 4) == 1);
  return 0;
}`;
    expect(await run("memory", body)).toEqual({ code: 0, output: "" });
  });

  it("serve four threads at once, locked changes undivided", async () => {
    const body = `
static volatile char *bar;
static void *hammer(void *argument) {
  volatile char *own = bar + 0x100 + 0x100 * (long)argument;
  for (int i = 0; i < 400; i++) {
    writel((uint32_t)i, own);
    writeq((uint64_t)i << 33, own + 8);
    CHECK(readl(own) == (uint32_t)i && readq(own + 8) == (uint64_t)i << 33);
    __asm__ volatile("lock incl 0x40(%0)" : : "r"(bar) : "memory", "cc");
    if (i % 100 == 0) { char *p = mmap(NULL, 0x1000, PROT_READ | PROT_WRITE, MAP_SHARED, device, REGION(0)); CHECK(p != MAP_FAILED && readl(own) == (uint32_t)i && munmap(p, 0x1000) == 0); }
    if (i % 200 == 0) { pid_t child = fork(); if (child == 0) _exit(readl(own) == (uint32_t)i ? 0 : 1); int status; CHECK(waitpid(child, &status, 0) == child && status == 0); }
  }
  return NULL;
}
int main(void) {
  attach();
  bar = map_bar(0, 0x4000, PROT_READ | PROT_WRITE);
  pthread_t threads[4];
  for (long i = 0; i < 4; i++) CHECK(pthread_create(&threads[i], NULL, hammer, (void *)i) == 0);
  for (int i = 0; i < 4; i++) CHECK(pthread_join(threads[i], NULL) == 0);
  CHECK(readl(bar + 0x40) == 1600);
  return 0;
}`;
    expect(await run("threads", body, [], { nodes: new Ledger().nodes })).toEqual({ code: 0, output: "" });
  });

  it("are recorded access by access, and the recording plays as it was", () => {
    const program = shop.compile("recorded", `${REGISTERS}
int main(void) {
  attach();
  volatile char *bar = map_bar(0, 0x1000, PROT_READ | PROT_WRITE);
  char *memory = mmap(NULL, 0x1000, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  struct iommu_ioas_map map = { .size = sizeof(map), .flags = 7, .ioas_id = (uint32_t)ioas, .iova = 0x1000000, .length = 0x1000, .user_va = (uint64_t)(uintptr_t)memory };
  CHECK(ioctl(iommufd, IOMMU_IOAS_MAP, &map) == 0);
  strcpy(memory, "read by DMA");
  writeq(0x1000000, bar + 8);
  writel(12, bar + 0x18);
  writel(1, bar + 0x20);
  CHECK(readl(bar + 0x24) == 1 && readl(bar + 0x800) == 0x64616572);
  char block[64] = "all at once";
  __asm__ volatile(".byte 0x66, 0x0f, 0x38, 0xf8, 0x02" : : "a"(bar + 0x840), "d"(block) : "memory");
  CHECK(readl(bar + 0x840) == 0x206c6c61);
  return 0;
}`);
    const file = join(shop.folder, "recorded.jsonl");
    expect(execFileSync(process.execPath, [CLI, "run", "--record", file, "--", program], { encoding: "utf8" })).toBe("");
    const text = readFileSync(file, "utf8");
    expect(text).toContain('"op":"block"');
    const play = (): string => spawnSync(process.execPath, [CLI, "conform", file], { encoding: "utf8" }).stdout;
    expect(play()).toContain("1 passed, 0 failed");
    for (const [op, from, to] of [["peek", "72656164", "72656165"], ["block", Buffer.from("all").toString("hex"), Buffer.from("ALL").toString("hex")]]) {
      const changed = text.split("\n").map((line) => (line.includes(`"op":"${op}"`) ? line.replace(from, to) : line)).join("\n");
      writeFileSync(file, changed);
      expect(play()).toContain("0 passed, 1 failed");
    }
  });

  it("are not offered to a program that uses KVM, which would not trap", async () => {
    const body = `int main(void) {
  attach();
  struct vfio_region_info info = { .argsz = sizeof(info), .index = 0 };
  CHECK(ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info) == 0 && info.flags == 7);
  open("/dev/kvm", O_RDWR);
  CHECK(ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info) == 0 && info.flags == 3);
  CHECK(mmap(NULL, 0x1000, PROT_READ, MAP_SHARED, device, 0) == MAP_FAILED && errno == ENODEV);
  return 0;
}`;
    expect(await run("kvm", body)).toEqual({ code: 0, output: "" });
  });
});
