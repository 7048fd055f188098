// How wide the screen is, as far as scripts must know. Breaks are the same as in style.css.

import { signal } from "@preact/signals";

const narrow = window.matchMedia("(max-width: 759px)");

/** Whether one column is shown at a time. */
export const isNarrow = signal(narrow.matches);

narrow.addEventListener("change", () => (isNarrow.value = narrow.matches));
