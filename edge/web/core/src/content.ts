// What a message says, for every kind of content.

import type { Message } from "@octopus/contracts/octopus/chat/v1/message_pb";

/**
 * What a message says in words. Empty for a change of the session, which has words of its own. A kind that is newer
 * than this page is shown by the text that came with it.
 */
export function textOf({ content }: Message): string {
  switch (content?.kind.case) {
    case "text":
    case "answer":
      return content.kind.value.text;
    case "change":
      return "";
    case undefined:
      return content?.fallbackText ?? "";
  }
}

/** Whether the kind of a message is newer than this page. */
export function isUnknown({ content }: Message): boolean {
  return content?.kind.case === undefined;
}
