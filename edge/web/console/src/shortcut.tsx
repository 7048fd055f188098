// Canned replies by "/" and a shortcut, in a field that keeps the focus.

import { useComputed, useSignal } from "@preact/signals";
import type { ComponentChildren, RefObject } from "preact";

import type { Conversation } from "@octopus/core/conversation";
import type { Entry } from "./canned";
import { CannedList, optionId } from "./cannedlist";
import { shortcutAt } from "./cannedsearch";
import { words } from "./words";
import type { Workspace } from "./workspace";

const MOST_SHOWN = 8;

/** What a field needs for canned replies. */
export interface Shortcut {
  /** Look whether the caret stands in a shortcut. */
  look: () => void;
  close: () => void;
  /** Handle a key that belongs to the list; false for any other. */
  onKey: (event: KeyboardEvent) => boolean;
  /** Put a canned reply where the caret is. */
  insert: (entry: Entry) => void;
  /** Show all of them, as "/" does. */
  openAll: () => void;
  /** Attributes of the field. */
  aria: { "aria-autocomplete": "list"; "aria-controls"?: string; "aria-activedescendant"?: string };
  /** The list over the field; nothing while there is none. */
  list: ComponentChildren;
}

interface ShortcutProps {
  workspace: Workspace;
  conversation: Conversation;
  field: RefObject<HTMLTextAreaElement | null>;
  /** Called with the whole text after an insertion. */
  onText: (text: string) => void;
}

/** Canned replies for a field. */
export function useShortcut({ workspace, conversation, field, onText }: ShortcutProps): Shortcut {
  /** The shortcut that is being typed: where it begins, and what there is of it. */
  const typing = useSignal<{ from: number; typed: string } | undefined>(undefined);
  const chosen = useSignal(0);
  const found = useComputed(() =>
    typing.value === undefined ? [] : workspace.canned.find(typing.value.typed).slice(0, MOST_SHOWN),
  );
  const close = () => (typing.value = undefined);
  const look = () => {
    const { selectionStart, selectionEnd, value } = field.current!;
    const before = typing.peek()?.typed;
    typing.value = selectionStart === selectionEnd ? shortcutAt(value.slice(0, selectionStart)) : undefined;
    if (typing.peek() && before === undefined) void workspace.refreshCanned();
    if (typing.peek()?.typed !== before) chosen.value = 0;
  };
  const put = (what: string, from?: number) => {
    const box = field.current!;
    box.focus();
    box.setRangeText(what, from ?? box.selectionStart, box.selectionEnd, "end");
    onText(box.value);
    close();
  };
  const textFor = (entry: Entry) => workspace.canned.textFor(entry, conversation.session.peek());
  const choose = (entry: Entry) => put(textFor(entry), typing.peek()?.from);
  const openAll = () => {
    const box = field.current!;
    const before = box.value.slice(0, box.selectionStart);
    put(before === "" || /\s$/.test(before) ? "/" : " /");
    look();
  };
  const onKey = (event: KeyboardEvent): boolean => {
    const all = found.peek();
    if (event.key === "Escape" && typing.peek()) {
      close();
      return true;
    }
    if (all.length === 0) return false;
    switch (event.key) {
      case "ArrowDown":
        chosen.value = (chosen.peek() + 1) % all.length;
        return true;
      case "ArrowUp":
        chosen.value = (chosen.peek() + all.length - 1) % all.length;
        return true;
      case "Enter":
      case "Tab":
        if (event.shiftKey || event.ctrlKey || event.metaKey) return false;
        choose(all[Math.min(chosen.peek(), all.length - 1)]!);
        return true;
      default:
        return false;
    }
  };
  const entries = found.value;
  const at = Math.min(chosen.value, entries.length - 1);
  const open = entries.length > 0;
  return {
    look,
    close,
    onKey,
    insert: (entry) => put(textFor(entry)),
    openAll,
    aria: {
      "aria-autocomplete": "list",
      ...(open ? { "aria-controls": "canned-list", "aria-activedescendant": optionId(entries[at]!) } : {}),
    },
    list: open ? (
      <CannedList entries={entries} chosen={at} onChoose={choose} />
    ) : (
      typing.value !== undefined && <None workspace={workspace} />
    ),
  };
}

function None({ workspace }: { workspace: Workspace }) {
  const text = words.value.canned;
  return (
    <p class="canned-none soft" role="status">
      {text.none}{" "}
      <button
        type="button"
        class="link"
        // The field must not lose the focus, or this is gone before it is pressed.
        onMouseDown={(event) => event.preventDefault()}
        onClick={() => (workspace.managing.value = true)}
      >
        {text.manage}
      </button>
    </p>
  );
}
