/**
 * The filter that sends system calls to the door (seccomp(2), classic BPF). It sees numbers only: paths are sorted out by the
 * door, descriptors by their number. What the door has no part in costs a client these few instructions.
 */
import { AT_EMPTY_PATH, type CallName, F_DUPFD, F_DUPFD_CLOEXEC, FIRST_FD, IOCTL_TYPE, MAP_ANONYMOUS, MAP_HUGETLB, MFD_HUGETLB, OWN_CALL, SYS } from "./syscalls.js";

/** A condition on one argument's low or high half; every one of a rule has to hold. */
interface Condition {
  readonly argument: number;
  readonly high?: boolean;
  /** After this mask. */
  readonly mask?: number;
  readonly is: "==" | "!=" | ">=";
  readonly value: number;
}

interface Rule {
  readonly calls: readonly CallName[];
  /** Alternatives; none: always. */
  readonly when: readonly (readonly Condition[])[];
}

/** A number from `FIRST_FD` on; negative ones are none. */
const fakeFd = (argument: number): readonly Condition[] => [
  { argument, is: ">=", value: FIRST_FD },
  { argument, mask: 0x8000_0000, is: "==", value: 0 },
];
const has = (argument: number, mask: number): Condition => ({ argument, mask, is: "!=", value: 0 });
const lacks = (argument: number, mask: number): Condition => ({ argument, mask, is: "==", value: 0 });
/** Of mmap: the door itself makes it in the client. */
const notOurs: Condition = { argument: 4, high: true, is: "!=", value: OWN_CALL };

const ATTRIBUTE_BYTES = 64;

const RULES: readonly Rule[] = [
  // By path.
  { calls: ["open", "creat", "openat", "openat2", "stat", "lstat", "access", "faccessat", "faccessat2", "readlink", "readlinkat"], when: [] },
  { calls: ["newfstatat"], when: [[lacks(3, AT_EMPTY_PATH)], fakeFd(0)] },
  { calls: ["statx"], when: [[lacks(2, AT_EMPTY_PATH)], fakeFd(0)] },
  // By any number: copies of a descriptor may have low ones.
  { calls: ["ioctl"], when: [[{ argument: 1, mask: 0xff00, is: "==", value: IOCTL_TYPE << 8 }]] },
  { calls: ["pread64", "pwrite64", "preadv", "pwritev", "preadv2", "pwritev2"], when: [] },
  { calls: ["mmap"], when: [[has(3, MAP_HUGETLB), notOurs], [lacks(3, MAP_ANONYMOUS), notOurs]] },
  // By a high number: these are too common to look at each.
  { calls: ["read", "readv", "writev", "fstat", "dup"], when: [fakeFd(0)] },
  // A shell's redirection makes an attribute of /sys standard output, and what is written there is short.
  { calls: ["write"], when: [fakeFd(0), [{ argument: 0, is: "==", value: 1 }, { argument: 2, mask: ~(ATTRIBUTE_BYTES - 1) >>> 0, is: "==", value: 0 }]] },
  { calls: ["fcntl"], when: [F_DUPFD, F_DUPFD_CLOEXEC].map((value) => [...fakeFd(0), { argument: 1, is: "==", value }]) },
  { calls: ["memfd_create"], when: [[has(1, MFD_HUGETLB)]] },
];

const AUDIT_ARCH_X86_64 = 0xc000_003e;
const ALLOW = 0x7fff_0000;
const USER_NOTIF = 0x7fc0_0000;
/** Offsets in struct seccomp_data. */
const DATA = { nr: 0, arch: 4, args: 16 } as const;
/** BPF opcodes: LD|W|ABS, ALU|AND|K, JMP|JEQ|K, JMP|JGE|K, RET|K. */
const OP = { load: 0x20, and: 0x54, jeq: 0x15, jge: 0x35, ret: 0x06 } as const;

/** struct sock_filter. */
interface Instruction {
  readonly code: number;
  readonly jt: number;
  readonly jf: number;
  readonly k: number;
}

const statement = (code: number, k: number): Instruction => ({ code, jt: 0, jf: 0, k });

/** Falls through when the condition holds, else jumps over `skip` instructions. */
function test(condition: Condition, skip: number): Instruction[] {
  const { argument, high, mask, is, value } = condition;
  const code: Instruction[] = [statement(OP.load, DATA.args + 8 * argument + (high ? 4 : 0))];
  if (mask !== undefined) code.push(statement(OP.and, mask));
  const op = is === ">=" ? OP.jge : OP.jeq;
  code.push(is === "!=" ? { code: op, jt: skip, jf: 0, k: value } : { code: op, jt: 0, jf: skip, k: value });
  return code;
}

/** Notifies when all conditions hold, else goes on behind it. */
function alternative(conditions: readonly Condition[]): Instruction[] {
  return conditions.reduceRight<Instruction[]>((rest, condition) => [...test(condition, rest.length), ...rest], [statement(OP.ret, USER_NOTIF)]);
}

function rule({ calls, when }: Rule): Instruction[] {
  const body = when.length === 0 ? [statement(OP.ret, USER_NOTIF)] : [...when.flatMap(alternative), statement(OP.ret, ALLOW)];
  // A match jumps over the other comparisons into the body, no match over all of it.
  const compare = calls.map((name, i) => ({
    code: OP.jeq, k: SYS[name], jt: calls.length - 1 - i, jf: i === calls.length - 1 ? body.length : 0,
  }));
  return [...compare, ...body];
}

/** Bytes of the program, eight an instruction. */
export function filterProgram(): Uint8Array {
  const program: Instruction[] = [
    statement(OP.load, DATA.arch),
    { code: OP.jeq, jt: 1, jf: 0, k: AUDIT_ARCH_X86_64 },
    statement(OP.ret, ALLOW),
    statement(OP.load, DATA.nr),
    ...RULES.flatMap(rule),
    statement(OP.ret, ALLOW),
  ];
  const view = new DataView(new ArrayBuffer(program.length * 8));
  for (const [i, { code, jt, jf, k }] of program.entries()) {
    view.setUint16(i * 8, code, true);
    view.setUint8(i * 8 + 2, jt);
    view.setUint8(i * 8 + 3, jf);
    view.setUint32(i * 8 + 4, k, true);
  }
  return new Uint8Array(view.buffer);
}
