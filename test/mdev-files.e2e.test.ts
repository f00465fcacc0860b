/** Files of /sys that programs write, through both doors: the mdev bus as shells, interpreters and C programs find it. */
import { spawnSync } from "node:child_process";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { IommuError, type MdevDriver, type MdevType, SoftwareBinding } from "@iommukit/core";
import { C, compiler, doors, type Ended, machineWithMdevs, Workshop } from "./native.js";

const UUID = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001";
const OTHER = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1002";
const PARENT = "/sys/class/mdev_bus/plain";
const TYPE = `${PARENT}/mdev_supported_types/plain-a`;

const type: MdevType = {
  name: "a",
  create: ({ uuid }) => {
    if (uuid === OTHER) throw new IommuError("ENOSPC", { message: "not this one", rule: "this test" });
    return {
      pci: {
        identity: { vendorId: 1, deviceId: 2, classCode: 3, revision: 4 },
        bars: [], pasidBits: 0, ats: false, resettable: true, readBar: () => 0n, writeBar: () => undefined, reset: () => undefined,
      },
      binding: new SoftwareBinding({ bound: () => undefined, unmapping: () => undefined, unbound: () => undefined }),
    };
  },
};
const driver: MdevDriver = { name: "plain", about: "nothing but mediated", createParent: () => ({ driver: "plain", deviceApi: "vfio-pci", types: [type], maxInstances: 2 }) };

const has = (program: string): boolean => spawnSync(program, ["-c", ":"]).error === undefined;
if (!has("bash")) console.warn("SKIPPED: bash is not there");
if (!has("python3")) console.warn("SKIPPED: python3 is not there");

