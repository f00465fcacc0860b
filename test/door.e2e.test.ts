/** The native example and odd clients through each door. Needs a C compiler. */
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { type CallContext, type KernelFile, openedBy, Tracer } from "@iommukit/core";
import { encodeStruct } from "@iommukit/core/abi";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Door } from "../packages/door/src/door.js";
import { HAS_SPARE, Operation } from "../packages/door/src/preload/protocol.js";
import { PreloadServer } from "../packages/door/src/preload/server.js";
import { C, CLI, compiler, doors, type Ended, machineOf, Workshop } from "./native.js";

const EBADF = 9;

describe.skipIf(compiler === undefined).each(doors)("the %s door", (door) => {
  let shop: Workshop;

  beforeAll(() => void (shop = new Workshop()));
  afterAll(() => shop.close());

  // What no library can be preloaded into is the other door's daily bread.
  const compile = (name: string, source: string): string => shop.compile(name, source, ...(door === "seccomp" ? ["-static"] : []));
  const run = (program: string, tracer?: Tracer, args: string[] = []): Promise<Ended> => shop.run(program, { door, nodes: machineOf(tracer).nodes, args });

  it("runs the example unmodified", async () => {
    const program = compile("roundtrip", readFileSync(new URL("../examples/native/dma-roundtrip.c", import.meta.url), "utf8"));
    const { code, output } = await run(program);
    expect(output).toContain("all is well");
    expect(code).toBe(0);
  });

  it("answers wild pointers with EFAULT, and the log says why something was refused", async () => {
    const tracer = new Tracer();
    const refused: string[] = [];
    tracer.listen((event) => {
      if (event.kind === "call" && event.errno) refused.push(`${event.name} ${event.errno}`);
    });
    const program = compile(
      "wild",
      `${C}int main(void) {
  int fd = open("/dev/iommu", O_RDWR);
  CHECK(fd >= 0);
  CHECK(ioctl(fd, IOMMU_IOAS_ALLOC, (void *)8) == -1 && errno == EFAULT);
  CHECK(ioctl(fd, IOMMU_IOAS_ALLOC, NULL) == -1 && errno == EFAULT);
  struct iommu_ioas_alloc small = { .size = 4 };
  CHECK(ioctl(fd, IOMMU_IOAS_ALLOC, &small) == -1 && errno == EINVAL);
  struct iommu_ioas_iova_ranges r = { .size = sizeof(r), .ioas_id = alloc(fd), .num_iovas = 4, .allowed_iovas = 16 };
  CHECK(ioctl(fd, IOMMU_IOAS_IOVA_RANGES, &r) == -1 && errno == EFAULT);
  CHECK(ioctl(fd, 0x3bff, &small) == -1 && errno == ENOTTY);
  char byte;
  CHECK(read(fd, &byte, 1) == -1 && errno == EINVAL);
  struct stat st;
  CHECK(fstat(fd, &st) == 0 && S_ISCHR(st.st_mode));
  CHECK(stat("/dev/vfio/devices/vfio1", &st) == 0 && S_ISCHR(st.st_mode));
  CHECK(access("/dev/vfio/devices/vfio7", F_OK) == -1 && errno == ENOENT);
  CHECK(open("/dev/vfio/devices/vfio7", O_RDWR) == -1 && errno == ENOENT);
  CHECK(open("/etc/hostname-that-is-not-there", O_RDONLY) == -1 && errno == ENOENT);
  return 0;
}`,
    );
    expect(await run(program, tracer)).toEqual({ code: 0, output: "" });
    expect(refused).toContain("IOMMU_IOAS_ALLOC EFAULT");
  });

  it("keeps a file until its last descriptor is gone, over dup and fork", async () => {
    const program = compile(
      "life",
      `${C}int main(void) {
  int fd = open("/dev/iommu", O_RDWR), copy = dup(fd);
  CHECK(alloc(fd) == 1);
  close(fd);
  CHECK(alloc(copy) == 2);
  if (fork() == 0) _exit(alloc(copy) == 3 ? 0 : 1);
  int status;
  wait(&status);
  CHECK(status == 0);
  CHECK(alloc(copy) == 4);
  close(copy);
  for (int i = 0; i < 200; i++) {
    int again = open("/dev/iommu", O_RDWR), device = open("/dev/vfio/devices/vfio0", O_RDWR);
    struct vfio_device_bind_iommufd b = { .argsz = sizeof(b), .iommufd = again };
    CHECK(ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, &b) == 0 && b.out_devid == 1);
    close(device);
    CHECK(alloc(again) == 1);
    close(again);
  }
  return 0;
}`,
    );
    expect(await run(program)).toEqual({ code: 0, output: "" });
  });

  it("serves threads side by side", async () => {
    const program = compile(
      "threads",
      `${C}static int fd;
static void *work(void *unused) {
  (void)unused;
  for (int i = 0; i < 100; i++) {
    int id = alloc(fd);
    CHECK(id > 0);
    struct iommu_destroy d = { .size = sizeof(d), .id = id };
    CHECK(ioctl(fd, IOMMU_DESTROY, &d) == 0);
  }
  return NULL;
}
int main(void) {
  pthread_t threads[4];
  fd = open("/dev/iommu", O_RDWR);
  for (int i = 0; i < 4; i++) pthread_create(&threads[i], NULL, work, NULL);
  for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
  CHECK(alloc(fd) == 1);
  return 0;
}`,
    );
    expect(await run(program)).toEqual({ code: 0, output: "" });
  });

  it("passes exit codes and signals on, and survives a program that is killed", async () => {
    const program = compile(
      "ends",
      `${C}int main(int argc, char **argv) {
  int fd = open("/dev/iommu", O_RDWR);
  CHECK(alloc(fd) == 1);
  (void)argc;
  if (argv[1][0] == 'k') raise(SIGKILL);
  return atoi(argv[1]);
}`,
    );
    expect((await run(program, undefined, ["42"])).code).toBe(42);
    expect((await run(program, undefined, ["kill"])).code).toBe(128 + 9);
    expect((await run(join(shop.folder, "nothing-here"))).code).toBe(127);
    expect((await run(join(shop.folder, "iommukit-abi.h"))).code).toBe(126);
  });

  it("hands a signal on, leaves Ctrl-C to the program, and logs its calls", async () => {
    const program = compile("signalled", `${C}static void say(const char *text) { CHECK(write(1, text, strlen(text)) > 0); }
static void handler(int number) { say(number == SIGTERM ? "got 15\\n" : "got 2\\n"); if (number == SIGTERM) _exit(5); }
int main(void) {
  signal(SIGTERM, handler);
  signal(SIGINT, handler);
  int fd = open("/dev/iommu", O_RDWR);
  CHECK(alloc(fd) == 1);
  say("ready\\n");
  for (;;) pause();
}`);
    // A process group of its own, as a shell makes it: Ctrl-C goes to all of it.
    const child = spawn(process.execPath, [CLI, "run", "--door", door, "--log", "--", program], { stdio: ["ignore", "pipe", "pipe"], detached: true });
    let output = "";
    let log = "";
    child.stderr.on("data", (chunk: Buffer) => (log += chunk.toString()));
    const says = (text: string): Promise<void> =>
      new Promise((resolve) => {
        const look = (): void => void (output.includes(text) && resolve());
        child.stdout.on("data", look);
        look();
      });
    child.stdout.on("data", (chunk: Buffer) => (output += chunk.toString()));
    const exited = new Promise((resolve) => child.once("close", resolve));
    await says("ready");
    process.kill(-(child.pid ?? 0), "SIGINT");
    await says("got 2");
    child.kill("SIGTERM");
    expect(await exited).toBe(5);
    expect(output).toBe("ready\ngot 2\ngot 15\n");
    expect(log).toContain("IOMMU_IOAS_ALLOC");
  });

  it("answers with EIO at once when it has died, and leaves the rest of the system as it is", async () => {
    const program = compile("orphan", `${C}int main(void) {
  int fd = open("/dev/iommu", O_RDWR), device = open("/dev/vfio/devices/vfio0", O_RDWR);
  CHECK(alloc(fd) == 1);
  puts("ready");
  fflush(stdout);
  char byte;
  int answer;
  do answer = alloc(fd); while (answer > 0);
  struct timespec before, after;
  clock_gettime(CLOCK_MONOTONIC, &before);
  CHECK(answer == -EIO && alloc(fd) == -EIO);
  CHECK(pread(device, &byte, 1, 0) == -1 && errno == EIO);
  CHECK(open("/dev/iommu", O_RDWR) == -1 && errno == EIO);
  clock_gettime(CLOCK_MONOTONIC, &after);
  CHECK(after.tv_sec - before.tv_sec < 5);
  int other = open("/dev/null", O_RDWR);
  CHECK(other >= 0 && write(other, "x", 1) == 1);
  CHECK(close(fd) == 0 && close(device) == 0);
  puts("well");
  return 0;
}`);
    const child = spawn(process.execPath, [CLI, "run", "--door", door, "--", program], { stdio: ["ignore", "pipe", "inherit"] });
    let output = "";
    await new Promise<void>((resolve) => child.stdout.on("data", (chunk: Buffer) => {
      output += chunk.toString();
      resolve();
    }));
    const closed = new Promise((resolve) => child.stdout.once("close", resolve));
    child.kill("SIGKILL");
    await closed; // by the program, which holds the other end
    expect(output).toBe("ready\nwell\n");
  });
});

