// What a message says, for every kind of content.

import { create } from "@bufbuild/protobuf";
import { timestampNow } from "@bufbuild/protobuf/wkt";
import { ContentSchema, type Message } from "@octopus/contracts/octopus/chat/v1/message_pb";

/**
 * What a message says in words. Empty for a change of the session, which has words of its own. A kind that is newer
 * than this page is shown by the text that came with it.
 */
export function textOf({ content }: Message): string {
  switch (content?.kind.case) {
    case "text":
    case "answer":
    case "note":
      return content.kind.value.text;
    case "change":
    case "edit":
    case "recall":
      return "";
    case undefined:
      return content?.fallbackText ?? "";
  }
}

/** Whether a message was taken back; its words are gone. */
export function isRecalled({ recalledAt }: Message): boolean {
  return recalledAt !== undefined;
}

/** The position of the message that this one edits or recalls; undefined for every other kind. */
export function changedBy({ content }: Message): bigint | undefined {
  const kind = content?.kind;
  return kind?.case === "edit" || kind?.case === "recall" ? kind.value.targetSeq : undefined;
}

/** A message as it reads after changes of it, in the order of the log; the same object when nothing changes it. */
export function afterChanges(message: Message, changes: readonly Message[]): Message {
  const recall = changes.find(({ content }) => content?.kind.case === "recall");
  if (recall) {
    const content = create(ContentSchema, { fallbackText: recall.content?.fallbackText ?? "" });
    return { ...message, content, recalledAt: recall.sentAt ?? timestampNow() };
  }
  if (isRecalled(message)) return message;
  // History leaves the words of edits out that count no more.
  const edit = changes.findLast(({ content }) => content?.kind.case === "edit" && content.kind.value.text);
  if (edit?.content?.kind.case !== "edit") return message;
  const content = create(ContentSchema, { kind: { case: "text", value: edit.content.kind.value.text! } });
  return { ...message, content, editedAt: edit.sentAt ?? timestampNow() };
}

/** Whether the kind of a message is newer than this page. */
export function isUnknown({ content }: Message): boolean {
  return content?.kind.case === undefined;
}
