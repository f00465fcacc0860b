/** What only the seccomp door does: no libc between it and the program. Needs a C compiler and x86-64. */
import { spawnSync } from "node:child_process";
import { chmodSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { C, CLI, compiler, doors, machineOf, slowed, Workshop } from "./native.js";

describe.skipIf(compiler === undefined || !doors.includes("seccomp"))("the seccomp door", () => {
  let shop: Workshop;
  beforeAll(() => void (shop = new Workshop()));
  afterAll(() => shop.close());

  const both = async (name: string, body: string): Promise<void> => {
    for (const flags of [["-static"], []]) {
      const program = shop.compile(name, C + body, ...flags);
      expect(await shop.run(program, { door: "seccomp" }), flags.join()).toEqual({ code: 0, output: "" });
    }
  };

  it("answers raw system calls", async () => {
    await both("raw", `int main(void) {
  long fd = syscall(SYS_open, "/dev/iommu", O_RDWR), other = syscall(SYS_openat, AT_FDCWD, "/dev/iommu", O_RDWR | O_CLOEXEC);
  uint64_t how[3] = { O_RDWR, 0, 0 };
  long third = syscall(SYS_openat2, AT_FDCWD, "/dev/iommu", how, sizeof(how));
  CHECK(fd >= 700 && other >= 700 && third >= 700);
  CHECK(fcntl((int)fd, F_GETFD) == 0 && fcntl((int)other, F_GETFD) == FD_CLOEXEC);
  CHECK(alloc((int)fd) == 1 && alloc((int)other) == 1 && alloc((int)third) == 1);
  struct stat st;
  CHECK(fstat((int)fd, &st) == 0 && S_ISCHR(st.st_mode) && stat("/dev/iommu", &st) == 0 && S_ISCHR(st.st_mode));
  struct statx sx;
  CHECK(statx(AT_FDCWD, "/dev/iommu", 0, STATX_BASIC_STATS, &sx) == 0 && S_ISCHR(sx.stx_mode) && sx.stx_rdev_major == 10);
  CHECK(statx((int)fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &sx) == 0 && S_ISCHR(sx.stx_mode));
  CHECK(syscall(SYS_access, "/dev/vfio/devices/vfio0", R_OK) == 0 && syscall(SYS_faccessat2, AT_FDCWD, "/dev/vfio/devices/vfio9", R_OK, 0) == -1 && errno == ENOENT);
  struct iovec parts[2] = { { &st, 2 }, { (char *)&st + 2, 2 } };
  int device = open("/dev/vfio/devices/vfio0", O_RDWR);
  struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind), .iommufd = (int)fd };
  CHECK(ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, &bind) == 0);
  uint16_t id[2];
  CHECK(pread(device, id, 4, 7L << 40) == 4 && preadv(device, parts, 2, 7L << 40) == 4 && memcmp(id, &st, 4) == 0 && id[0] == 0x1d1d);
  return 0;
}`);
  });

  it("stores nothing in memory that is read-only, and undoes the call", async () => {
    await both("readonly", `int main(void) {
  int fd = open("/dev/iommu", O_RDWR);
  struct iommu_ioas_alloc *a = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  a->size = sizeof(*a);
  mprotect(a, 4096, PROT_READ);
  CHECK(ioctl(fd, IOMMU_IOAS_ALLOC, a) == -1 && errno == EFAULT && a->out_ioas_id == 0);
  struct iommu_destroy destroy = { .size = sizeof(destroy), .id = 1 };
  CHECK(ioctl(fd, IOMMU_DESTROY, &destroy) == -1 && errno == ENOENT);
  return 0;
}`);
  });

  it("does not run a call again that a signal meets, as Go's scheduler sends them", async () => {
    const program = shop.compile("signals", `${C}static volatile sig_atomic_t seen;
static void handler(int number) { (void)number; seen++; }
static volatile int done;
static pthread_t worker;
static void *nag(void *unused) { while (!done) pthread_kill(worker, SIGURG); return unused; }
int main(void) {
  struct sigaction action = { .sa_handler = handler, .sa_flags = SA_RESTART };
  sigaction(SIGURG, &action, NULL);
  worker = pthread_self();
  int fd = open("/dev/iommu", O_RDWR);
  pthread_t thread;
  pthread_create(&thread, NULL, nag, NULL);
  for (int i = 0; i < 100; i++) {
    struct iommu_destroy destroy = { .size = sizeof(destroy), .id = (uint32_t)alloc(fd) };
    CHECK(destroy.id == 1);
    /* What is gone cannot be destroyed again. */
    CHECK(ioctl(fd, IOMMU_DESTROY, &destroy) == 0);
  }
  done = 1;
  pthread_join(thread, NULL);
  CHECK(seen > 10);
  return 0;
}`, "-static");
    expect(await shop.run(program, { door: "seccomp", nodes: slowed(machineOf().nodes, 300) })).toEqual({ code: 0, output: "" });
  });

  it("knows copies of a descriptor: low numbers, by SCM_RIGHTS, over vfork and exec", async () => {
    await both("copies", `static int pass(int fd) {
  int pair[2];
  CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
  char byte = 0, room[CMSG_SPACE(sizeof(int))] = { 0 };
  struct iovec part = { &byte, 1 };
  struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof(room) };
  struct cmsghdr *head = CMSG_FIRSTHDR(&message);
  head->cmsg_level = SOL_SOCKET;
  head->cmsg_type = SCM_RIGHTS;
  head->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(head), &fd, sizeof(int));
  CHECK(sendmsg(pair[0], &message, 0) == 1);
  close(fd);
  CHECK(recvmsg(pair[1], &message, 0) == 1);
  memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(int));
  close(pair[0]);
  close(pair[1]);
  return fd;
}
int main(int argc, char **argv) {
  if (argc > 1) return alloc(atoi(argv[1])) == 5 ? 0 : 1;
  int fd = open("/dev/iommu", O_RDWR);
  CHECK(alloc(fd) == 1);
  CHECK(dup2(fd, 50) == 50 && alloc(50) == 2 && dup(fd) >= 700 && fcntl(fd, F_DUPFD, 10) >= 700 && fcntl(fd, F_DUPFD_CLOEXEC, 900) >= 900);
  close(fd);
  fd = pass(50);
  CHECK(fd < 700 && alloc(fd) == 3);
  int device = open("/dev/vfio/devices/vfio0", O_RDWR);
  struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind), .iommufd = fd };
  CHECK(ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, &bind) == 0);
  device = pass(device);
  uint16_t id = 0;
  CHECK(device < 700 && pread(device, &id, 2, 7L << 40) == 2 && id == 0x1d1d);
  struct vfio_region_info info = { .argsz = sizeof(info), .index = 2 };
  CHECK(ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info) == 0);
  char *bar = mmap(NULL, 0x1000, PROT_READ | PROT_WRITE, MAP_SHARED, device, (off_t)info.offset);
  CHECK(bar != MAP_FAILED);
  strcpy(bar, "by a copy");
  char text[10];
  uint16_t command = 2;
  CHECK(pwrite(device, &command, 2, (7L << 40) + 4) == 2 && pread(device, text, 10, (off_t)info.offset) == 10 && strcmp(text, "by a copy") == 0);
  char number[16];
  snprintf(number, sizeof(number), "%d", fd);
  if (vfork() == 0) {
    execl(argv[0], argv[0], number, NULL);
    _exit(9);
  }
  int status;
  wait(&status);
  CHECK(status == 0);
  return 0;
}`);
  });

  it("gives huge pages where the system has none, and leaves registers and signals as they were", async () => {
    await both("huge", `int main(void) {
  size_t size = 4 << 20;
  char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
  CHECK(memory != MAP_FAILED && ((uintptr_t)memory & ((2 << 20) - 1)) == 0);
  memset(memory, 1, size);
  CHECK(munmap(memory, size) == 0);
  sigset_t set;
  CHECK(sigprocmask(SIG_BLOCK, NULL, &set) == 0 && !sigismember(&set, SIGTERM) && !sigismember(&set, SIGURG));
  register long r12 __asm__("r12") = 0x1234, r9 __asm__("r9") = 0, r8 __asm__("r8") = -1, r10 __asm__("r10") = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB;
  long result = SYS_mmap;
  __asm__ volatile("syscall" : "+a"(result), "+r"(r8), "+r"(r9), "+r"(r10), "+r"(r12) : "D"(0L), "S"(size), "d"(3L) : "rcx", "r11", "memory");
  CHECK(result > 0 && r8 == -1 && r9 == 0 && r12 == 0x1234 && r10 == (MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB));
  int file = (int)syscall(SYS_memfd_create, "huge", 4);
  CHECK(file >= 0 && ftruncate(file, (off_t)size) == 0);
  CHECK(mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0) != MAP_FAILED);
  return 0;
}`);
  });

  it("holds a device as long as one of its BARs is mapped, in whatever process", async () => {
    await both("held", `static int attach(int iommufd) {
  int device = open("/dev/vfio/devices/vfio0", O_RDWR);
  struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind), .iommufd = iommufd };
  if (ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, &bind) == 0) return device;
  int code = errno;
  close(device);
  return -code;
}
int main(void) {
  int iommufd = open("/dev/iommu", O_RDWR), device = attach(iommufd), ready[2], go[2];
  CHECK(device > 0 && pipe(ready) == 0 && pipe(go) == 0);
  struct vfio_region_info info = { .argsz = sizeof(info), .index = 2 };
  CHECK(ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info) == 0);
  char *bar = mmap(NULL, 0x2000, PROT_READ | PROT_WRITE, MAP_SHARED, device, (off_t)info.offset);
  CHECK(bar != MAP_FAILED);
  char byte = 1;
  if (fork() == 0) {
    close(device);
    close(go[1]);
    if (write(ready[1], &byte, 1) != 1 || read(go[0], &byte, 1) != 0) _exit(1);
    _exit(0);
  }
  CHECK(read(ready[0], &byte, 1) == 1);
  close(device);
  CHECK(attach(iommufd) == -EINVAL || attach(iommufd) == -EBUSY);
  CHECK(munmap(bar, 0x2000) == 0);
  CHECK(attach(iommufd) < 0); /* the child's */
  close(go[1]);
  wait(NULL);
  CHECK(attach(iommufd) > 0);
  return 0;
}`);
  });

  it("says that a process is allowed no descriptor", async () => {
    await both("limit", `int main(void) {
  struct rlimit limit = { 256, 256 };
  CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
  CHECK(open("/dev/iommu", O_RDWR) == -1 && errno == EMFILE);
  CHECK(open("/dev/null", O_RDWR) >= 0);
  return 0;
}`);
  });

  it("works for a user without any rights", () => {
    if (process.getuid?.() !== 0) return;
    const program = shop.compile("nobody", `${C}int main(void) {
  int fd = open("/dev/iommu", O_RDWR);
  CHECK(geteuid() == 65534 && alloc(fd) == 1);
  CHECK(mmap(NULL, 2 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0) != MAP_FAILED);
  return 0;
}`, "-static");
    chmodSync(shop.folder, 0o755);
    const { status, stderr } = spawnSync(process.execPath, [CLI, "run", "--door", "seccomp", "--", program], { encoding: "utf8", uid: 65534, gid: 65534, env: { PATH: process.env.PATH } });
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  });

  it("says why it cannot be had, and ends with 2", () => {
    // Inside a program that runs through it already.
    const inner = [process.execPath, CLI, "run", "--door", "seccomp", "--", "/bin/true"];
    const { status, stderr } = spawnSync(process.execPath, [CLI, "run", "--door", "seccomp", "--", ...inner], { encoding: "utf8" });
    expect(stderr).toContain("another seccomp listener");
    expect(status).toBe(2);
    const unknown = spawnSync(process.execPath, [CLI, "run", "--door", "fuse", "--", "/bin/true"], { encoding: "utf8" });
    expect(unknown.stderr).toContain("no such door: fuse");
    expect(unknown.status).toBe(2);
  });

  it("keeps a program alive whose children outlive it, and says EIO to them", async () => {
    const program = shop.compile("daemon", `${C}int main(void) {
  int fd = open("/dev/iommu", O_RDWR);
  CHECK(alloc(fd) == 1);
  if (fork() > 0) return 7;
  int answer;
  for (int i = 0; i < 5000 && (answer = alloc(fd)) > 0; i++) usleep(1000);
  printf("%d %d\\n", answer == -EIO, open("/dev/null", O_RDONLY) >= 0);
  return 0;
}`, "-static");
    const { status, stdout } = spawnSync(process.execPath, [CLI, "run", "--door", "seccomp", "--", program], { encoding: "utf8" });
    expect({ status, stdout }).toEqual({ status: 7, stdout: "1 1\n" });
  });
});
