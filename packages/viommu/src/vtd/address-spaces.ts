/** Which address spaces of the host a guest's tables ask for. */
import type { TranslationView } from "@iommukit/hw-vtd/spec";
import type { HostDevice } from "./host-objects.js";
import { NestedSpace, ShadowedSpace, type ShadowOptions, type ShadowParts, type Space } from "./spaces.js";

type SecondStageView = Extract<TranslationView, { readonly second: unknown }>;

export class AddressSpaces {
  readonly #parts: ShadowParts;
  /** By key: requesters share a shadow. */
  readonly #shadows = new Map<string, ShadowedSpace>();

  constructor(parts: ShadowParts) {
    this.#parts = parts;
  }

  /**
   * For one use, which `free` ends.
   * @param faultId who sees to page requests; undefined: nobody
   * @returns undefined: none, or the guest's memory as it is
   * @throws IommuError what the host refuses
   */
  make(host: HostDevice, view: TranslationView, faultId: number | undefined): Space | undefined {
    const { objects } = this.#parts;
    switch (view.kind) {
      case "first-stage":
        return new NestedSpace(objects, host, view, faultId);
      case "second-stage":
        return this.#shadow(keyOf(view, faultId !== undefined), host, view, { faultId });
      case "nested":
        return this.#nested(host, view, faultId);
      default:
        return undefined;
    }
  }

  /** The guest's second stage below is one for all of its domains. */
  #nested(host: HostDevice, view: TranslationView & { readonly kind: "nested" }, faultId: number | undefined): Space {
    const parent = this.#shadow(`parent ${words(view.second)}`, host, view, { parent: true });
    try {
      return new NestedSpace(this.#parts.objects, host, view, faultId, parent);
    } catch (error) {
      parent.free();
      throw error;
    }
  }

  #shadow(key: string, host: HostDevice, view: SecondStageView, options: Omit<ShadowOptions, "gone">): ShadowedSpace {
    const known = this.#shadows.get(key);
    if (known) return known.shared();
    const shadow = new ShadowedSpace(this.#parts, host, view, { ...options, gone: () => void this.#shadows.delete(key) });
    this.#shadows.set(key, shadow);
    return shadow;
  }
}

/** Equal for what the host has to do nothing about. @param requests its page requests go to the guest */
export function keyOf(view: TranslationView, requests: boolean): string {
  switch (view.kind) {
    case "blocked":
      return "blocked";
    case "untranslated":
    case "pass-through":
      return "whole";
    case "first-stage":
      return `first ${view.domain} ${requests} ${words(view.first)}`;
    case "second-stage":
      return `second ${view.domain} ${requests} ${words(view.second)}`;
    default:
      return `nested ${view.domain} ${requests} ${words(view.first)} ${words(view.second)}`;
  }
}

function words(stage: object): string {
  return Object.values(stage).join(" ");
}
