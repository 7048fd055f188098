// The reply.

import { useComputed, useSignal, useSignalEffect } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";

import type { Conversation } from "@octopus/core/conversation";
import { byteLength, LONGEST_TEXT } from "@octopus/core/text";
import type { Workspace } from "./workspace";
import { Icon } from "./icons";
import { isNarrow } from "./screen";
import { words } from "./words";

const TALLEST_PX = 180;

/** The box, and the button beside it. What is written stays when another session is shown. */
export function Composer({ workspace, conversation }: { workspace: Workspace; conversation: Conversation }) {
  const words_ = words.value;
  const { id } = conversation.session.peek();
  const text = useSignal(workspace.draftOf(id));
  const box = useRef<HTMLTextAreaElement>(null);
  const over = useComputed(() => byteLength(text.value) - LONGEST_TEXT);

  useEffect(() => {
    // On a telephone the keyboard would cover what one came to read.
    if (!isNarrow.peek()) box.current?.focus();
  }, []);
  useSignalEffect(() => {
    workspace.keepDraft(id, text.value);
    if (!box.current) return;
    box.current.style.height = "auto";
    box.current.style.height = `${Math.min(box.current.scrollHeight, TALLEST_PX)}px`;
  });

  const send = () => {
    const reply = text.peek().trim();
    if (reply === "" || over.peek() > 0) return;
    text.value = "";
    workspace.link.say(id, reply);
    box.current?.focus();
  };
  const onKeyDown = (event: KeyboardEvent) => {
    // While Chinese is being composed, Enter picks a candidate.
    const composing = event.isComposing || event.keyCode === 229;
    if (event.key !== "Enter" || event.shiftKey || composing) return;
    event.preventDefault();
    send();
  };
  return (
    <footer class="composer">
      {over.value > 0 && <p class="problem" role="alert">{words_.tooLong(Math.ceil(over.value / 3))}</p>}
      <div class="compose">
        <textarea
          ref={box}
          rows={1}
          dir="auto"
          value={text.value}
          placeholder={isNarrow.value ? words_.placeholderShort : words_.placeholder}
          aria-label={words_.placeholderShort}
          aria-invalid={over.value > 0}
          enterkeyhint="send"
          onInput={(event) => {
            text.value = event.currentTarget.value;
            if (text.peek() !== "") workspace.link.type(id);
          }}
          onKeyDown={onKeyDown}
          data-testid="agent-input"
        />
        <button
          type="button"
          class="primary send"
          disabled={text.value.trim() === "" || over.value > 0}
          onClick={send}
          data-testid="agent-send"
        >
          <Icon name="send" />
          <span>{words_.send}</span>
        </button>
      </div>
    </footer>
  );
}
