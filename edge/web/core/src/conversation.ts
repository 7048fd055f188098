// One session as a page shows it: what was said, who types, and how far the others have got.

import type { Receipt } from "@octopus/contracts/octopus/chat/v1/frame_pb";
import type { Message } from "@octopus/contracts/octopus/chat/v1/message_pb";
import type { Reason } from "@octopus/contracts/octopus/errors/v1/errors_pb";
import { type Session, SessionState } from "@octopus/contracts/octopus/session/v1/session_pb";
import { batch, type Signal, signal } from "@preact/signals";

const TYPING_LASTS_MS = 5_000;

/** One line of a conversation. */
export interface Line {
  message: Message;
  /** Own messages: how far they have come. Absent for those of others. */
  delivery?: "sending" | "sent" | "failed";
  /** Why it failed, or is sent again later. */
  reason?: Reason;
  /** After how many seconds it is sent again by itself, counted from the refusal. */
  againS?: number;
}

/** How far the others have got in a session. */
export interface Marks {
  delivered: bigint;
  read: bigint;
}

/** One session as a page shows it. */
export class Conversation {
  readonly lines = signal<readonly Line[]>([]);
  readonly typing = signal<string | null>(null);
  readonly marks = signal<Marks>({ delivered: 0n, read: 0n });
  /** Set when the log no longer has the beginning: page the history before the first line. */
  readonly incomplete = signal(false);
  private typingEnds = 0;

  constructor(readonly session: Signal<Session>) {}

  /** Position of the last line that has one. */
  get lastSeq(): bigint {
    return this.lines.peek().reduce((last, line) => (line.message.seq > last ? line.message.seq : last), 0n);
  }

  /** Add or replace a line. Lines without a position, still on their way, stand last. */
  put(line: Line): void {
    const same = (other: Line) =>
      (line.message.id !== 0n && other.message.id === line.message.id) ||
      (line.message.clientMessageId !== "" &&
        other.message.clientMessageId === line.message.clientMessageId &&
        other.message.sender?.userId === line.message.sender?.userId);
    const others = this.lines.peek().filter((other) => !same(other));
    const place = (l: Line) => (l.message.seq === 0n ? 1n << 62n : l.message.seq);
    let at = others.length;
    while (at > 0 && place(others[at - 1]!) > place(line)) at--;
    this.lines.value = [...others.slice(0, at), line, ...others.slice(at)];
  }

  /** Somebody else has received or read up to a position. */
  mark({ deliveredSeq, readSeq }: Receipt): void {
    const { delivered, read } = this.marks.peek();
    this.marks.value = {
      delivered: deliveredSeq > delivered ? deliveredSeq : delivered,
      read: readSeq > read ? readSeq : read,
    };
  }

  /** Put a page of history before what is there. */
  prepend(messages: readonly Message[], mine: (message: Message) => boolean): void {
    batch(() => {
      for (const message of messages) this.put(mine(message) ? { message, delivery: "sent" } : { message });
    });
  }

  /** Somebody types; forgotten after a while. */
  showTyping(name: string): void {
    this.typing.value = name;
    window.clearTimeout(this.typingEnds);
    this.typingEnds = window.setTimeout(() => (this.typing.value = null), TYPING_LASTS_MS);
  }

  /** Whoever typed has sent. */
  hideTyping(): void {
    window.clearTimeout(this.typingEnds);
    this.typing.value = null;
  }
}

/** Whether a session takes messages. */
export function isOpen(session: Session): boolean {
  return session.state !== SessionState.ENDED && session.state !== SessionState.UNSPECIFIED;
}
