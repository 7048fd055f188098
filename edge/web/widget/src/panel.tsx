// What the shopper sees.

import { type Session } from "@octopus/contracts/octopus/session/v1/session_pb";
import { isOpen } from "@octopus/core/conversation";
import type { Language } from "@octopus/core/locale";
import { useSignal } from "@preact/signals";
import { useRef } from "preact/hooks";

import { ConnectionBanner, QueueBanner, RefusalBanner, ReminderBanner } from "./banners";
import { Composer } from "./composer";
import { Log } from "./log";
import { Rating } from "./rating";
import { headline } from "./shown";
import type { Shopper } from "./shopper";
import { WORDS, type Words } from "./words";

interface PanelProps {
  shopper: Shopper;
  language: Language;
  onClose: () => void;
}

/** The whole panel. */
export function Panel({ shopper, language, onClose }: PanelProps) {
  const words = WORDS[language];
  const session = shopper.conversation.value?.session.value ?? null;
  return (
    <section class="panel" role="dialog" aria-label={words.title} data-testid="panel">
      <div class="head">
        <div class="who">
          <strong dir="auto">{headline(session, words)}</strong>
          <span class={`dot ${shopper.link.value?.state.value ?? "connecting"}`} aria-hidden="true" />
        </div>
        {session !== null && isOpen(session) && <EndButton shopper={shopper} words={words} />}
        <button type="button" class="plain" aria-label={words.close} onClick={onClose} data-testid="close">
          <svg viewBox="0 0 24 24" aria-hidden="true"><path d="M6 9l6 6 6-6" /></svg>
        </button>
      </div>
      <ConnectionBanner link={shopper.link.value} words={words} />
      <QueueBanner session={session} words={words} />
      <ReminderBanner session={session} shopper={shopper} words={words} />
      {shopper.phase.value === "error" ? (
        <Failure shopper={shopper} words={words} />
      ) : shopper.link.value === null || shopper.looking.value ? (
        <div class="centre" role="status"><span class="spinner" aria-hidden="true" />{words.loading}</div>
      ) : (
        <Conversing shopper={shopper} session={session} words={words} language={language} />
      )}
    </section>
  );
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
    void shopper.end();
  };
  return (
    <div class="confirm" role="alertdialog" aria-label={words.endConfirm}>
      <p>{words.endConfirm}</p>
      <button type="button" class="danger" onClick={end} data-testid="end-confirm" autoFocus>{words.yesEnd}</button>
      <button type="button" class="quiet" onClick={() => (asking.value = false)}>{words.no}</button>
    </div>
  );
}

function Failure({ shopper, words }: { shopper: Shopper; words: Words }) {
  const failure = shopper.failure.value;
  return (
    <div class="centre" role="alert" data-testid="trouble">
      <strong>{words.errorTitle}</strong>
      <p>{failure ? words.errors[failure.trouble] : ""}</p>
      {failure && failure.retryAfterS > 0 && <p>{words.retryAfter(failure.retryAfterS)}</p>}
      <button type="button" class="primary" onClick={() => shopper.again()}>{words.retry}</button>
    </div>
  );
}

interface ConversingProps {
  shopper: Shopper;
  session: Session | null;
  words: Words;
  language: Language;
}

function Conversing({ shopper, session, words, language }: ConversingProps) {
  const conversation = shopper.conversation.value;
  const ended = session !== null && !isOpen(session);
  // Nobody's words are taken away when the chat ends: the box stays for those who were writing.
  const writing = useRef(false);
  writing.current = ended && (writing.current || shopper.draft.value !== "");
  return (
    <>
      <Log key={session?.id.toString() ?? ""} shopper={shopper} conversation={conversation} words={words} language={language} />
      <RefusalBanner shopper={shopper} words={words} />
      {ended && <Ended shopper={shopper} session={session} words={words} writing={writing.current} />}
      {(!ended || writing.current) && <Composer shopper={shopper} session={session} words={words} />}
    </>
  );
}

interface EndedProps {
  shopper: Shopper;
  session: Session;
  words: Words;
  writing: boolean;
}

function Ended({ shopper, session, words, writing }: EndedProps) {
  return (
    <div class="over">
      <Rating shopper={shopper} session={session} words={words} />
      {writing && <p role="status" data-testid="draft-kept">{words.draftKept}</p>}
      <button type="button" class={writing ? "quiet" : "primary"} onClick={() => shopper.startAgain()} data-testid="start-again">
        {words.startAgain}
      </button>
    </div>
  );
}
