// The languages of the pages.

export type Language = "zh" | "en";

/** The language of a BCP 47 tag: Chinese, or English for all others. */
export function languageOf(tag: string | null | undefined): Language {
  return (tag || navigator.language || "zh").toLowerCase().startsWith("zh") ? "zh" : "en";
}

/** The BCP 47 tag of a language. */
export function tagOf(one: Language): string {
  return one === "zh" ? "zh-CN" : "en";
}
