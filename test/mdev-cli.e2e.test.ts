/** `iommu mdev`, inside a run and from outside. Runs from dist. */
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { C, CLI, compiler, doors, Workshop } from "./native.js";

const UUID = "83b8f4f2-509f-382f-3c1e-e6bfe0fa3001";
const IOMMU = `${process.execPath} ${CLI}`;

let folder: string;
beforeAll(() => void (folder = mkdtempSync(join(tmpdir(), "iommukit-mdev-"))));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function iommu(...args: string[]): { code: number | null; out: string; err: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [CLI, ...args], { encoding: "utf8", cwd: folder, env: { ...process.env, NO_COLOR: "1" }, timeout: 60_000 });
  return { code: status, out: stdout, err: stderr };
}

it.each(["types", "list", "create", "remove"])("iommu mdev %s --help shows examples", (command) => {
  const { code, out } = iommu("mdev", command, "--help");
  expect(code).toBe(0);
  expect(out).toContain(`iommu mdev ${command}`);
});

describe.skipIf(compiler === undefined)("iommu mdev", () => {
  const within = (door: string, script: string, ...more: string[]): { code: number | null; out: string; err: string } =>
    iommu("run", "--door", door, ...more, "--", "sh", "-c", script.replaceAll("iommu ", `${IOMMU} `));

  it.each(doors)("makes, shows and removes mdevs through the %s door", (door) => {
    const script = `iommu mdev create serial-2 --uuid ${UUID.toUpperCase()} && iommu mdev list && iommu mdev types && iommu mdev remove ${UUID} && iommu mdev list --json`;
    const { code, out } = within(door, script, "--mdev", "serial", "--mdev", "copy=dma");
    expect({ code, out }).toEqual({
      code: 0,
      out: `${`${UUID}  serial-2 on serial  /dev/vfio/devices/vfio2, group 2\n`.repeat(2)}copy-channel  on dma: Copy engine channel, vfio-pci, 8 available, 0 in use
  copies and fills memory by descriptors in a ring, raises page faults to user space
serial-1  on serial: Single port serial, vfio-pci, 22 available, 0 in use
  1 16550A with its wire led back, INTx or MSI
serial-2  on serial: Dual port serial, vfio-pci, 11 available, 1 in use
  2 16550A with its wire led back, INTx or MSI
${UUID} is gone
[]
`,
    });
  });

  it("gives the reason of a refusal, and ends with 1", () => {
    const { out, err } = within("preload", `
      iommu mdev create serial-1 --uuid ${UUID} --json
      iommu mdev create serial-1 --uuid ${UUID}; echo $?
      iommu mdev create serial-1 --uuid nothing; echo $?
      iommu mdev remove ${UUID.replace("3001", "3002")}; echo $?
      iommu mdev create serial-3; echo $?
      iommu mdev create serial-1 --parent other; echo $?`, "--mdev", "serial");
    expect(out).toBe(`${JSON.stringify({ uuid: UUID, parent: "serial", type: "serial-1", node: "vfio2", group: 2 }, undefined, 2)}\n1\n1\n1\n2\n2\n`);
    expect(err.split("\n").map((line) => line.replace(/^iommu: (\/\S+: )?/, ""))).toEqual([
      "EEXIST: an mdev has this UUID already, on whatever parent",
      "EINVAL: the UUID is none: it has 32 hexadecimal digits in groups of 8, 4, 4, 4 and 12",
      "ENOENT: there is no such mdev, or it is being removed",
      "no type serial-3; there are: serial-1 on serial, serial-2 on serial",
      "no type serial-1 on other; there are: serial-1 on serial, serial-2 on serial",
      "",
    ]);
  });

  it("asks which parent is meant, and says that one is still open", () => {
    const { out, err } = within("preload", `
      iommu mdev create serial-1; echo $?
      iommu mdev create serial-1 --parent two --uuid ${UUID} > /dev/null
      exec 5< /dev/vfio/devices/vfio2
      iommu mdev remove ${UUID}
      iommu mdev list
      exec 5<&-
      iommu mdev list --json`, "--mdev", "serial=one", "--mdev", "serial=two");
    expect(out).toBe(`2\n${UUID} goes when nobody has it open any more\n${UUID}  - on two  removed, still open\n[]\n`);
    expect(err).toBe("iommu: type serial-1 is on several parents: choose with --parent one or --parent two\n");
  });

  it("reaches a run from outside, by the process id of iommu run or of a program in it", async () => {
    const run = spawn(process.execPath, [CLI, "run", "--mdev", "serial", "--", "sh", "-c", "echo $$; exec sleep 60"], { stdio: ["ignore", "pipe", "inherit"] });
    try {
      const inner = await new Promise<string>((resolve) => run.stdout.once("data", (chunk: Buffer) => resolve(chunk.toString().trim())));
      expect(iommu("mdev", "create", "serial-1", "--uuid", UUID, "--run", String(run.pid))).toMatchObject({ code: 0, err: "" });
      expect(iommu("mdev", "create", "serial-1", "--uuid", UUID, `--run=${inner}`)).toMatchObject({ code: 1, err: expect.stringContaining("EEXIST") as unknown });
      expect(iommu("mdev", "list", "--run", inner)).toEqual({ code: 0, out: `${UUID}  serial-1 on serial  /dev/vfio/devices/vfio2, group 2\n`, err: "" });
    } finally {
      run.kill("SIGTERM");
      await new Promise((resolve) => run.once("exit", resolve));
    }
  });

  it("takes parents, and mdevs that are there from the beginning, from a machine file", () => {
    const machine = {
      name: "mediated", memory: { size: "64MiB" }, iommus: [{ type: "vtd" }], devices: [],
      mdev: { parents: [{ driver: "serial", name: "ports", options: { ports: 3 } }], devices: [{ uuid: UUID, type: "serial-2", parent: "ports" }] },
    };
    const path = join(folder, "machine.json");
    writeFileSync(path, JSON.stringify(machine));
    expect(within("preload", "iommu mdev list", "--machine", path)).toEqual({ code: 0, out: `${UUID}  serial-2 on ports  /dev/vfio/devices/vfio0, group 0\n`, err: "" });
    const wrong = (change: object): { code: number | null; err: string } => {
      writeFileSync(path, JSON.stringify({ ...machine, mdev: { ...machine.mdev, ...change } }));
      const { code, err } = within("preload", "true", "--machine", path);
      return { code, err };
    };
    expect(wrong({ parents: [{ driver: "cereal" }] }).err).toContain('mdev.parents[0].driver "cereal" is not known; there are: serial, copy');
    expect(wrong({ parents: [{ driver: "serial", options: { ports: 0 } }] }).err).toContain("mdev.parents[0].options: option ports is 0");
    expect(wrong({ devices: [{ uuid: UUID, type: "serial-2", parent: "serial" }] }).err).toContain("mdev.devices[0]: there is no parent serial; there are: ports");
    expect(wrong({ devices: [{ uuid: "x".repeat(36), type: "serial-2", parent: "ports" }] }).err).toContain("mdev.devices[0]:");
    expect(wrong({ parent: [] }).err).toContain("mdev");
    expect(wrong({ parents: [{ driver: "serial" }, { driver: "serial" }] }).err).toContain("mdev.parents[1].name is taken by another");
    expect(wrong({ devices: [1, 2].map(() => ({ uuid: UUID, type: "serial-1", parent: "ports" })) })).toMatchObject({ code: 2, err: expect.stringContaining("mdev.devices[1]: ") as unknown });
  });

  it("logs each write with its reason, and what udev would hear", () => {
    const { err } = within("preload", `echo ${UUID} > /sys/class/mdev_bus/serial/mdev_supported_types/serial-1/create; echo x > /sys/bus/mdev/devices/${UUID}/remove`, "--mdev", "serial", "--log");
    const lines = err.split("\n").map((text) => text.trim().replace(/ {2,}/g, "  "));
    const home = "/sys/devices/virtual/mdev/serial";
    expect(lines).toContain(`write(${home}/mdev_supported_types/serial-1/create, text=${JSON.stringify(`${UUID}\n`)}) = 37`);
    expect(lines).toContain(`uevent  add@/devices/virtual/mdev/serial/${UUID}  SUBSYSTEM=mdev`);
    expect(lines).toContain(`write(${home}/${UUID}/remove, text="x\\n") = -1 EINVAL: "x\\n" is not a number`);
  });

  it("takes a driver of an outsider's, whose mdev a program uses", () => {
    const shop = new Workshop();
    const program = shop.compile("sum", `${C}
int main(void) {
  int iommufd = open("/dev/iommu", O_RDWR), device = open("/dev/vfio/devices/vfio2", O_RDWR);
  struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind), .iommufd = iommufd };
  CHECK(iommufd >= 0 && device >= 0 && ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, &bind) == 0);
  struct vfio_device_attach_iommufd_pt attach = { .argsz = sizeof(attach), .pt_id = alloc(iommufd) };
  CHECK(ioctl(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach) == 0);
  unsigned char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  struct iommu_ioas_map map = { .size = sizeof(map), .flags = 7, .ioas_id = attach.pt_id, .user_va = (uintptr_t)page, .length = 4096, .iova = 0x7000 };
  CHECK(page != MAP_FAILED && ioctl(iommufd, IOMMU_IOAS_MAP, &map) == 0);
  memset(page + 16, 3, 100);
  uint64_t address = 0x7000;
  uint32_t length = 4096, sum = 0, status = 0;
  CHECK(pwrite(device, &address, 8, 0) == 8 && pwrite(device, &length, 4, 8) == 4);
  CHECK(pread(device, &sum, 4, 12) == 4 && pread(device, &status, 4, 16) == 4);
  printf("%u %u\\n", sum, status);
  address = 0x9000;
  CHECK(pwrite(device, &address, 8, 0) == 8 && pwrite(device, &length, 4, 8) == 4 && pread(device, &status, 4, 16) == 4);
  printf("%u\\n", status);
  return 0;
}`);
    const plugin = join(import.meta.dirname, "../examples/library/mdev-driver.mjs");
    const { code, out, err } = iommu("--plugin", plugin, "run", "--mdev", "sum", "--", "sh", "-c", `${IOMMU} mdev create sum-bytes > /dev/null && ${program}`);
    shop.close();
    expect({ code, out, err }).toEqual({ code: 0, out: "300 1\n2\n", err: "" });
  });

  it("says what it lacks", () => {
    expect(iommu("mdev", "types", "--run", "1")).toMatchObject({ code: 2, err: expect.stringContaining("--run 1: neither this process") as unknown });
    expect(iommu("mdev", "types", "--run", "me")).toMatchObject({ code: 2, err: expect.stringContaining("expected a process id") as unknown });
    expect(iommu("run", "--machine", "none", "--mdev", "serial", "--", "true")).toMatchObject({ code: 2, err: expect.stringContaining("machine none has no mediated devices") as unknown });
    expect(iommu("run", "--mdev", "cereal", "--", "true")).toMatchObject({ code: 2, err: expect.stringContaining('"cereal" is not known') as unknown });
  });
});
