import type { DependencyContainer } from "tsyringe";

/** What a vendor's ES module exports as `default` or `plugin`. */
export interface Plugin {
  readonly name: string;
  /** Registers factories under core's `TOKENS`, with `useValue` or `useFactory`. */
  register(container: DependencyContainer): void;
}
