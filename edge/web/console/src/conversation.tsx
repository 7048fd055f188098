// The middle column: one conversation, its history and the reply.

import { useSignal } from "@preact/signals";
import { Fragment } from "preact";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";

import { language } from "@octopus/core/language";
import { type Conversation, isOpen, isTalking } from "@octopus/core/conversation";
import { Composer } from "./composer";
import type { Workspace } from "./workspace";
import { Avatar, Icon } from "./icons";
import { LineRow } from "./line";
import { customerName, dayOf, endText, localeName } from "./shown";
import { words } from "./words";

// Nearer than this to the end, the page follows what is said.
const NEAR_PX = 140;
// Nearer than this to the beginning, the page before is loaded.
const TOP_PX = 80;

/** The column, whatever is chosen. */
export function ConversationColumn({ workspace }: { workspace: Workspace }) {
  const text = words.value;
  const conversation = workspace.selected.value;
  return (
    <main class="conversation" aria-label={text.conversation} data-testid="conversation">
      {conversation ? (
        <Open key={conversation.session.peek().id.toString()} workspace={workspace} conversation={conversation} />
      ) : workspace.selectedId.value !== 0n ? (
        <div class="centre" role="status"><h1>{text.loading}</h1></div>
      ) : (
        <div class="centre">
          <Icon name="chats" />
          <h1>{text.chooseTitle}</h1>
          <p>{text.chooseHint}</p>
        </div>
      )}
    </main>
  );
}

function Open({ workspace, conversation }: { workspace: Workspace; conversation: Conversation }) {
  const session = conversation.session.value;
  return (
    <>
      <Head workspace={workspace} conversation={conversation} />
      <Log workspace={workspace} conversation={conversation} />
      {isTalking(session) ? (
        <Composer workspace={workspace} conversation={conversation} />
      ) : (
        <Foot workspace={workspace} conversation={conversation} />
      )}
    </>
  );
}

function Head({ workspace, conversation }: { workspace: Workspace; conversation: Conversation }) {
  const text = words.value;
  const session = conversation.session.value;
  const name = customerName(session, text);
  const asking = useRef<HTMLDialogElement>(null);
  const end = () => {
    asking.current?.close();
    void workspace.end(session);
  };
  return (
    <header class="head">
      <button type="button" class="plain only-narrow" aria-label={text.back} onClick={() => workspace.select(0n)} data-testid="back">
        <Icon name="back" />
      </button>
      <Avatar name={name} kind="customer" />
      <div class="head-text">
        <h1 dir="auto">{name}</h1>
        <p class="soft">
          {conversation.typing.value === null
            ? [text.channels[session.channel] ?? session.channel, localeName(session.locale, language.value)].filter(Boolean).join(" · ")
            : text.typing(name)}
        </p>
      </div>
      {isTalking(session) && (
        <button
          type="button"
          class="quiet"
          disabled={workspace.busy.value.has(session.id)}
          onClick={() => asking.current?.showModal()}
          data-testid="end-session"
        >
          {text.end}
        </button>
      )}
      <button
        type="button"
        class="plain only-middle"
        aria-label={text.details}
        onClick={() => (workspace.pane.value = "customer")}
        data-testid="open-customer"
      >
        <Icon name="person" />
      </button>
      <dialog ref={asking} class="dialog" aria-labelledby="end-title">
        <h2 id="end-title">{text.endTitle(name)}</h2>
        <p class="soft">{text.endHint}</p>
        <div class="dialog-foot">
          <button type="button" class="quiet" onClick={() => asking.current?.close()}>{text.cancel}</button>
          <button type="button" class="danger" onClick={end} data-testid="end-confirm">{text.end}</button>
        </div>
      </dialog>
    </header>
  );
}

