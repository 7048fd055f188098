// What the shopper sees.

import { useComputed, useSignal, useSignalEffect } from "@preact/signals";
import { type Message, SenderKind } from "@octopus/contracts/octopus/chat/v1/message_pb";
import { Reason } from "@octopus/contracts/octopus/errors/v1/errors_pb";
import { type Session, SessionState } from "@octopus/contracts/octopus/session/v1/session_pb";
import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";

import { isUnknown, textOf } from "@octopus/core/content";
import { type Conversation, isOpen, type Line, type Link } from "@octopus/core/link";
import { byteLength, clock, type Language, LONGEST_TEXT, pieces } from "@octopus/core/text";
import type { Shopper } from "./shopper";
import { WORDS, type Words } from "./words";

/** The whole panel. */
export function Panel({ shopper, language, onClose }: { shopper: Shopper; language: Language; onClose: () => void }) {
  const words = WORDS[language];
  const conversation = shopper.conversation.value;
  const session = conversation?.session.value ?? null;
  const open = session !== null && isOpen(session);
  return (
    <section class="panel" role="dialog" aria-label={words.title} data-testid="panel">
      <header>
        <div class="who">
          <strong>{headline(session, words)}</strong>
          <Presence shopper={shopper} />
        </div>
        {open && <EndButton shopper={shopper} words={words} />}
        <button type="button" class="plain" aria-label={words.close} onClick={onClose} data-testid="close">
          <svg viewBox="0 0 24 24" aria-hidden="true"><path d="M6 9l6 6 6-6" /></svg>
        </button>
      </header>
      <ConnectionBanner link={shopper.link.value} words={words} />
      <QueueBanner session={session} words={words} />
      {shopper.phase.value === "error" ? (
        <Trouble shopper={shopper} words={words} />
      ) : shopper.link.value === null ? (
        <div class="centre" role="status"><span class="spinner" aria-hidden="true" />{words.loading}</div>
      ) : (
        <Conversing shopper={shopper} conversation={conversation} words={words} language={language} />
      )}
    </section>
  );
}

function headline(session: Session | null, words: Words): string {
  return session?.state === SessionState.ACTIVE && session.agentName ? session.agentName : words.title;
}

function Presence({ shopper }: { shopper: Shopper }) {
  const state = shopper.link.value?.state.value ?? "connecting";
  return <span class={`dot ${state}`} aria-hidden="true" />;
}

function EndButton({ shopper, words }: { shopper: Shopper; words: Words }) {
  const asking = useSignal(false);
  if (!asking.value) {
    return (
      <button type="button" class="plain small" onClick={() => (asking.value = true)} data-testid="end-session">
        {words.end}
      </button>
    );
  }
  const end = () => {
    asking.value = false;
    shopper.end().catch(() => undefined);
  };
  return (
    <div class="confirm" role="alertdialog" aria-label={words.endConfirm}>
      <p>{words.endConfirm}</p>
      <button type="button" class="danger" onClick={end} data-testid="end-confirm" autoFocus>{words.yesEnd}</button>
      <button type="button" class="quiet" onClick={() => (asking.value = false)}>{words.no}</button>
    </div>
  );
}

function ConnectionBanner({ link, words }: { link: Link | null; words: Words }) {
  const seconds = useSignal(0);
  useEffect(() => {
    const count = () => (seconds.value = Math.max(0, Math.ceil(((link?.retryAt.peek() ?? 0) - Date.now()) / 1000)));
    const timer = window.setInterval(count, 500);
    return () => window.clearInterval(timer);
  }, [link]);
  const state = link?.state.value;
  const shown = state === "offline" || state === "reconnecting";
  return (
    <div class="banner warn" role="status" hidden={!shown} data-testid="connection-banner">
      {state === "offline" ? words.offline : words.reconnecting(seconds.value)}
      {state === "reconnecting" && (
        <button type="button" class="link" onClick={() => link?.retryNow()}>{words.retry}</button>
      )}
    </div>
  );
}

function QueueBanner({ session, words }: { session: Session | null; words: Words }) {
  const text = session === null ? "" : queueText(session, words);
  return (
    <div class="banner calm" role="status" aria-live="polite" hidden={!text} data-testid="queue-position">
      {text && <span class="pulse" aria-hidden="true" />}{text}
    </div>
  );
}

function queueText(session: Session, words: Words): string {
  if (session.state === SessionState.ASSIGNED) return words.assigned;
  if (session.state !== SessionState.WAITING) return "";
  if (session.queuePosition <= 0) return words.waitingUnknown;
  return session.queuePosition === 1 ? words.waitingFirst : words.waiting(session.queuePosition - 1);
}

function Trouble({ shopper, words }: { shopper: Shopper; words: Words }) {
  const trouble = shopper.trouble.value;
  const what =
    trouble === "offline" ? words.errorOffline : trouble === "internal" ? words.errorInternal : words.errorRefused;
  return (
    <div class="centre" role="alert" data-testid="trouble">
      <strong>{words.errorTitle}</strong>
      <p>{what}</p>
      <button type="button" class="primary" onClick={() => shopper.again()}>{words.retry}</button>
    </div>
  );
}

