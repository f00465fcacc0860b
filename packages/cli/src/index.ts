// @iommukit/cli as a library: the composition root, for tools of your own.
export { chooseMachine, compose } from "./composition.js";
export type { Composition, GlobalOptions } from "./composition.js";
