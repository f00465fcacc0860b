/** Native programs for tests: how they are compiled and run. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildMachine, type DeviceNodes, type KernelFile, type Machine, type MdevDriver, openedBy, Tracer } from "@iommukit/core";
import { cHeader } from "@iommukit/core/abi";
import { dmaTestModel } from "@iommukit/core/devices";
import { type DoorCounts, type DoorKind, findCompiler, runProgram } from "@iommukit/door";
import { mdevBus } from "@iommukit/mdev";
import { vtdIommuFactory } from "@iommukit/hw-vtd/plugin";

export const compiler: string | undefined = findCompiler();
if (compiler === undefined) console.warn("SKIPPED: native programs need a C compiler (cc, gcc or clang), and none is on the PATH");

/** Doors of this system. */
export const doors: readonly DoorKind[] = process.arch === "x64" ? ["preload", "seccomp"] : ["preload"];

export const CLI: string = join(import.meta.dirname, "../packages/cli/dist/main.js");

export function machineOf(tracer?: Tracer): Machine {
  return buildMachine(vtdIommuFactory.defaultMachine?.(), { iommus: [vtdIommuFactory], devices: [dmaTestModel] }, tracer);
}

/** The same with parents of mdevs, each under the name of its driver. */
export function machineWithMdevs(parents: readonly MdevDriver[], tracer?: Tracer): Machine {
  const spec = { ...vtdIommuFactory.defaultMachine?.(), mdev: { parents: parents.map(({ name }) => ({ driver: name })) } };
  return buildMachine(spec, { iommus: [vtdIommuFactory], devices: [dmaTestModel], mdevBus, mdevDrivers: parents }, tracer);
}

/** What every program begins with. */
export const C = `#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "iommukit-abi.h"
#define CHECK(x) do { if (!(x)) { printf("line %d: %s (errno %d)\\n", __LINE__, #x, errno); exit(1); } } while (0)
static int alloc(int fd) { struct iommu_ioas_alloc a = { .size = sizeof(a) }; return ioctl(fd, IOMMU_IOAS_ALLOC, &a) == 0 ? (int)a.out_ioas_id : -errno; }
`;

/** The same nodes, whose opens and ioctls take a while after they are done: time for a signal to come in between. */
export function slowed(nodes: DeviceNodes, microseconds: number): DeviceNodes {
  const pause = (): void => {
    for (const end = performance.now() + microseconds / 1000; performance.now() < end; );
  };
  const slow = (file: KernelFile): KernelFile =>
    new Proxy(file, {
      get: (target, name) => {
        const value: unknown = Reflect.get(target, name, target);
        if (typeof value !== "function") return value;
        return (...args: unknown[]): unknown => {
          const result: unknown = Reflect.apply(value, target, args);
          if (name === "ioctl") pause();
          return result;
        };
      },
    });
  return openedBy(nodes, (context, path) => {
    const file = nodes.open(context, path);
    pause();
    return slow(file);
  });
}

export interface Ended {
  readonly code: number;
  readonly output: string;
}

export interface RunSettings {
  readonly door: DoorKind;
  readonly nodes?: DeviceNodes;
  readonly args?: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
  readonly onStart?: (counts: () => DoorCounts) => void;
}

export class Workshop {
  readonly folder: string = mkdtempSync(join(tmpdir(), "iommukit-native-"));

  constructor() {
    writeFileSync(join(this.folder, "iommukit-abi.h"), cHeader());
  }

  /** Full path of the program. */
  compile(name: string, source: string, ...flags: string[]): string {
    const file = join(this.folder, `${name}.c`);
    writeFileSync(file, source);
    execFileSync(compiler ?? "cc", ["-O1", "-Wall", "-Werror", "-Wno-unused-function", `-I${this.folder}`, ...flags, "-o", join(this.folder, name), file, "-lpthread"]);
    return join(this.folder, name);
  }

  async run(command: string, { door, nodes = machineOf().nodes, args = [], env, onStart }: RunSettings): Promise<Ended> {
    const output: string[] = [];
    const push = (text: string): void => void output.push(text);
    const code = await runProgram({ nodes, door, command, args, onOutput: push, warn: push, ...(env && { env }), ...(onStart && { onStart }) });
    return { code, output: output.join("") };
  }

  close(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** The same, with `attach`, which binds the first device to an IOAS of its own and turns its bus mastering on. */
export const DEVICE_C: string = `${C}
#define REGION(n) ((off_t)(n) << 40)
static int iommufd, device, ioas;
static void attach(void)
{
  CHECK((iommufd = open("/dev/iommu", O_RDWR)) >= 0 && (device = open("/dev/vfio/devices/vfio0", O_RDWR)) >= 0);
  struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind), .iommufd = iommufd };
  CHECK(ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, &bind) == 0);
  struct iommu_ioas_alloc a = { .size = sizeof(a) };
  CHECK(ioctl(iommufd, IOMMU_IOAS_ALLOC, &a) == 0);
  ioas = (int)a.out_ioas_id;
  struct vfio_device_attach_iommufd_pt attach = { .argsz = sizeof(attach), .pt_id = a.out_ioas_id };
  CHECK(ioctl(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach) == 0);
  uint16_t command = 6;
  CHECK(pwrite(device, &command, 2, REGION(7) + 4) == 2);
}
`;
