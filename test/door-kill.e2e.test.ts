/** Clients killed in the middle of anything, through each door. Needs a C compiler. */
import { readdirSync } from "node:fs";
import { type DeviceNodes, IommuError, openedBy } from "@iommukit/core";
import { bareNodes } from "@iommukit/core/testing";
import type { DoorCounts } from "@iommukit/door";
import { describe, expect, it } from "vitest";
import { C, compiler, doors, machineOf, slowed, Workshop } from "./native.js";

const KILLS = 200;
/** How long calls take, in microseconds: a kill shall find the door busy, with this client and with another. */
const BUSY = 100;
/** A path that the test listens to: whoever opens it has waited for the end of what was killed. */
const CHECKPOINT = "/dev/vfio/checkpoint";
const NOTHING: DoorCounts = { clients: 0, openFiles: 0, pins: 0, mappings: 0 };

/** A parent that kills a child after a little longer each time, whatever it is doing, and then reports. */
const killer = (work: string): string => `${C}
static void work(void) {
${work}
}
static void checkpoint(void) { CHECK(open("${CHECKPOINT}", O_RDWR) == -1 && errno == ENOENT); }
int main(int argc, char **argv) {
  int kills = atoi(argv[1]), status, ready[2];
  char byte = 0;
  (void)argc;
  CHECK(pipe(ready) == 0);
  pid_t other = fork();
  if (other == 0) {
    int fd = open("/dev/iommu", O_RDWR), id = alloc(fd);
    if (write(ready[1], &byte, 1) != 1) _exit(1);
    for (;;) {
      struct iommu_ioas_iova_ranges ranges = { .size = sizeof(ranges), .ioas_id = (uint32_t)id };
      ioctl(fd, IOMMU_IOAS_IOVA_RANGES, &ranges);
    }
  }
  CHECK(read(ready[0], &byte, 1) == 1);
  checkpoint();
  for (int i = 0; i < kills; i++) {
    pid_t child = fork();
    if (child == 0) {
      for (;;) work();
    }
    /* From before its first call to some rounds later, in steps that no call takes a whole number of. */
    struct timespec pause = { 0, 200000L + 37000L * i };
    nanosleep(&pause, NULL);
    kill(child, SIGKILL);
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
    checkpoint();
  }
  kill(other, SIGKILL);
  waitpid(other, &status, 0);
  return 0;
}`;

const DEVICE_WORK = `
  int fd = open("/dev/iommu", O_RDWR), device = open("/dev/vfio/devices/vfio0", O_RDWR);
  if (fd < 0 || device < 0) exit(1);
  struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind), .iommufd = fd };
  if (ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, &bind) != 0) exit(2);
  struct vfio_device_attach_iommufd_pt attach = { .argsz = sizeof(attach), .pt_id = (uint32_t)alloc(fd) };
  ioctl(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach);
  char *memory = mmap(NULL, 0x40000, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  struct iommu_ioas_map map = { .size = sizeof(map), .flags = 7, .ioas_id = attach.pt_id, .iova = 0x100000, .length = 0x40000, .user_va = (uint64_t)(uintptr_t)memory };
  ioctl(fd, IOMMU_IOAS_MAP, &map);
  struct vfio_region_info info = { .argsz = sizeof(info), .index = 2 };
  ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info);
  char *bar = mmap(NULL, 0x1000, PROT_READ | PROT_WRITE, MAP_SHARED, device, (off_t)info.offset);
  uint16_t word;
  pread(device, &word, 2, 7L << 40);
  if (bar != MAP_FAILED) munmap(bar, 0x1000);
  close(device);
  close(fd);
  munmap(memory, 0x40000);`;

/** Every kind of descriptor that an ioctl makes. */
const MOCK_WORK = `
  int fd = open("/dev/iommu", O_RDWR);
  if (fd < 0) exit(1);
  struct iommu_fault_alloc fault = { .size = sizeof(fault) };
  ioctl(fd, IOMMU_FAULT_QUEUE_ALLOC, &fault);
  struct iommu_ioas_map_file from = { .size = sizeof(from), .flags = 7, .ioas_id = (uint32_t)alloc(fd), .length = 0x3000, .iova = 0x100000 };
  from.fd = memfd_create("file", 0);
  ftruncate(from.fd, 0x3000);
  ioctl(fd, IOMMU_IOAS_MAP_FILE, &from);
  char byte;
  read((int)fault.out_fault_fd, &byte, 0);
  close(from.fd);
  close((int)fault.out_fault_fd);
  close(fd);`;

describe.skipIf(compiler === undefined).each(doors)("a client of the %s door that is killed", (door) => {
  const sweep = async (name: string, work: string, nodes: DeviceNodes): Promise<DoorCounts[]> => {
    const shop = new Workshop();
    let counts = (): DoorCounts => NOTHING;
    const seen: DoorCounts[] = [];
    const slow = slowed(nodes, BUSY);
    const watched = openedBy(nodes, (context, path) => {
      if (path !== CHECKPOINT) return slow.open(context, path);
      seen.push(counts());
      throw new IommuError("ENOENT", { message: "only a checkpoint", rule: "this test" });
    });
    const before = readdirSync("/proc/self/fd").length;
    const program = shop.compile(name, killer(work), "-Wno-unused-result", ...(door === "seccomp" ? ["-static"] : []));
    expect(await shop.run(program, { door, nodes: watched, args: [String(KILLS)], onStart: (read) => (counts = read) })).toEqual({ code: 0, output: "" });
    expect(counts()).toEqual(NOTHING);
    shop.close();
    await new Promise((resolve) => setTimeout(resolve, 20)); // sockets close in their own time
    expect(readdirSync("/proc/self/fd").length).toBeLessThanOrEqual(before + 2);
    return seen;
  };

  it.each([
    ["a device, mappings and a BAR", DEVICE_WORK, () => machineOf().nodes],
    ["queues and files of memory", MOCK_WORK, () => bareNodes(true)],
  ])("leaves nothing behind of %s", async (_, work, nodes) => {
    const seen = await sweep("killed", work, nodes());
    const [before, ...after] = seen;
    // The one that asks, and the one that keeps the door busy.
    expect(before).toEqual({ clients: 2, openFiles: 1, pins: 0, mappings: 0 });
    expect(after.length).toBe(KILLS);
    for (const counts of after) expect(counts).toEqual(before);
  });
});
