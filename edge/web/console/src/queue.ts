// The customers of the shop who wait for a person: what they asked, and how an agent takes one of them.

import { signal } from "@preact/signals";
import { SenderKind } from "@octopus/contracts/octopus/chat/v1/message_pb";
import { type Session, SessionState } from "@octopus/contracts/octopus/session/v1/session_pb";

import type { PersonalApi } from "@octopus/core/api";
import { textOf } from "@octopus/core/content";

const PAGE = 200;
// More than anybody looks through.
const MOST = 1_000;
// Histories that are read for one look at the list, so many at a time.
const QUESTIONS = 40;
const AT_ONCE = 4;
// Of a longer conversation with the bot the beginning is left out.
const LINES = 50;

/** The waiting list of the shop. */
export class Queue {
  /** Who waits, in the order in which they are served. */
  readonly sessions = signal<readonly Session[]>([]);
  /** What each of them asked first; absent while it is not known, empty when nothing was said. */
  readonly questions = signal<ReadonlyMap<bigint, string>>(new Map());
  /** False until the list was read once. */
  readonly ready = signal(false);
  private reading: Promise<void> | null = null;

  constructor(private readonly api: PersonalApi) {}

  /** Read the list. Calls at the same time share one reading. */
  refresh(): Promise<void> {
    this.reading ??= this.read().finally(() => (this.reading = null));
    return this.reading;
  }

  /** Leave out a session that somebody has taken; the next reading would do the same. */
  drop(sessionId: bigint): void {
    this.sessions.value = this.sessions.peek().filter(({ id }) => id !== sessionId);
  }

  private async read(): Promise<void> {
    const found: Session[] = [];
    let pageToken = "";
    do {
      const page = await this.api.session.listSessions({ states: [SessionState.WAITING], pageSize: PAGE, pageToken });
      found.push(...page.sessions);
      pageToken = page.nextPageToken;
    } while (pageToken !== "" && found.length < MOST);
    this.sessions.value = found.sort((one, other) => one.queuePosition - other.queuePosition);
    this.ready.value = true;
    await this.readQuestions();
  }

  private async readQuestions(): Promise<void> {
    const waiting = new Set(this.sessions.peek().map(({ id }) => id));
    this.questions.value = new Map([...this.questions.peek()].filter(([id]) => waiting.has(id)));
    const unknown = [...waiting].filter((id) => !this.questions.peek().has(id)).slice(0, QUESTIONS);
    for (let at = 0; at < unknown.length; at += AT_ONCE) {
      await Promise.all(unknown.slice(at, at + AT_ONCE).map((id) => this.readQuestion(id)));
    }
  }

  private async readQuestion(sessionId: bigint): Promise<void> {
    try {
      const { messages } = await this.api.archive.listMessages({ sessionId, pageSize: LINES });
      const said = messages.filter((message) => message.sender?.kind === SenderKind.CUSTOMER && textOf(message) !== "");
      const first = said.at(-1);
      this.questions.value = new Map(this.questions.peek()).set(sessionId, first ? textOf(first) : "");
    } catch {
      // Taken by somebody else in the meantime, or read again with the next look.
    }
  }
}
