/** A device as a native program meets it: /sys, interrupts by eventfd, BARs in its memory. Needs a C compiler. */
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { CLI, compiler, DEVICE_C, doors, type Ended, Workshop } from "./native.js";

const DEVICE = `${DEVICE_C}#include <dirent.h>
#include <sys/eventfd.h>
#include <sys/sysmacros.h>
static int irqs(uint32_t index, uint32_t flags, uint32_t start, uint32_t count, const int *fds)
{
  char bytes[sizeof(struct vfio_irq_set) + 64] = { 0 };
  struct vfio_irq_set *set = (struct vfio_irq_set *)bytes;
  *set = (struct vfio_irq_set){ .argsz = sizeof(*set) + (fds ? 4 * count : 0), .flags = flags, .index = index, .start = start, .count = count };
  if (fds) memcpy(bytes + sizeof(*set), fds, 4 * count);
  return ioctl(device, VFIO_DEVICE_SET_IRQS, bytes);
}
static void put(uint32_t at, uint32_t value) { CHECK(pwrite(device, &value, 4, at) == 4); }
`;

describe.skipIf(compiler === undefined).each(doors)("a device through the %s door", (door) => {
  let shop: Workshop;
  beforeAll(() => void (shop = new Workshop()));
  afterAll(() => shop.close());

  const traps = door === "preload" && process.arch === "x64";
  const compile = (name: string, body: string): string => shop.compile(name, DEVICE + body, `-DTRAPS=${traps ? 1 : 0}`, ...(door === "seccomp" ? ["-static"] : []));
  const run = (program: string): Promise<Ended> => shop.run(program, { door });

  it("is found in /sys as on a real machine, and only it", async () => {
    const program = compile("sysfs", `int main(void) {
  int seen = 0;
  DIR *devices = opendir("/sys/bus/pci/devices");
  CHECK(devices);
  for (struct dirent *entry; (entry = readdir(devices)) != NULL;) {
    if (entry->d_name[0] == '.') continue;
    printf("device %s\\n", entry->d_name);
    seen++;
  }
  CHECK(seen == 2);
  char text[PATH_MAX];
  FILE *vendor = fopen("/sys/bus/pci/devices/0000:00:03.0/vendor", "r");
  CHECK(vendor && fgets(text, sizeof(text), vendor) && strcmp(text, "0x1d1d\\n") == 0);
  ssize_t length = readlink("/sys/bus/pci/devices/0000:00:03.0/iommu_group", text, sizeof(text) - 1);
  CHECK(length > 0);
  text[length] = 0;
  CHECK(strcmp(text, "../../../kernel/iommu_groups/0") == 0);
  CHECK(realpath("/sys/bus/pci/devices/0000:00:03.0/driver", text) && strcmp(text, "/sys/bus/pci/drivers/vfio-pci") == 0);
  CHECK(access("/sys/kernel/iommu_groups/1/devices/0000:00:04.0/config", F_OK) == 0);
  struct stat st;
  CHECK(stat("/sys/class/iommu/dmar0/intel-iommu/cap", &st) == 0 && S_ISREG(st.st_mode));
  CHECK(access("/sys/bus/pci/devices/0000:00:05.0", F_OK) == -1 && errno == ENOENT);
  /* QEMU compares the number of the node with that of the file. */
  int number = open("/sys/bus/pci/devices/0000:00:03.0/vfio-dev/vfio0/dev", O_RDONLY);
  unsigned int major_number, minor_number;
  length = read(number, text, sizeof(text) - 1);
  CHECK(length > 0 && sscanf(text, "%u:%u", &major_number, &minor_number) == 2);
  CHECK(stat("/dev/vfio/devices/vfio0", &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == makedev(major_number, minor_number));
  CHECK((devices = opendir("/dev/vfio/devices")) && readdir(devices));
  return 0;
}`);
    const { code, output } = await run(program);
    expect(output).toContain("device 0000:00:03.0\n");
    expect(code).toBe(0);
  });

  it("interrupts through eventfds, by itself and when it is told to", async () => {
    const program = compile("irqs", `int main(void) {
  attach();
  int events[2] = { eventfd(0, EFD_NONBLOCK), eventfd(0, EFD_NONBLOCK) };
  uint64_t value;
  CHECK(irqs(2, VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER, 0, 2, events) == 0);
  CHECK(irqs(2, VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER, 0, 1, NULL) == 0);
  CHECK(read(events[0], &value, 8) == 8 && value == 1);
  CHECK(read(events[1], &value, 8) == -1 && errno == EAGAIN);
  put(0x3c, 0x80000001); /* INTERRUPT: vector 1 */
  put(0x20, 9);          /* a bad command ends, too */
  CHECK(read(events[1], &value, 8) == 8 && value == 1);
  /* A counter that is full: nobody waits. */
  value = 0xfffffffffffffffe;
  CHECK(write(events[1], &value, 8) == 8);
  put(0x20, 9);
  CHECK(read(events[1], &value, 8) == 8 && value == 0xfffffffffffffffe);
  /* The device goes on with a descriptor that the program has closed. */
  close(events[1]);
  put(0x20, 9);
  CHECK(irqs(2, VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER, 0, 0, NULL) == 0);
  CHECK(irqs(2, VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER, 0, 1, &iommufd) == -1 && errno == EINVAL);
  return 0;
}`);
    const { code, output } = await run(program);
    expect(output).toBe("");
    expect(code).toBe(0);
  });

  it("has its memory BAR mapped, and its registers where they can trap", async () => {
    const program = compile("bars", `int main(void) {
  attach();
  struct vfio_region_info info = { .argsz = sizeof(info), .index = 2 };
  CHECK(ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info) == 0 && (info.flags & VFIO_REGION_INFO_FLAG_MMAP) && info.size == 0x10000);
  char *bar = mmap(NULL, 0x2000, PROT_READ | PROT_WRITE, MAP_SHARED, device, (off_t)info.offset + 0x1000);
  CHECK(bar != MAP_FAILED);
  strcpy(bar + 0x1000, "by mmap");
  char text[8];
  CHECK(pread(device, text, 8, (off_t)info.offset + 0x2000) == 8 && strcmp(text, "by mmap") == 0);
  CHECK(pwrite(device, "by call", 8, (off_t)info.offset + 0x1000) == 8 && strcmp(bar, "by call") == 0);
  /* iommufd does not pin memory of a device. */
  struct iommu_ioas_map map = { .size = sizeof(map), .flags = 7, .ioas_id = (uint32_t)ioas, .iova = 0x1000000, .length = 0x1000, .user_va = (uint64_t)(uintptr_t)bar };
  CHECK(ioctl(iommufd, IOMMU_IOAS_MAP, &map) == -1 && errno == EFAULT);
  CHECK(munmap(bar, 0x2000) == 0);
  info.index = 0;
  CHECK(ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info) == 0 && !(info.flags & VFIO_REGION_INFO_FLAG_MMAP) == !TRAPS);
  void *registers = mmap(NULL, 0x1000, PROT_READ, MAP_SHARED, device, 0);
  CHECK(TRAPS ? registers != MAP_FAILED : registers == MAP_FAILED && errno == ENODEV);
  struct { struct vfio_region_info info; uint16_t id, version; uint32_t next; } msix = { .info = { .argsz = sizeof(msix), .index = 4 } };
  CHECK(ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &msix.info) == 0 && msix.info.flags == (TRAPS ? 15 : 3));
  CHECK(!TRAPS || (msix.info.cap_offset == 32 && msix.id == VFIO_REGION_INFO_CAP_MSIX_MAPPABLE && msix.version == 1 && msix.next == 0));
  /* The MSI-X table is vfio's: it reads as ones and takes nothing. */
  uint32_t word = 1;
  CHECK(pwrite(device, &word, 4, REGION(4)) == 4 && pread(device, &word, 4, REGION(4)) == 4 && word == 0xffffffff);
  return 0;
}`);
    const { code, output } = await run(program);
    expect(output).toBe("");
    expect(code).toBe(0);
  });

  it("writes a register for an eventfd, and exports a BAR that an IOAS maps", async () => {
    const program = compile("events", `int main(void) {
  attach();
  int event = eventfd(0, 0); /* blocking: the door must not wait on it */
  struct vfio_device_ioeventfd e = { .argsz = sizeof(e), .flags = 4, .offset = 0x08, .data = 0x1234, .fd = event };
  CHECK(ioctl(device, VFIO_DEVICE_IOEVENTFD, &e) == 0);
  uint64_t one = 1;
  CHECK(write(event, &one, 8) == 8);
  uint32_t value = 0;
  for (int i = 0; i < 2000 && value != 0x1234; i++) { usleep(1000); CHECK(pread(device, &value, 4, 0x08) == 4); }
  CHECK(value == 0x1234);
  uint64_t request[5] = { 40 | (uint64_t)(VFIO_DEVICE_FEATURE_DMA_BUF | VFIO_DEVICE_FEATURE_GET) << 32, 2, 1ull << 32, 0, 0x2000 };
  int buffer = ioctl(device, VFIO_DEVICE_FEATURE, request);
  CHECK(buffer >= 0);
  struct iommu_ioas_map_file from = { .size = sizeof(from), .flags = 7, .ioas_id = (uint32_t)ioas, .fd = buffer, .length = 0x2000, .iova = 0x9000000 };
  CHECK(ioctl(iommufd, IOMMU_IOAS_MAP_FILE, &from) == 0 && close(buffer) == 0);
  CHECK(pwrite(device, "peer", 5, 0x800) == 5);
  put(0x10, 0x9001000); put(0x18, 5); put(0x20, 2); /* WRITE the buffer to the BAR */
  char text[8];
  CHECK(pread(device, text, 5, REGION(2) + 0x1000) == 5 && strcmp(text, "peer") == 0);
  return 0;
}`);
    expect(await run(program)).toEqual({ code: 0, output: "" });
  });

  it("is recorded, and the recording plays as it was", () => {
    const program = compile("recorded", `int main(void) {
  attach();
  char *memory = mmap(NULL, 0x200000, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(memory != MAP_FAILED);
  strcpy(memory + 0x1000, "hello, device");
  struct iommu_ioas_map map = { .size = sizeof(map), .flags = 7, .ioas_id = (uint32_t)ioas, .iova = 0x1000000, .length = 0x200000, .user_va = (uint64_t)(uintptr_t)memory };
  CHECK(ioctl(iommufd, IOMMU_IOAS_MAP, &map) == 0);
  map.user_va = 0x1000;
  map.iova = 0x8000000;
  CHECK(ioctl(iommufd, IOMMU_IOAS_MAP, &map) == -1 && errno == EFAULT);
  int file = memfd_create("file", 0);
  CHECK(ftruncate(file, 0x3000) == 0 && pwrite(file, "of a file", 10, 0x2000) == 10);
  struct iommu_ioas_map_file from = { .size = sizeof(from), .flags = 7, .ioas_id = (uint32_t)ioas, .fd = file, .start = 0x1000, .length = 0x2000, .iova = 0x9000000 };
  CHECK(ioctl(iommufd, IOMMU_IOAS_MAP_FILE, &from) == 0);
  put(0x08, 0x1001000); put(0x10, 0x1003000); put(0x18, 14); put(0x20, 3); /* COPY memory to memory */
  CHECK(strcmp(memory + 0x3000, "hello, device") == 0);
  put(0x08, 0x9001000); put(0x20, 1); /* READ of the file */
  char text[16];
  CHECK(pread(device, text, 10, 0x800) == 10 && strcmp(text, "of a file") == 0);
  int event = eventfd(0, EFD_NONBLOCK);
  CHECK(irqs(1, VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER, 0, 1, &event) == 0);
  struct iommu_ioas_iova_ranges ranges = { .size = sizeof(ranges), .ioas_id = (uint32_t)ioas };
  CHECK(ioctl(iommufd, IOMMU_IOAS_IOVA_RANGES, &ranges) == -1 && errno == EMSGSIZE);
  struct iommu_iova_range list[4];
  ranges.allowed_iovas = (uint64_t)(uintptr_t)list;
  CHECK(ioctl(iommufd, IOMMU_IOAS_IOVA_RANGES, &ranges) == 0);
  CHECK(ioctl(iommufd, IOMMU_IOAS_IOVA_RANGES, (void *)8) == -1 && errno == EFAULT);
  struct iommu_fault_alloc faults = { .size = sizeof(faults) };
  CHECK(ioctl(iommufd, IOMMU_FAULT_QUEUE_ALLOC, &faults) == 0 && close((int)faults.out_fault_fd) == 0);
  struct iommu_destroy destroy = { .size = sizeof(destroy), .id = faults.out_fault_id };
  CHECK(ioctl(iommufd, IOMMU_DESTROY, &destroy) == 0);
  return 0;
}`);
    const file = join(shop.folder, "recorded.jsonl");
    const output = execFileSync(process.execPath, [CLI, "run", "--door", door, "--record", file, "--", program], { encoding: "utf8" });
    expect(output).toBe("");
    const text = readFileSync(file, "utf8");
    expect(text).toContain('"name":"IOMMU_IOAS_MAP_FILE"');
    expect(execFileSync(process.execPath, [CLI, "conform", file], { encoding: "utf8" })).toContain("1 passed, 0 failed");
    // What the device read is part of it.
    writeFileSync(file, text.replace(Buffer.from("hello").toString("hex"), Buffer.from("HELLO").toString("hex")));
    expect(spawnSync(process.execPath, [CLI, "conform", file], { encoding: "utf8" }).stdout).toContain("0 passed, 1 failed");
  });

  it("leaves no folder behind, even when the door is killed", async () => {
    const program = compile("wait", 'int main(void) { char byte; puts("ready"); fflush(stdout); return (int)read(0, &byte, 1); }');
    const temporary = join(shop.folder, "temporary");
    mkdirSync(temporary, { recursive: true });
    const child = spawn(process.execPath, [CLI, "run", "--door", door, "--", program], { stdio: ["pipe", "pipe", "ignore"], env: { ...process.env, TMPDIR: temporary } });
    await new Promise((resolve) => child.stdout.once("data", resolve));
    const trees = (): string[] => readdirSync(temporary);
    expect(trees().map((name) => existsSync(join(temporary, name, "sys/bus/pci/devices/0000:00:03.0")))).toEqual([true]);
    child.kill("SIGKILL");
    for (let i = 0; i < 200 && trees().length > 0; i++) await new Promise((resolve) => setTimeout(resolve, 25));
    expect(trees()).toEqual([]);
    child.stdin.end();
  });
});
