// The keyboard, where no field has it.

import { tinykeys } from "tinykeys";

import type { Workspace } from "./workspace";
import { isNarrow } from "./screen";

/** Listen to the keys until the returned function is called. */
export function onKeys(workspace: Workspace, open: { help: () => void; palette: () => void }): () => void {
  const items = () => [...document.querySelectorAll<HTMLElement>("[data-testid=inbox-item], [data-testid=pick]")];

  const move = (step: 1 | -1) => {
    const all = items();
    const chosen = workspace.selectedId.peek().toString();
    const focused = all.indexOf(document.activeElement as HTMLElement);
    const at = focused >= 0 ? focused : all.findIndex((item) => item.dataset.session === chosen);
    const next = all[at < 0 ? (step > 0 ? 0 : all.length - 1) : Math.min(all.length - 1, Math.max(0, at + step))];
    next?.focus();
    next?.scrollIntoView({ block: "nearest" });
  };

  const back = () => {
    const session = workspace.selectedId.peek().toString();
    if (workspace.pane.peek() === "customer") workspace.pane.value = "conversation";
    else if (isNarrow.peek()) workspace.select(0n);
    // On a narrow screen the list has only just come back.
    requestAnimationFrame(() => {
      const all = items();
      (all.find((item) => item.dataset.session === session) ?? all[0])?.focus();
    });
  };

  const onKeyDown = (event: KeyboardEvent) => {
    if (event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (document.querySelector("dialog[open]")) return;
    const writing = (event.target as HTMLElement).matches("input, textarea, select");
    if (event.key === "Escape") return back();
    if (writing) return;
    const act = {
      ArrowDown: () => move(1),
      j: () => move(1),
      ArrowUp: () => move(-1),
      k: () => move(-1),
      a: () => {
        const [first] = workspace.offers.peek();
        if (first) void workspace.accept(first.session.peek());
      },
      1: () => (workspace.tab.value = "mine"),
      2: () => (workspace.tab.value = "waiting"),
      3: () => (workspace.tab.value = "ended"),
      "/": () => document.querySelector<HTMLElement>("[data-testid=filter]")?.focus(),
      r: () => document.querySelector<HTMLElement>("[data-testid=agent-input]")?.focus(),
      "?": open.help,
    }[event.key];
    if (!act) return;
    // The arrows scroll a conversation that has the focus.
    if (event.key.startsWith("Arrow") && (event.target as HTMLElement).matches(".log")) return;
    event.preventDefault();
    act();
  };
  const onPalette = (event: KeyboardEvent) => {
    event.preventDefault();
    // Over another dialog it would act on what cannot be seen.
    if (!document.querySelector("dialog[open]")) open.palette();
  };
  // From everywhere, also while a reply is being written.
  const stop = tinykeys(window, { "$mod+k": onPalette }, { ignore: () => false });
  window.addEventListener("keydown", onKeyDown);
  return () => {
    stop();
    window.removeEventListener("keydown", onKeyDown);
  };
}
