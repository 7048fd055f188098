// Lines above and below the conversation: the connection, the queue, and what the platform refused.

import { Reason } from "@octopus/contracts/octopus/errors/v1/errors_pb";
import { type Session } from "@octopus/contracts/octopus/session/v1/session_pb";
import type { Link } from "@octopus/core/link";
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";

import { queueText } from "./shown";
import type { Shopper } from "./shopper";
import type { Words } from "./words";

/** Says that the connection is away, or that a message has gone unanswered for too long. */
export function ConnectionBanner({ link, words }: { link: Link | null; words: Words }) {
  const seconds = useSecondsToRetry(link);
  const state = link?.state.value;
  const shown = state === "offline" || state === "reconnecting";
  const stalled = link?.stalled.value ?? false;
  return (
    <div class="banner warn" role="status" hidden={!shown} data-testid="connection-banner" data-state={state}>
      {state === "offline" ? words.offline : stalled && seconds <= 0 ? words.stillSending : words.reconnecting(seconds)}
      {state === "reconnecting" && seconds > 1 && (
        <button type="button" class="link" onClick={() => link?.retryNow()}>{words.retry}</button>
      )}
    </div>
  );
}

/** Says where a shopper who waits stands. */
export function QueueBanner({ session, words }: { session: Session | null; words: Words }) {
  const text = session === null ? "" : queueText(session, words);
  return (
    <div class="banner calm" role="status" hidden={!text} data-testid="queue-position">
      {text && <span class="pulse" aria-hidden="true" />}{text}
    </div>
  );
}

/** Says for a moment what did not work, and when to try again. */
export function RefusalBanner({ shopper, words }: { shopper: Shopper; words: Words }) {
  const refused = shopper.refused.value;
  const change = shopper.link.value?.changeRefused.value;
  if (change) {
    const why = change.reason === Reason.TOO_LATE ? words.recallRefused : words.changeFailed;
    return <div class="banner warn" role="alert" data-testid="refused">{why}</div>;
  }
  if (!refused) return null;
  return (
    <div class="banner warn" role="alert" data-testid="refused">
      {words.refusals[refused.trouble]}
      {refused.retryAfterS > 0 && ` ${words.retryAfter(refused.retryAfterS)}`}
    </div>
  );
}

function useSecondsToRetry(link: Link | null): number {
  const seconds = useSignal(0);
  useEffect(() => {
    const count = () => (seconds.value = Math.max(0, Math.ceil(((link?.retryAt.peek() ?? 0) - Date.now()) / 1000)));
    const timer = window.setInterval(count, 500);
    return () => window.clearInterval(timer);
  }, [link]);
  return seconds.value;
}
