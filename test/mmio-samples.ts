/**
 * Instructions that touch memory, as the assembler writes them. "@" is the page; rbx, rbp, r12 and r13 point into its middle, rsi and rdi to other
 * parts of it, r9 and rcx are 0 to 7, r10 is a bit number; `plain` is other memory.
 */
export interface Sample {
  readonly text: string;
  /** What the CPU must have, as __builtin_cpu_supports names it. */
  readonly needs?: "avx2" | "avx512vl" | "avx512bw" | "movbe" | "clwb" | "clflushopt";
}

const SIZES = ["b", "w", "l", "q"] as const;
const REGISTERS: Readonly<Record<string, readonly string[]>> = { b: ["%al", "%dh", "%sil", "%r11b"], w: ["%dx", "%r14w"], l: ["%eax", "%r8d"], q: ["%rdx", "%r15"] };
const WIDE = ["w", "l", "q"] as const;
const CONDITIONS = ["o", "no", "b", "ae", "e", "ne", "be", "a", "s", "ns", "p", "np", "l", "ge", "le", "g"];

const each = (list: readonly string[], line: (entry: string) => readonly string[]): string[] => list.flatMap((entry) => line(entry));
/** One line for each size and register. */
const sized = (sizes: readonly string[], line: (suffix: string, register: string) => readonly string[]): string[] => each(sizes, (s) => each(REGISTERS[s], (r) => line(s, r)));

const general: string[] = [
  ...each(["add", "or", "adc", "sbb", "and", "sub", "xor", "cmp"], (op) => [
    ...sized(SIZES, (s, r) => [`${op}${s} ${r}, 3(%rbx)`, `${op}${s} 16(%rbx), ${r}`]),
    ...SIZES.map((s) => `${op}${s} $0x5a, (%rbx)`),
    ...SIZES.map((s) => `${op}${s} $-3, (%rbx)`),
    `${op}w $0x1234, (%rbx)`,
    `${op}l $0x12345678, (%rbx)`,
    `${op}q $-0x1234567, (%rbx)`,
  ]),
  ...each(["add", "or", "adc", "sbb", "and", "sub", "xor"], (op) => [`lock ${op}l %edx, (%rbx)`, `lock ${op}q $1, 8(%rbx)`]),
  ...sized(SIZES, (s, r) => [`test${s} ${r}, 16(%rbx)`]),
  ...SIZES.map((s) => `test${s} $0x41, 16(%rbx)`),
  "testl $0x80000000, 16(%rbx)",
  ...each(["not", "neg", "inc", "dec"], (op) => SIZES.flatMap((s) => [`${op}${s} 16(%rbx)`, `lock ${op}${s} 16(%rbx)`])),
  ...each(["rol", "ror", "rcl", "rcr", "shl", "shr", "sar"], (op) => SIZES.flatMap((s) => [`${op}${s} $3, 16(%rbx)`, `${op}${s} 16(%rbx)`, `${op}${s} %cl, 16(%rbx)`])),
  ...each(["bt", "bts", "btr", "btc"], (op) => [
    ...WIDE.flatMap((s) => [`${op}${s} $5, 16(%rbx)`, `${op}${s} $0x4d, 16(%rbx)`]),
    `${op}w %r10w, (%rbx)`, `${op}l %r10d, (%rbx)`, `${op}q %r10, (%rbx)`,
  ]),
  ...sized(WIDE, (s, r) => [`imul${s} 16(%rbx), ${r}`, `imul${s} $100, 16(%rbx), ${r}`, `imul${s} $-12345, 16(%rbx), ${r}`]),
  ...sized(SIZES, (s, r) => [`xchg${s} ${r}, 16(%rbx)`, `xadd${s} ${r}, 16(%rbx)`, `lock xadd${s} ${r}, 16(%rbx)`, `cmpxchg${s} ${r}, 16(%rbx)`, `lock cmpxchg${s} ${r}, 16(%rbx)`]),
  ...sized(SIZES, (s, r) => [`mov${s} ${r}, 3(%rbx)`, `mov${s} 16(%rbx), ${r}`]),
  "movb $0x7f, (%rbx)", "movw $0x1234, (%rbx)", "movl $0x12345678, (%rbx)", "movq $-5, (%rbx)", "movl $0, (%rbx)",
  "movabs @+8, %al", "movabs @+8, %ax", "movabs @+8, %eax", "movabs @+8, %rax", "movabs %al, @+8", "movabs %ax, @+8", "movabs %eax, @+8", "movabs %rax, @+8",
  "movnti %eax, 16(%rbx)", "movnti %r15, 16(%rbx)",
  "movzbw 16(%rbx), %dx", "movzbl 16(%rbx), %edx", "movzbq 16(%rbx), %r8", "movzwl 16(%rbx), %edx", "movzwq 16(%rbx), %r8",
  "movsbw 16(%rbx), %dx", "movsbl 16(%rbx), %edx", "movsbq 16(%rbx), %r8", "movswl 16(%rbx), %edx", "movswq 16(%rbx), %r8", "movslq 16(%rbx), %r8",
  ...each(CONDITIONS, (c) => [`cmov${c}w 16(%rbx), %dx`, `cmov${c}l 16(%rbx), %edx`, `cmov${c}q 16(%rbx), %r14`, `set${c} 16(%rbx)`]),
  "pushq 16(%rbx); popq %r11", "pushw 16(%rbx); popw %r11w",
  "clflush 16(%rbx)",
];

