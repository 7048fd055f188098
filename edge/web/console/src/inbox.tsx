// The left column: offers, conversations, and what ended.

import { AgentStatus, type Session } from "@octopus/contracts/octopus/session/v1/session_pb";

import { textOf } from "@octopus/core/content";
import { language } from "@octopus/core/language";
import type { Conversation } from "@octopus/core/conversation";
import { clock } from "@octopus/core/text";
import type { Desk } from "./desk";
import { Avatar } from "./icons";
import { now } from "./now";
import { changeText, customerName, endText, handoffText, kindOf, since } from "./shown";
import { type Words, words } from "./words";

/** The whole column. */
export function Inbox({ desk }: { desk: Desk }) {
  const text = words.value;
  const empty = desk.offers.value.length + desk.active.value.length === 0;
  return (
    <nav class="inbox" aria-label={text.inbox}>
      <div class="list">
        <Section title={text.offers} conversations={desk.offers.value} desk={desk} lively />
        <Section title={text.active} conversations={desk.active.value} desk={desk} />
        {empty && (desk.ready.value ? <Nothing desk={desk} /> : <Skeleton />)}
        <Section title={text.ended} conversations={desk.ended.value} desk={desk} />
      </div>
    </nav>
  );
}

interface SectionProps {
  title: string;
  conversations: readonly Conversation[];
  desk: Desk;
  lively?: boolean;
}

function Section({ title, conversations, desk, lively = false }: SectionProps) {
  if (conversations.length === 0) return null;
  return (
    <section>
      <h2>
        {title} <span class="count">{conversations.length}</span>
      </h2>
      <ul>
        {conversations.map((conversation) => (
          <li key={conversation.session.peek().id.toString()}>
            {lively ? (
              <Offer conversation={conversation} desk={desk} />
            ) : (
              <Item conversation={conversation} desk={desk} />
            )}
          </li>
        ))}
      </ul>
    </section>
  );
}

function Offer({ conversation, desk }: { conversation: Conversation; desk: Desk }) {
  const text = words.value;
  const session = conversation.session.value;
  const name = customerName(session, text);
  return (
    <div class="offer" data-testid="offer" data-session={session.id.toString()}>
      <Item conversation={conversation} desk={desk} />
      <div class="offer-foot">
        <span class="soft">{handoffText(session, text)}</span>
        <button
          type="button"
          class="primary"
          aria-label={text.acceptLabel(name)}
          disabled={desk.busy.value.has(session.id)}
          onClick={() => void desk.accept(session)}
          data-testid="accept"
        >
          {text.accept}
        </button>
      </div>
    </div>
  );
}

function Item({ conversation, desk }: { conversation: Conversation; desk: Desk }) {
  const text = words.value;
  const session = conversation.session.value;
  const name = customerName(session, text);
  const unread = desk.unreadOf(conversation);
  const chosen = desk.selectedId.value === session.id;
  return (
    <button
      type="button"
      class={`item ${chosen ? "chosen" : ""} ${unread > 0 ? "unread" : ""}`}
      aria-current={chosen ? "true" : undefined}
      onClick={() => desk.select(session.id)}
      data-testid="inbox-item"
      data-session={session.id.toString()}
    >
      <Avatar name={name} kind="customer" />
      <span class="item-text">
        <span class="item-top">
          <strong>{name}</strong>
          <When conversation={conversation} session={session} words={text} />
        </span>
        <span class="item-bottom">
          <span class="preview">{preview(conversation, text)}</span>
          {unread > 0 && (
            <span class="badge" aria-label={text.unread(unread)}>{unread > 99 ? "99+" : unread}</span>
          )}
        </span>
      </span>
    </button>
  );
}

function When({ conversation, session, words: text }: { conversation: Conversation; session: Session; words: Words }) {
  if (session.endedAt) return <time>{clock(session.endedAt, language.value)}</time>;
  if (!session.acceptedAt) return <time class="waited">{text.waited(since(session.handoffAt, now.value))}</time>;
  return <time>{clock(conversation.lines.value.at(-1)?.message.sentAt ?? session.acceptedAt, language.value)}</time>;
}

function preview(conversation: Conversation, text: Words): string {
  const session = conversation.session.value;
  if (conversation.typing.value !== null) return text.typing(customerName(session, text));
  const last = conversation.lines.value.findLast((line) => textOf(line.message) !== "");
  if (!last && session.endedAt) return endText(session, text);
  if (!last) {
    const change = conversation.lines.value.at(-1);
    return change ? changeText(change.message, text) : "";
  }
  const who = { agent: `${text.me}：`, bot: `${text.bot}：`, customer: "", system: "" }[kindOf(last)];
  return (language.value === "zh" ? who : who.replace("：", ": ")) + textOf(last.message).slice(0, 120);
}

function Nothing({ desk }: { desk: Desk }) {
  const text = words.value;
  const status = desk.agent.value?.status;
  const away = status !== undefined && status !== AgentStatus.AVAILABLE;
  return (
    <div class="nothing">
      <strong>{text.emptyInbox}</strong>
      <p>{away ? text.emptyAway : text.emptyAvailable}</p>
      {away && (
        <button type="button" class="primary" onClick={() => void desk.setStatus(AgentStatus.AVAILABLE)}>
          {text.startWorking}
        </button>
      )}
    </div>
  );
}

function Skeleton() {
  return (
    <div class="skeleton" role="status" aria-label={words.value.loading}>
      <i /><i /><i />
    </div>
  );
}
