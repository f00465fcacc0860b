/**
 * Histories of binds of two mdevs of one parent by one guest, whose CPUs translate PASIDs now and then: against a model that knows tables, places
 * and who may be at one.
 */
import fc from "fast-check";
import { expect, it } from "vitest";
import { virtualDsa } from "../packages/mdev/src/adi/index.js";
import { VirtualMachine } from "../packages/mdev/src/pasid/index.js";
import { adiMachine } from "../packages/mdev/src/rig/adi-rig.js";
import { MdevGuest } from "./guest-mdevs.js";
import { errno } from "./host-program.js";

const [DEVICES, PASIDS, PROCESSES] = [[0, 1], [1, 2], [0, 1]];

const place = { device: fc.constantFrom(...DEVICES), pasid: fc.constantFrom(...PASIDS) };
const step = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("bind" as const), ...place, process: fc.constantFrom(...PROCESSES) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("unbind" as const), ...place }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constantFrom("translate" as const, "forget" as const), pasid: place.pasid }) },
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

/** One PASID of the guest. */
class Place {
  /** By device: the process in the guest's table. */
  readonly said: (number | undefined)[] = [undefined, undefined];
  /** Who is attached by it on the host; with an empty address space when the guest says nothing. */
  holder: number | undefined;
  translated = false;

  /** The guest writes a device's entry, and invalidates. Returns: devices that the host refuses. */
  say(told: number, process: number | undefined): number[] {
    this.said[told] = process;
    if (this.holder !== undefined && this.said[this.holder] === undefined && !this.translated) this.holder = undefined;
    return DEVICES.filter((device) => this.said[device] !== undefined && (this.holder ??= device) !== device);
  }

  /** The process that a device works for. */
  served(device: number): number | undefined {
    return this.holder === device ? this.said[device] : undefined;
  }
}

function play(steps: readonly Step[]): void {
  const machine = adiMachine(1, { pri: false });
  const guest = new MdevGuest(machine, "idxd-1swq-v1");
  const processes = PROCESSES.map(() => guest.process());
  const vm = new VirtualMachine(machine.memory, machine.frames);
  vm.enablePasidTranslation();
  const shared = virtualDsa(machine, guest.adis[0].uuid)?.shared ?? expect.fail("it is bound");
  const places = new Map(PASIDS.map((pasid) => [pasid, new Place()]));
  for (const at of steps) {
    const model = places.get(at.pasid) ?? expect.fail("no such PASID");
    const refused: number[] = [];
    switch (at.kind) {
      case "bind":
      case "unbind":
        if (at.kind === "bind") guest.bind(at.device, at.pasid, processes[at.process]);
        else guest.unbind(at.device, at.pasid);
        // The driver takes the old entry away before it writes the new one.
        if (model.said[at.device] !== undefined) refused.push(...model.say(at.device, undefined));
        if (at.kind === "bind") refused.push(...model.say(at.device, at.process));
        break;
      case "translate":
        expect(errno(() => vm.mapPasid(at.pasid, shared))).toBe(model.translated ? "EEXIST" : model.holder === undefined ? "ENOENT" : "none");
        model.translated = model.holder !== undefined;
        break;
      default:
        expect(errno(() => vm.unmapPasid(at.pasid))).toBe(model.translated ? "none" : "ENOENT");
        model.translated = false;
    }
    const faults = guest.takeFaults();
    const named = DEVICES.filter((device) => faults.some((line) => line.includes(`00:0${5 + device}.0 PASID 0x${at.pasid} was blocked`)));
    expect(named).toEqual(DEVICES.filter((device) => refused.includes(device)));
    for (const [pasid, known] of places) {
      for (const device of DEVICES) {
        const served = known.served(device);
        expect(processes.map((process) => guest.copies(device, pasid, process)), `device ${device}, PASID ${pasid}`).toEqual(PROCESSES.map((process) => process === served));
      }
    }
  }
}

it("a PASID is served for who has its place, the other one's guest learns it, and who leaves makes room", () => {
  fc.assert(fc.property(fc.array(step, { maxLength: 12 }), play), { numRuns: 40 });
});
