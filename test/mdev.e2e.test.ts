/** Software mdevs as a native program uses them, through both doors: made by a shell, driven by C. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { MdevDriver } from "@iommukit/core";
import { copyDriver, serialDriver } from "@iommukit/mdev";
import { C, compiler, doors, type Ended, machineWithMdevs, Workshop } from "./native.js";

const SERIAL = "83b8f4f2-509f-382f-3c1e-e6bfe0fa2001";
const COPY = "83b8f4f2-509f-382f-3c1e-e6bfe0fa2002";
const stubbornDriver: MdevDriver = { ...copyDriver, createParent: () => copyDriver.createParent({ stubborn: true }) };

const MDEV = `${C}
#include <dirent.h>
#include <sys/eventfd.h>
#define REGION(n) ((off_t)(n) << 40)
#define WAIT(x) do { int left = 5000; while (!(x) && left-- > 0) usleep(1000); CHECK(x); } while (0)
static int iommufd;
/* The device file of an mdev, as programs find it: by the name of the folder in vfio-dev. */
static int open_mdev(const char *uuid)
{
  char path[PATH_MAX], node[PATH_MAX] = "";
  snprintf(path, sizeof(path), "/sys/bus/mdev/devices/%s/vfio-dev", uuid);
  DIR *folder = opendir(path);
  CHECK(folder);
  for (struct dirent *entry; (entry = readdir(folder)) != NULL;)
    if (entry->d_name[0] != '.') snprintf(node, sizeof(node), "/dev/vfio/devices/%.64s", entry->d_name);
  closedir(folder);
  int fd = open(node, O_RDWR);
  CHECK(fd >= 0);
  return fd;
}
static uint32_t bind_mdev(int device)
{
  if (iommufd == 0) CHECK((iommufd = open("/dev/iommu", O_RDWR)) > 0);
  struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind), .iommufd = iommufd };
  CHECK(ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, &bind) == 0);
  return bind.out_devid;
}
static int attach(int device, uint32_t pt)
{
  struct vfio_device_attach_iommufd_pt attach = { .argsz = sizeof(attach), .pt_id = pt };
  return ioctl(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach);
}
static int interrupt(int device, uint32_t index)
{
  int event = eventfd(0, EFD_NONBLOCK);
  char bytes[sizeof(struct vfio_irq_set) + 4];
  struct vfio_irq_set *set = (struct vfio_irq_set *)bytes;
  CHECK(event >= 0);
  *set = (struct vfio_irq_set){ .argsz = sizeof(bytes), .flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER, .index = index, .count = 1 };
  memcpy(bytes + sizeof(*set), &event, 4);
  CHECK(ioctl(device, VFIO_DEVICE_SET_IRQS, bytes) == 0);
  return event;
}
static int signalled(int event)
{
  struct pollfd set = { .fd = event, .events = POLLIN };
  uint64_t count;
  return poll(&set, 1, 1000) == 1 && read(event, &count, 8) == 8;
}
static void out8(int device, int bar, int at, uint8_t value) { CHECK(pwrite(device, &value, 1, REGION(bar) + at) == 1); }
static uint8_t in8(int device, int bar, int at) { uint8_t value; CHECK(pread(device, &value, 1, REGION(bar) + at) == 1); return value; }
static void out32(int device, int at, uint32_t value) { CHECK(pwrite(device, &value, 4, at) == 4); }
static void out64(int device, int at, uint64_t value) { CHECK(pwrite(device, &value, 8, at) == 8); }
static uint32_t in32(int device, int at) { uint32_t value; CHECK(pread(device, &value, 4, at) == 4); return value; }
static int map(uint32_t ioas, void *memory, uint64_t length, uint64_t iova, uint32_t permissions)
{
  struct iommu_ioas_map map = { .size = sizeof(map), .flags = IOMMU_IOAS_MAP_FIXED_IOVA | permissions, .ioas_id = ioas, .user_va = (uintptr_t)memory, .length = length, .iova = iova };
  return ioctl(iommufd, IOMMU_IOAS_MAP, &map);
}
static int unmap(uint32_t ioas, uint64_t iova, uint64_t length)
{
  struct iommu_ioas_unmap unmap = { .size = sizeof(unmap), .ioas_id = ioas, .iova = iova, .length = length };
  return ioctl(iommufd, IOMMU_IOAS_UNMAP, &unmap);
}
enum { RW = IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE };
/* The copy engine. */
enum { CONTROL = 8, STATUS = 0xc, RING = 0x10, SIZE = 0x18, TAIL = 0x20, FAULT_REASON = 0x30, RUN = 1, INTERRUPTS = 2, RUNNING = 1, WAITING = 2, RING_LOST = 0x10, ERROR = 0x20 };
struct descriptor { uint64_t source, destination; uint32_t length, flags, status, moved; };
enum { DONE = 1, READ_FAULT = 2, WRITE_FAULT = 3 };
#define RING_AT 0x100000UL
static struct descriptor *ring;
static uint32_t tail;
static void master(int device) { uint16_t command = 7; CHECK(pwrite(device, &command, 2, REGION(7) + 4) == 2); }
static void start(int device, uint32_t ioas)
{
  master(device);
  CHECK((ring = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) != MAP_FAILED);
  CHECK(map(ioas, ring, 4096, RING_AT, RW) == 0);
  out64(device, RING, RING_AT);
  out32(device, SIZE, 128);
  out32(device, CONTROL, RUN | INTERRUPTS);
  CHECK(in32(device, STATUS) == RUNNING);
  tail = 0;
}
static struct descriptor *copy(int device, uint64_t source, uint64_t destination, uint32_t length, uint32_t flags)
{
  struct descriptor *d = &ring[tail];
  *d = (struct descriptor){ source, destination, length, flags, 0, 0 };
  tail = (tail + 1) % 128;
  out32(device, TAIL, tail);
  return d;
}
`;

describe.skipIf(compiler === undefined).each(doors)("software mdevs through the %s door", (door) => {
  let shop: Workshop;
  beforeAll(() => void (shop = new Workshop()));
  afterAll(() => shop.close());

  /** What is so after a close: at once, but behind the seccomp door, which hears of it later. */
  const after = `#define CLOSED(x) ${door === "seccomp" ? "WAIT" : "CHECK"}(x)\n`;
  const compile = (name: string, body: string): string => shop.compile(name, MDEV + after + body, ...(door === "seccomp" ? ["-static"] : []));

  /** A shell makes the mdevs, runs the program, and looks at what is left. */
  async function run(program: string, copy: MdevDriver = copyDriver, then = ""): Promise<Ended> {
    const { nodes } = machineWithMdevs([serialDriver, copy]);
    const script = `set -e
      echo ${SERIAL} > /sys/class/mdev_bus/serial/mdev_supported_types/serial-2/create
      echo ${COPY} > /sys/class/mdev_bus/copy/mdev_supported_types/copy-channel/create
      ${program} ${SERIAL} ${COPY} ${then}`;
    return shop.run("sh", { door, nodes, args: ["-c", script] });
  }

  it("a serial card loops bytes back, and interrupts by INTx and MSI", async () => {
    const program = compile("serial", `int main(int argc, char **argv) {
  int device = open_mdev(argv[1]);
  CHECK(argc == 3 && ioctl(device, VFIO_DEVICE_RESET) == -1 && errno == EINVAL);
  bind_mdev(device);
  struct vfio_device_info info = { .argsz = sizeof(info) };
  CHECK(ioctl(device, VFIO_DEVICE_GET_INFO, &info) == 0 && info.flags == (VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET) && info.num_regions == 9);
  struct vfio_region_info region = { .argsz = sizeof(region), .index = 1 };
  CHECK(ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &region) == 0 && region.size == 8 && region.offset == (uint64_t)REGION(1) && !(region.flags & VFIO_REGION_INFO_FLAG_MMAP));
  uint32_t id;
  CHECK(pread(device, &id, 4, REGION(7)) == 4 && id == 0x32534348);
  int intx = interrupt(device, VFIO_PCI_INTX_IRQ_INDEX);
  out8(device, 0, 3, 3);           /* eight bits */
  out8(device, 0, 2, 0x81);        /* FIFO, trigger at eight */
  out8(device, 0, 1, 1);           /* interrupt with data */
  for (const char *c = "loop-back"; *c; c++) out8(device, 0, 0, *c);
  CHECK(signalled(intx) && in8(device, 0, 2) == 0xc4);
  char text[16] = "";
  for (int i = 0; in8(device, 0, 5) & 1; i++) text[i] = in8(device, 0, 0);
  CHECK(strcmp(text, "loop-back") == 0 && in8(device, 0, 2) == 0xc1 && !(in8(device, 1, 5) & 1));
  struct vfio_irq_set off = { .argsz = sizeof(off), .flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER, .index = VFIO_PCI_INTX_IRQ_INDEX };
  CHECK(ioctl(device, VFIO_DEVICE_SET_IRQS, &off) == 0);
  int msi = interrupt(device, VFIO_PCI_MSI_IRQ_INDEX);
  out8(device, 1, 1, 1);
  out8(device, 1, 0, 'x');
  CHECK(signalled(msi) && in8(device, 1, 0) == ('x' & 0x1f));
  out8(device, 0, 7, 0x5a);
  CHECK(ioctl(device, VFIO_DEVICE_RESET) == 0 && in8(device, 0, 7) == 0 && in8(device, 0, 5) == 0x60);
  return 0;
}`);
    expect(await run(program)).toEqual({ code: 0, output: "" });
  });

  it("a copy engine moves bytes between IOVAs, and hears of unmaps", async () => {
    const program = compile("copy", `int main(int argc, char **argv) {
  int device = open_mdev(argv[2]);
  CHECK(argc == 3);
  uint32_t access = bind_mdev(device);
  struct iommu_hw_info hw = { .size = sizeof(hw), .dev_id = access };
  CHECK(ioctl(iommufd, IOMMU_GET_HW_INFO, &hw) == -1 && errno == ENOENT);
  uint32_t ioas = alloc(iommufd), other = alloc(iommufd);
  CHECK(attach(device, access) == -1 && errno == ENOENT);
  CHECK(attach(device, ioas) == 0);
  struct vfio_device_attach_iommufd_pt pasid = { .argsz = sizeof(pasid), .flags = VFIO_DEVICE_ATTACH_PASID, .pt_id = ioas, .pasid = 1 };
  CHECK(ioctl(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &pasid) == -1 && errno == EOPNOTSUPP);
  start(device, ioas);
  int msi = interrupt(device, VFIO_PCI_MSI_IRQ_INDEX);
  char *memory = mmap(NULL, 8 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(memory != MAP_FAILED);
  for (int i = 0; i < 8 * 4096; i++) memory[i] = (char)(i * 31 + (i >> 7));
  CHECK(map(ioas, memory, 4 * 4096, 0x10000, IOMMU_IOAS_MAP_READABLE) == 0 && map(ioas, memory + 4 * 4096, 4 * 4096, 0x80000, IOMMU_IOAS_MAP_WRITEABLE) == 0);
  char expected[12345];
  memcpy(expected, memory + 3, sizeof(expected));
  struct descriptor *d = copy(device, 0x10003, 0x80f00, sizeof(expected), 1);
  CHECK(signalled(msi) && d->status == DONE && d->moved == sizeof(expected));
  CHECK(memcmp(memory + 4 * 4096 + 0xf00, expected, sizeof(expected)) == 0);
  d = copy(device, 0x10000, 0x10000, 8, 0);
  CHECK(signalled(msi) && d->status == WRITE_FAULT && in32(device, STATUS) == (RUNNING | ERROR) && in32(device, FAULT_REASON) == 2);
  /* Memory that nobody has pinned goes quietly; the ring is given up. */
  CHECK(unmap(ioas, 0x10000, 4 * 4096) == 0 && in32(device, STATUS) == (RUNNING | ERROR));
  d = copy(device, 0x10000, 0x80000, 8, 0);
  CHECK(signalled(msi) && d->status == READ_FAULT);
  CHECK(unmap(ioas, RING_AT, 4096) == 0 && signalled(msi) && in32(device, STATUS) == (RING_LOST | ERROR));
  out32(device, STATUS, RING_LOST | ERROR);
  /* So it is by another address space, and by the close. */
  start(device, ioas);
  CHECK(attach(device, other) == 0 && in32(device, STATUS) == RING_LOST && unmap(ioas, RING_AT, 4096) == 0);
  out32(device, STATUS, RING_LOST);
  start(device, other);
  CHECK(close(device) == 0 && unmap(other, RING_AT, 4096) == 0);
  return 0;
}`);
    expect(await run(program)).toEqual({ code: 0, output: "" });
  });

  it("a copy engine raises its own faults, and a thread that polls makes them good", async () => {
    const program = compile("faults", `static int queue;
static uint32_t ioas;
static char *late;
static int handled;
static void *handler(void *unused)
{
  for (;;) {
    struct pollfd set = { .fd = queue, .events = POLLIN };
    struct iommu_hwpt_pgfault fault;
    CHECK(poll(&set, 1, 5000) == 1 && read(queue, &fault, sizeof(fault)) == sizeof(fault));
    CHECK(fault.flags == IOMMU_PGFAULT_FLAGS_LAST_PAGE && fault.pasid == 0 && fault.perm == (handled < 2 ? IOMMU_PGFAULT_PERM_READ : IOMMU_PGFAULT_PERM_WRITE));
    struct iommu_hwpt_page_response answer = { .cookie = fault.cookie, .code = handled < 2 ? IOMMUFD_PAGE_RESP_SUCCESS : IOMMUFD_PAGE_RESP_INVALID };
    if (handled < 2) CHECK(fault.addr == 0x50000 + 4096u * handled && map(ioas, late + 4096 * handled, 4096, fault.addr, RW) == 0);
    handled++;
    CHECK(write(queue, &answer, sizeof(answer)) == sizeof(answer));
    if (handled == 3) return unused;
  }
}
int main(int argc, char **argv) {
  int device = open_mdev(argv[2]);
  CHECK(argc == 3);
  uint32_t access = bind_mdev(device);
  ioas = alloc(iommufd);
  CHECK(attach(device, ioas) == 0);
  struct iommu_fault_alloc alloc = { .size = sizeof(alloc) };
  CHECK(ioctl(iommufd, IOMMU_FAULT_QUEUE_ALLOC, &alloc) == 0);
  queue = alloc.out_fault_fd;
  struct iommukit_access_fault_queue tie = { .size = sizeof(tie), .access_id = access, .fault_id = alloc.out_fault_id };
  CHECK(ioctl(iommufd, IOMMUKIT_ACCESS_FAULT_QUEUE, &tie) == 0);
  start(device, ioas);
  char *target = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  late = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(target != MAP_FAILED && late != MAP_FAILED && map(ioas, target, 8192, 0x80000, RW) == 0);
  memset(late, 0x77, 8192);
  struct descriptor *d = copy(device, 0x50ffc, 0x80000, 8, 0);
  CHECK(d->status == 0 && in32(device, STATUS) == (RUNNING | WAITING));
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, handler, NULL) == 0);
  WAIT(*(volatile uint32_t *)&d->status != 0);
  CHECK(d->status == DONE && d->moved == 8 && target[7] == 0x77 && target[8] == 0);
  d = copy(device, 0x50000, 0x90000, 8, 0);
  WAIT(*(volatile uint32_t *)&d->status != 0);
  CHECK(d->status == WRITE_FAULT && d->moved == 0 && pthread_join(thread, NULL) == 0 && handled == 3);
  /* What nobody answers has failed when the device is closed. */
  d = copy(device, 0xa0000, 0x80000, 8, 0);
  CHECK(d->status == 0 && close(device) == 0);
  CLOSED(*(volatile uint32_t *)&d->status == READ_FAULT);
  struct iommu_hwpt_pgfault none;
  CHECK(read(queue, &none, sizeof(none)) == 0);
  return 0;
}`);
    expect(await run(program)).toEqual({ code: 0, output: "" });
  });

  it("a driver that keeps its pins makes UNMAP end with EDEADLOCK", async () => {
    const program = compile("stubborn", `int main(int argc, char **argv) {
  int device = open_mdev(argv[2]);
  CHECK(argc == 3);
  bind_mdev(device);
  uint32_t ioas = alloc(iommufd);
  CHECK(attach(device, ioas) == 0);
  start(device, ioas);
  CHECK(unmap(ioas, RING_AT, 4096) == -1 && errno == EDEADLOCK && in32(device, STATUS) == RUNNING);
  out32(device, CONTROL, 0);
  out32(device, CONTROL, RUN);
  CHECK(in32(device, STATUS) == RING_LOST && in32(device, FAULT_REASON) == 3);
  CHECK(unmap(ioas, RING_AT, 4096) == 0);
  return 0;
}`);
    expect(await run(program, stubbornDriver)).toEqual({ code: 0, output: "" });
  });

  it("an mdev that was removed while it is open keeps its instance until the last close", async () => {
    const program = compile("removed", `static int available(void)
{
  FILE *file = fopen("/sys/class/mdev_bus/serial/mdev_supported_types/serial-2/available_instances", "r");
  int count = -1;
  CHECK(file && fscanf(file, "%d", &count) == 1 && fclose(file) == 0);
  return count;
}
int main(int argc, char **argv) {
  char path[PATH_MAX];
  int device = open_mdev(argv[1]), unbound = open_mdev(argv[1]);
  CHECK(argc == 3 && available() == 11);
  bind_mdev(device);
  int wanted = interrupt(device, VFIO_PCI_REQ_IRQ_INDEX);
  snprintf(path, sizeof(path), "/sys/bus/mdev/devices/%s/remove", argv[1]);
  int fd = open(path, O_WRONLY);
  CHECK(fd >= 0 && write(fd, "1", 1) == 1 && signalled(wanted));
  CHECK(write(fd, "1", 1) == -1 && errno == ENODEV && close(fd) == 0);
  CHECK(access(path, F_OK) == -1 && available() == 11 && in8(device, 0, 5) == 0x60);
  CHECK(close(device) == 0 && available() == 11);
  CHECK(close(unbound) == 0);
  CLOSED(available() == 12);
  snprintf(path, sizeof(path), "/sys/bus/mdev/devices/%s", argv[1]);
  CHECK(access(path, F_OK) == -1);
  return 0;
}`);
    expect(await run(program)).toEqual({ code: 0, output: "" });
  });

  it("a client that is killed while its device waits for a page takes everything along", async () => {
    const program = compile("killed", `int main(int argc, char **argv) {
  int device = open_mdev(argv[2]);
  CHECK(argc == 3);
  uint32_t access = bind_mdev(device), ioas = alloc(iommufd);
  CHECK(attach(device, ioas) == 0);
  struct iommu_fault_alloc alloc = { .size = sizeof(alloc) };
  CHECK(ioctl(iommufd, IOMMU_FAULT_QUEUE_ALLOC, &alloc) == 0);
  struct iommukit_access_fault_queue tie = { .size = sizeof(tie), .access_id = access, .fault_id = alloc.out_fault_id };
  CHECK(ioctl(iommufd, IOMMUKIT_ACCESS_FAULT_QUEUE, &tie) == 0);
  start(device, ioas);
  copy(device, 0xa0000, 0x80000, 8, 0);
  copy(device, 0xb0000, 0x80000, 8, 0);
  CHECK(in32(device, STATUS) == (RUNNING | WAITING));
  raise(SIGKILL);
}`);
    const then = `|| echo killed
      echo 1 > /sys/bus/mdev/devices/${COPY}/remove
      for i in 1 2 3 4 5 6 7 8 9 10; do
        test "$(cat /sys/class/mdev_bus/copy/mdev_supported_types/copy-channel/available_instances)" = 8 && break
        sleep 0.2
      done
      cat /sys/class/mdev_bus/copy/mdev_supported_types/copy-channel/available_instances
      ls /sys/bus/mdev/devices`;
    expect(await run(program, copyDriver, then)).toEqual({ code: 0, output: expect.stringMatching(new RegExp(`killed\n8\n${SERIAL}\n$`)) as unknown });
  });
});
