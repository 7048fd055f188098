// One line of a conversation.

import { Reason } from "@octopus/contracts/octopus/errors/v1/errors_pb";

import { isRecalled, isUnknown, textOf } from "@octopus/core/content";
import { language } from "@octopus/core/language";
import type { Conversation, Line } from "@octopus/core/conversation";
import { pieces } from "@octopus/core/links";
import { Menued } from "@octopus/core/menu";
import { Quoted } from "@octopus/core/quoted";
import { actionsOn } from "./actions";
import type { Workspace } from "./workspace";
import { Avatar, Icon } from "./icons";
import { changeText, deliveryOf, isNote, kindOf, nameOf, timeOf } from "./shown";
import { type Words, words } from "./words";

// Lines of one person within this time stand together under one name.
const TOGETHER_S = 180n;

interface LineProps {
  line: Line;
  previous: Line | undefined;
  next: Line | undefined;
  conversation: Conversation;
  workspace: Workspace;
}

/** What was said, or how the session changed. */
export function LineRow({ line, previous, next, conversation, workspace }: LineProps) {
  const text = words.value;
  const kind = kindOf(line);
  if (isUnknown(line.message) && textOf(line.message) === "") return null;
  if (kind === "system") {
    const change = changeText(line.message, text) || textOf(line.message);
    if (change === "") return null;
    return (
      <p class="change" data-testid="message" data-kind="system">
        {change} <time>{timeOf(line.message.sentAt, language.value)}</time>
      </p>
    );
  }
  const own = line.delivery !== undefined;
  const name = nameOf(line, conversation.session.value, text);
  if (isRecalled(line.message)) {
    return (
      <p class="change" data-testid="message" data-kind="recalled" data-seq={`${line.message.seq}`}>
        {own ? text.recalledOwn : text.recalledOther(name)} <time>{timeOf(line.message.recalledAt, language.value)}</time>
      </p>
    );
  }
  const note = isNote(line.message);
  const together = previous !== undefined && belongTogether(previous, line);
  const state = deliveryOf(line, conversation);
  // Of lines that stand together and have come equally far, the last one says so.
  const told = next !== undefined && belongTogether(line, next) && deliveryOf(next, conversation) === state;
  return (
    <div
      class={`row ${kind === "customer" ? "left" : "right"} ${together ? "together" : ""}`}
      data-testid="message"
      data-kind={note ? "note" : kind}
      data-state={state}
      data-seq={`${line.message.seq}`}
    >
      {!own && (together ? <span class="avatar-gap" /> : <Avatar name={name} kind={kind} />)}
      <div class="said">
        {!together && (
          <span class="who">
            <b class={own ? "hidden" : ""} dir="auto">{name}</b>{" "}
            {note && <b class="note-mark">{text.note}</b>} <time>{timeOf(line.message.sentAt, language.value)}</time>
          </span>
        )}
        <Menued label={text.actions} actions={() => actionsOn(line, conversation, workspace.link, text)}>
          <div class={`bubble ${note ? "note" : kind}`}>
            <Quoted
              seq={line.message.quotedSeq}
              conversation={conversation}
              words={text}
              nameOf={(quoted) => nameOf(quoted, conversation.session.value, text)}
            />
            {together && <span class="hidden">{name}: </span>}
            <div class="text" dir="auto">
              <Linked text={textOf(line.message)} />
              {line.message.editedAt && <small class="edited">{text.edited}</small>}
            </div>
          </div>
        </Menued>
        <Sources line={line} />
        {state === "failed" ? (
          <span class="state failed">
            {failureText(line, text)}
            <button type="button" class="link" onClick={() => workspace.link.sayAgain(line)} data-testid="resend">{text.resend}</button>
          </span>
        ) : (
          state &&
          !told && (
            <span class={`state ${state}`}>
              {state !== "sending" && !note && <Icon name={state === "sent" ? "single" : "double"} />}
              {(state === "sending" && delayText(line, text)) || (note && state === "sent" ? text.noteSent : text.delivery[state])}
            </span>
          )
        )}
      </div>
    </div>
  );
}

/** Why a message is not sent yet and when it will be; empty when the platform has not refused it. */
function delayText(line: Line, text: Words): string {
  if (!line.againS) return "";
  switch (line.reason) {
    case Reason.RATE_LIMITED:
      return text.tooFastAgain(line.againS);
    case Reason.STORAGE_FULL:
      return text.storageFullAgain(line.againS);
    default:
      return "";
  }
}

function failureText(line: Line, text: Words): string {
  switch (line.reason) {
    case Reason.RATE_LIMITED:
      return text.tooFast;
    case Reason.STORAGE_FULL:
      return text.storageFull;
    default:
      return text.delivery.failed;
  }
}

function Sources({ line }: { line: Line }) {
  const kind = line.message.content?.kind;
  if (kind?.case !== "answer" || kind.value.sources.length === 0) return null;
  return (
    <details class="sources" data-testid="sources">
      <summary>
        {words.value.sources} · <bdi>{kind.value.sources[0]!.title}</bdi>
      </summary>
      <ol>
        {kind.value.sources.map((source, place) => (
          <li key={place}>
            <bdi>{source.title}</bdi> <span class="soft">{Math.round(source.score * 100)}%</span>
          </li>
        ))}
      </ol>
    </details>
  );
}

function Linked({ text }: { text: string }) {
  return (
    <>
      {pieces(text).map((piece) =>
        "link" in piece ? (
          <a href={piece.link} target="_blank" rel="noopener noreferrer nofollow">{piece.link}</a>
        ) : (
          piece.text
        ),
      )}
    </>
  );
}

function belongTogether(one: Line, other: Line): boolean {
  const apart = (other.message.sentAt?.seconds ?? 0n) - (one.message.sentAt?.seconds ?? 0n);
  return (
    kindOf(one) === kindOf(other) &&
    isNote(one.message) === isNote(other.message) &&
    !isRecalled(one.message) &&
    one.message.sender?.userId === other.message.sender?.userId &&
    apart < TOGETHER_S
  );
}
