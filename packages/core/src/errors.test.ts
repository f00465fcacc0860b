/** Every refusal says why: each place in the sources that makes one, and each errno of each request when it happens. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";

const packages = new URL("../../", import.meta.url).pathname;

function sources(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return sources(path);
    return entry.name.endsWith(".ts") && !entry.name.endsWith(".test.ts") ? [path] : [];
  });
}

const files = readdirSync(packages).flatMap((name) => sources(join(packages, name, "src")));

/** Arguments of the call whose parenthesis opens at `open`, as text. */
function argumentsAt(text: string, open: number): string[] {
  const list: string[] = [];
  const closers: string[] = [];
  let from = open + 1;
  for (let at = from; at < text.length; at++) {
    const char = text[at];
    const inside = closers.at(-1);
    if (inside === "`" || inside === '"' || inside === "'") {
      if (char === "\\") at++;
      else if (char === inside) closers.pop();
      else if (inside === "`" && text.startsWith("${", at)) {
        closers.push("}");
        at++;
      }
    } else if ("`\"'".includes(char)) closers.push(char);
    else if ("({[".includes(char)) closers.push({ "(": ")", "{": "}", "[": "]" }[char] ?? "");
    else if (char === inside) closers.pop();
    else if (char === ")" || (char === "," && closers.length === 0)) {
      const argument = text.slice(from, at).trim();
      if (argument !== "") list.push(argument);
      if (char === ")") return list;
      from = at + 1;
    }
  }
  throw new Error(`a call does not end: ${text.slice(open, open + 80)}`);
}

interface Site {
  readonly place: string;
  readonly list: readonly string[];
}

function sites(call: string): Site[] {
  return files.flatMap((file) => {
    const text = readFileSync(file, "utf8");
    const found: Site[] = [];
    // Others have methods of that name.
    if (call === "refuse" && !/^import [^;]*\brefuse\b/m.test(text)) return found;
    for (let at = text.indexOf(`${call}(`); at !== -1; at = text.indexOf(`${call}(`, at + 1)) {
      const start = text.lastIndexOf("\n", at) + 1;
      const line = text.slice(0, at).split("\n").length;
      // Its definition, and words in comments.
      if (/^\s*(\/?\*|\/\/|export function)/.test(text.slice(start, at + call.length)) || /[\w.#]/.test(text[at - 1])) continue;
      found.push({ place: `${file.slice(packages.length)}:${line}`, list: argumentsAt(text, at + call.length) });
    }
    return found;
  });
}

describe("every place that refuses something", () => {
  const refusals = sites("refuse");
  const errors = sites("new IommuError").filter(({ place }) => !place.startsWith("core/src/errors.ts"));

  it("is found", () => {
    expect(refusals.length).toBeGreaterThan(300);
    expect(errors.length).toBeGreaterThan(5);
  });

  it("says it in words, and what is to blame", () => {
    const wordless = refusals.filter(({ list: [, message = ""] }) => /^["'`]/.test(message) && message.split(/\s+/).length < 3 && !message.includes("essage}"));
    expect(wordless.map(({ place }) => place)).toEqual([]);
    const blameless = refusals.filter(({ list }) => list.length !== 3 || (list[2].startsWith("{") && !/\b(argument|rule)\b/.test(list[2])));
    expect(blameless.map(({ place, list }) => `${place} ${list.join(", ")}`)).toEqual([]);
    const bare = errors.filter(({ list: [, reason = ""] }) => reason.startsWith("{") && !/\.\.\.|\b(argument|rule)\b/.test(reason));
    expect(bare.map(({ place }) => place)).toEqual([]);
  });

  it("is all that a request can end with", () => {
    const thrown = sites("throw new Error").map(({ place }) => place.replace(/:\d+$/, ""));
    // While modules are loaded, before there is any request: a command without a handler, a big-endian machine.
    const loading = ["core/src/iommufd/commands/index.ts", "core/src/memory/physical-memory.ts"];
    expect(thrown.filter((place) => /^core\/src\/(files|iommufd|vfio|memory)\//.test(place)).sort()).toEqual(loading);
  });
});
