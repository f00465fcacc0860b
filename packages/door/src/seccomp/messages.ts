/** What the door, its keeper and the keeper's thread say to each other. */

/** The program to run. */
export interface SpawnerData {
  readonly program: string;
  readonly argv0: string;
  readonly args: readonly string[];
  readonly env: NodeJS.ProcessEnv;
}

export type ToSpawner = { readonly kind: "go" } | { readonly kind: "signal"; readonly signal: NodeJS.Signals };

export type FromSpawner =
  /** Descriptor of the keeper's process. */
  | { readonly kind: "listener"; readonly fd: number }
  /** The kernel does not want the filter. */
  | { readonly kind: "refused"; readonly errno: number }
  | { readonly kind: "started"; readonly pid: number }
  | { readonly kind: "failed"; readonly message: string }
  | { readonly kind: "exit"; readonly code: number | null; readonly signal: NodeJS.Signals | null };

export type ToKeeper = ({ readonly kind: "start" } & SpawnerData) | ToSpawner;