function Log({ workspace, conversation }: { workspace: Workspace; conversation: Conversation }) {
  const text = words.value;
  const history = workspace.historyOf(conversation);
  const box = useRef<HTMLDivElement>(null);
  // Where the view was before the lines changed: distance from the end, and which line was first.
  const before = useRef({ fromEnd: 0, first: 0n });
  const fresh = useSignal(0);
  const lines = conversation.lines.value;
  const first = lines[0]?.message.id ?? 0n;
  const last = lines.at(-1);

  useEffect(() => void history.open(), [history]);

  useLayoutEffect(() => {
    const view = box.current;
    if (!view) return;
    const { fromEnd, first: firstBefore } = before.current;
    if (firstBefore !== 0n && firstBefore !== first && fromEnd >= NEAR_PX) {
      // History came in above: keep what was being read where it is.
      view.scrollTop = view.scrollHeight - view.clientHeight - fromEnd;
    } else if (fromEnd < NEAR_PX || last?.delivery === "sending") {
      view.scrollTop = view.scrollHeight;
      fresh.value = 0;
      workspace.markRead(conversation);
    } else fresh.value += 1;
    before.current = { fromEnd: distance(view), first };
  }, [lines.length, first, last?.message.clientMessageId || last?.message.id, conversation.typing.value !== null]);

  useEffect(() => {
    const look = () => distanceOf(box.current) < NEAR_PX && workspace.markRead(conversation);
    // A view that shrinks, e.g. under a telephone's keyboard, stays at the end.
    const resized = new ResizeObserver(() => {
      if (box.current && before.current.fromEnd < NEAR_PX) box.current.scrollTop = box.current.scrollHeight;
    });
    resized.observe(box.current!);
    document.addEventListener("visibilitychange", look);
    return () => {
      resized.disconnect();
      document.removeEventListener("visibilitychange", look);
    };
  }, [conversation]);

  const onScroll = () => {
    const view = box.current!;
    before.current.fromEnd = distance(view);
    if (view.scrollTop < TOP_PX && !history.complete.peek() && !history.trouble.peek()) void history.earlier();
    if (before.current.fromEnd < NEAR_PX) {
      fresh.value = 0;
      workspace.markRead(conversation);
    }
  };
  const toEnd = () => box.current?.scrollTo({ top: box.current.scrollHeight, behavior: "smooth" });

  return (
    <div class="log-frame">
      <div
        ref={box}
        class="log"
        role="log"
        aria-live="polite"
        aria-busy={history.loading.value}
        aria-label={text.conversation}
        tabIndex={0}
        onScroll={onScroll}
      >
        <Beginning workspace={workspace} conversation={conversation} />
        {lines.map((line, index) => {
          const day = dayOf(line.message.sentAt, language.value, text);
          const previous = lines[index - 1];
          const newDay = previous === undefined || dayOf(previous.message.sentAt, language.value, text) !== day;
          return (
            <Fragment key={line.message.clientMessageId || line.message.id.toString()}>
              {newDay && <p class="day">{day}</p>}
              <LineRow
                line={line}
                previous={newDay ? undefined : previous}
                next={lines[index + 1]}
                conversation={conversation}
                workspace={workspace}
              />
            </Fragment>
          );
        })}
        {conversation.typing.value !== null && (
          <div class="typing" data-testid="typing" aria-label={text.typing(customerName(conversation.session.value, text))}>
            <i /><i /><i />
          </div>
        )}
      </div>
      {fresh.value > 0 && (
        <button type="button" class="to-end" onClick={toEnd}>
          {text.fresh(fresh.value)} <Icon name="down" />
        </button>
      )}
    </div>
  );
}

function Beginning({ workspace, conversation }: { workspace: Workspace; conversation: Conversation }) {
  const text = words.value;
  const history = workspace.historyOf(conversation);
  if (history.loading.value) return <p class="history" role="status">{text.loadingHistory}</p>;
  if (history.trouble.value) {
    return (
      <p class="history" role="alert">
        {text.historyFailed}{" "}
        <button type="button" class="link" onClick={() => void history.earlier()}>{text.retry}</button>
      </p>
    );
  }
  if (!history.complete.value) {
    return (
      <p class="history">
        <button type="button" class="quiet" onClick={() => void history.earlier()} data-testid="load-earlier">
          {text.loadEarlier}
        </button>
      </p>
    );
  }
  return <p class="history">{conversation.lines.value.length === 0 ? text.empty : text.beginning}</p>;
}

function Foot({ workspace, conversation }: { workspace: Workspace; conversation: Conversation }) {
  const text = words.value;
  const session = conversation.session.value;
  if (isOpen(session)) {
    return (
      <footer class="foot offered">
        <p>{text.offerBar}</p>
        <button
          type="button"
          class="primary"
          disabled={workspace.busy.value.has(session.id)}
          onClick={() => void workspace.accept(session)}
          data-testid="accept-open"
        >
          {text.accept}
        </button>
      </footer>
    );
  }
  return (
    <footer class="foot">
      <Unsent workspace={workspace} sessionId={session.id} />
      <p class="soft">{workspace.cameFrom.value ? text.endedBar : endText(session, text)}</p>
      {workspace.cameFrom.value !== 0n && (
        <button type="button" class="quiet" onClick={() => workspace.select(workspace.cameFrom.value)} data-testid="back-to-current">
          {text.current}
        </button>
      )}
    </footer>
  );
}

/** What the agent was writing when the chat ended: not lost, and not sent. */
function Unsent({ workspace, sessionId }: { workspace: Workspace; sessionId: bigint }) {
  const text = words.value;
  const draft = useSignal(workspace.draftOf(sessionId));
  const copied = useSignal(false);
  if (draft.value === "") return null;
  const copy = async () => {
    await navigator.clipboard.writeText(draft.peek());
    copied.value = true;
  };
  const discard = () => {
    workspace.keepDraft(sessionId, "");
    draft.value = "";
  };
  return (
    <div class="unsent" data-testid="unsent">
      <p class="soft">{text.unsent}</p>
      <blockquote dir="auto">{draft.value}</blockquote>
      <button type="button" class="quiet" onClick={() => void copy().catch(() => undefined)}>
        {copied.value ? text.copied : text.copy}
      </button>
      <button type="button" class="quiet" onClick={discard} data-testid="discard">{text.discard}</button>
    </div>
  );
}

function distance(view: HTMLElement): number {
  return view.scrollHeight - view.scrollTop - view.clientHeight;
}

function distanceOf(view: HTMLElement | null): number {
  return view ? distance(view) : Infinity;
}
