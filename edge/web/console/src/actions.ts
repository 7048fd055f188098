// What an agent can do with a line.

import { isRecalled } from "@octopus/core/content";
import { type Conversation, isTalking, type Line } from "@octopus/core/conversation";
import type { Link } from "@octopus/core/link";
import type { Action } from "@octopus/core/menu";

import { isNote } from "./shown";
import type { Words } from "./words";

/** What can be done with a line now. Notes stay as they were written, and are quoted in notes. */
export function actionsOn(line: Line, conversation: Conversation, link: Link, text: Words): Action[] {
  const { message } = line;
  if (!isTalking(conversation.session.value) || message.seq === 0n) return [];
  if (isRecalled(message)) return [];
  const actions: Action[] = [{ name: "quote", label: text.quote, run: () => (conversation.quoting.value = line) }];
  if (line.delivery === undefined || isNote(message)) return actions;
  actions.push({ name: "edit", label: text.edit, run: () => (conversation.editing.value = line) });
  const left = link.recallableS(message);
  if (left > 0) actions.push({ name: "recall", label: text.recall(left), run: () => link.recall(line) });
  return actions;
}
