/** A recipe: the one change that turns something that works into a fault, what is recorded of it, and what to say about it. */
import type { UnitChoices } from "../hardware/unit.js";
import type { SceneName } from "./scene.js";

export type Values = Readonly<Record<string, bigint>>;

/** Fields of identification registers that differ from the unit that can do everything. */
export interface UnitChange {
  readonly minor?: number;
  readonly idr0?: Values;
  readonly idr1?: Values;
  readonly idr3?: Values;
  readonly idr5?: Values;
  /** What the manual leaves open. */
  readonly choices?: UnitChoices;
}

/** A transaction of the device. */
export interface Request {
  readonly address?: bigint;
  readonly access?: "read" | "write" | "atomic" | "execute";
  readonly privileged?: boolean;
  readonly substream?: number;
  readonly stream?: number;
}

/** What is set up beyond a scene. */
export interface Setting {
  readonly unit?: UnitChange;
  /** Registers by name, as they are written. */
  readonly registers?: Values;
  /** Fields by part of the scene. */
  readonly set?: Readonly<Record<string, Values>>;
  readonly request?: Request;
  /** The command, by field; `opcode` too. */
  readonly command?: Values;
  /** CMD_SYNC that follows the command. */
  readonly sync?: Values;
  /** The page of this part takes no writes. */
  readonly readOnly?: string;
  /** The stream above has made a request before. */
  readonly neighbourFirst?: boolean;
  /** The device does not answer invalidations. */
  readonly deaf?: boolean;
  /** After a request to the page behind, a table descriptor becomes a block; TLBI follows unless `uninvalidated`. */
  readonly merge?: { readonly part: string; readonly values: Values };
  readonly uninvalidated?: boolean;
}

/** How a request comes to the unit. */
export type Kind = "untranslated" | "translation" | "translated" | "page" | "command";

export interface Recipe {
  /** "F_PERMISSION", or with what tells it apart from the plain case: "F_PERMISSION:stage2". */
  readonly name: string;
  readonly text: string;
  /** Section of the manual where the rule stands. */
  readonly section: string;
  readonly scene: SceneName;
  /** Requests that meet it; those of its event unless given. */
  readonly kinds?: readonly Kind[];
  /** Still works. */
  readonly given?: Setting;
  /** What makes it fail; it is marked. */
  readonly change: Setting;
  readonly expect: Expectation;
  /** The rule of `spec/illegal.ts` that the change breaks, and no other: "S2TG: reserved or not implemented". */
  readonly rule?: string;
  /** Errors that there are without the change too. */
  readonly before?: { readonly event?: number; readonly gerror?: number };
  /** What the hardware saw, in a sentence. */
  readonly why: string;
  /** What usually leads to it. */
  readonly cause: string;
  readonly mend: string;
}

export interface Expectation {
  readonly event?: number;
  /** Fields of the record that do not repeat the request. Everything else in it is 0. */
  readonly record?: Values;
  /** What is missing is the right to write alone: a translation request is granted the rest (13.7). */
  readonly reads?: boolean;
  /** GERROR bits that become active. */
  readonly gerror?: number;
  /** CMDQ_CONS.ERR. */
  readonly commandError?: number;
  /** CMDQ_CONS.RD where the queue stops. */
  readonly stopsAt?: number;
  /** Page requests in their queue, where the device gets no answer. */
  readonly queued?: number;
}
