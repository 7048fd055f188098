// The command palette: everything an agent does, found by typing. All it shows is here already, so it waits for nothing.

import { useComputed, useSignal } from "@preact/signals";
import type { RefObject } from "preact";
import { useEffect, useRef } from "preact/hooks";

import { type Command, commandsOf, matching } from "./commands";
import { words } from "./words";
import type { Workspace } from "./workspace";

const MOST_SHOWN = 40;

interface PaletteProps {
  dialog: RefObject<HTMLDialogElement | null>;
  workspace: Workspace;
  /** Opens the dialogs of the page. */
  open: { alerts: () => void; account: () => void; help: () => void };
}

/** The dialog; whoever opens it calls `showModal`. */
export function Palette({ dialog, workspace, open }: PaletteProps) {
  const text = words.value.palette;
  const typed = useSignal("");
  const chosen = useSignal(0);
  const shown = useSignal(false);
  const list = useRef<HTMLUListElement>(null);
  const found = useComputed(() =>
    shown.value ? matching(commandsOf(workspace, words.value, open), typed.value).slice(0, MOST_SHOWN) : [],
  );
  const at = Math.min(chosen.value, Math.max(0, found.value.length - 1));
  useEffect(() => list.current?.children[at]?.scrollIntoView({ block: "nearest" }), [at]);
  useEffect(() => {
    const box = dialog.current!;
    // Also the browser opens and closes it, e.g. by Escape.
    const watch = new MutationObserver(() => {
      if (box.open && !shown.peek()) {
        typed.value = "";
        chosen.value = 0;
      }
      shown.value = box.open;
    });
    watch.observe(box, { attributes: true, attributeFilter: ["open"] });
    return () => watch.disconnect();
  }, []);
  const run = (command: Command | undefined) => {
    if (!command) return;
    dialog.current?.close();
    command.run();
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.isComposing || event.keyCode === 229) return;
    const count = found.peek().length;
    if (event.key === "ArrowDown") chosen.value = count ? (at + 1) % count : 0;
    else if (event.key === "ArrowUp") chosen.value = count ? (at + count - 1) % count : 0;
    else if (event.key === "Enter") run(found.peek()[at]);
    else return;
    event.preventDefault();
  };
  return (
    <dialog
      ref={dialog}
      class="dialog palette"
      aria-label={text.title}
      onClick={(event) => event.target === dialog.current && dialog.current?.close()}
      data-testid="palette"
    >
      <input
        type="text"
        role="combobox"
        aria-expanded={found.value.length > 0}
        aria-controls="palette-list"
        aria-autocomplete="list"
        aria-activedescendant={found.value.length > 0 ? `palette-${at}` : undefined}
        aria-label={text.title}
        placeholder={text.placeholder}
        value={typed.value}
        autocomplete="off"
        onInput={(event) => {
          typed.value = event.currentTarget.value;
          chosen.value = 0;
        }}
        onKeyDown={onKeyDown}
        data-testid="palette-input"
      />
      {found.value.length === 0 && <p class="none" role="status">{text.none}</p>}
      <ul ref={list} role="listbox" id="palette-list" aria-label={text.title} hidden={found.value.length === 0}>
        {found.value.map((command, place) => (
          <li
            key={command.id}
            id={`palette-${place}`}
            role="option"
            aria-selected={place === at}
            onMouseDown={(event) => event.preventDefault()}
            onClick={() => run(command)}
            data-testid="palette-option"
          >
            <span dir="auto">{command.label}</span>
            <span class="soft" dir="auto">{command.hint}</span>
          </li>
        ))}
      </ul>
    </dialog>
  );
}
