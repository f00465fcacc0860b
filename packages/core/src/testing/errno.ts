import { IommuError } from "../errors.js";

/** The errno that an action is refused with, "none" where it is not. Anything but a refusal is thrown. */
export function errnoOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (error instanceof IommuError) return error.errno;
    throw error;
  }
  return "none";
}
