// The shop's shortcuts, as many shops have them: single keys, wherever nobody writes.

/** Act on keys until the returned function is called. */
export function onShortcuts(actions: Record<string, () => void>): () => void {
  const onKeyDown = (event: KeyboardEvent) => {
    const writing = (event.target as HTMLElement).closest("input, textarea, select, [contenteditable]");
    const action = actions[event.key];
    if (writing || !action || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    event.preventDefault();
    action();
  };
  document.addEventListener("keydown", onKeyDown);
  return () => document.removeEventListener("keydown", onKeyDown);
}
