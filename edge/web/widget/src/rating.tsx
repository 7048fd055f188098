// How the shopper was served: asked once when a chat with an agent has ended, and again while it is the last one shown.

import { timestampMs } from "@bufbuild/protobuf/wkt";
import type { Session } from "@octopus/contracts/octopus/session/v1/session_pb";
import { useSignal } from "@preact/signals";

import type { Shopper } from "./shopper";
import type { Words } from "./words";

const SCORES = [1, 2, 3, 4, 5] as const;
// The contract takes 2,000 bytes; a character takes three at most, or four where it counts as two here.
const LONGEST_COMMENT = 650;

/** Whether the shop asks how the shopper was served, and has no answer yet. */
function isAsked({ rateUntil, satisfaction }: Session): boolean {
  return rateUntil !== undefined && satisfaction === undefined && timestampMs(rateUntil) > Date.now();
}

/** The question, or the thanks for its answer; nothing where the shop does not ask. */
export function Rating({ shopper, session, words }: { shopper: Shopper; session: Session; words: Words }) {
  const { satisfaction } = session;
  if (satisfaction) {
    return (
      <p class="rated" role="status" data-testid="rated">
        {words.rate.thanks}
        <span class="stars" role="img" aria-label={words.rate.given(satisfaction.score)}>
          {SCORES.map((score) => <Star key={score} full={score <= satisfaction.score} />)}
        </span>
      </p>
    );
  }
  return isAsked(session) ? <Question key={session.id.toString()} shopper={shopper} session={session} words={words} /> : null;
}

function Question({ shopper, session, words }: { shopper: Shopper; session: Session; words: Words }) {
  const text = words.rate;
  const chosen = useSignal(0);
  const comment = useSignal("");
  const sending = useSignal(false);
  const send = async (event: Event) => {
    event.preventDefault();
    if (chosen.peek() === 0 || sending.peek()) return;
    sending.value = true;
    await shopper.rate(session.id, chosen.peek(), comment.peek().trim());
    sending.value = false;
  };
  return (
    <form class="rating" onSubmit={(event) => void send(event)} data-testid="rating">
      <fieldset>
        <legend>{text.question}</legend>
        {/* Radio buttons: arrows choose, and screen readers say which of how many. */}
        <div class="stars">
          {SCORES.map((score) => (
            <label key={score}>
              <input
                type="radio"
                name="score"
                value={score}
                checked={chosen.value === score}
                aria-label={`${text.given(score)} · ${text.scores[score - 1]}`}
                onChange={() => (chosen.value = score)}
                data-testid={`score-${score}`}
              />
              <Star full={score <= chosen.value} />
            </label>
          ))}
        </div>
      </fieldset>
      {chosen.value > 0 && (
        <>
          <p class="score-word" role="status">{text.scores[chosen.value - 1]}</p>
          <textarea
            rows={2}
            dir="auto"
            value={comment.value}
            placeholder={text.comment}
            aria-label={text.comment}
            maxLength={LONGEST_COMMENT}
            onInput={(event) => (comment.value = event.currentTarget.value)}
            data-testid="rating-comment"
          />
          <button type="submit" class="primary" disabled={sending.value} data-testid="rating-send">{text.send}</button>
        </>
      )}
    </form>
  );
}

function Star({ full }: { full: boolean }) {
  return (
    <svg viewBox="0 0 24 24" class={full ? "star full" : "star"} aria-hidden="true">
      <path d="M12 3l2.7 5.8 6.3.8-4.6 4.4 1.2 6.3L12 17.2l-5.6 3.1 1.2-6.3L3 9.6l6.3-.8z" />
    </svg>
  );
}
