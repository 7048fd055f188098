// Conversations as far as answers go: who waits for one, and whether the agent's own has arrived.

import { effect } from "@preact/signals";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { SenderKind } from "@octopus/contracts/octopus/chat/v1/message_pb";

import { isRecalled } from "@octopus/core/content";
import { type Conversation, isTalking, type Line } from "@octopus/core/conversation";
import { type Said, unansweredSince } from "./unanswered";

/** Since when a customer waits for an answer, in milliseconds since the epoch; undefined for one who does not. */
export function waitsSince(conversation: Conversation): number | undefined {
  const { handoffAt, acceptedAt } = conversation.session.value;
  if (!isTalking(conversation.session.value)) return undefined;
  const taken = { handoffAt: handoffAt && timestampMs(handoffAt), acceptedAt: acceptedAt && timestampMs(acceptedAt) };
  return unansweredSince(taken, conversation.lines.value.map(saidOf));
}

/** When the last line was said, in milliseconds since the epoch. */
export function lastAt(conversation: Conversation): number {
  const said = conversation.lines.value.at(-1)?.message.sentAt ?? conversation.session.value.acceptedAt;
  return said ? timestampMs(said) : 0;
}

/** Wait until a message of the agent's own is stored; false when it was refused, or not stored within this time. */
export function stored(conversation: Conversation, clientMessageId: string, withinMs: number): Promise<boolean> {
  return new Promise((resolve) => {
    const done = (arrived: boolean) => {
      window.clearTimeout(timer);
      // The effect may be running right now, and cannot be stopped by itself.
      queueMicrotask(() => stop());
      resolve(arrived);
    };
    const timer = window.setTimeout(() => done(false), withinMs);
    const stop = effect(() => {
      const own = conversation.lines.value.find(({ message }) => message.clientMessageId === clientMessageId);
      if (own?.delivery === "sent" || own?.delivery === "failed") done(own.delivery === "sent");
    });
  });
}

function saidOf({ message, delivery }: Line): Said {
  const at = message.sentAt ? timestampMs(message.sentAt) : 0;
  // Customers never see a note, and no longer see what was taken back.
  const unseen = message.content?.kind.case === "note" || isRecalled(message);
  if (unseen || message.content?.kind.case === "change") return { by: "other", at };
  if (delivery !== undefined) return { by: delivery === "failed" ? "other" : "agent", at };
  const kind = message.sender?.kind;
  return { by: kind === SenderKind.CUSTOMER ? "customer" : kind === SenderKind.AGENT ? "agent" : "other", at };
}
