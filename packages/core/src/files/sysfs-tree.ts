/** What a machine shows under /sys and /dev/vfio, as it is at the moment, for those who follow it while it runs. */
import type { SysfsChange, SysfsEntry } from "./types.js";

/** Links that one path may go through, as in Linux. */
const LINK_LIMIT = 40;

export class SysfsTree {
  readonly #entries = new Map<string, SysfsEntry>();
  readonly #listeners = new Set<(change: SysfsChange) => void>();

  get entries(): readonly SysfsEntry[] {
    return [...this.#entries.values()];
  }

  /** An entry that is there already is replaced. */
  add(entries: readonly SysfsEntry[]): void {
    for (const entry of entries) this.#entries.set(entry.path, entry);
    this.#tell({ added: entries, removed: [] });
  }

  /** Paths go with everything below them. */
  remove(paths: readonly string[]): void {
    for (const path of [...this.#entries.keys()]) if (paths.some((gone) => path === gone || path.startsWith(`${gone}/`))) this.#entries.delete(path);
    this.#tell({ added: [], removed: paths });
  }

  /** The entry that a path leads to, links followed; undefined for a path that no file of ours ends. */
  resolve(path: string): SysfsEntry | undefined {
    let rest = path.split("/").filter((part) => part !== "" && part !== ".");
    let links = 0;
    let at = "";
    while (rest.length > 0) {
      const [part, ...more] = rest;
      rest = more;
      at = part === ".." ? at.slice(0, Math.max(0, at.lastIndexOf("/"))) : `${at}/${part}`;
      const entry = this.#entries.get(at);
      if (entry?.kind !== "link") continue;
      if (++links > LINK_LIMIT) return undefined;
      rest = [...entry.target.split("/").filter((name) => name !== ""), ...rest];
      at = entry.target.startsWith("/") ? "" : at.slice(0, at.lastIndexOf("/"));
    }
    return this.#entries.get(at);
  }

  /** Calls `listener` after each change, until what is returned is called. */
  watch(listener: (change: SysfsChange) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  #tell(change: SysfsChange): void {
    for (const listener of this.#listeners) listener(change);
  }
}

/** A relative link, as sysfs makes them. */
export function sysfsLink(path: string, target: string): SysfsEntry {
  const from = path.split("/").slice(1, -1);
  const to = target.split("/").slice(1);
  let common = 0;
  while (common < from.length && common < to.length && from[common] === to[common]) common++;
  return { path, kind: "link", target: [...from.slice(common).map(() => ".."), ...to.slice(common)].join("/") };
}
