/** The mdev bus: its files, its checks in Linux's order, and the life of an mdev. */
import fc from "fast-check";
import { beforeEach, describe, expect, it } from "vitest";
import { IommuError, SimulatedClient } from "@iommukit/core";
import { BusRig, HOME, plainMdev, plainParent, plainType, refusal, uuidOf } from "../rig/bus-rig.js";

const TYPE = `${HOME}/mdev_supported_types/plain-a`;
const OTHER_HOME = "/sys/devices/virtual/mdev/two";

let rig: BusRig;
beforeEach(() => {
  rig = new BusRig();
  rig.bus.register(plainParent([plainType("a", { prettyName: "Type A", description: "the first" }), plainType("b")], 2), { name: "one", home: HOME });
});

const create = (text: string): string => refusal(() => rig.write(`${TYPE}/create`, text));
const available = (): string | undefined => rig.text(`${TYPE}/available_instances`);

describe("the files of a parent", () => {
  it("describe its types", () => {
    expect(["name", "description", "device_api", "available_instances"].map((name) => rig.text(`${TYPE}/${name}`))).toEqual(["Type A\n", "the first\n", "vfio-pci\n", "2\n"]);
    expect(rig.text("/sys/class/mdev_bus/one/mdev_supported_types/plain-b/name")).toBe("b\n");
    expect(rig.paths).not.toContain(`${HOME}/mdev_supported_types/plain-b/description`);
    expect(rig.events).toContainEqual({ kind: "uevent", action: "change", path: "/devices/virtual/mdev/one", fields: { MDEV_STATE: "registered" } });
  });

  it("are gone after it was unregistered, with its mdevs", () => {
    const before = new BusRig().paths;
    create(uuidOf(1));
    rig.bus.unregister("one");
    expect(rig.paths).toEqual([...before, "/sys/bus/mdev/drivers/plain"].sort());
    expect(rig.events.at(-1)).toMatchObject({ action: "change", fields: { MDEV_STATE: "unregistered" } });
    expect([rig.bus.types(), rig.bus.devices()]).toEqual([[], []]);
    expect(refusal(() => rig.bus.unregister("one"))).toBe("ENODEV");
  });

  it("refuse a second parent of the name, and one that does not say what its devices are", () => {
    expect(refusal(() => rig.bus.register(plainParent([], 1), { name: "one", home: OTHER_HOME }))).toBe("EEXIST");
    expect(refusal(() => rig.bus.register({ ...plainParent([], 1), deviceApi: "" }, { name: "two", home: OTHER_HOME }))).toBe("EINVAL");
  });
});

