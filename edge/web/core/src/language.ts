// The language of a page, as its reader chose it.

import { effect, signal } from "@preact/signals";

import { type Language, languageOf } from "./text";

const KEPT = "octopus:language";

/** The language that is shown. */
export const language = signal<Language>(languageOf(localStorage.getItem(KEPT)));

/** Show the other language, and keep the choice. */
export function switchLanguage(): void {
  language.value = language.peek() === "zh" ? "en" : "zh";
  localStorage.setItem(KEPT, tagOf(language.peek()));
}

/** The BCP 47 tag of a language. */
export function tagOf(one: Language): string {
  return one === "zh" ? "zh-CN" : "en";
}

effect(() => {
  document.documentElement.lang = tagOf(language.value);
});
