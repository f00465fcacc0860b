/** Many threads, many contexts, many devices, through each door and in process. Needs a C compiler. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { buildMachine, SimulatedClient } from "@iommukit/core";
import { dmaTestModel } from "@iommukit/core/devices";
import { vtdIommuFactory } from "@iommukit/hw-vtd/plugin";
import { C, compiler, doors, Workshop } from "./native.js";

const DEVICES = 64;

function manyDevices(): ReturnType<typeof buildMachine> {
  const machine = vtdIommuFactory.defaultMachine?.() as { readonly devices: readonly object[] };
  const [first] = machine.devices;
  const devices = Array.from({ length: DEVICES }, (_, i) => ({ ...first, bdf: `0000:${(1 + (i >> 5)).toString(16).padStart(2, "0")}:${(i & 31).toString(16).padStart(2, "0")}.0`, vfio: `vfio${i}` }));
  return buildMachine({ ...machine, devices }, { iommus: [vtdIommuFactory], devices: [dmaTestModel] });
}

describe.skipIf(compiler === undefined).each(doors)("the %s door under load", (door) => {
  let shop: Workshop;
  beforeAll(() => void (shop = new Workshop()));
  afterAll(() => shop.close());
  const flags = door === "seccomp" ? ["-static"] : [];

  it("serves eight threads alike", async () => {
    const program = shop.compile("fair", `${C}#define THREADS 8
static int fd;
static volatile int done;
static long calls[THREADS];
static void *work(void *index) {
  long *mine = &calls[(long)index];
  while (!done) {
    struct iommu_destroy d = { .size = sizeof(d), .id = (uint32_t)alloc(fd) };
    CHECK((int)d.id > 0 && ioctl(fd, IOMMU_DESTROY, &d) == 0);
    ++*mine;
  }
  return NULL;
}
int main(void) {
  pthread_t threads[THREADS];
  fd = open("/dev/iommu", O_RDWR);
  for (long i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, work, (void *)i) == 0);
  usleep(1000000);
  done = 1;
  long least = -1, most = 0;
  for (int i = 0; i < THREADS; i++) {
    CHECK(pthread_join(threads[i], NULL) == 0);
    if (least < 0 || calls[i] < least) least = calls[i];
    if (calls[i] > most) most = calls[i];
  }
  CHECK(alloc(fd) == 1);
  printf("%ld %ld\\n", least, most);
  return 0;
}`, ...flags);
    const { code, output } = await shop.run(program, { door });
    expect(code, output).toBe(0);
    const [least, most] = output.trim().split(" ").map(Number);
    if (process.env.IOMMUKIT_SHOW) console.log(`${door}: ${least} to ${most} rounds a thread`);
    expect(least).toBeGreaterThan(0);
    expect(most / least).toBeLessThan(4);
  });

  it("keeps a thousand contexts and 64 devices open at once", async () => {
    const program = shop.compile("many", `${C}#define CONTEXTS 1000
int main(void) {
  static int contexts[CONTEXTS], devices[${DEVICES}];
  for (int i = 0; i < CONTEXTS; i++) CHECK((contexts[i] = open("/dev/iommu", O_RDWR)) >= 0 && alloc(contexts[i]) == 1);
  for (int i = 0; i < ${DEVICES}; i++) {
    char path[64];
    snprintf(path, sizeof(path), "/dev/vfio/devices/vfio%d", i);
    CHECK((devices[i] = open(path, O_RDWR)) >= 0);
    struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind), .iommufd = contexts[i * 15] };
    CHECK(ioctl(devices[i], VFIO_DEVICE_BIND_IOMMUFD, &bind) == 0);
    struct vfio_device_attach_iommufd_pt attach = { .argsz = sizeof(attach), .pt_id = 1 };
    CHECK(ioctl(devices[i], VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach) == 0);
    uint16_t id;
    CHECK(pread(devices[i], &id, 2, 7L << 40) == 2 && id == 0x1d1d);
  }
  for (int i = 0; i < CONTEXTS; i++) CHECK(alloc(contexts[i]) > 1);
  for (int i = 0; i < ${DEVICES}; i++) close(devices[i]);
  for (int i = 0; i < CONTEXTS; i++) close(contexts[i]);
  int again = open("/dev/iommu", O_RDWR);
  CHECK(alloc(again) == 1);
  return 0;
}`, ...flags);
    let counts = { openFiles: -1, clients: -1, pins: -1, mappings: -1 };
    let read = (): typeof counts => counts;
    expect(await shop.run(program, { door, nodes: manyDevices().nodes, onStart: (counter) => (read = counter) })).toEqual({ code: 0, output: "" });
    counts = read();
    expect(counts).toEqual({ openFiles: 0, clients: 0, pins: 0, mappings: 0 });
  });
});

describe("in process", () => {
  it("keeps a thousand contexts and 64 devices open at once", () => {
    const { nodes } = manyDevices();
    const client = new SimulatedClient(nodes);
    const contexts = Array.from({ length: 1000 }, () => client.open("/dev/iommu"));
    for (const fd of contexts) expect(client.ioctl(fd, "IOMMU_IOAS_ALLOC").out_ioas_id).toBe(1);
    const devices = Array.from({ length: DEVICES }, (_, i) => client.open(`/dev/vfio/devices/vfio${i}`));
    for (const [i, fd] of devices.entries()) {
      client.ioctl(fd, "VFIO_DEVICE_BIND_IOMMUFD", { iommufd: contexts[i * 15] });
      client.ioctl(fd, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", { pt_id: 1 });
    }
    for (const fd of contexts) expect(client.ioctl(fd, "IOMMU_IOAS_ALLOC").out_ioas_id).toBeGreaterThan(1);
    for (const fd of [...devices, ...contexts]) client.close(fd);
    expect(client.ioctl(client.open("/dev/iommu"), "IOMMU_IOAS_ALLOC").out_ioas_id).toBe(1);
  });
});
