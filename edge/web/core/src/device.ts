// The name of this browser, by which its streams are told from those of the person's other devices.

import { lasting } from "./storage";

const KEY = "octopus:device";

/** The name: made by chance once, and kept. */
export function deviceId(): string {
  const kept = lasting.get(KEY);
  if (kept) return kept;
  const made = crypto.randomUUID();
  lasting.set(KEY, made);
  return made;
}
