// The quote above a message, and over the box while one is being written.

import { isRecalled, textOf } from "./content";
import type { Conversation, Line } from "./conversation";
import { clip } from "./text";

const LONGEST = 80;

interface Words {
  quotedEarlier: string;
  recalledShort: string;
}

interface QuotedProps {
  /** Position of the quoted message; 0 for none. */
  seq: bigint;
  conversation: Conversation;
  words: Words;
  nameOf: (line: Line) => string;
}

/** What a message quotes; leads there. */
export function Quoted({ seq, conversation, words, nameOf }: QuotedProps) {
  if (seq === 0n) return null;
  const line = conversation.at(seq);
  return (
    <button
      type="button"
      class="quoted"
      dir="auto"
      onClick={({ currentTarget }) => {
        const there = currentTarget.closest(".log")?.querySelector(`[data-seq="${seq}"]`);
        there?.scrollIntoView({ block: "center" });
        there?.classList.remove("found");
        requestAnimationFrame(() => there?.classList.add("found"));
      }}
      data-testid="quoted"
    >
      {line ? `${nameOf(line)}: ${brief(line, words)}` : words.quotedEarlier}
    </button>
  );
}

interface AboutProps {
  text: string;
  cancel: string;
  onCancel: () => void;
}

/** What the next message is about, with a button that says no. */
export function About({ text, cancel, onCancel }: AboutProps) {
  return (
    <div class="about" data-testid="about">
      <span dir="auto">{text}</span>
      <button type="button" aria-label={cancel} onClick={onCancel} data-testid="about-cancel">✕</button>
    </div>
  );
}

/** A line in few words. */
export function brief({ message }: Line, words: Words): string {
  return isRecalled(message) ? words.recalledShort : clip(textOf(message).replace(/\s+/g, " "), LONGEST);
}