describe("create", () => {
  it.each([
    ["35 characters", uuidOf(1).slice(1), "EINVAL"],
    ["36", uuidOf(1), "none"],
    ["36 and a line break", `${uuidOf(1)}\n`, "none"],
    ["36 and anything", `${uuidOf(1)}x`, "none"],
    ["38 characters", `${uuidOf(1)}\n\n`, "EINVAL"],
    ["nothing", "", "EINVAL"],
    ["36 characters that are no UUID", uuidOf(1).replaceAll("-", "0"), "EINVAL"],
    ["a dash out of place", `0000000-00000-4000-8000-${"0".repeat(12)}`, "EINVAL"],
  ])("takes %s", (_name, text, errno) => {
    expect(create(text)).toBe(errno);
    expect(rig.bus.devices().length).toBe(errno === "none" ? 1 : 0);
  });

  it("has the UUID in lower case, and shows the mdev where programs look for it", () => {
    expect(create("ABCDEF00-0000-4000-8000-00000000ABCD\n")).toBe("none");
    const uuid = "abcdef00-0000-4000-8000-00000000abcd";
    expect(rig.bus.devices()).toEqual([{ uuid, parent: "one", type: "plain-a", node: "vfio0", group: 0 }]);
    expect(rig.text(`/sys/bus/mdev/devices/${uuid}/mdev_type/name`)).toBe("Type A\n");
    expect(rig.text(`${TYPE}/devices/${uuid}/vfio-dev/vfio0/dev`)).toBe("10:250\n");
    expect(rig.text(`/sys/bus/mdev/devices/${uuid}/iommu_group/type`)).toBe("unknown\n");
    expect(rig.text(`/sys/class/vfio-dev/vfio0/device/uevent`)).toBe("DRIVER=plain\n");
    expect(rig.nodes.paths).toEqual(["/dev/iommu", "/dev/vfio/vfio", "/dev/vfio/0", "/dev/vfio/devices/vfio0"]);
    expect(rig.events.at(-1)).toEqual({ kind: "uevent", action: "add", path: `/devices/virtual/mdev/one/${uuid}`, fields: { SUBSYSTEM: "mdev" } });
  });

  it("takes a UUID once over all parents, whatever its case; that is checked before there is room", () => {
    rig.bus.register(plainParent([plainType("a")], 1), { name: "two", home: OTHER_HOME });
    const second = (text: string): string => refusal(() => rig.write(`${OTHER_HOME}/mdev_supported_types/plain-a/create`, text));
    expect(create("ABCDEF00-0000-4000-8000-00000000ABCD")).toBe("none");
    expect(second("abcdef00-0000-4000-8000-00000000abcd")).toBe("EEXIST");
    expect(second(uuidOf(1))).toBe("none");
    expect(second(uuidOf(2))).toBe("EUSERS");
    expect(second(uuidOf(1))).toBe("EEXIST");
    expect(second("nothing")).toBe("EINVAL");
  });

  it("counts the instances of all types, but not of one that counts for itself", () => {
    let left = 1;
    const own = plainType("own", {
      available: () => left,
      create: (environment) => {
        if (left === 0) throw new IommuError("ENOSPC", { message: "none is left", rule: "this test" });
        left--;
        return { ...plainMdev(environment), removed: () => void left++ };
      },
    });
    rig.bus.register(plainParent([plainType("a"), plainType("b"), own], 2), { name: "two", home: OTHER_HOME });
    const counts = (): unknown => ["a", "b", "own"].map((name) => rig.text(`${OTHER_HOME}/mdev_supported_types/plain-${name}/available_instances`));
    rig.bus.create("two", "plain-a", uuidOf(1));
    expect(counts()).toEqual(["1\n", "1\n", "1\n"]);
    rig.bus.create("two", "plain-b", uuidOf(2));
    expect(refusal(() => rig.bus.create("two", "plain-a", uuidOf(3)))).toBe("EUSERS");
    rig.bus.create("two", "plain-own", uuidOf(3));
    expect(refusal(() => rig.bus.create("two", "plain-own", uuidOf(4)))).toBe("ENOSPC");
    expect(counts()).toEqual(["0\n", "0\n", "0\n"]);
    rig.bus.remove(uuidOf(1));
    rig.bus.remove(uuidOf(3));
    expect(counts()).toEqual(["1\n", "1\n", "1\n"]);
  });

  it("that its type refuses leaves nothing behind", () => {
    let refuses = true;
    const type = plainType("a", {
      create: (environment) => {
        if (refuses) throw new IommuError("ENOMEM", { message: "not now", rule: "this test" });
        return plainMdev(environment);
      },
    });
    rig.bus.register(plainParent([type], 1), { name: "two", home: OTHER_HOME });
    const before = rig.paths;
    expect(refusal(() => rig.bus.create("two", "plain-a", uuidOf(1)))).toBe("ENOMEM");
    expect(rig.paths).toEqual(before);
    refuses = false;
    rig.bus.create("two", "plain-a", uuidOf(1));
  });

  it("finds no parent that is being unregistered", () => {
    const errnos: string[] = [];
    const type = plainType("a", { create: (environment) => ({ ...plainMdev(environment), removed: () => void errnos.push(refusal(() => rig.bus.create("two", "plain-a", uuidOf(2)))) }) });
    rig.bus.register(plainParent([type], 2), { name: "two", home: OTHER_HOME });
    rig.bus.create("two", "plain-a", uuidOf(1));
    rig.bus.unregister("two");
    expect(errnos).toEqual(["ENODEV"]);
    expect(rig.bus.devices()).toEqual([]);
    expect(refusal(() => rig.bus.create("three", "plain-a", uuidOf(2)))).toBe("ENODEV");
    expect(refusal(() => rig.bus.create("one", "plain-c", uuidOf(2)))).toBe("ENODEV");
  });
});

