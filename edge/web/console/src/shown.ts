// How sessions and messages are worded.

import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { timestampDate, timestampMs } from "@bufbuild/protobuf/wkt";
import { type Message, SenderKind } from "@octopus/contracts/octopus/chat/v1/message_pb";
import {
  EndReason,
  HandoffReason,
  RequeueReason,
  type Session,
  SessionState,
} from "@octopus/contracts/octopus/session/v1/session_pb";


import type { Conversation, Line } from "@octopus/core/conversation";
import { type Language, tagOf } from "@octopus/core/locale";
import type { Words } from "./words";

export type Kind = "customer" | "agent" | "bot" | "system";
export type Delivery = "sending" | "sent" | "delivered" | "read" | "failed";

/** What kind of participant said a line. */
export function kindOf(line: Line): Kind {
  if (line.message.content?.kind.case === "change") return "system";
  if (line.delivery !== undefined) return "agent";
  switch (line.message.sender?.kind) {
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

/** The name over a line. */
export function nameOf(line: Line, session: Session, words: Words): string {
  if (line.delivery !== undefined) return words.me;
  const kind = kindOf(line);
  if (kind === "bot") return words.bot;
  return line.message.sender?.displayName || (kind === "customer" ? customerName(session, words) : "");
}

/** The name of a session's customer. */
export function customerName(session: Session, words: Words): string {
  return session.customerName || words.visitor;
}

/** Whether a message is for staff alone. */
export function isNote({ content }: Message): boolean {
  return content?.kind.case === "note";
}

/** How far one of the agent's own lines has come. Nobody says whether they have read a note. */
export function deliveryOf(line: Line, conversation: Conversation): Delivery | undefined {
  if (line.delivery !== "sent" || isNote(line.message)) return line.delivery;
  const { delivered, read } = conversation.marks.value;
  if (line.message.seq <= read) return "read";
  return line.message.seq <= delivered ? "delivered" : "sent";
}


/** A change of the session in words; empty when it has none. */
export function changeText({ content }: Message, words: Words): string {
  const kind = content?.kind;
  if (kind?.case !== "change" || !kind.value.session) return "";
  const { session, previousState, requeueReason } = kind.value;
  const text = words.changes;
  switch (session.state) {
    case SessionState.BOT:
      return previousState === SessionState.UNSPECIFIED ? text.opened : "";
    case SessionState.WAITING:
      if (requeueReason === RequeueReason.AGENT_DISCONNECTED) return text.disconnected;
      if (previousState === SessionState.ASSIGNED) return text.requeued;
      return previousState === SessionState.BOT ? handoffText(session, words) : text.left;
    case SessionState.ASSIGNED:
      return text.assigned(session.agentName);
    case SessionState.ACTIVE:
      // The message that ended the silence stands there itself.
      return previousState === SessionState.WARNING ? "" : text.accepted(session.agentName);
    case SessionState.WARNING:
      return text.warned;
    case SessionState.ENDED:
      return endText(session, words);
    default:
      return "";
  }
}

/** Why a person was asked for. */
export function handoffText(session: Session, words: Words): string {
  switch (session.handoffReason) {
    case HandoffReason.BUTTON:
      return words.changes.button;
    case HandoffReason.WORDS:
      return words.changes.words;
    case HandoffReason.BOT:
      return words.changes.bot;
    case HandoffReason.RETURN:
      return words.changes.returned;
    default:
      return words.changes.asked;
  }
}

/** Why a session ended. */
export function endText(session: Session, words: Words): string {
  switch (session.endReason) {
    case EndReason.CUSTOMER:
      return words.changes.endedCustomer;
    case EndReason.AGENT:
      return words.changes.endedAgent(session.agentName);
    case EndReason.IDLE:
      return words.changes.endedIdle;
    case EndReason.MERGED:
      return words.changes.endedMerged;
    default:
      return words.changes.ended;
  }
}

/** The day of a moment, as a heading. */
export function dayOf(at: Timestamp | undefined, language: Language, words: Words): string {
  if (!at) return "";
  const date = timestampDate(at);
  const days = Math.round((startOfDay(new Date()) - startOfDay(date)) / 86_400_000);
  if (days === 0) return words.today;
  if (days === 1) return words.yesterday;
  return date.toLocaleDateString(tagOf(language), { year: "numeric", month: "long", day: "numeric" });
}

/** The time of day of a moment. */
export function timeOf(at: Timestamp | undefined, language: Language): string {
  if (!at) return "";
  return timestampDate(at).toLocaleTimeString(tagOf(language), { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
}

/** Day and time of a moment. */
export function momentOf(at: Timestamp | undefined, language: Language): string {
  if (!at) return "";
  return timestampDate(at).toLocaleString(tagOf(language), { dateStyle: "medium", timeStyle: "short", hourCycle: "h23" });
}

/** How long ago something was: "0:42", "12:05", "1:02:09". */
export function since(at: Timestamp | undefined, now: number): string {
  return sinceMs(at ? timestampMs(at) : now, now);
}

/** How long ago something was, given in milliseconds since the epoch. */
export function sinceMs(at: number, now: number): string {
  const seconds = Math.max(0, Math.floor((now - at) / 1000));
  const two = (value: number) => `${value}`.padStart(2, "0");
  const hours = Math.floor(seconds / 3600);
  const rest = `${hours > 0 ? two(Math.floor(seconds / 60) % 60) : Math.floor(seconds / 60)}:${two(seconds % 60)}`;
  return hours > 0 ? `${hours}:${rest}` : rest;
}

/** The name of a BCP 47 language. */
export function localeName(tag: string, language: Language): string {
  if (tag === "") return "";
  try {
    return new Intl.DisplayNames(tagOf(language), { type: "language" }).of(tag) ?? tag;
  } catch {
    // Shoppers' pages may send anything.
    return tag;
  }
}

function startOfDay(date: Date): number {
  return new Date(date.getFullYear(), date.getMonth(), date.getDate()).getTime();
}
