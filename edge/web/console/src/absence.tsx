// What agents see of their own absence: how long an offer still waits for them, and why the platform set them away.

import { timestampMs } from "@bufbuild/protobuf/wkt";
import { type Agent, AgentStatus, AwayReason, type Session } from "@octopus/contracts/octopus/session/v1/session_pb";

import { now } from "./now";
import { words } from "./words";
import type { Workspace } from "./workspace";

// From here on the countdown calls for haste.
const HASTE_S = 15;

/** How long an offer still waits for this agent. */
export function OfferCountdown({ session }: { session: Session }) {
  if (!session.offeredUntil) return null;
  const seconds = Math.max(0, Math.ceil((timestampMs(session.offeredUntil) - now.value) / 1000));
  return (
    // A timer is not read out each second.
    <span class={`countdown ${seconds <= HASTE_S ? "haste" : ""}`} role="timer" data-testid="offer-countdown">
      {words.value.absence.countdown(seconds)}
    </span>
  );
}

/** Why the platform set the agent away, and the way back with one click. */
export function AwayBanner({ workspace }: { workspace: Workspace }) {
  const text = words.value.absence;
  const agent = workspace.agent.value;
  const why = agent === null ? "" : whyOf(agent);
  const back = agent?.earlierStatus === AgentStatus.BUSY ? AgentStatus.BUSY : AgentStatus.AVAILABLE;
  return (
    <div class="banner away" role="status" hidden={why === ""} data-testid="away-banner">
      {why !== "" && (
        <>
          <span>{why}</span>
          <button
            type="button"
            class="quiet"
            disabled={workspace.busy.value.has(0n)}
            onClick={() => void workspace.setStatus(back)}
            data-testid="come-back"
          >
            {back === AgentStatus.BUSY ? text.backToBusy : text.backToAvailable}
          </button>
        </>
      )}
    </div>
  );
}

function whyOf(agent: Agent): string {
  if (agent.status !== AgentStatus.AWAY) return "";
  switch (agent.awayReason) {
    case AwayReason.PAGE_CLOSED:
      return words.value.absence.pageClosed;
    case AwayReason.OFFER_LAPSED:
      return words.value.absence.offerLapsed;
    default:
      return "";
  }
}