describe.skipIf(compiler === undefined)("a program that no library is preloaded into", () => {
  it("is told which door it needs", async () => {
    const shop = new Workshop();
    const program = shop.compile("static", `${C}int main(void) { return open("/dev/iommu", O_RDWR) >= 0 ? 0 : 3; }`, "-static");
    const { code, output } = await shop.run(program, { door: "preload" });
    expect(output).toContain("is statically linked");
    expect(output).toContain("--door seccomp");
    expect(code).toBe(3);
    expect(await shop.run(program, { door: "seccomp" })).toEqual({ code: 0, output: "" });
    shop.close();
  });
});

/** A request as the shim sends it. */
function message(op: number, pid: number, inode: bigint, body: Uint8Array, a = 0n, b = 0n, c = 0n, flags = 0): Buffer {
  const bytes = Buffer.alloc(56 + body.length);
  bytes.writeUInt32LE(bytes.length, 0);
  bytes.writeUInt32LE(op >>> 0, 4);
  [inode, a, b, c].forEach((value, i) => bytes.writeBigUInt64LE(value, 8 + 8 * i));
  bytes.writeUInt32LE(pid, 40);
  bytes.writeUInt32LE(body.length, 48);
  bytes.writeUInt32LE(flags, 52);
  bytes.set(body, 56);
  return bytes;
}

