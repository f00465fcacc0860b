/** Flows of RFC v2, and what can be made of them, for `iommu tour`. */
import type { Story } from "@iommukit/core";
import { guestInGuest } from "./guest-in-guest.js";
import { guestSva } from "./guest-sva.js";
import { nested } from "./nested.js";
import { oneSpace } from "./one-space.js";
import { pageFault } from "./page-fault.js";
import { softwareNesting } from "./software-nesting.js";
import { twoSpaces } from "./two-spaces.js";

export const stories: readonly Story[] = [oneSpace, twoSpaces, softwareNesting, nested, guestSva, pageFault, guestInGuest];
