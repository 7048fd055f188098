// The waiting list: who waits for a person, what they asked and how long ago, and the button that takes one.

import { timestampMs } from "@bufbuild/protobuf/wkt";
import type { Session } from "@octopus/contracts/octopus/session/v1/session_pb";
import { language } from "@octopus/core/language";
import { clip } from "@octopus/core/text";

import { Avatar } from "./icons";
import { now } from "./now";
import { customerName, handoffText, localeName, since } from "./shown";
import { urgencyOf } from "./unanswered";
import { words } from "./words";
import type { Workspace } from "./workspace";

const LONGEST_QUESTION = 160;

/** The list, in the order in which the queue serves. */
export function WaitingList({ workspace }: { workspace: Workspace }) {
  const text = words.value;
  const { queue } = workspace;
  const wanted = workspace.filter.value.trim().toLowerCase();
  const all = queue.sessions.value;
  const shown = all.filter((session) =>
    `${customerName(session, text)}\n${queue.questions.value.get(session.id) ?? ""}`.toLowerCase().includes(wanted),
  );
  if (!queue.ready.value) return <p class="none" role="status">{text.loading}</p>;
  if (all.length === 0) {
    return (
      <div class="nothing" role="status">
        <strong>{text.noWaiting}</strong>
        <p>{text.noWaitingHint}</p>
      </div>
    );
  }
  if (shown.length === 0) return <p class="none" role="status">{text.noMatch}</p>;
  return (
    <ol class="waiting">
      {shown.map((session) => (
        <li key={session.id.toString()}>
          <Waiting session={session} workspace={workspace} />
        </li>
      ))}
    </ol>
  );
}

function Waiting({ session, workspace }: { session: Session; workspace: Workspace }) {
  const text = words.value;
  const name = customerName(session, text);
  const question = workspace.queue.questions.value.get(session.id);
  const waited = session.handoffAt ? now.value - timestampMs(session.handoffAt) : 0;
  return (
    <div class="waits" data-testid="waiting-item" data-session={session.id.toString()}>
      <Avatar name={name} kind="customer" />
      <div class="item-text">
        <p class="item-top">
          <strong dir="auto">{name}</strong>
          <time class={`unanswered ${urgencyOf(waited)}`}>{text.waited(since(session.handoffAt, now.value))}</time>
        </p>
        <p class="question" dir="auto" data-testid="question">
          {question === undefined ? text.loading : question === "" ? text.noQuestion : clip(question, LONGEST_QUESTION)}
        </p>
        <div class="waits-foot">
          <span class="soft">
            {[
              text.place(session.queuePosition),
              text.channels[session.channel] ?? session.channel,
              localeName(session.locale, language.value),
              handoffText(session, text),
            ]
              .filter(Boolean)
              .join(" · ")}
          </span>
          <button
            type="button"
            class="primary"
            aria-label={text.pickLabel(name)}
            disabled={workspace.busy.value.has(session.id)}
            onClick={() => void workspace.pick(session)}
            data-testid="pick"
          >
            {text.pick}
          </button>
        </div>
      </div>
    </div>
  );
}
