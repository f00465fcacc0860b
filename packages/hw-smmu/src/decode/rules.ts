/** Rules of ILLEGAL that a structure breaks, with the fields that break them. */
import { CD_RULES, type CdContext, type IllegalRule, STE_RULES, type SteContext } from "../spec/illegal.js";
import type { BrokenRule } from "./trail.js";

/** Of an STE with V=1 that does not abort. */
export function brokenSteRules(context: SteContext): BrokenRule[] {
  return STE_RULES.filter((rule) => rule.when(context)).map(asBroken);
}

/** Of a CD with V=1. A rule of both halves of the input range is about those that break it alone. */
export function brokenCdRules(context: CdContext): BrokenRule[] {
  return CD_RULES.filter((rule) => rule.when(context)).map((rule) => (rule.name.includes("x") ? halvesOf(rule, context) : asBroken(rule)));
}

function asBroken({ name, text }: IllegalRule<never>): BrokenRule {
  return { fields: (field) => field === name, text: `${name}: ${text}` };
}

function halvesOf(rule: IllegalRule<CdContext>, context: CdContext): BrokenRule {
  const breaks = (half: number): boolean => rule.when({ ...context, f: { ...context.f, [`EPD${1 - half}`]: 1 } });
  const names = [0, 1].filter(breaks).map((half) => rule.name.replace("x", String(half)));
  return { fields: (field) => names.includes(field), text: `${names.join(", ")}: ${rule.text}` };
}
