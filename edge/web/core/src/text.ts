// How text, names and times are shown.

import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { timestampDate } from "@bufbuild/protobuf/wkt";

import { type Language, tagOf } from "./locale.ts";

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
  return date.toLocaleString(tagOf(language), {
    hour: "2-digit",
    minute: "2-digit",
    hourCycle: "h23",
    ...(today ? {} : { month: "numeric", day: "numeric" }),
  });
}

/** The first characters of a text, as its reader counts them, with an ellipsis when something is left out. */
export function clip(text: string, most: number): string {
  let count = 0;
  for (const { index } of characters(text)) {
    if (count === most) return `${text.slice(0, index).trimEnd()}…`;
    count++;
  }
  return text;
}

/** The first character of a text, as its reader counts them: a flag or a family is one. Empty when there is none. */
export function initial(text: string): string {
  for (const { segment } of characters(text.trim())) return segment;
  return "";
}

// Scripts that are written from right to left.
const TURNING = /[\p{Script=Arabic}\p{Script=Hebrew}\p{Script=Syriac}\p{Script=Thaana}\p{Script=Nko}]/u;

/** Keep the writing direction of a name from turning the sentence in which it stands. */
export function isolate(name: string): string {
  return TURNING.test(name) ? `\u2068${name}\u2069` : name;
}

/** What a reader sees as one character may be several code points; the rules are the same in every language here. */
function characters(text: string): Iterable<{ segment: string; index: number }> {
  return new Intl.Segmenter("und", { granularity: "grapheme" }).segment(text);
}
