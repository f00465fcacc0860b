/** `iommu tour STORY`: a plugin's story, told on a machine of its own. */
import { buildMachine, IommuError, type Story, type StoryParts, type TraceEvent, Tracer } from "@iommukit/core";
import type { Composition } from "../composition.js";
import { eventLine } from "../events.js";
import { sanitize } from "../sanitize.js";
import { print, printJson, style } from "../style.js";

interface StoryOptions {
  readonly machine?: string;
  readonly mode?: string;
  readonly json?: boolean;
  readonly sanitize?: true;
}

interface Told {
  readonly title: string;
  /** In order: what the teller says, what the machine tells, what was checked. */
  readonly lines: (string | TraceEvent | Check)[];
}

interface Check {
  readonly kind: "check";
  readonly what: string;
  readonly held: boolean;
}

function checksOf(steps: readonly Told[]): Check[] {
  return steps.flatMap(({ lines }) => lines).filter((line): line is Check => typeof line !== "string" && line.kind === "check");
}

export function tellStory(composition: Composition, name: string, options: StoryOptions): void {
  const story = composition.stories.find((candidate) => candidate.name === name);
  if (story === undefined) throw new Error(`there is no story "${name}"; there are: ${composition.stories.map((candidate) => candidate.name).join(", ") || "none"}`);
  const tracer = new Tracer();
  const unit = chooseUnit(composition, options.machine);
  const mode = chooseMode(story, unit.type, options.mode);
  const machine = buildMachine(story.machine(unit), composition, tracer);
  const sanitizer = options.sanitize && sanitize(machine);
  const steps: Told[] = [];
  tell(story, machine, { ...composition, mode }, tracer, (step) => {
    steps.push(step);
    if (!options.json) show(step);
  });
  const checks = checksOf(steps);
  const held = checks.filter((check) => check.held).length;
  if (options.json) printJson({ story: story.name, mode, machine: machine.spec, steps, checks: { held, of: checks.length } });
  else print(`\n${held === checks.length ? style.good("every check held") : style.bad("NOT every check held")}: ${held} of ${checks.length}`);
  const exitCode = held === checks.length ? 0 : 1;
  process.exitCode = sanitizer ? sanitizer.exitCode(exitCode) : exitCode;
}

/** A unit with everything that its kind has: of the kind that is named, else of the first. */
function chooseUnit({ iommus }: Composition, wanted: string | undefined): { type: string; options: Readonly<Record<string, unknown>> } {
  const able = iommus.filter((factory) => factory.everything);
  const factory = wanted === undefined ? able[0] : able.find((candidate) => candidate.name === wanted);
  if (factory === undefined) throw new Error(`a story is told on a unit by its name, with all that it can do: ${able.map((candidate) => candidate.name).join(", ")}; not on "${wanted ?? "none"}"`);
  return { type: factory.name, options: factory.everything ?? {} };
}

function chooseMode(story: Story, type: string, wanted: string | undefined): string | undefined {
  const modes = story.modes?.(type) ?? {};
  if (wanted === undefined || Object.hasOwn(modes, wanted)) return wanted ?? Object.keys(modes)[0];
  const known = Object.entries(modes).map(([name, about]) => `${name} (${about})`);
  throw new Error(`the story "${story.name}" has no mode "${wanted}" on ${type}; there are: ${known.join(", ") || "none"}`);
}

function tell(story: Story, machine: Parameters<Story["tell"]>[0], parts: StoryParts, tracer: Tracer, told: (step: Told) => void): void {
  story.tell(machine, {
    step(title, run) {
      const step: Told = { title, lines: [] };
      const stop = tracer.listen((event) => {
        if (isWorthShowing(event)) step.lines.push(event);
      });
      try {
        return run({ say: (line) => void step.lines.push(line), check: (what, held) => void step.lines.push({ kind: "check", what, held }) });
      } catch (error) {
        if (error instanceof IommuError) step.lines.push({ kind: "check", what: `a refusal that the story does not know: ${error.message}`, held: false });
        throw error;
      } finally {
        stop();
        told(step);
      }
    },
  }, parts);
}

const NOT_SHOWN: ReadonlySet<string> = new Set(["pread", "pwrite", "open", "IOMMU_IOAS_MAP", "IOMMU_IOAS_ALLOC", "VFIO_DEVICE_GET_INFO", "VFIO_DEVICE_GET_REGION_INFO", "VFIO_DEVICE_GET_IRQ_INFO"]);

/** What passes between programs, devices and units; not how a driver writes it down. */
function isWorthShowing(event: TraceEvent): boolean {
  if (event.kind === "call") return !NOT_SHOWN.has(event.name);
  return event.kind === "fault" || event.kind === "page-request" || event.kind === "interrupt";
}

function show({ title, lines }: Told): void {
  print(`\n${style.title(title)}`);
  for (const line of lines) {
    if (typeof line === "string") print(`  ${line}`);
    else if (line.kind === "check") print(`  ${line.held ? style.good("check ") : style.bad("FAILED")} ${line.what}`);
    else print(`    ${style.dim(eventLine(line))}`);
  }
}
