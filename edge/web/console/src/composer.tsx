// The reply, the internal note, and the edit of what was said; canned replies go into each of them.

import { type Signal, useComputed, useSignal, useSignalEffect } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";

import { textOf } from "@octopus/core/content";
import type { Conversation } from "@octopus/core/conversation";
import { insertInto } from "@octopus/core/emoji";
import { EmojiButton } from "@octopus/core/menu";
import { About, brief } from "@octopus/core/quoted";
import { byteLength, LONGEST_TEXT } from "@octopus/core/text";
import { askToEnd } from "./commands";
import type { Workspace } from "./workspace";
import { Icon } from "./icons";
import { isNarrow } from "./screen";
import { useShortcut } from "./shortcut";
import { isNote, nameOf } from "./shown";
import { type Words, words } from "./words";

const TALLEST_PX = 180;

type Mode = "reply" | "note" | "edit";

/**
 * The box, and the button beside it. What is written stays when another session is shown, and each mode has a text of its
 * own: what was meant for colleagues never goes to the customer by a change of the mode.
 */
export function Composer({ workspace, conversation }: { workspace: Workspace; conversation: Conversation }) {
  const text = words.value;
  const { id } = conversation.session.peek();
  const { quoting, editing } = conversation;
  const noting = useSignal(false);
  const texts: Record<Mode, Signal<string>> = {
    reply: useSignal(workspace.draftOf(id)),
    note: useSignal(workspace.draftOf(id, true)),
    edit: useSignal(""),
  };
  const mode: Mode = editing.value ? "edit" : noting.value ? "note" : "reply";
  const written = texts[mode];
  const box = useRef<HTMLTextAreaElement>(null);
  const over = useComputed(() => byteLength(written.value) - LONGEST_TEXT);
  const shortcut = useShortcut({ workspace, conversation, field: box, onText: (all) => (written.value = all) });
  const returned = useSignal(false);

  useEffect(() => {
    // On a telephone the keyboard would cover what one came to read.
    if (!isNarrow.peek()) box.current?.focus();
  }, []);
  useEffect(() => {
    const quoted = quoting.value?.message;
    if (!quoted) return;
    // The customer must not learn that there is a note.
    if (isNote(quoted)) noting.value = true;
    box.current?.focus();
  }, [quoting.value]);
  useEffect(() => {
    if (!editing.value) return;
    texts.edit.value = textOf(editing.value.message);
    box.current?.focus();
  }, [editing.value]);
  useSignalEffect(() => {
    workspace.keepDraft(id, texts.reply.value);
    workspace.keepDraft(id, texts.note.value, true);
  });
  useEffect(() => {
    if (!box.current) return;
    box.current.style.height = "auto";
    box.current.style.height = `${Math.min(box.current.scrollHeight, TALLEST_PX)}px`;
  }, [written.value, mode]);

  useSignalEffect(() => {
    const back = conversation.returned.value;
    if (!back) return;
    conversation.returned.value = null;
    noting.value = false;
    texts.reply.value = [back.text, texts.reply.peek()].filter(Boolean).join("\n");
    returned.value = true;
  });

  const write = (to: "reply" | "note") => {
    editing.value = null;
    noting.value = to === "note";
    if (to === "reply" && quoting.peek() && isNote(quoting.peek()!.message)) quoting.value = null;
    box.current?.focus();
  };
  const send = () => {
    const said = written.peek().trim();
    if (said === "" || over.peek() > 0) return;
    const line = editing.peek();
    const quotedSeq = quoting.peek()?.message.seq ?? 0n;
    written.value = "";
    shortcut.close();
    returned.value = false;
    if (line) {
      editing.value = null;
      if (said !== textOf(line.message)) workspace.link.edit(line, said);
    } else {
      quoting.value = null;
      if (mode === "note") workspace.link.note(id, said, quotedSeq);
      else workspace.link.say(id, said, quotedSeq);
    }
    box.current?.focus();
  };
  const sendAndEnd = () => {
    const said = written.peek().trim();
    if (over.peek() > 0) return;
    // Without a last word for the customer, ending asks first as ever.
    if (mode !== "reply" || said === "") return askToEnd();
    const quotedSeq = quoting.peek()?.message.seq ?? 0n;
    written.value = "";
    returned.value = false;
    quoting.value = null;
    shortcut.close();
    void workspace.sendAndEnd(conversation, said, quotedSeq);
  };
  useEffect(() => {
    workspace.composer.value = { insert: shortcut.insert, sendAndEnd };
    return () => (workspace.composer.value = null);
  }, [conversation, mode]);
  const onKeyDown = (event: KeyboardEvent) => {
    // While Chinese is being composed, Enter picks a candidate.
    const composing = event.isComposing || event.keyCode === 229;
    if (!composing && shortcut.onKey(event)) {
      event.preventDefault();
      event.stopPropagation();
      return;
    }
    if (event.key === "Escape" && !composing && (editing.peek() || quoting.peek())) {
      event.preventDefault();
      event.stopPropagation();
      editing.value = quoting.value = null;
    }
    if (event.key !== "Enter" || event.shiftKey || composing) return;
    event.preventDefault();
    if ((event.ctrlKey || event.metaKey) && mode === "reply") sendAndEnd();
    else send();
  };
  const placeholder = mode === "note" ? text.placeholderNote : isNarrow.value ? text.placeholderShort : text.placeholder;
  return (
    <footer class={`composer ${mode}`}>
      {over.value > 0 && <p class="problem" role="alert">{text.tooLong(Math.ceil(over.value / 3))}</p>}
      {returned.value && <p class="problem" role="alert" data-testid="returned">{text.sensitive}</p>}
      <AboutLine conversation={conversation} text={text} />
      <div class="modes" role="group" aria-label={text.composerMode}>
        <button type="button" aria-pressed={mode !== "note"} onClick={() => write("reply")} data-testid="mode-reply">{text.reply}</button>
        <button type="button" aria-pressed={mode === "note"} onClick={() => write("note")} data-testid="mode-note">{text.note}</button>
      </div>
      {shortcut.list}
      <div class="compose">
        <EmojiButton label={text.emoji} onPick={(emoji) => (written.value = insertInto(box.current!, emoji))} />
        <textarea
          ref={box}
          rows={1}
          dir="auto"
          value={written.value}
          placeholder={placeholder}
          aria-label={mode === "note" ? text.note : text.placeholderShort}
          aria-invalid={over.value > 0}
          {...shortcut.aria}
          enterkeyhint="send"
          onInput={(event) => {
            written.value = event.currentTarget.value;
            shortcut.look();
            if (written.peek() === "") returned.value = false;
            // Nobody but colleagues learns of a note.
            if (mode === "reply" && written.peek() !== "") workspace.link.type(id);
          }}
          onKeyDown={onKeyDown}
          onClick={shortcut.look}
          onBlur={shortcut.close}
          data-testid="agent-input"
        />
        <button
          type="button"
          class="plain"
          aria-label={text.canned.title}
          title={`${text.canned.title} (/)`}
          onClick={shortcut.openAll}
          data-testid="canned-open"
        >
          <Icon name="bolt" />
        </button>
        <button
          type="button"
          class="primary send"
          disabled={written.value.trim() === "" || over.value > 0}
          onClick={send}
          data-testid="agent-send"
        >
          <Icon name="send" />
          <span>{{ reply: text.send, note: text.addNote, edit: text.saveEdit }[mode]}</span>
        </button>
      </div>
    </footer>
  );
}

/** What is quoted or edited, with a way out. */
function AboutLine({ conversation, text }: { conversation: Conversation; text: Words }) {
  const { quoting, editing } = conversation;
  const line = editing.value ?? quoting.value;
  if (!line) return null;
  const about = editing.value ? text.editing : text.quoting(nameOf(line, conversation.session.value, text));
  return (
    <About
      text={about + brief(line, text)}
      cancel={text.cancel}
      onCancel={() => (editing.value = quoting.value = null)}
    />
  );
}
