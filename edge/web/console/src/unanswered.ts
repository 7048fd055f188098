// How long a customer has waited for an answer of a person.

/** Who said something, and when in milliseconds since the epoch. */
export interface Said {
  by: "customer" | "agent" | "other";
  at: number;
}

/** When a person was asked for and when one accepted, in milliseconds since the epoch; undefined when not yet. */
export interface Taken {
  handoffAt: number | undefined;
  acceptedAt: number | undefined;
}

/** How urgent an answer is. */
export type Urgency = "calm" | "soon" | "late";

// The shopper's promise, and the three-minute answer rate.
const SOON_MS = 30_000;
const LATE_MS = 180_000;

/**
 * Since when the customer waits for an answer, in milliseconds since the epoch; undefined when the last word is an
 * agent's. Before the first answer that is since a person was asked for, whatever the customer wrote meanwhile.
 */
export function unansweredSince({ handoffAt, acceptedAt }: Taken, said: readonly Said[]): number | undefined {
  const answered = said.findLastIndex(({ by }) => by === "agent");
  if (answered < 0) return handoffAt ?? acceptedAt;
  return said.slice(answered + 1).find(({ by }) => by === "customer")?.at;
}

/** How urgent it is to answer somebody who has waited for so long. */
export function urgencyOf(waitedMs: number): Urgency {
  if (waitedMs < SOON_MS) return "calm";
  return waitedMs < LATE_MS ? "soon" : "late";
}

/** Order by who has waited longest for an answer; those who do not wait come last, the one last heard first. */
export function longestFirst(
  one: { since: number | undefined; lastAt: number },
  other: { since: number | undefined; lastAt: number },
): number {
  if (one.since !== undefined && other.since !== undefined) return one.since - other.since;
  if (one.since !== undefined) return -1;
  if (other.since !== undefined) return 1;
  return other.lastAt - one.lastAt;
}
