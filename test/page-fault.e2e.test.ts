/** The native example that pages for its device, through each door. Needs a C compiler. */
import { readFileSync } from "node:fs";
import { buildMachine } from "@iommukit/core";
import { dmaTestModel } from "@iommukit/core/devices";
import { vtdIommuFactory } from "@iommukit/hw-vtd/plugin";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { compiler, doors, Workshop } from "./native.js";

const example = (name: string): string => readFileSync(new URL(`../examples/native/${name}`, import.meta.url), "utf8");

describe.skipIf(compiler === undefined)("a native program that pages for its device", () => {
  let shop: Workshop;
  beforeAll(() => void (shop = new Workshop()));
  afterAll(() => shop.close());

  it.each(doors)("runs unmodified through the %s door: request, record, map, answer", async (door) => {
    const program = shop.compile("page-fault", example("page-fault.c"), ...(door === "seccomp" ? ["-static"] : []));
    const machine = buildMachine(JSON.parse(example("page-fault.json")), { iommus: [vtdIommuFactory], devices: [dmaTestModel] });
    const { code, output } = await shop.run(program, { door, nodes: machine.nodes });
    expect(output).toContain("all is well");
    expect(code).toBe(0);
  });
});
