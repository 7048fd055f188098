// Small things of showing text.

import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { timestampDate } from "@bufbuild/protobuf/wkt";

export type Language = "zh" | "en";

/** The language of a BCP 47 tag: Chinese, or English for all others. */
export function languageOf(tag: string | null | undefined): Language {
  return (tag || navigator.language || "zh").toLowerCase().startsWith("zh") ? "zh" : "en";
}

/** Bytes a text takes on the wire, where its limit is. */
export function byteLength(text: string): number {
  return new TextEncoder().encode(text).length;
}

/** Longest text, in bytes of UTF-8; from the contract. */
export const LONGEST_TEXT = 8192;

/** The time of day, with the date when it is not today. */
export function clock(at: Timestamp | undefined, language: Language): string {
  if (!at) return "";
  const date = timestampDate(at);
  const today = new Date().toDateString() === date.toDateString();
  return date.toLocaleString(language === "zh" ? "zh-CN" : "en", {
    hour: "2-digit",
    minute: "2-digit",
    hour12: false,
    ...(today ? {} : { month: "numeric", day: "numeric" }),
  });
}

export type Piece = { text: string } | { link: string };

const LINKS = /https?:\/\/[^\s<>"'，。；！？、）】》]+/g;

/** Cut a text at its web addresses. Nothing else of a text is ever more than text. */
export function pieces(text: string): Piece[] {
  const found: Piece[] = [];
  let from = 0;
  for (const match of text.matchAll(LINKS)) {
    if (match.index > from) found.push({ text: text.slice(from, match.index) });
    found.push({ link: match[0] });
    from = match.index + match[0].length;
  }
  if (from < text.length) found.push({ text: text.slice(from) });
  return found;
}
