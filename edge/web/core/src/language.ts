// The language of a page, as its reader chose it.

import { effect, signal } from "@preact/signals";

import { type Language, languageOf, tagOf } from "./locale";
import { lasting } from "./storage";

const KEPT = "octopus:language";

/** The language that is shown. */
export const language = signal<Language>(languageOf(lasting.get(KEPT)));

/** Show the other language, and keep the choice. */
export function switchLanguage(): void {
  language.value = language.peek() === "zh" ? "en" : "zh";
  lasting.set(KEPT, tagOf(language.peek()));
}

effect(() => {
  document.documentElement.lang = tagOf(language.value);
});