const addresses: string[] = [
  "movl (%rbp), %eax", "movl (%r13), %eax", "movl (%r12), %eax", "movl -64(%r12), %eax", "movl 0x280(%rbx), %eax", "movl -0x300(%r13), %eax",
  "movl (%rbx,%r9), %eax", "movl 4(%rbx,%r9,2), %eax", "movl -4(%r12,%r9,4), %eax", "movl 0x200(%r13,%rcx,8), %eax", "movl (%rbp,%rcx,8), %eax",
  "movl @+16(,%r9,8), %eax", "movl @+16, %eax", "movl 8(%ebx), %eax", "movl 8(%ebx,%r9d,4), %eax", "movl @+16(%eip), %eax",
  "movl @+24(%rip), %r15d", "movl $0x12345678, @+24(%rip)", "movb $0x12, @+24(%rip)", "movw $0x1234, @+24(%rip)", "addl $1, @+24(%rip)", "testl $0x1000, @+24(%rip)",
  "movups @+32(%rip), %xmm5", "imull $1000, @+24(%rip), %eax", "ds movl 8(%rbx), %eax",
];

const strings: string[] = [
  ...SIZES.flatMap((s) => [`movs${s}`, `rep movs${s}`, `stos${s}`, `rep stos${s}`, `lods${s}`, `rep lods${s}`, `std; rep movs${s}; cld`, `std; rep stos${s}; cld`]),
  ...SIZES.flatMap((s) => [`leaq plain+32(%rip), %rdi; rep movs${s}`, `leaq plain+32(%rip), %rsi; rep movs${s}`]),
  "movl $700, %ecx; leaq @(%rip), %rsi; leaq plain(%rip), %rdi; rep movsb", "movl $900, %ecx; leaq plain(%rip), %rsi; leaq @(%rip), %rdi; rep movsb",
  "movl $300, %ecx; leaq 1(%rsi), %rdi; rep movsb", "movl $300, %ecx; leaq 24(%rsi), %rdi; rep movsb", "movl $100, %ecx; movq %rsi, %rdi; rep movsb", "movl $200, %ecx; leaq -1(%rsi), %rdi; rep movsw",
  "rep movsl (%esi), (%edi)",
];

const sse: string[] = [
  ...each(["movups", "movaps", "movupd", "movapd", "movdqu", "movdqa"], (op) => [`${op} 16(%rbx), %xmm0`, `${op} 16(%rbx), %xmm9`, `${op} %xmm3, 16(%rbx)`, `${op} %xmm15, 16(%rbx)`]),
  "lddqu 16(%rbx), %xmm4", "movntdqa 16(%rbx), %xmm10", "movntps %xmm1, 16(%rbx)", "movntpd %xmm1, 16(%rbx)", "movntdq %xmm11, 16(%rbx)",
  ...each(["movss", "movsd", "movlps", "movhps", "movlpd", "movhpd", "movq"], (op) => [`${op} 16(%rbx), %xmm2`, `${op} 16(%rbx), %xmm12`, `${op} %xmm2, 16(%rbx)`, `${op} %xmm12, 16(%rbx)`]),
  "movd 16(%rbx), %xmm6", "movd %xmm14, 16(%rbx)", ".byte 0x66,0x48,0x0f,0x6e,0x73,0x10", ".byte 0x66,0x4c,0x0f,0x7e,0x73,0x10",
];

const avx: string[] = [
  ...each(["vmovups", "vmovaps", "vmovupd", "vmovapd", "vmovdqu", "vmovdqa"], (op) => each(["%xmm3", "%ymm2", "%ymm13"], (r) => [`${op} 32(%rbx), ${r}`, `${op} ${r}, 32(%rbx)`, `{vex3} ${op} 32(%r12,%r9,8), ${r}`.replace("vmovaps", "vmovups").replace("vmovapd", "vmovupd").replace("vmovdqa", "vmovdqu")])),
  "vlddqu 16(%rbx), %ymm4", "vmovntdqa 32(%rbx), %ymm10", "vmovntps %ymm1, 32(%rbx)", "vmovntdq %ymm11, 32(%rbx)",
  ...each(["vmovss", "vmovsd", "vmovq"], (op) => [`${op} 16(%rbx), %xmm2`, `${op} 16(%rbx), %xmm12`, `${op} %xmm12, 16(%rbx)`]),
  ...each(["vmovlps", "vmovhps", "vmovlpd", "vmovhpd"], (op) => [`${op} 16(%rbx), %xmm7, %xmm2`, `${op} %xmm12, 16(%rbx)`]),
  "vmovd 16(%rbx), %xmm6", "vmovd %xmm14, 16(%rbx)",
];

