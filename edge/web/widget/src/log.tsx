// The conversation: its lines, and where the reader stands in them.

import type { Conversation } from "@octopus/core/conversation";
import type { Language } from "@octopus/core/locale";
import { useSignal } from "@preact/signals";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";

import { Row } from "./row";
import type { Shopper } from "./shopper";
import { isOwn } from "./shown";
import type { Words } from "./words";

// Nearer than this to the end, the panel follows what is said.
const NEAR_PX = 160;
const PADDING_PX = 12;

interface LogProps {
  shopper: Shopper;
  conversation: Conversation | null;
  words: Words;
  language: Language;
}

/** The lines, or a greeting while there are none. */
export function Log({ shopper, conversation, words, language }: LogProps) {
  const log = useRef<HTMLDivElement>(null);
  const away = useSignal(0);
  const begun = useRef(false);
  // Whether the end was in sight before the newest line came.
  const atEnd = useRef(true);
  const lines = conversation?.lines.value ?? [];
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
      const top = box.lastElementChild?.getBoundingClientRect().top ?? 0;
      box.scrollTop += top - box.getBoundingClientRect().top - PADDING_PX;
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
    atEnd.current = box.scrollHeight - box.scrollTop - box.clientHeight < NEAR_PX;
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
          <div class="typing" role="img" data-testid="typing" aria-label={words.typing(conversation.typing.value)}>
            <i /><i /><i />
          </div>
        )}
      </div>
      {away.value > 0 && (
        <button type="button" class="more" onClick={toEnd}>{words.newMessages(away.value)} ↓</button>
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
            <button type="button" onClick={() => void shopper.say(text)} data-testid="suggestion">{text}</button>
          </li>
        ))}
      </ul>
    </div>
  );
}
