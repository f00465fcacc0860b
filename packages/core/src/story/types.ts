/** Stories for `iommu tour`: a plugin registers them under `TOKENS.stories`. */
import type { Machine } from "../machine/machine.js";
import type { IommuFactory, IommuSpec, MachineSpec } from "../machine/types.js";

/** One step of a story while it runs. What the machine tells of itself meanwhile is shown between its lines. */
export interface StoryStep {
  /** Who told whom what. */
  say(line: string): void;
  check(what: string, held: boolean): void;
}

export interface StoryTeller {
  /** Runs a step and shows it; a refusal that the step does not expect ends the story. */
  step<T>(title: string, run: (step: StoryStep) => T): T;
}

/** What a story may build besides its machine: a guest with an IOMMU of its own. */
export interface StoryParts {
  readonly iommus: readonly IommuFactory[];
  /** One of the story's, where it has any. */
  readonly mode?: string | undefined;
}

export interface Story {
  /** "mdev", as in `iommu tour mdev`. */
  readonly name: string;
  readonly about: string;
  /** Ways in which it can be told on a kind of unit, by name, with what they are; the first unless one is asked for. */
  modes?(type: string): Readonly<Record<string, string>>;
  /** The machine that it needs, behind a unit with everything that its kind has. */
  machine(iommu: IommuSpec): MachineSpec;
  tell(machine: Machine, teller: StoryTeller, parts: StoryParts): void;
}