describe.skipIf(compiler === undefined).each(doors)("files that are written through the %s door", (door) => {
  let shop: Workshop;
  beforeAll(() => void (shop = new Workshop()));
  afterAll(() => shop.close());

  const run = (program: string, ...args: string[]): Promise<Ended> => shop.run(program, { door, args, nodes: machineWithMdevs([driver]).nodes });
  const shell = (name: string, script: string): Promise<Ended> => run(name, "-c", `export LC_ALL=C\n${script}`);

  const LIFE = `
    cat ${TYPE}/available_instances
    echo ${UUID.toUpperCase()} > ${TYPE}/create && echo made $?
    cat ${TYPE}/available_instances
    ls /sys/bus/mdev/devices ${TYPE}/devices /dev/vfio/devices
    readlink /sys/bus/mdev/devices/${UUID}/mdev_type
    test -c /dev/vfio/devices/vfio2 && echo node
    echo 1 > /sys/bus/mdev/devices/${UUID}/remove && echo removed
    test -e /dev/vfio/devices/vfio2 || echo no node
    cat ${TYPE}/available_instances
    ls /sys/bus/mdev/devices`;
  const LIVED = `2
made 0
1
/dev/vfio/devices:
vfio0
vfio1
vfio2

/sys/bus/mdev/devices:
${UUID}

${"/sys/class/mdev_bus/plain/mdev_supported_types/plain-a/devices"}:
${UUID}
../mdev_supported_types/plain-a
node
removed
no node
2
`;

  it("make and remove an mdev from sh", async () => {
    expect(await shell("sh", LIFE)).toEqual({ code: 0, output: LIVED });
  });

  it.skipIf(!has("bash"))("make and remove an mdev from bash, whose echo writes with stdio", async () => {
    expect(await shell("bash", LIFE)).toEqual({ code: 0, output: LIVED });
  });

  const REFUSALS = `
    echo ${UUID} > ${TYPE}/create
    echo ${UUID} > ${TYPE}/create || echo exists
    echo ${OTHER} > ${TYPE}/create || echo full
    echo short > ${TYPE}/create || echo invalid
    echo maybe > /sys/bus/mdev/devices/${UUID}/remove || echo invalid
    echo all is well
    echo 0 > /sys/bus/mdev/devices/${UUID}/remove && ls /sys/bus/mdev/devices`;

  /** What echo says: dash does not tell one error from another. */
  const SAYS: Readonly<Record<string, readonly string[]>> = {
    sh: Array.from({ length: 4 }, () => "echo: echo: I/O error"),
    bash: ["File exists", "No space left on device", "Invalid argument", "Invalid argument"].map((text) => `echo: write error: ${text}`),
  };

  it.each(["sh", ...(has("bash") ? ["bash"] : [])])("give %s the reason of a refusal", async (name) => {
    const { code, output } = await shell(name, REFUSALS);
    const lines = output.trimEnd().split("\n");
    expect(lines.filter((line) => line.includes("echo: ")).map((line) => line.slice(line.indexOf("echo: ")))).toEqual(SAYS[name]);
    expect(lines.filter((line) => !line.includes("echo: "))).toEqual(["exists", "full", "invalid", "invalid", "all is well", UUID]);
    expect(code).toBe(0);
  });

  it("take writes of other programs' standard output, and of tee", async () => {
    const { code, output } = await shell("sh", `
      env echo ${UUID} > ${TYPE}/create && echo ${UUID} | tee ${TYPE}/create; echo tee $?
      printf '%s' 1 | cat > /sys/bus/mdev/devices/${UUID}/remove; echo cat $?
      env printf '%s' ${UUID} > ${TYPE}/create; echo printf $?
      env echo ${UUID} > ${TYPE}/create; echo echo $?`);
    expect(code).toBe(0);
    expect(output).toMatch(/tee: .*File exists/);
    expect(output).toMatch(/echo: write error: File exists/);
    expect(output.split("\n").filter((line) => !line.includes(":"))).toEqual([UUID, "tee 1", "cat 0", "printf 0", "echo 1", ""]);
  });

  it.skipIf(!has("python3"))("take writes of Python", async () => {
    const { code, output } = await run("python3", "-c", `
import os
with open("${TYPE}/create", "w") as f: f.write("${UUID}\\n")
print(os.listdir("/sys/bus/mdev/devices") == ["${UUID}"])
try:
    with open("${TYPE}/create", "w") as f: f.write("${UUID}")
except FileExistsError as error: print("exists", error.errno)
fd = os.open("/sys/bus/mdev/devices/${UUID}/remove", os.O_WRONLY)
print(os.write(fd, b"1"))
try: os.write(fd, b"1")
except OSError as error: print(error.errno)
`);
    expect({ code, output }).toEqual({ code: 0, output: "True\nexists 17\n1\n19\n" });
  });

  it("take writes of C, in every way, from copies of a descriptor and in children", async () => {
    const program = shop.compile("writes", `${C}
#define CREATE "${TYPE}/create"
static const char *const uuid[] = { "${UUID}", "${UUID.slice(0, -1)}5", "${UUID.slice(0, -1)}6" };
static void gone(int i) {
  char path[256];
  snprintf(path, sizeof(path), "/sys/bus/mdev/devices/%s/remove", uuid[i]);
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  CHECK(fd >= 0 && write(fd, "1\\n", 2) == 2 && close(fd) == 0 && access(path, F_OK) == -1 && errno == ENOENT);
}
int main(void) {
  int fd = open(CREATE, O_WRONLY);
  CHECK(fd >= 0 && write(fd, uuid[0], 36) == 36);
  CHECK(write(fd, uuid[0], 36) == -1 && errno == EEXIST);
  CHECK(write(fd, "", 0) == -1 && errno == EINVAL);
  void *volatile nowhere = NULL;
  CHECK(write(fd, nowhere, 36) == -1 && errno == EFAULT);
  CHECK(write(-1, uuid[1], 36) == -1 && errno == EBADF);
  int copy = dup(fd);
  CHECK(copy >= 0 && close(fd) == 0);
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) _exit(write(copy, uuid[1], 36) == 36 ? 0 : 1);
  int status;
  CHECK(waitpid(child, &status, 0) == child && status == 0);
  CHECK(write(copy, uuid[2], 36) == -1 && errno == EUSERS);
  gone(0);
  FILE *stream = fopen(CREATE, "w");
  CHECK(stream && fprintf(stream, "%s\\n", uuid[2]) == 37 && fflush(stream) == 0);
  CHECK(fprintf(stream, "%s\\n", uuid[2]) == 37 && fclose(stream) == EOF && errno == EEXIST);
  gone(1);
  gone(2);
  /* A file that does not take writes takes none for the machine. */
  char text[16] = "";
  fd = open("${TYPE}/available_instances", O_RDONLY);
  CHECK(fd >= 0 && read(fd, text, sizeof(text)) == 2 && strcmp(text, "2\\n") == 0);
  return 0;
}`, ...(door === "seccomp" ? ["-static"] : []));
    expect(await run(program)).toEqual({ code: 0, output: "" });
  });
});
