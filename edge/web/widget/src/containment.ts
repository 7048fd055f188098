// Keeps what is typed in the widget away from the shop's page. Events of a shadow tree travel through the whole page, and
// the page sees them at the element, which looks like no text field: a page with shortcuts takes letters away.

const COPIED = ["keydown", "keypress", "keyup", "input"] as const;
// The widget listens to none of these; what the browser does by them it does all the same.
const SILENT = ["beforeinput", "paste", "copy", "cut", "compositionstart", "compositionupdate", "compositionend"] as const;

const contained = new Set<ShadowRoot>();
const redispatched = new WeakSet<Event>();

/**
 * Let no event of typing leave a shadow tree. Return how to stop that.
 *
 * The first listener on the window's way down stops an event before any listener of the page on the document or below
 * sees it, and gives the tree a copy that stays inside. A page may have put a listener of its own on the window before the
 * widget's script ran; that one cannot be forestalled, but what it takes away is typed after all.
 */
export function contain(root: ShadowRoot): () => void {
  contained.add(root);
  return () => contained.delete(root);
}

function origin(event: Event): EventTarget | null {
  const path = event.composedPath();
  return path.some((one) => contained.has(one as ShadowRoot)) ? path[0]! : null;
}

function onSilent(event: Event): void {
  if (origin(event)) event.stopImmediatePropagation();
}

function onCopied(event: Event): void {
  if (redispatched.has(event)) return;
  const target = origin(event);
  if (!target) return;
  event.stopImmediatePropagation();
  const takenAway = event.defaultPrevented;
  const copy = copyOf(event);
  redispatched.add(copy);
  target.dispatchEvent(copy);
  if (copy.defaultPrevented) event.preventDefault();
  else if (takenAway && event instanceof KeyboardEvent) giveBack(event, target);
}

/** A copy that does not leave the shadow tree. */
function copyOf(event: Event): Event {
  const within = { bubbles: true, cancelable: event.cancelable, composed: false };
  if (event instanceof KeyboardEvent) {
    const { key, code, location, repeat, isComposing, ctrlKey, shiftKey, altKey, metaKey, keyCode, charCode } = event;
    const keys = { key, code, location, repeat, isComposing, ctrlKey, shiftKey, altKey, metaKey, keyCode, charCode };
    // The old codes are no part of the type any more, but a key that an input method takes is known by its 229 only.
    return new KeyboardEvent(event.type, { ...keys, ...within } as KeyboardEventInit);
  }
  if (event instanceof InputEvent) {
    const { data, inputType, isComposing } = event;
    return new InputEvent(event.type, { data, inputType, isComposing, ...within });
  }
  return new Event(event.type, within);
}

/** Do what the browser was kept from: the page took a key that belongs into a text field. */
function giveBack(event: KeyboardEvent, target: EventTarget): void {
  if (!(target instanceof HTMLTextAreaElement || target instanceof HTMLInputElement)) return;
  // The shortcut may have moved the focus, for instance into the shop's search.
  target.focus();
  if (event.type !== "keydown" || event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return;
  const command = { Backspace: "delete", Delete: "forwardDelete" }[event.key];
  // Unlike setting the value, a command keeps undo and tells by an event.
  if (command || [...event.key].length === 1) document.execCommand(command ?? "insertText", false, event.key);
}

for (const type of COPIED) window.addEventListener(type, onCopied, true);
for (const type of SILENT) window.addEventListener(type, onSilent, true);