interface ConversingProps {
  shopper: Shopper;
  conversation: Conversation | null;
  words: Words;
  language: Language;
}

function Conversing({ shopper, conversation, words, language }: ConversingProps) {
  const log = useRef<HTMLDivElement>(null);
  const away = useSignal(0);
  const begun = useRef(false);
  // Whether the end was in sight before the newest line came.
  const atEnd = useRef(true);
  const lines = conversation?.lines.value ?? [];
  const session = conversation?.session.value ?? null;
  const ended = session !== null && !isOpen(session);
  const last = lines[lines.length - 1];

  // Before the browser scrolls by itself, so that `atEnd` is about the lines that were there.
  useLayoutEffect(() => {
    const box = log.current;
    if (!box) return;
    const own = last !== undefined && isOwn(last);
    // A panel that is opened again shows the end, where the news is.
    if (own || !begun.current) {
      begun.current = lines.length > 0;
      box.scrollTop = box.scrollHeight;
      away.value = 0;
    } else if (atEnd.current) {
      // The end, unless the newest line is taller than the panel: then its beginning.
      box.scrollTop += (box.lastElementChild?.getBoundingClientRect().top ?? 0) - box.getBoundingClientRect().top - 12;
      away.value = 0;
    } else if (last) away.value += 1;
    if (!document.hidden) shopper.seen();
  }, [lines.length, last?.message.id, conversation?.typing.value]);

  useEffect(() => {
    // The keyboard of a phone, or a banner, changes the height: who was at the end stays there.
    const box = log.current;
    if (!box) return;
    const observer = new ResizeObserver(() => {
      if (atEnd.current) box.scrollTop = box.scrollHeight;
    });
    observer.observe(box);
    return () => observer.disconnect();
  }, []);

  useEffect(() => {
    const seen = () => !document.hidden && shopper.seen();
    document.addEventListener("visibilitychange", seen);
    return () => document.removeEventListener("visibilitychange", seen);
  }, [shopper]);

  const onScroll = () => {
    const box = log.current!;
    atEnd.current = box.scrollHeight - box.scrollTop - box.clientHeight < 160;
    if (atEnd.current) away.value = 0;
  };
  const toEnd = () => {
    log.current?.scrollTo({ top: log.current.scrollHeight, behavior: "smooth" });
    away.value = 0;
  };
  return (
    <>
      <div class="log" ref={log} onScroll={onScroll} role="log" aria-live="polite" aria-label={words.messages} tabIndex={0}>
        {lines.length === 0 && <Greeting shopper={shopper} words={words} />}
        {lines.map((line, index) => (
          <Row
            key={line.message.clientMessageId || line.message.id.toString()}
            line={line}
            previous={lines[index - 1]}
            {...{ conversation: conversation!, shopper, words, language }}
          />
        ))}
        {conversation?.typing.value != null && (
          <div class="typing" data-testid="typing" aria-label={words.typing(conversation.typing.value)}>
            <i /><i /><i />
          </div>
        )}
      </div>
      {away.value > 0 && (
        <button type="button" class="more" onClick={toEnd}>{words.newMessages(away.value)} ↓</button>
      )}
      {shopper.hiccup.value && <div class="banner warn" role="alert">{words.actionFailed}</div>}
      {ended ? (
        <footer class="over">
          <button type="button" class="primary" onClick={() => shopper.startAgain()} data-testid="start-again">
            {words.startAgain}
          </button>
        </footer>
      ) : (
        <Composer shopper={shopper} session={session} words={words} />
      )}
    </>
  );
}

function Greeting({ shopper, words }: { shopper: Shopper; words: Words }) {
  return (
    <div class="greeting">
      <h2>{words.greeting}</h2>
      <p>{words.greetingHint}</p>
      <ul>
        {words.suggestions.map((text) => (
          <li key={text}>
            <button type="button" onClick={() => void shopper.say(text).catch(() => undefined)} data-testid="suggestion">
              {text}
            </button>
          </li>
        ))}
      </ul>
    </div>
  );
}

interface RowProps extends ConversingProps {
  line: Line;
  previous: Line | undefined;
  conversation: Conversation;
}

