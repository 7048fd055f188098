// What opens beside something and closes by itself: the menu of a message, and the emoji.

import { useSignal } from "@preact/signals";
import type { ComponentChildren, TargetedKeyboardEvent } from "preact";
import { useEffect, useRef } from "preact/hooks";

import { EMOJI } from "./emoji";

/** Something one can do with a message. */
export interface Action {
  name: string;
  label: string;
  run: () => void;
}

// How long a finger rests on a message before its menu opens; iOS tells of no context menu.
const LONG_PRESS_MS = 500;

interface MenuedProps {
  /** What the button says to who does not see it. */
  label: string;
  /** What can be done now; asked again each second while the menu is open. */
  actions: () => readonly Action[];
  children: ComponentChildren;
}

/** A message with its menu: by the button beside it, the right mouse button, or a long press. */
export function Menued({ label, actions, children }: MenuedProps) {
  const root = useRef<HTMLDivElement>(null);
  const open = useSignal(false);
  const tick = useSignal(0);
  const press = useRef(0);
  useEffect(() => {
    if (!open.value) return;
    const menu = root.current?.querySelector<HTMLElement>("[role=menu]");
    menu?.querySelector("button")?.focus();
    menu?.scrollIntoView({ block: "nearest" });
    const timer = window.setInterval(() => tick.value++, 1_000);
    return () => window.clearInterval(timer);
  }, [open.value]);
  void tick.value;
  const offered = actions();
  if (offered.length === 0) return <div class="menued">{children}</div>;
  const endPress = () => window.clearTimeout(press.current);
  return (
    <div
      class="menued"
      ref={root}
      onContextMenu={(event) => {
        // Links and selected words keep the browser's own menu.
        if ((event.target as HTMLElement).closest("a") || `${window.getSelection() ?? ""}` !== "") return;
        event.preventDefault();
        open.value = true;
      }}
      onTouchStart={() => {
        endPress();
        press.current = window.setTimeout(() => (open.value = true), LONG_PRESS_MS);
      }}
      onTouchMove={endPress}
      onTouchEnd={endPress}
      onTouchCancel={endPress}
      onFocusOut={(event) => {
        if (!root.current?.contains(event.relatedTarget as Node | null)) open.value = false;
      }}
      onKeyDown={(event) => moveWithin(event, open.value, () => close())}
    >
      {children}
      <button
        type="button"
        class="menu-button"
        aria-label={label}
        aria-haspopup="menu"
        aria-expanded={open.value}
        onClick={() => (open.value = !open.value)}
        data-testid="message-menu"
      >
        ⋯
      </button>
      {open.value && (
        <div class="menu" role="menu" aria-label={label}>
          {offered.map(({ name, label: text, run }) => (
            <button
              key={name}
              type="button"
              role="menuitem"
              tabIndex={-1}
              onClick={() => {
                close();
                run();
              }}
              data-testid={`menu-${name}`}
            >
              {text}
            </button>
          ))}
        </div>
      )}
    </div>
  );

  function close(): void {
    open.value = false;
    root.current?.querySelector<HTMLElement>(".menu-button")?.focus();
  }
}

/** The button with the emoji behind it. */
export function EmojiButton({ label, onPick }: { label: string; onPick: (emoji: string) => void }) {
  const root = useRef<HTMLDivElement>(null);
  const open = useSignal(false);
  useEffect(() => {
    if (open.value) root.current?.querySelector<HTMLElement>(".emoji button")?.focus();
  }, [open.value]);
  return (
    <div
      class="emoji-place"
      ref={root}
      onFocusOut={(event) => {
        if (!root.current?.contains(event.relatedTarget as Node | null)) open.value = false;
      }}
      onKeyDown={(event) =>
        moveWithin(event, open.value, () => {
          open.value = false;
          root.current?.querySelector<HTMLElement>(".emoji-button")?.focus();
        })
      }
    >
      <button
        type="button"
        class="emoji-button"
        aria-label={label}
        aria-expanded={open.value}
        onClick={() => (open.value = !open.value)}
        data-testid="emoji-button"
      >
        <svg viewBox="0 0 24 24" aria-hidden="true"><path d="M12 3a9 9 0 100 18 9 9 0 000-18zM8 14c2 3.3 6 3.3 8 0M9 9.5v.1M15 9.5v.1" /></svg>
      </button>
      {open.value && (
        <div class="emoji" role="group" aria-label={label} data-testid="emoji">
          {EMOJI.map((emoji) => (
            <button key={emoji} type="button" tabIndex={-1} onClick={() => onPick(emoji)}>{emoji}</button>
          ))}
        </div>
      )}
    </div>
  );
}

/** Arrows, Home and End move among the buttons that are open; Escape closes them, and nothing around them. */
function moveWithin(event: TargetedKeyboardEvent<HTMLElement>, open: boolean, close: () => void): void {
  if (!open) return;
  if (event.key === "Escape") {
    event.preventDefault();
    event.stopPropagation();
    return close();
  }
  const list = event.currentTarget.querySelector<HTMLElement>("[role=menu], [role=group]");
  const all = [...(list?.querySelectorAll<HTMLElement>("button") ?? [])];
  const root = event.currentTarget.getRootNode() as Document | ShadowRoot;
  const at = all.indexOf(root.activeElement as HTMLElement);
  if (at < 0) return;
  // A menu is a column; the emoji stand eight in a row.
  const row = list?.getAttribute("role") === "group" ? 8 : 1;
  const places: Record<string, number> = {
    ArrowDown: at + row,
    ArrowUp: at - row,
    ArrowRight: at + 1,
    ArrowLeft: at - 1,
    Home: 0,
    End: all.length - 1,
  };
  const to = places[event.key];
  if (to === undefined) return;
  event.preventDefault();
  event.stopPropagation();
  all[Math.max(0, Math.min(all.length - 1, to))]?.focus();
}
