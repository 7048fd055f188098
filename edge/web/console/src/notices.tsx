// What the page tells beside the columns: the connection, failures, and offers for those who listen.

import { useComputed } from "@preact/signals";

import { now } from "./now";
import { customerName } from "./shown";
import { type Words, words } from "./words";
import type { Notice, Workspace } from "./workspace";

/** Says that the connection is away, or that a message has gone unanswered for too long. */
export function Banner({ workspace }: { workspace: Workspace }) {
  const text = words.value;
  const state = workspace.link.state.value;
  const seconds = useComputed(() => Math.max(0, Math.ceil((workspace.link.retryAt.value - now.value) / 1000)));
  const shown = state === "reconnecting" || state === "offline";
  return (
    <div class="banner" role="status" hidden={!shown} data-testid="connection-banner" data-state={state}>
      {shown && (
        <>
          <i class="pulse" />
          {state === "offline"
            ? text.offline
            : workspace.link.stalled.value && seconds.value <= 0
              ? text.stillSending
              : text.reconnecting(seconds.value)}
          {state === "reconnecting" && seconds.value > 1 && (
            <button type="button" class="link" onClick={workspace.link.retryNow}>{text.retryNow}</button>
          )}
        </>
      )}
    </div>
  );
}

/** A failure or a loss, for a while. */
export function Notices({ workspace }: { workspace: Workspace }) {
  const notice = workspace.notice.value;
  return (
    <div class="notice-place" role="alert">
      {notice && (
        <p class="notice" data-testid="notice">
          {noticeText(notice, words.value)}
          <button type="button" class="link" onClick={() => (workspace.notice.value = null)}>{words.value.dismiss}</button>
        </p>
      )}
    </div>
  );
}

function noticeText(notice: Notice, text: Words): string {
  if (typeof notice === "string") return text[notice];
  if ("taken" in notice) return notice.taken ? text.pickTakenBy(notice.taken) : text.pickTaken;
  const again = notice.retryAfterS > 0 ? ` ${text.retryAfter(notice.retryAfterS)}` : "";
  return text.troubles[notice.trouble] + again;
}

/** Tells those who listen instead of look that somebody waits. */
export function Announcements({ workspace }: { workspace: Workspace }) {
  const text = words.value;
  const offers = workspace.offers.value;
  return (
    <p class="hidden" aria-live="assertive">
      {offers.length === 1
        ? text.newOffer(customerName(offers[0]!.session.value, text))
        : offers.length > 1
          ? text.newOffers(offers.length)
          : ""}
    </p>
  );
}
