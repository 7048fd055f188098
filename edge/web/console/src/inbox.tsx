// The left column: offers, conversations, and what ended.

import { AgentStatus, type Session } from "@octopus/contracts/octopus/session/v1/session_pb";

import { isRecalled, textOf } from "@octopus/core/content";
import { language } from "@octopus/core/language";
import type { Conversation } from "@octopus/core/conversation";
import { clip, clock } from "@octopus/core/text";
import type { Workspace } from "./workspace";
import { OfferCountdown } from "./absence";
import { Avatar } from "./icons";
import { now } from "./now";
import { changeText, customerName, endText, handoffText, isNote, kindOf, since } from "./shown";
import { type Words, words } from "./words";

// More than a preview shows on any screen.
const LONGEST_PREVIEW = 120;

/** The whole column. */
export function Inbox({ workspace }: { workspace: Workspace }) {
  const text = words.value;
  const empty = workspace.offers.value.length + workspace.active.value.length === 0;
  return (
    <nav class="inbox" aria-label={text.inbox}>
      <div class="list">
        <Section title={text.offers} conversations={workspace.offers.value} workspace={workspace} lively />
        <Section title={text.active} conversations={workspace.active.value} workspace={workspace} />
        {empty && (workspace.ready.value ? <Nothing workspace={workspace} /> : <Skeleton />)}
        <Section title={text.ended} conversations={workspace.ended.value} workspace={workspace} />
      </div>
    </nav>
  );
}

interface SectionProps {
  title: string;
  conversations: readonly Conversation[];
  workspace: Workspace;
  lively?: boolean;
}

function Section({ title, conversations, workspace, lively = false }: SectionProps) {
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
              <Offer conversation={conversation} workspace={workspace} />
            ) : (
              <Item conversation={conversation} workspace={workspace} />
            )}
          </li>
        ))}
      </ul>
    </section>
  );
}

function Offer({ conversation, workspace }: { conversation: Conversation; workspace: Workspace }) {
  const text = words.value;
  const session = conversation.session.value;
  const name = customerName(session, text);
  return (
    <div class="offer" data-testid="offer" data-session={session.id.toString()}>
      <Item conversation={conversation} workspace={workspace} />
      <div class="offer-foot">
        <span class="soft">{handoffText(session, text)} <OfferCountdown session={session} /></span>
        <button
          type="button"
          class="primary"
          aria-label={text.acceptLabel(name)}
          disabled={workspace.busy.value.has(session.id)}
          onClick={() => void workspace.accept(session)}
          data-testid="accept"
        >
          {text.accept}
        </button>
      </div>
    </div>
  );
}

function Item({ conversation, workspace }: { conversation: Conversation; workspace: Workspace }) {
  const text = words.value;
  const session = conversation.session.value;
  const name = customerName(session, text);
  const unread = workspace.unreadOf(conversation);
  const chosen = workspace.selectedId.value === session.id;
  return (
    <button
      type="button"
      class={`item ${chosen ? "chosen" : ""} ${unread > 0 ? "unread" : ""}`}
      aria-current={chosen ? "true" : undefined}
      onClick={() => workspace.select(session.id)}
      data-testid="inbox-item"
      data-session={session.id.toString()}
    >
      <Avatar name={name} kind="customer" />
      <span class="item-text">
        <span class="item-top">
          <strong dir="auto">{name}</strong>
          <When conversation={conversation} session={session} words={text} />
        </span>
        <span class="item-bottom">
          <span class="preview" dir="auto">{preview(conversation, text)}</span>
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
  const last = conversation.lines.value.findLast(
    ({ message }) => textOf(message) !== "" && !isRecalled(message) && !isNote(message),
  );
  if (!last && session.endedAt) return endText(session, text);
  if (!last) {
    const change = conversation.lines.value.at(-1);
    return change ? changeText(change.message, text) : "";
  }
  const who = { agent: `${text.me}：`, bot: `${text.bot}：`, customer: "", system: "" }[kindOf(last)];
  return (language.value === "zh" ? who : who.replace("：", ": ")) + clip(textOf(last.message), LONGEST_PREVIEW);
}

function Nothing({ workspace }: { workspace: Workspace }) {
  const text = words.value;
  const status = workspace.agent.value?.status;
  const away = status !== undefined && status !== AgentStatus.AVAILABLE;
  return (
    <div class="nothing">
      <strong>{text.emptyInbox}</strong>
      <p>{away ? text.emptyAway : text.emptyAvailable}</p>
      {away && (
        <button type="button" class="primary" onClick={() => void workspace.setStatus(AgentStatus.AVAILABLE)}>
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
