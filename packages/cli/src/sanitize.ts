/** `--sanitize`: findings on standard error as they are made, and what they mean for the exit code. */
import { findingLines, type SanitizedMachine, Sanitizer } from "@iommukit/core";
import { style } from "./style.js";

/** Listens until `exitCode` is asked for. */
export function sanitize(machine: SanitizedMachine): { exitCode(own: number): number } {
  const sanitizer = new Sanitizer(machine, (finding) => {
    const [first, ...rest] = findingLines(finding);
    process.stderr.write(`${style.bad(first)}\n${rest.map((line) => `${line}\n`).join("")}`);
  });
  return {
    /** 1 in the place of 0 when there was a finding: the program itself saw nothing of it. */
    exitCode(own) {
      sanitizer.stop();
      if (sanitizer.count > 0) process.stderr.write(`iommu: ${sanitizer.count} finding${sanitizer.count === 1 ? "" : "s"}\n`);
      return own === 0 && sanitizer.count > 0 ? 1 : own;
    },
  };
}
