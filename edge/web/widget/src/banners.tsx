// Lines above and below the conversation: the connection, the queue, and what the platform refused.

import { timestampMs } from "@bufbuild/protobuf/wkt";
import { Reason } from "@octopus/contracts/octopus/errors/v1/errors_pb";
import { type Session, SessionState } from "@octopus/contracts/octopus/session/v1/session_pb";
import type { Link } from "@octopus/core/link";
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";

import { queueText } from "./shown";
import type { Shopper } from "./shopper";
import type { Words } from "./words";

/** Says that the connection is away, or that a message has gone unanswered for too long. */
export function ConnectionBanner({ link, words }: { link: Link | null; words: Words }) {
  const seconds = useSecondsTo(link?.retryAt.value ?? 0);
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

/** Reminds a shopper who owes an answer, with the time that is left. Any message takes it away; the button sends one. */
export function ReminderBanner({ session, shopper, words }: { session: Session | null; shopper: Shopper; words: Words }) {
  const reminded = session?.state === SessionState.WARNING;
  const closesAt = reminded && session.closesAt ? timestampMs(session.closesAt) : 0;
  const left = useSecondsTo(closesAt);
  return (
    <div class="banner warn" role="status" hidden={!reminded} data-testid="reminder">
      {reminded && (
        <>
          <span class="fill">
            {closesAt > 0 ? words.owedCloses : words.owed}{" "}
            {/* Not read out each second. */}
            {left > 0 && <span class="left" aria-hidden="true" data-testid="time-left">{words.closesIn(countdown(left))}</span>}
          </span>
          <button type="button" class="quiet" onClick={() => void shopper.say(words.stillHere)} data-testid="still-here">
            {words.stillHere}
          </button>
        </>
      )}
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

function countdown(seconds: number): string {
  return `${Math.floor(seconds / 60)}:${`${seconds % 60}`.padStart(2, "0")}`;
}

/** The seconds to a moment in milliseconds, counted down; 0 when it has come, or there is none. */
function useSecondsTo(moment: number): number {
  const left = () => (moment > 0 ? Math.max(0, Math.ceil((moment - Date.now()) / 1000)) : 0);
  const seconds = useSignal(left());
  useEffect(() => {
    seconds.value = left();
    if (moment <= 0) return;
    const timer = window.setInterval(() => (seconds.value = left()), 500);
    return () => window.clearInterval(timer);
  }, [moment]);
  return seconds.value;
}