describe("remove", () => {
  beforeEach(() => void create(uuidOf(1)));
  const remove = (text: string): string => refusal(() => rig.write(`/sys/bus/mdev/devices/${uuidOf(1)}/remove`, text));

  it.each([
    ["1", "none", 0], ["1\n", "none", 0], ["0x10\n", "none", 0], ["017", "none", 0], ["+5", "none", 0], ["18446744073709551615", "none", 0],
    ["0", "none", 1], ["00\n", "none", 1], ["0x0", "none", 1],
    ["", "EINVAL", 1], ["yes", "EINVAL", 1], ["1\n\n", "EINVAL", 1], ["-1", "EINVAL", 1], ["08", "EINVAL", 1], [" 1", "EINVAL", 1], ["18446744073709551616", "EINVAL", 1],
  ])("takes %j: %s", (text, errno, left) => {
    expect(remove(text)).toBe(errno);
    expect(rig.bus.devices().length).toBe(left);
  });

  it("leaves nothing behind, and gives the instance back", () => {
    const fresh = new BusRig();
    fresh.bus.register(plainParent([plainType("a", { prettyName: "Type A", description: "the first" }), plainType("b")], 2), { name: "one", home: HOME });
    expect(available()).toBe("1\n");
    expect(remove("1")).toBe("none");
    expect(rig.paths).toEqual(fresh.paths);
    expect(available()).toBe("2\n");
    expect(rig.events.at(-1)).toMatchObject({ action: "remove", path: `/devices/virtual/mdev/one/${uuidOf(1)}` });
    expect(refusal(() => rig.bus.remove(uuidOf(1)))).toBe("ENODEV");
  });

  it("of an open mdev takes its nodes at once; the rest, and the instance, when it is closed", () => {
    const client = new SimulatedClient(rig.nodes);
    const iommufd = client.open("/dev/iommu");
    const [bound, unbound] = [client.open("/dev/vfio/devices/vfio0"), client.open("/dev/vfio/devices/vfio0")];
    client.ioctl(bound, "VFIO_DEVICE_BIND_IOMMUFD", { iommufd });
    const wanted = client.eventfd();
    const request = new Uint8Array(24);
    new Uint32Array(request.buffer).set([24, 0x24, 4, 0, 1, wanted]);
    client.rawIoctl(bound, 0x3b6e, request);
    expect(remove("1")).toBe("none");
    expect(client.eventCount(wanted)).toBe(1);
    expect(rig.nodes.paths).toEqual(["/dev/iommu", "/dev/vfio/vfio"]);
    expect(rig.paths.filter((path) => path.endsWith("/remove") || path.endsWith("/mdev_type"))).toEqual([]);
    expect(rig.text(`/sys/bus/mdev/devices/${uuidOf(1)}/uevent`)).toBe("DRIVER=plain\n");
    expect([create(uuidOf(1)), refusal(() => rig.bus.remove(uuidOf(1)))]).toEqual(["EEXIST", "EAGAIN"]);
    expect([available(), rig.bus.devices()]).toEqual(["1\n", [{ uuid: uuidOf(1), parent: "one", type: "plain-a", group: 0 }]]);
    client.ioctl(bound, "VFIO_DEVICE_GET_INFO");
    client.close(bound);
    expect(available()).toBe("1\n");
    client.close(unbound);
    expect([available(), rig.bus.devices()]).toEqual(["2\n", []]);
    expect(create(uuidOf(1))).toBe("none");
  });

  it("of an open mdev holds up the end of its parent", () => {
    const client = new SimulatedClient(rig.nodes);
    const fd = client.open("/dev/vfio/devices/vfio0");
    rig.bus.unregister("one");
    expect([create(uuidOf(2)), refusal(() => rig.bus.create("one", "plain-a", uuidOf(2)))]).toEqual(["ENODEV", "ENODEV"]);
    expect(rig.text(`${TYPE}/name`)).toBe("Type A\n");
    client.close(fd);
    expect(rig.paths.filter((path) => path.startsWith(HOME))).toEqual([]);
  });
});

it("keeps count whatever is created, opened, removed and closed in whatever order", () => {
  const step = fc.record({ what: fc.constantFrom("create", "open", "remove", "close"), which: fc.integer({ min: 0, max: 3 }) });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const own = new BusRig();
      own.bus.register(plainParent([plainType("a")], 3), { name: "one", home: HOME });
      const empty = own.paths;
      const client = new SimulatedClient(own.nodes);
      /** By UUID: its node while it is active, and who has it open. */
      const model = new Map<string, { node: string | undefined; fds: number[] }>();
      const settle = (uuid: string): void => {
        const entry = model.get(uuid);
        if (entry && entry.node === undefined && entry.fds.length === 0) model.delete(uuid);
      };
      const nodeOf = (uuid: string): string | undefined => own.bus.devices().find((device) => device.uuid === uuid)?.node;
      for (const { what, which } of steps) {
        const uuid = uuidOf(which);
        const entry = model.get(uuid);
        if (what === "create") {
          const expected = entry ? "EEXIST" : model.size === 3 ? "EUSERS" : "none";
          expect(refusal(() => own.bus.create("one", "plain-a", uuid))).toBe(expected);
          if (expected === "none") model.set(uuid, { node: nodeOf(uuid), fds: [] });
        } else if (what === "remove") {
          expect(refusal(() => own.bus.remove(uuid))).toBe(entry === undefined ? "ENODEV" : entry.node === undefined ? "EAGAIN" : "none");
          if (entry) entry.node = undefined;
        } else if (what === "open") {
          if (entry?.node) entry.fds.push(client.open(`/dev/vfio/devices/${entry.node}`));
        } else {
          const fd = entry?.fds.pop();
          if (fd !== undefined) client.close(fd);
        }
        settle(uuid);
        expect(own.text(`${TYPE}/available_instances`)).toBe(`${3 - model.size}\n`);
        expect(own.bus.devices().map((device) => device.node).sort()).toEqual([...model.values()].map(({ node }) => node).sort());
      }
      for (const [uuid, { node, fds }] of model) {
        if (node) own.bus.remove(uuid);
        for (const fd of fds) client.close(fd);
      }
      expect(own.paths).toEqual(empty);
    }),
  );
});