describe("the preload door's socket", () => {
  it("gives up a file whose descriptor went while it was made", async () => {
    const { nodes } = machineOf();
    let released = 0;
    // Looks over the shoulder of the call that makes a file.
    const watched = (file: KernelFile): KernelFile => new Proxy(file, {
      get: (target, name) => name !== "ioctl" ? Reflect.get(target, name, target) as unknown : (call: CallContext, request: number, argument: bigint): number =>
        target.ioctl(Object.create(call, { install: { value: (made: KernelFile) => {
          const release = made.release.bind(made);
          Object.assign(made, { release: () => {
            released++;
            release();
          } });
          return call.install(made);
        } } }) as CallContext, request, argument),
    });
    const door = new Door(openedBy(nodes, (context, path) => watched(nodes.open(context, path))));
    const server = new PreloadServer(door);
    await server.listen();
    const dial = async (op: number, inode: bigint, input: Uint8Array): Promise<Socket> => {
      const socket = connect(`\0${server.name}`);
      socket.write(message(op, process.pid, inode, input));
      await new Promise((resolve) => socket.once("data", resolve));
      return socket;
    };
    const token = Buffer.from(server.token, "latin1");
    const file = await dial(Operation.OPEN, 1n, Buffer.concat([token, Buffer.from("/dev/iommu")]));
    const thread = await dial(Operation.HELLO, 2n, token);
    (await dial(Operation.SPARE, 3n, token)).destroy();
    await new Promise((resolve) => setTimeout(resolve, 20));
    const answer = new Promise<Buffer>((resolve) => thread.once("data", resolve));
    const [request, fd] = [0x3b8en, 9n]; // IOMMU_FAULT_QUEUE_ALLOC
    thread.write(message(Operation.IOCTL, process.pid, 1n, encodeStruct("iommu_fault_alloc", { size: 16 }), request | (fd << 32n), 4096n, 3n, HAS_SPARE));
    expect((await answer).readInt32LE(4)).toBe(-EBADF);
    expect(released).toBe(1);
    for (const socket of [file, thread]) socket.destroy();
    await server.close();
    expect(door.counts).toEqual({ clients: 0, openFiles: 0, pins: 0, mappings: 0 });
  });

  it("survives a client that knows the token and then says anything", async () => {
    const behind = new Door(machineOf().nodes);
    const door = new PreloadServer(behind);
    await door.listen();
    const say = (chunks: readonly Buffer[]): Promise<void> =>
      new Promise((resolve) => {
        const socket = connect(`\0${door.name}`, () => {
          for (const chunk of chunks) socket.write(chunk);
          socket.end();
        });
        socket.on("data", () => undefined);
        socket.on("error", () => socket.destroy());
        socket.on("close", () => resolve());
      });
    const token = Buffer.from(door.token, "latin1");
    const word = fc.oneof(fc.constantFrom(0n, 1n, 7n, 0x3b80n, 0x3b85n, 4096n, 2n ** 64n - 1n), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }));
    const request = fc.tuple(fc.integer({ min: 0, max: 12 }), fc.constantFrom(process.pid, 0, 1, 0xffff_ffff), fc.constantFrom(7n, 8n), fc.uint8Array({ maxLength: 80 }), word, word, word);
    await fc.assert(
      fc.asyncProperty(fc.array(request, { maxLength: 12 }), fc.uint8Array({ maxLength: 60 }), async (requests, tail) => {
        const open = connect(`\0${door.name}`);
        open.on("error", () => undefined);
        open.write(message(2, process.pid, 7n, Buffer.concat([token, Buffer.from("/dev/iommu")])));
        await new Promise((resolve) => open.once("data", resolve));
        await say([message(1, process.pid, 0n, token), ...requests.map((r) => message(...r)), Buffer.from(tail)]);
        await new Promise((resolve) => open.on("close", resolve).destroy());
      }),
      { numRuns: 60 },
    );
    await say([message(1, process.pid, 0n, token)]);
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(behind.counts).toEqual({ clients: 0, openFiles: 0, pins: 0, mappings: 0 });
    await door.close();
  });

  it("turns strangers away and stays open for others", async () => {
    const behind = new Door(machineOf().nodes);
    const door = new PreloadServer(behind);
    await door.listen();
    const talk = (bytes: Buffer): Promise<number> =>
      new Promise((resolve) => {
        let received = 0;
        const socket = connect(`\0${door.name}`, () => socket.write(bytes));
        socket.on("data", (chunk) => (received += chunk.length));
        socket.on("error", () => socket.destroy());
        socket.on("close", () => resolve(received));
      });
    const hello = Buffer.alloc(56 + 32);
    hello.writeUInt32LE(hello.length, 0);
    hello.writeUInt32LE(1, 4);
    hello.writeUInt32LE(32, 48);
    expect(await talk(hello)).toBe(0);
    expect(await talk(Buffer.alloc(4096, 0xff))).toBe(0);
    expect(await talk(Buffer.from("GET / HTTP/1.0\r\n\r\n"))).toBe(0);
    expect(behind.counts).toEqual({ clients: 0, openFiles: 0, pins: 0, mappings: 0 });
    await door.close();
  });
});
