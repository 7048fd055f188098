// How sessions and messages are worded for the shopper.

import { type Message, SenderKind, type SessionChange } from "@octopus/contracts/octopus/chat/v1/message_pb";
import { RequeueReason, type Session, SessionState } from "@octopus/contracts/octopus/session/v1/session_pb";
import { type Conversation, isTalking, type Line } from "@octopus/core/conversation";

import type { Words } from "./words";

export type Kind = "customer" | "agent" | "bot" | "system";
export type Delivery = "sending" | "sent" | "delivered" | "read" | "failed";

/** The panel's title: who answers, once a person does. */
export function headline(session: Session | null, words: Words): string {
  return session && isTalking(session) && session.agentName ? session.agentName : words.title;
}

/** What a shopper who waits is told; empty for one who does not. */
export function queueText(session: Session, words: Words): string {
  if (session.state === SessionState.ASSIGNED) return words.assigned;
  if (session.state !== SessionState.WAITING) return "";
  if (session.queuePosition <= 0) return words.waitingUnknown;
  return session.queuePosition === 1 ? words.waitingFirst : words.waiting(session.queuePosition - 1);
}

/** Whether a line is the reader's: whoever speaks for the customer is, also from before a visitor logged in. */
export function isOwn({ message, delivery }: Line): boolean {
  return delivery !== undefined || message.sender?.kind === SenderKind.CUSTOMER;
}

/** What kind of participant wrote a message. */
export function kindOf(message: Message): Kind {
  switch (message.sender?.kind) {
    case SenderKind.AGENT:
      return "agent";
    case SenderKind.BOT:
      return "bot";
    case SenderKind.SYSTEM:
      return "system";
    default:
      return "customer";
  }
}

/** The name over a message of somebody else. */
export function nameOf(message: Message, words: Words): string {
  return message.sender?.kind === SenderKind.BOT ? words.bot : message.sender?.displayName || words.agent;
}

/** How far one of the shopper's own lines has come. */
export function deliveryOf(line: Line, conversation: Conversation): Delivery {
  if (line.delivery !== undefined && line.delivery !== "sent") return line.delivery;
  const { delivered, read } = conversation.marks.value;
  // The bot sends no receipts: what it answers, it has read.
  const answered = conversation.lines.value.some(
    ({ message: { content } }) =>
      content?.kind.case === "answer" && content.kind.value.answersSeq >= line.message.seq,
  );
  if (line.message.seq <= read || answered) return "read";
  return line.message.seq <= delivered ? "delivered" : "sent";
}

/** A change of the session in words; empty for those that do not concern the shopper. */
export function changeText({ session, previousState: before, requeueReason }: SessionChange, words: Words): string {
  switch (session?.state) {
    case SessionState.ACTIVE:
      return before === SessionState.WARNING ? "" : words.joined(session.agentName);
    case SessionState.WARNING:
      return words.owed;
    case SessionState.WAITING:
      if (before !== SessionState.ASSIGNED && requeueReason === RequeueReason.AGENT_DISCONNECTED) return words.agentLost;
      return before === SessionState.BOT || before === SessionState.UNSPECIFIED ? "" : words.requeued;
    case SessionState.ENDED:
      return words.ended;
    default:
      return "";
  }
}
