// Where the shopper writes.

import { type Session, SessionState } from "@octopus/contracts/octopus/session/v1/session_pb";
import { byteLength, LONGEST_TEXT } from "@octopus/core/text";
import { insertInto } from "@octopus/core/emoji";
import { EmojiButton } from "@octopus/core/menu";
import { About, brief } from "@octopus/core/quoted";
import { useComputed, useSignal, useSignalEffect } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";

import type { Shopper } from "./shopper";
import { isOwn, nameOf } from "./shown";
import type { Words } from "./words";

// The box grows with its text, up to a third of the panel.
const TALLEST_PX = 132;
// About as many bytes as a Chinese character takes.
const BYTES_OF_CHARACTER = 3;

/** The box with its buttons. What is written is the shopper's draft, so it outlives the box. */
export function Composer({ shopper, session, words }: { shopper: Shopper; session: Session | null; words: Words }) {
  const { draft } = shopper;
  const box = useRef<HTMLTextAreaElement>(null);
  const over = useComputed(() => byteLength(draft.value) - LONGEST_TEXT);
  const quoting = shopper.conversation.value?.quoting;
  const quoted = quoting?.value ?? null;
  useEffect(() => {
    if (quoted) box.current?.focus();
  }, [quoted]);
  const returned = useSignal(false);
  const withBot = session === null || session.state === SessionState.BOT;
  useEffect(() => {
    box.current?.focus();
  }, []);
  useSignalEffect(() => {
    void draft.value;
    if (!box.current) return;
    box.current.style.height = "auto";
    box.current.style.height = `${Math.min(box.current.scrollHeight, TALLEST_PX)}px`;
  });
  useSignalEffect(() => {
    const conversation = shopper.conversation.value;
    const back = conversation?.returned.value;
    if (!conversation || !back) return;
    conversation.returned.value = null;
    draft.value = [back.text, draft.peek()].filter(Boolean).join("\n");
    returned.value = true;
  });
  const send = () => {
    const text = draft.peek().trim();
    if (text === "" || over.peek() > 0) return;
    draft.value = "";
    returned.value = false;
    void shopper.say(text).then((taken) => {
      // Nothing is lost: what could not be sent stands in the box again, before what was written meanwhile.
      if (!taken) draft.value = [text, draft.peek()].filter(Boolean).join("\n");
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
    <div class="foot">
      {over.value > 0 && (
        <p class="bad" role="alert">{words.tooLong(Math.ceil(over.value / BYTES_OF_CHARACTER))}</p>
      )}
      {returned.value && <p class="bad" role="alert" data-testid="returned">{words.sensitive}</p>}
      {withBot && (
        <button
          type="button"
          class="handoff"
          onClick={() => {
            // The button goes; whoever pressed it by keyboard must not be left nowhere.
            box.current?.focus();
            void shopper.handOff();
          }}
          data-testid="handoff"
        >
          <svg viewBox="0 0 24 24" aria-hidden="true"><path d="M4 14v-2a8 8 0 0116 0v2M4 14v3a2 2 0 002 2h1v-6H4m16 1v3a2 2 0 01-2 2h-1v-6h3" /></svg>
          {words.handoff}
        </button>
      )}
      {quoting && quoted && (
        <About
          text={words.quoting(isOwn(quoted) ? words.me : nameOf(quoted.message, words)) + brief(quoted, words)}
          cancel={words.cancel}
          onCancel={() => {
            quoting.value = null;
            box.current?.focus();
          }}
        />
      )}
      <div class="compose">
        <EmojiButton label={words.emoji} onPick={(emoji) => (draft.value = insertInto(box.current!, emoji))} />
        <textarea
          ref={box}
          rows={1}
          dir="auto"
          value={draft.value}
          placeholder={words.placeholder}
          aria-label={words.placeholder}
          aria-invalid={over.value > 0}
          enterkeyhint="send"
          data-testid="input"
          onInput={(event) => {
            draft.value = event.currentTarget.value;
            if (draft.peek() === "") returned.value = false;
            shopper.typing();
          }}
          onKeyDown={onKeyDown}
        />
        <button
          type="button"
          class="primary round"
          aria-label={words.send}
          disabled={draft.value.trim() === "" || over.value > 0}
          onClick={send}
          data-testid="send"
        >
          <svg viewBox="0 0 24 24" aria-hidden="true"><path d="M5 12l14-7-5 14-3-6-6-1z" /></svg>
        </button>
      </div>
    </div>
  );
}
