// The time, as a signal for what shows how long something takes.

import { signal } from "@preact/signals";

/** Milliseconds since the epoch, once a second. */
export const now = signal(Date.now());

window.setInterval(() => (now.value = Date.now()), 1_000);