const evex: string[] = [
  ...each(["vmovdqu64", "vmovdqu32", "vmovdqa64", "vmovdqa32", "vmovups", "vmovapd"], (op) =>
    each(["%xmm17", "%ymm18", "%ymm31", "%zmm3", "%zmm29"], (r) => [`${op} (%rbx), ${r}`, `${op} 64(%rbx), ${r}`, `${op} -128(%rbx), ${r}`, `${op} 0x200(%r12), ${r}`, `${op} ${r}, 64(%rbx)`, `${op} ${r}, (%rbx,%r14,8)`.replace("%r14", "%rax")].filter((line) => !line.includes("%rax")))),
  "vmovntdq %zmm20, 64(%rbx)", "vmovntdqa 64(%rbx), %zmm21", "vmovntps %ymm22, 64(%rbx)", "{evex} vmovdqu64 8(%rbx), %ymm1", "vmovdqu64 8(%rbx,%r9), %zmm30",
  "vmovss 4(%rbx), %xmm20", "vmovsd 8(%rbx), %xmm21", "vmovss %xmm20, 4(%rbx)", "vmovsd %xmm21, 8(%rbx)", "vmovd 4(%rbx), %xmm22", "vmovq 8(%rbx), %xmm23", "vmovd %xmm22, 4(%rbx)", "vmovq %xmm23, 8(%rbx)",
  "vmovhps 8(%rbx), %xmm18, %xmm19", "vmovlpd 8(%rbx), %xmm18, %xmm19", "vmovhpd %xmm25, 8(%rbx)",
];

/** Done natively and by the decoder: both must end with the same registers, flags and memory. */
export const SAMPLES: readonly Sample[] = [
  ...[...general, ...addresses, ...strings, ...sse].map((text) => ({ text })),
  ...["w %dx", "l %edx", "q %r15"].flatMap((operand): Sample[] => [
    { text: `movbe${operand.replace(" ", " 16(%rbx), ")}`, needs: "movbe" },
    { text: `movbe${operand}, 16(%rbx)`, needs: "movbe" },
  ]),
  { text: "clflushopt 16(%rbx)", needs: "clflushopt" },
  { text: "clwb 16(%rbx)", needs: "clwb" },
  ...avx.map((text): Sample => ({ text, needs: "avx2" })),
  ...evex.map((text): Sample => ({ text, needs: "avx512vl" })),
  ...each(["%xmm17", "%ymm2", "%zmm29"], (r) => ["vmovdqu64", "vmovdqu32", "vmovups", "vmovapd", "vmovdqu8", "vmovdqu16"].flatMap((op) => [`${op} 64(%rbx), ${r}{%k1}`, `${op} 64(%rbx), ${r}{%k7}{z}`, `${op} ${r}, 64(%rbx){%k3}`])).map(
    (text): Sample => ({ text, needs: "avx512bw" }),
  ),
  ...["vmovdqu8 64(%rbx), %ymm17", "vmovdqu8 %zmm17, 64(%rbx)", "vmovdqu16 64(%rbx), %zmm18", "vmovdqu16 %xmm18, 64(%rbx)"].map((text): Sample => ({ text, needs: "avx512bw" })),
];

/** Nothing here does these. */
export const UNKNOWN: readonly string[] = [
  "movl %fs:16(%rbx), %eax", "movl %gs:0, %eax", "fildl (%rbx)", "mull (%rbx)", "divl (%rbx)", "call *(%rbx)", "jmp *(%rbx)", "vpaddd (%rbx), %ymm1, %ymm2", "paddd (%rbx), %xmm2",
  "crc32b (%rbx), %eax", "popcntl (%rbx), %eax", "cmpxchg16b (%rbx)", "vmovss (%rbx), %xmm1{%k1}", "vpaddd (%rbx){1to16}, %zmm1, %zmm2", "movl %eax, %ebx", "movq (%rbx), %mm1",
  "movshdup (%rbx), %xmm1", "movddup (%rbx), %xmm1", "repne scasb", "fxsave (%rbx)", "ldmxcsr (%rbx)", "shldl $3, %eax, (%rbx)", "ud2", "prefetcht0 (%rbx)", "sete %al",
];
