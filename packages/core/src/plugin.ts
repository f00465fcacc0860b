/** What plugins register into: tsyringe's container fits, and so does any other of this shape, so nobody needs its types. */
export interface PluginContainer {
  register<T>(token: symbol, provider: { readonly useValue: T }): unknown;
  register<T>(token: symbol, provider: { readonly useFactory: () => T }): unknown;
}

/** What a vendor's ES module exports as `default` or `plugin`. */
export interface Plugin {
  readonly name: string;
  /** Registers factories under core's `TOKENS`, with `useValue` or `useFactory`. */
  register(container: PluginContainer): void;
}