function Row({ line, previous, conversation, shopper, words, language }: RowProps) {
  const { message } = line;
  const content = message.content?.kind;
  if (content?.case === "change") {
    const text = changeText(content.value.session, content.value.previousState, words);
    return text ? <p class="note" data-testid="message" data-kind="system">{text}</p> : null;
  }
  const own = isOwn(line);
  const kind = own ? "customer" : kindOf(message);
  if (isUnknown(message)) {
    const text = textOf(message);
    if (text === "") return null;
    if (kind === "system") return <p class="note" data-testid="message" data-kind="system">{text}</p>;
  }
  const named = !own && (previous === undefined || kindOf(previous.message) !== kindOf(message));
  const state = own ? ownState(line, conversation) : undefined;
  return (
    <div class={`row ${own ? "own" : "other"}`} data-testid="message" data-kind={kind} data-state={state}>
      {named && <span class="name">{nameOf(message, words)}</span>}
      <div class={`bubble ${kind}`}>
        <span class="said-by">{own ? words.me : nameOf(message, words)}: </span>
        <Linked text={textOf(message)} />
        <Sources message={message} words={words} />
      </div>
      <OfferOfPerson message={message} conversation={conversation} shopper={shopper} words={words} />
      <span class="meta">
        <time>{clock(message.sentAt, language)}</time>
        {state === "failed" ? (
          <button type="button" class="link bad" onClick={() => shopper.sayAgain(line)} data-testid="resend">
            {line.reason === Reason.RATE_LIMITED ? words.slow : words.failed} · {words.resend}
          </button>
        ) : (
          state && <span class={`state ${state}`}>{words[state]}</span>
        )}
      </span>
    </div>
  );
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
  if (content?.case !== "answer" || !content.value.offersHandoff || !inCareOfBot.value || !isLast) {
    return null;
  }
  return (
    <button type="button" class="offer" onClick={() => void shopper.handOff().catch(() => undefined)} data-testid="offer-handoff">
      {words.handoff}
    </button>
  );
}

function Sources({ message, words }: { message: Message; words: Words }) {
  const content = message.content?.kind;
  if (content?.case !== "answer" || content.value.sources.length === 0) return null;
  return (
    <small class="source" data-testid="source">
      {words.source}
      {content.value.sources[0]!.title}
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

function Composer({ shopper, session, words }: { shopper: Shopper; session: Session | null; words: Words }) {
  const text = useSignal("");
  const box = useRef<HTMLTextAreaElement>(null);
  const over = useComputed(() => byteLength(text.value) - LONGEST_TEXT);
  const withBot = session === null || session.state === SessionState.BOT;
  useEffect(() => box.current?.focus(), []);
  useSignalEffect(() => {
    // The box grows with its text, up to a third of the panel.
    void text.value;
    if (!box.current) return;
    box.current.style.height = "auto";
    box.current.style.height = `${Math.min(box.current.scrollHeight, 132)}px`;
  });
  const send = () => {
    const words = text.value.trim();
    if (words === "" || over.value > 0) return;
    text.value = "";
    shopper.say(words).catch(() => {
      // Nothing is lost: what could not be sent stands in the box again.
      if (text.value === "") text.value = words;
    });
    box.current?.focus();
  };
  const onKeyDown = (event: KeyboardEvent) => {
    // While Chinese is being composed, Enter picks a candidate.
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing && event.keyCode !== 229) {
      event.preventDefault();
      send();
    }
  };
  return (
    <footer>
      {over.value > 0 && <p class="bad" role="alert">{words.tooLong(Math.ceil(over.value / 3))}</p>}
      {withBot && (
        <button
          type="button"
          class="handoff"
          onClick={() => {
            // The button goes; whoever pressed it by keyboard must not be left nowhere.
            box.current?.focus();
            shopper.handOff().catch(() => undefined);
          }}
          data-testid="handoff"
        >
          <svg viewBox="0 0 24 24" aria-hidden="true"><path d="M4 14v-2a8 8 0 0116 0v2M4 14v3a2 2 0 002 2h1v-6H4m16 1v3a2 2 0 01-2 2h-1v-6h3" /></svg>
          {words.handoff}
        </button>
      )}
      <div class="compose">
        <textarea
          ref={box}
          rows={1}
          value={text.value}
          placeholder={words.placeholder}
          aria-label={words.placeholder}
          aria-invalid={over.value > 0}
          enterkeyhint="send"
          data-testid="input"
          onInput={(event) => {
            text.value = event.currentTarget.value;
            shopper.typing();
          }}
          onKeyDown={onKeyDown}
        />
        <button
          type="button"
          class="primary round"
          aria-label={words.send}
          disabled={text.value.trim() === "" || over.value > 0}
          onClick={send}
          data-testid="send"
        >
          <svg viewBox="0 0 24 24" aria-hidden="true"><path d="M5 12l14-7-5 14-3-6-6-1z" /></svg>
        </button>
      </div>
    </footer>
  );
}

/** Whoever speaks for the customer is the reader, also from before a visitor logged in. */
function isOwn({ message, delivery }: Line): boolean {
  return delivery !== undefined || message.sender?.kind === SenderKind.CUSTOMER;
}

function kindOf(message: Message): "customer" | "agent" | "bot" | "system" {
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

function nameOf(message: Message, words: Words): string {
  return message.sender?.kind === SenderKind.BOT ? words.bot : message.sender?.displayName || words.agent;
}

function ownState(line: Line, conversation: Conversation): "sending" | "sent" | "delivered" | "read" | "failed" {
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

function changeText(session: Session | undefined, before: SessionState, words: Words): string {
  switch (session?.state) {
    case SessionState.ACTIVE:
      return words.joined(session.agentName);
    case SessionState.WAITING:
      return before === SessionState.ASSIGNED || before === SessionState.ACTIVE ? words.requeued : "";
    case SessionState.ENDED:
      return words.ended;
    default:
      return "";
  }
}
