// The left column: the agent's own conversations, who waits in the shop, and what ended.

import { AgentStatus, type Session } from "@octopus/contracts/octopus/session/v1/session_pb";

import { isRecalled, textOf } from "@octopus/core/content";
import { language } from "@octopus/core/language";
import type { Conversation } from "@octopus/core/conversation";
import { clip, clock } from "@octopus/core/text";
import { OfferCountdown } from "./absence";
import { waitsSince } from "./answering";
import type { Tab, Workspace } from "./workspace";
import { Avatar, Icon } from "./icons";
import { now } from "./now";
import { changeText, customerName, endText, handoffText, isNote, kindOf, since, sinceMs } from "./shown";
import { urgencyOf } from "./unanswered";
import { WaitingList } from "./waiting";
import { type Words, words } from "./words";

// More than a preview shows on any screen.
const LONGEST_PREVIEW = 120;
const TABS: readonly Tab[] = ["mine", "waiting", "ended"];

/** The whole column. */
export function Inbox({ workspace }: { workspace: Workspace }) {
  const text = words.value;
  return (
    <nav class="inbox" aria-label={text.inbox}>
      <div class="inbox-head">
        <Tabs workspace={workspace} />
        <Filter workspace={workspace} />
      </div>
      <div class="list" data-tab={workspace.tab.value}>
        {workspace.tab.value === "waiting" ? (
          <WaitingList workspace={workspace} />
        ) : workspace.tab.value === "ended" ? (
          <Ended workspace={workspace} />
        ) : (
          <Mine workspace={workspace} />
        )}
      </div>
    </nav>
  );
}

function Tabs({ workspace }: { workspace: Workspace }) {
  const text = words.value;
  const counts = {
    mine: workspace.offers.value.length + workspace.active.value.length,
    waiting: workspace.waiting.value,
    ended: 0,
  };
  const calling = { mine: workspace.offers.value.length + workspace.unread.value > 0, waiting: false, ended: false };
  return (
    <div class="tabs" role="group" aria-label={text.tabs.label}>
      {TABS.map((tab) => (
        <button
          key={tab}
          type="button"
          class={calling[tab] && workspace.tab.value !== tab ? "calling" : ""}
          aria-pressed={workspace.tab.value === tab}
          onClick={() => (workspace.tab.value = tab)}
          data-testid={`tab-${tab}`}
        >
          {text.tabs[tab]}
          {counts[tab] > 0 && <span class="tab-count"> {counts[tab]}</span>}
        </button>
      ))}
    </div>
  );
}

function Filter({ workspace }: { workspace: Workspace }) {
  const text = words.value;
  const clear = () => {
    workspace.filter.value = "";
    document.querySelector<HTMLElement>("[data-testid=filter]")?.focus();
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key !== "Escape" || event.isComposing || workspace.filter.peek() === "") return;
    event.stopPropagation();
    clear();
  };
  return (
    <div class="filter">
      <Icon name="search" />
      <input
        type="text"
        enterkeyhint="search"
        value={workspace.filter.value}
        placeholder={text.filter}
        aria-label={text.filter}
        maxLength={100}
        onInput={(event) => (workspace.filter.value = event.currentTarget.value)}
        onKeyDown={onKeyDown}
        data-testid="filter"
      />
      {workspace.filter.value !== "" && (
        <button type="button" class="plain" aria-label={text.clearFilter} onClick={clear}>
          <Icon name="close" />
        </button>
      )}
    </div>
  );
}

function Mine({ workspace }: { workspace: Workspace }) {
  const text = words.value;
  const offers = workspace.offers.value.filter((one) => matches(one, workspace.filter.value, text));
  const active = workspace.active.value.filter((one) => matches(one, workspace.filter.value, text));
  if (workspace.offers.value.length + workspace.active.value.length === 0) {
    return workspace.ready.value ? <Nothing workspace={workspace} /> : <Skeleton />;
  }
  if (offers.length + active.length === 0) return <p class="none" role="status">{text.noMatch}</p>;
  return (
    <>
      <Section title={text.offers} conversations={offers} workspace={workspace} lively />
      <Section title={text.active} conversations={active} workspace={workspace} />
    </>
  );
}

function Ended({ workspace }: { workspace: Workspace }) {
  const text = words.value;
  const ended = workspace.ended.value.filter((one) => matches(one, workspace.filter.value, text));
  if (ended.length > 0) return <Section title={text.ended} conversations={ended} workspace={workspace} />;
  return (
    <p class="none" role="status">{workspace.ended.value.length > 0 ? text.noMatch : text.noEnded}</p>
  );
}

function matches(conversation: Conversation, sought: string, text: Words): boolean {
  const wanted = sought.trim().toLowerCase();
  if (wanted === "") return true;
  const name = customerName(conversation.session.value, text);
  return [name, ...conversation.lines.value.map((line) => textOf(line.message))].some((one) =>
    one.toLowerCase().includes(wanted),
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

interface WhenProps {
  conversation: Conversation;
  session: Session;
  words: Words;
}

/** How long the customer waits, or when something was said last. */
function When({ conversation, session, words: text }: WhenProps) {
  if (session.endedAt) return <time>{clock(session.endedAt, language.value)}</time>;
  if (!session.acceptedAt) return <time class="waited">{text.waited(since(session.handoffAt, now.value))}</time>;
  const unanswered = waitsSince(conversation);
  if (unanswered !== undefined) {
    return (
      <time class={`unanswered ${urgencyOf(now.value - unanswered)}`} data-testid="unanswered">
        {text.unanswered(sinceMs(unanswered, now.value))}
      </time>
    );
  }
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
