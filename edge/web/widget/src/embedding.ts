// How a shop's page opens the chat, also before this script has arrived:
//
//   <a href="#octopus-chat">Contact us</a>                    no script at all: the address remembers the click
//   (window.octopus ||= []).push("open")                      from a script: the array remembers the call
//   chat.setAttribute("open", "")                             on the element: the attribute is read when it upgrades

const FRAGMENT = "#octopus-chat";

/** What the page may ask for. */
export interface Embedded {
  show(): void;
  hide(): void;
}

declare global {
  interface Window {
    octopus?: { push(...calls: string[]): unknown };
  }
}

let embedded: Embedded | null = null;
// Asked for before there was an element; the last one counts.
let pending: string | null = null;

/** Make an element the one that the page's calls reach, and do what has been asked for. */
export function announce(element: Embedded): void {
  embedded = element;
  if (pending) perform(pending);
}

/** The element has left the page. */
export function withdraw(element: Embedded): void {
  if (embedded === element) embedded = null;
}

function perform(call: string): void {
  pending = embedded ? null : call;
  if (call === "open") embedded?.show();
  else if (call === "close") embedded?.hide();
  else console.error(`octopus: push(${JSON.stringify(call)}) means nothing; there are "open" and "close"`);
}

function openByAddress(): void {
  if (location.hash !== FRAGMENT) return;
  // The next click on the same link must be a change again, and a reload must not open the chat.
  history.replaceState(history.state, "", location.pathname + location.search);
  perform("open");
}

const early = window.octopus;
window.octopus = { push: (...calls) => calls.forEach(perform) };
if (Array.isArray(early)) window.octopus.push(...(early as string[]));

openByAddress();
window.addEventListener("hashchange", openByAddress);
// Without a detour over the address, and for pages that route by it.
document.addEventListener("click", (event) => {
  const link = event.composedPath().find((one): one is HTMLAnchorElement => one instanceof HTMLAnchorElement);
  if (!link || link.getAttribute("href") !== FRAGMENT || event.defaultPrevented) return;
  event.preventDefault();
  perform("open");
});
