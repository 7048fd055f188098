// One line of a conversation.

import type { Message } from "@octopus/contracts/octopus/chat/v1/message_pb";
import { Reason } from "@octopus/contracts/octopus/errors/v1/errors_pb";
import { SessionState } from "@octopus/contracts/octopus/session/v1/session_pb";
import { isRecalled, isUnknown, textOf } from "@octopus/core/content";
import { type Conversation, isOpen, type Line } from "@octopus/core/conversation";
import { pieces } from "@octopus/core/links";
import type { Language } from "@octopus/core/locale";
import { type Action, Menued } from "@octopus/core/menu";
import { Quoted } from "@octopus/core/quoted";
import { clock } from "@octopus/core/text";
import { useComputed } from "@preact/signals";
import type { ComponentChildren } from "preact";

import type { Shopper } from "./shopper";
import { changeText, deliveryOf, isOwn, kindOf, nameOf } from "./shown";
import type { Words } from "./words";

interface RowProps {
  line: Line;
  previous: Line | undefined;
  conversation: Conversation;
  shopper: Shopper;
  words: Words;
  language: Language;
}

/** What was said, or how the session changed. */
export function Row({ line, previous, conversation, shopper, words, language }: RowProps) {
  const { message } = line;
  const content = message.content?.kind;
  if (content?.case === "change") {
    const text = changeText(content.value, words);
    return text ? <p class="note" data-testid="message" data-kind="system">{text}</p> : null;
  }
  const own = isOwn(line);
  const kind = own ? "customer" : kindOf(message);
  const text = textOf(message);
  if (isRecalled(message)) {
    const told = own ? words.recalledOwn : words.recalledOther(nameOf(message, words));
    return <p class="note" data-testid="message" data-kind="recalled" data-seq={`${message.seq}`}>{told}</p>;
  }
  // A kind that is newer than this page says what it means in words, or concerns nobody who reads.
  if (isUnknown(message) && text === "") return null;
  if (kind === "system") return <p class="note" dir="auto" data-testid="message" data-kind="system">{text}</p>;
  const named = !own && (previous === undefined || kindOf(previous.message) !== kindOf(message));
  const state = own ? deliveryOf(line, conversation) : undefined;
  return (
    <div
      class={`row ${own ? "own" : "other"}`}
      data-testid="message"
      data-kind={kind}
      data-state={state}
      data-seq={`${message.seq}`}
    >
      {named && <span class="name" dir="auto">{nameOf(message, words)}</span>}
      <Menued label={words.actions} actions={() => actionsOn(line, own, conversation, shopper, words)}>
        <div class={`bubble ${kind}`}>
          <Quoted
            seq={message.quotedSeq}
            conversation={conversation}
            words={words}
            nameOf={(quoted) => (isOwn(quoted) ? words.me : nameOf(quoted.message, words))}
          />
          <span class="said-by">{own ? words.me : nameOf(message, words)}: </span>
          <div class="text" dir="auto">
            <Linked text={text} />
            {message.editedAt && <small class="edited">{words.edited}</small>}
          </div>
          <Sources message={message} words={words} />
        </div>
      </Menued>
      <OfferOfPerson message={message} conversation={conversation} shopper={shopper} words={words} />
      <span class="meta">
        <time>{clock(message.sentAt, language)}</time>
        {state === "failed" ? (
          <button type="button" class="link bad" onClick={() => shopper.sayAgain(line)} data-testid="resend">
            {failureText(line, words)} · {words.resend}
          </button>
        ) : (
          state && <span class={`state ${state}`}>{(state === "sending" && delayText(line, words)) || words[state]}</span>
        )}
      </span>
    </div>
  );
}

/** What the shopper can do with a line now. */
function actionsOn(line: Line, own: boolean, conversation: Conversation, shopper: Shopper, words: Words): Action[] {
  if (!isOpen(conversation.session.value) || line.message.seq === 0n) return [];
  const actions = [{ name: "quote", label: words.quote, run: () => shopper.quote(line) }];
  const left = own ? (shopper.link.peek()?.recallableS(line.message) ?? 0) : 0;
  if (left > 0) {
    actions.push({ name: "recall", label: words.recall(left), run: () => shopper.link.peek()?.recall(line) });
  }
  return actions;
}

/** Why a message is not sent yet and when it will be; empty when the platform has not refused it. */
function delayText(line: Line, words: Words): string {
  if (!line.againS) return "";
  switch (line.reason) {
    case Reason.RATE_LIMITED:
      return words.slowAgain(line.againS);
    case Reason.STORAGE_FULL:
      return words.fullAgain(line.againS);
    default:
      return "";
  }
}

function failureText(line: Line, words: Words): string {
  switch (line.reason) {
    case Reason.RATE_LIMITED:
      return words.slow;
    case Reason.STORAGE_FULL:
      return words.full;
    case Reason.SESSION_ENDED:
      return words.ended;
    default:
      return words.failed;
  }
}

interface OfferProps {
  message: Message;
  conversation: Conversation;
  shopper: Shopper;
  words: Words;
}

function OfferOfPerson({ message, conversation, shopper, words }: OfferProps) {
  const inCareOfBot = useComputed(() => conversation.session.value.state === SessionState.BOT);
  const isLast = conversation.lines.value.at(-1)?.message.id === message.id;
  const content = message.content?.kind;
  if (content?.case !== "answer" || !content.value.offersHandoff || !inCareOfBot.value || !isLast) return null;
  return (
    <button type="button" class="offer" onClick={() => void shopper.handOff()} data-testid="offer-handoff">
      {words.handoff}
    </button>
  );
}

function Sources({ message, words }: { message: Message; words: Words }) {
  const content = message.content?.kind;
  if (content?.case !== "answer" || content.value.sources.length === 0) return null;
  return (
    <small class="source" data-testid="source">
      {words.source}<bdi>{content.value.sources[0]!.title}</bdi>
    </small>
  );
}

function Linked({ text }: { text: string }): ComponentChildren {
  return pieces(text).map((piece) =>
    "link" in piece ? (
      <a href={piece.link} target="_blank" rel="noopener noreferrer nofollow">{piece.link}</a>
    ) : (
      piece.text
    ),
  );
}
