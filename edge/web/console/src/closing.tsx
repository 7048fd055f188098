// What stays of a chat that has ended: what it was about, what it took, and what the customer said of it.

import type { Duration } from "@bufbuild/protobuf/wkt";
import { durationMs } from "@bufbuild/protobuf/wkt";
import type { Satisfaction, Session } from "@octopus/contracts/octopus/session/v1/session_pb";
import { isOpen } from "@octopus/core/conversation";
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";

import { Fact } from "./fact";
import { words } from "./words";
import type { Workspace } from "./workspace";

const MOST_STARS = 5;
// The summary is stored a moment after the end.
const AGAIN_AFTER_MS = 1_500;
const TRIES = 4;

/** The section; nothing while the chat goes on and has not been rated. */
export function Closing({ workspace, session }: { workspace: Workspace; session: Session }) {
  const text = words.value.closing;
  const read = useSignal<Session | null>(null);
  const over = !isOpen(session);
  useEffect(() => {
    let timer = 0;
    let tries = 0;
    let left = false;
    const load = async () => {
      tries += 1;
      try {
        const found = (await workspace.api.session.getSession({ sessionId: session.id })).session;
        if (left) return;
        read.value = found ?? null;
        if (found?.summary) return;
      } catch {
        // The chat itself is there; this is tried again.
      }
      if (!left && tries < TRIES) timer = window.setTimeout(() => void load(), AGAIN_AFTER_MS);
    };
    read.value = null;
    if (over) void load();
    return () => {
      left = true;
      window.clearTimeout(timer);
    };
  }, [session.id, session.version, over]);
  const satisfaction = session.satisfaction ?? read.value?.satisfaction;
  const summary = read.value?.summary;
  if (!summary && !satisfaction) return null;
  return (
    <section data-testid="closing">
      {satisfaction && <Said satisfaction={satisfaction} />}
      {summary && (
        <>
          <h3>{text.title}</h3>
          <dl>
            <Fact name={text.opener} value={summary.opener} />
            <Fact name={text.topic} value={summary.topic} />
            <Fact
              name={text.messages}
              value={text.counts(summary.customerMessages, summary.agentMessages, summary.botMessages)}
            />
            <Fact name={text.waited} value={spanOf(summary.waited)} />
            <Fact name={text.firstResponse} value={spanOf(summary.firstResponse)} />
            <Fact name={text.handled} value={spanOf(summary.handled)} />
          </dl>
        </>
      )}
    </section>
  );
}

function Said({ satisfaction }: { satisfaction: Satisfaction }) {
  const text = words.value.closing;
  return (
    <>
      <h3>{text.satisfaction}</h3>
      <p class="satisfaction" data-testid="satisfaction" data-score={satisfaction.score}>
        <Stars score={satisfaction.score} />
      </p>
      {satisfaction.comment !== "" && <blockquote dir="auto" data-testid="satisfaction-comment">{satisfaction.comment}</blockquote>}
    </>
  );
}

/** A score in stars. */
export function Stars({ score }: { score: number }) {
  return (
    <span class="stars" role="img" aria-label={words.value.closing.stars(score)}>
      {"★".repeat(score)}<span class="soft">{"☆".repeat(Math.max(0, MOST_STARS - score))}</span>
    </span>
  );
}

/** A duration as "0:42" or "1:02:09"; empty when there is none. */
function spanOf(duration: Duration | undefined): string {
  if (!duration) return "";
  const seconds = Math.round(durationMs(duration) / 1000);
  const two = (value: number) => `${value}`.padStart(2, "0");
  const hours = Math.floor(seconds / 3600);
  const minutes = Math.floor(seconds / 60) % 60;
  return `${hours > 0 ? `${hours}:${two(minutes)}` : minutes}:${two(seconds % 60)}`;
}
